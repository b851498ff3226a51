"""Thinking that only its maker can read, on its way through another dialect: there it has its
maker's name before it, so that nobody else is ever sent it."""

from __future__ import annotations

from typing import NamedTuple

_LABEL = "merino"
OPENAI = "openai"
ANTHROPIC = "anthropic"
REDACTED = "anthropic-redacted"
GEMINI = "gemini"
CALL = "call"
"""In place of an id: the seal is of the call that follows."""
NOBODY = "nobody"
"""Of thinking that can be read, and is sealed by nobody: a dialect may want a seal all the same."""


class Sealed(NamedTuple):
    """`item_id` is what the maker calls the piece of thinking, if it has a name."""

    maker: str
    sealed: str
    item_id: str | None = None


def labelled(seal: Sealed) -> str:
    """A seal in another dialect's field."""
    return f"{_LABEL}.{seal.maker}.{seal.item_id or ''}.{seal.sealed}"


def unlabelled(text: str, own_maker: str, item_id: str | None = None) -> Sealed:
    """What such a field holds: without a label, what its own dialect's maker sealed."""
    parts = text.split(".", 3)
    if len(parts) < 4 or parts[0] != _LABEL:
        return Sealed(own_maker, text, item_id)
    return Sealed(parts[1], parts[3], parts[2] or None)
