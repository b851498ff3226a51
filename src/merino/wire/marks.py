"""Byte order marks: Windows' tools write them before a text, and some show that it is not UTF-8."""

from __future__ import annotations

UTF8_MARK = b"\xef\xbb\xbf"

_FOREIGN = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def encoding_of(start: bytes) -> str | None:
    """The name of an encoding that a text's first bytes show and that is not UTF-8, with a mark or
    without: JSON and nearly every other text begin with an ASCII letter."""
    for mark, name in _FOREIGN:
        if start.startswith(mark):
            return name
    if len(start) >= 4 and start[:3] == b"\0\0\0":
        return "UTF-32"
    if len(start) >= 4 and start[1:4] == b"\0\0\0":
        return "UTF-32"
    if len(start) >= 2 and (start[0] == 0) != (start[1] == 0):
        return "UTF-16"
    return None


def not_utf8(name: str) -> str:
    """The message about such a text."""
    return f"encoded as {name}; save it as UTF-8"
