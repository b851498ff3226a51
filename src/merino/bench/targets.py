"""What is measured: `NAME=URL[,model][,key-env]`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

DEFAULT_MODEL = "o3-mini"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint with the model asked there. The key is never shown or kept."""

    name: str
    base_url: str
    model: str
    key: str = field(default="", repr=False)


def parse_target(text: str, environ: Mapping[str, str] = os.environ) -> Target:
    """Raises `ValueError`. A key is the value of the named variable, else MERINO_API_KEY or
    OPENAI_API_KEY; servers that want none get none."""
    name, has_url, rest = text.partition("=")
    if not has_url or not _NAME.fullmatch(name):
        raise ValueError(f"{text!r}: write NAME=URL[,model][,key-env]")
    url, *more = rest.split(",")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} must be an http:// or https:// URL with a host")
    if parts.username or parts.password:
        raise ValueError("a URL must not carry a password; name the variable that holds the key")
    if len(more) > 2:
        raise ValueError(f"{text!r}: write NAME=URL[,model][,key-env]")
    model = more[0] if more and more[0] else DEFAULT_MODEL
    variable = more[1] if len(more) > 1 else ""
    if variable:
        if not _VARIABLE.fullmatch(variable):
            raise ValueError("the third part names an environment variable, it is not the key")
        if variable not in environ:
            raise ValueError(f"the environment has no {variable}")
        key = environ[variable]
    else:
        key = environ.get("MERINO_API_KEY") or environ.get("OPENAI_API_KEY") or ""
    return Target(name, url.rstrip("/"), model, key.strip())
