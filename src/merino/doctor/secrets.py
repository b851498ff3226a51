"""Keeps keys, credentials and passwords out of what the doctor says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar
from urllib.parse import urlsplit

from merino.doctor.finding import Finding

T = TypeVar("T")

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL)S?$")
_LOOKS_SECRET = re.compile(
    r"\b(mka?-|sk-(?:proj-|ant-|or-)?|AIza|gsk_)([A-Za-z0-9_-]{4})[A-Za-z0-9_-]{8,}"
)
_LENGTH_MIN = 6
"""Shorter texts are no secrets, and hiding them would garble the words around them."""
_BEGINNING = 7


def shown(secret: str) -> str:
    """Enough of a secret to tell which one it is."""
    text = "".join(char if char.isprintable() else "?" for char in secret.strip())
    return f"{text[:_BEGINNING]}..." if len(text) > 2 * _BEGINNING else "..."


def without_password(url: str) -> str:
    """A URL without the user name and password in it."""
    return re.sub(r"//[^/@]*@", "//[hidden]@", url)


class Secrets:
    """What must not be shown, and what is shown instead."""

    def __init__(self, known: Iterable[str], environ: Mapping[str, str]) -> None:
        secrets = {*known, *(text for name, text in environ.items() if _SECRET_NAME.search(name))}
        for name, text in environ.items():
            if name.upper().endswith("_PROXY") or name.upper().endswith("_URL"):
                secrets.add(_password(text))
        # With and without what was pasted around them; the longest first, so that none is cut up.
        secrets |= {each.strip(" \t\r\n'\"") for each in secrets}
        self._known = sorted((s for s in secrets if len(s) >= _LENGTH_MIN), key=len, reverse=True)

    def hide(self, text: str) -> str:
        for secret in self._known:
            text = text.replace(secret, shown(secret))
        return _LOOKS_SECRET.sub(r"\1\2...", without_password(text))

    def hide_in(self, finding: Finding) -> Finding:
        return replace(finding, seen=self.hide(finding.seen), mend=self.hide(finding.mend))


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
