"""Takes secrets out of texts that leave the relay or are written down.

Every text is searched in two ways: for known secrets, in every form in which servers are seen to
echo them, and for what looks like anybody's secret.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from merino.domain.deployment import Deployment

SECRET_LENGTH_MIN = 4
"""Shorter texts occur in messages by chance."""
_TAIL_LENGTH_MIN = 6
"""If a message was cut inside a secret, at least this much of it is recognised as its beginning."""

MARK = "[redacted]"

_SECRETS = re.compile(
    r"(mka?-[A-Za-z0-9_-]{8})[A-Za-z0-9_-]+"
    r"|(sk-[A-Za-z0-9_-]{4})[A-Za-z0-9_-]{8,}"
    r"|((?:rk|whsec|pk)_[A-Za-z0-9_]{4})[A-Za-z0-9_]{8,}"
    r"|(AIza[A-Za-z0-9_-]{4})[A-Za-z0-9_-]{8,}"
    r"|(?i:(bearer\s+\S{4}))\S{8,}"
    r"|(data:[a-z]+/[a-z0-9.+-]+;base64,)[A-Za-z0-9+/=]{16,}"
)

_PUBLIC_HEADERS = frozenset(
    (
        "accept",
        "accept-encoding",
        "accept-language",
        "anthropic-beta",
        "anthropic-version",
        "api-version",
        "content-type",
        "extra-parameters",
        "http-referer",
        "openai-beta",
        "referer",
        "user-agent",
        "x-title",
    )
)
"""Headers whose values are in every vendor's documentation, and so in its messages."""


def redact(text: str) -> str:
    """The text with everything that looks like a secret cut to its first characters."""
    return _SECRETS.sub(lambda found: next(g for g in found.groups() if g) + MARK, text)


class Secrets:
    """Secret texts, found in every form in which they may come back."""

    __slots__ = ("_forms", "_tails")

    def __init__(self, values: Iterable[str] = ()) -> None:
        whole: set[str] = set()
        for value in values:
            whole.update(_parts(value))
        forms = {form.lower() for each in whole for form in _forms(each)}
        self._tails = sorted(whole, key=len, reverse=True)
        # The longest first: a secret that contains another one goes as a whole.
        self._forms = sorted(forms, key=len, reverse=True)

    def are_in(self, text: str) -> bool:
        """Whether any of them is in a text, plainly or in one of its forms."""
        small = text.lower()
        return any(form in small for form in self._forms)

    def redact(self, text: str) -> str:
        """The text without any of them, and without what looks like anybody's secret."""
        # Known ones first: a pattern leaves the first characters of what it finds.
        text = self._cut(text)
        if "%" in text and self.are_in(opened := unquote(unquote(text))):
            # Escaped in part, or twice: the original wording of that is no loss.
            text = self._cut(opened)
        return redact(self._without_tail(text))

    def redact_bytes(self, data: bytes) -> bytes:
        """The same for bytes from an upstream; bytes without a secret stay as they are."""
        text = data.decode("utf-8", "surrogateescape")
        return self._cut(text).encode("utf-8", "surrogateescape")

    def redact_lines(self, event: bytes) -> bytes:
        """The same for an event's lines except its data: comments, its name and its `id`."""
        return b"".join(
            line if line.startswith(b"data") else self.redact_bytes(line)
            for line in event.splitlines(keepends=True)
        )

    def _cut(self, text: str) -> str:
        small = text.lower()
        for form in self._forms:
            if form in small:
                text = re.sub(re.escape(form), MARK, text, flags=re.IGNORECASE)
                small = text.lower()
        return text

    def _without_tail(self, text: str) -> str:
        """A message that was cut to its greatest length may end inside a secret."""
        for secret in self._tails:
            for length in range(min(len(secret) - 1, len(text)), _TAIL_LENGTH_MIN - 1, -1):
                if text.endswith(secret[:length]):
                    return text[:-length] + MARK
        return text


NO_SECRETS = Secrets()


def secrets_of(deployments: Iterable[Deployment], more: Iterable[str] = ()) -> Secrets:
    """The secrets that only the relay and its upstreams may know. `more` are secrets, or URLs that
    hold some."""
    values: list[str] = []
    for each in deployments:
        values.append(each.credential)
        values += [value for name, value in each.headers if name.lower() not in _PUBLIC_HEADERS]
        values += _secrets_of_url(each.base_url)
    for text in more:
        values += _secrets_of_url(text) if "://" in text else [text]
    return Secrets(values)


def _secrets_of_url(url: str) -> list[str]:
    """User name, password and the values of the query; a version is no secret."""
    try:
        parts = urlsplit(url)
        found = [parts.username or "", parts.password or ""]
    except ValueError:
        return []
    if parts.username and parts.password:
        found.append(f"{parts.username}:{parts.password}")
    found += [
        value
        for name, value in parse_qsl(parts.query)
        if name.lower() not in _PUBLIC_HEADERS and name.lower() != "version"
    ]
    return found + [unquote(each) for each in found]


def _parts(value: str) -> set[str]:
    """A secret, and its content behind a scheme (`Bearer`, `Basic`) or in base64."""
    value = value.strip()
    found = {value}
    scheme, space, rest = value.partition(" ")
    if space and scheme.isalpha():
        found.add(rest.strip())
        if scheme.lower() == "basic":
            try:
                opened = base64.b64decode(rest.strip(), validate=True).decode()
            except ValueError:
                opened = ""
            user, _, password = opened.partition(":")
            found.update((opened, password or user))
    return {each for each in found if len(each) >= SECRET_LENGTH_MIN}


def _forms(secret: str) -> set[str]:
    """How a secret may be written: plain, in a URL, in JSON, in HTML, as a hash, in base64."""
    escaped = json.dumps(secret)[1:-1]
    raw = secret.encode("utf-8", "surrogatepass")
    forms = {
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        escaped,
        json.dumps(escaped)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        html.escape(secret),
        hashlib.sha256(raw).hexdigest(),
    }
    for before in range(3):
        # Wherever it is in the encoded text (`Basic` is user and password): the characters that
        # depend on its own bytes only.
        encoded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        inner = encoded[-(-before * 8 // 6) : len(encoded) - (1 if (before + len(raw)) % 3 else 0)]
        if len(inner) >= _TAIL_LENGTH_MIN:
            forms.update((inner, inner.replace("+", "-").replace("/", "_")))
    return forms
