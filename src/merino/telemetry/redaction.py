"""Keeps secrets out of everything that is written down."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

_SECRETS = re.compile(
    r"(mka?-[A-Za-z0-9_-]{8})[A-Za-z0-9_-]+"
    r"|(sk-[A-Za-z0-9_-]{4})[A-Za-z0-9_-]{8,}"
    r"|((?:rk|whsec|pk)_[A-Za-z0-9_]{4})[A-Za-z0-9_]{8,}"
    r"|(AIza[A-Za-z0-9_-]{4})[A-Za-z0-9_-]{8,}"
    r"|(?i:(bearer\s+\S{4}))\S{8,}"
    r"|(data:[a-z]+/[a-z0-9.+-]+;base64,)[A-Za-z0-9+/=]{16,}"
)


def redact(text: str) -> str:
    """The text with every secret cut to its first characters."""
    return _SECRETS.sub(lambda found: next(g for g in found.groups() if g) + "[redacted]", text)


def redact_event(
    logger: object,  # noqa: ARG001 - structlog's processor signature
    name: str,  # noqa: ARG001 - structlog's processor signature
    event: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    """A structlog processor: redacts every string of an event, at any depth."""
    for field, value in event.items():
        event[field] = _redacted(value)
    return event


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return redact(value.decode("latin-1"))
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType] - anything may be logged
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]  # pyright: ignore[reportUnknownVariableType] - anything may be logged
    return value
