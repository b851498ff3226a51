"""Keeps secrets out of everything that is written down: the log's part."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, cast

from merino.wire.redaction import Secrets, redact

__all__ = ["keep_secret", "redact", "redact_event"]

_known: Callable[[], Secrets] = Secrets
"""A log is the process's, and so is what must not be in it."""


def keep_secret(secrets: Callable[[], Secrets]) -> None:
    """From now on these are kept out of the log, besides what looks like a secret."""
    global _known  # noqa: PLW0603 - see above
    _known = secrets


def redact_event(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor: redacts every string of an event, at any depth."""
    known = _known()
    # Nearly no event has any, and one look finds that out.
    clean = known.redact if known.are_in(repr(event)) else redact
    for field, value in event.items():
        event[field] = _redacted(value, clean)
    return event


def _redacted(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bytes):
        return clean(value.decode("latin-1"))
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value)
        return {key: _redacted(item, clean) for key, item in members.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item, clean) for item in cast("list[Any]", value)]
    if value is None or isinstance(value, int | float) or clean is redact:
        return value
    return clean(str(value))
