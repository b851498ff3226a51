"""The message that answers a call of the Messages API: how it ended, what it used, and how large
what it brought is."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from merino.wire.errors import NOTHING_SAID, error_told
from merino.wire.lenient import decode_lenient, encode_lenient
from merino.wire.message_usage import tier_told, usage_told
from merino.wire.produced import loose_sizes, utf8_len
from merino.wire.reported_usage import usage_beside
from merino.wire.sealed import mark_of
from merino.wire.usage import ChatResult, text_or_none

BlockSizes = tuple[int, int, int, bool]
"""As in `produced.Sizes`, and whether there is anything in it."""


class Block(msgspec.Struct, gc=False):
    """A block of content, or the beginning of one."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw()


class _Message(msgspec.Struct, gc=False):
    type: str | None = None
    id: str | None = None
    content: list[msgspec.Raw] | None = None
    stop_reason: str | None = None
    usage: Any = None
    error: Any = None


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_block = msgspec.json.Decoder(Block).decode
_NO_INPUT = frozenset((b"", b"{}", b"null"))


def read_message(body: bytes) -> ChatResult:
    """Read a whole answer of `messages`. Raises `ValueError` if it is not a JSON object."""
    try:
        message = _decode_message(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = _loosely(body)
    if message.content is None or message.error:
        return _no_message(body, message)
    visible = thought = wide = 0
    has_content = False
    marks: list[bytes] = []
    for raw in message.content:
        more, more_thought, more_wide, is_filled = sizes_of(bytes(raw))
        visible += more
        thought += more_thought
        wide += more_wide
        has_content = has_content or is_filled
        if (mark := mark_of_block(bytes(raw))) is not None:
            marks.append(mark)
    usage = usage_told(message.usage)
    return ChatResult(
        usage,
        message.stop_reason,
        visible,
        # Thinking that is shown may be a summary, and is not what was paid for.
        thought if usage is None else 0,
        wide,
        has_content,
        message.id,
        tier_told(message.usage),
        sealed=tuple(marks),
    )


def sizes_of(block: bytes) -> BlockSizes:
    """The sizes of a whole block."""
    try:
        known = _decode_block(block)
    except (msgspec.DecodeError, ValueError, RecursionError):
        known = Block()
    if known.type == "text":
        size, wide = _size(known.text)
        return size, 0, wide, bool(size)
    if known.type == "thinking":
        size, wide = _size(known.thinking)
        return 0, size, wide, bool(size or known.signature)
    if known.type in ("tool_use", "server_tool_use", "mcp_tool_use"):
        size, wide = _size(known.name)
        given = bytes(known.input)
        return size + (0 if given in _NO_INPUT else len(given)), 0, wide, True
    if known.type == "redacted_thinking":
        return 0, 0, 0, True
    try:
        value = decode_lenient(block)
    except ValueError:
        return 0, 0, 0, False
    if not isinstance(value, dict):
        return 0, 0, 0, False
    members = cast("dict[str, Any]", value)
    if str(members.get("type", "")).endswith("_result"):
        return 0, 0, 0, True  # what a tool found was read by the model, not written
    visible, thought, wide = loose_sizes(members)
    return visible, thought, wide, True


def mark_of_block(block: bytes) -> bytes | None:
    """By what thinking that only its maker can read is known again; `None` for any other block."""
    if b'thinking"' not in block:
        return None
    try:
        known = _decode_block(block)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    sealed = known.signature if known.type == "thinking" else known.data
    return mark_of(sealed) if sealed and known.type in ("thinking", "redacted_thinking") else None


def _size(text: str | None) -> tuple[int, int]:
    if not text:
        return 0, 0
    size = utf8_len(text)
    return size, size - len(text)


def _no_message(body: bytes, message: _Message) -> ChatResult:
    value = decode_lenient(body)
    if not isinstance(value, dict):
        raise ValueError("the answer is JSON, but not an object")  # noqa: TRY004 - as documented
    members = cast("dict[str, Any]", value)
    said, kind, _, code = error_told(members) or (
        "The upstream answered 200 without any content.",
        *NOTHING_SAID[1:],
    )
    usage = usage_told(message.usage) or usage_beside(members)
    return ChatResult(usage, is_error=True, error_message=said, error_type=kind, error_code=code)


def _loosely(body: bytes) -> _Message:
    """The same for an object of another shape than expected."""
    value = decode_lenient(body)
    if not isinstance(value, dict):
        raise ValueError("the answer is JSON, but not an object")  # noqa: TRY004 - as documented
    members = cast("dict[str, Any]", value)
    content: object = members.get("content")
    return _Message(
        text_or_none(members.get("type")),
        text_or_none(members.get("id")),
        [msgspec.Raw(encode_lenient(each)) for each in cast("list[object]", content)]
        if isinstance(content, list)
        else None,
        text_or_none(members.get("stop_reason")),
        members.get("usage"),
        members.get("error"),
    )
