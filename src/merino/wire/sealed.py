"""Thinking that only its maker can read (`encrypted_content`), and the input without it.

A request keeps such items from turn to turn. Another organisation's, region's or vendor's upstream
refuses them, and what was thought is lost; all that was said and called stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, TypeGuard, cast

import msgspec

from merino.wire.lenient import decode_lenient, encode_lenient

SEALED = b'"encrypted_content"'
_PAIRED = frozenset(("message", "function_call", "custom_tool_call"))
"""Items that are kept with the thinking before them: under their ids they are refused without
it."""


class _Item(msgspec.Struct, gc=False):
    encrypted_content: str | None = None


_decode_items = msgspec.json.Decoder(list[_Item]).decode
_decode_item = msgspec.json.Decoder(_Item).decode


def mark_of_item(item: bytes) -> bytes | None:
    """By what a sealed item is known again; `None` if it is not sealed."""
    if SEALED not in item:
        return None
    try:
        sealed = _decode_item(item).encrypted_content
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return mark_of(sealed) if sealed else None


def marks_of(items: bytes) -> list[bytes]:
    """The marks of all sealed items of an input, in order."""
    try:
        found = _decode_items(items)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return []
    return [mark_of(each.encrypted_content) for each in found if each.encrypted_content]


def mark_of(sealed: str) -> bytes:
    """By what a sealed text is known again."""
    return blake2b(sealed.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def without_sealed(items: bytes) -> bytes | None:
    """An input without its sealed thinking; `None` if that cannot be left out: nothing is sealed,
    or it is the conversation itself (a compaction)."""
    try:
        value = decode_lenient(items)
    except ValueError:
        return None
    if not isinstance(value, list):
        return None
    kept: list[Any] = []
    has_left_out = False
    for item in cast("list[Any]", value):
        if not isinstance(item, dict):
            kept.append(item)
            continue
        members = cast("dict[str, Any]", item)
        if not members.get("encrypted_content"):
            kept.append(members)
        elif members.get("type") == "reasoning":
            has_left_out = True
        else:
            return None
    if not has_left_out:
        return None
    return encode_lenient([_unpaired(each) for each in kept])


def as_next_input(output: list[msgspec.Raw]) -> list[msgspec.Raw]:
    """An answer's items as they are sent back, where nobody keeps them. Thinking that is neither
    sealed nor readable says nothing without its maker's memory."""
    items: list[Any] = [decode_lenient(bytes(each)) for each in output]
    kept = [each for each in items if not _is_empty_thinking(each)]
    if len(kept) == len(items):
        return output
    return [msgspec.Raw(encode_lenient(_unpaired(each))) for each in kept]


def _is_empty_thinking(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    members = cast("dict[str, Any]", item)
    return members.get("type") == "reasoning" and not (
        members.get("encrypted_content") or members.get("content")
    )


def _unpaired(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    members = cast("dict[str, Any]", item)
    if members.get("type", "message") not in _PAIRED:
        return members
    return {name: value for name, value in members.items() if name != "id"}


# -- of messages ----------------------------------------------------------------------------------

_THOUGHTS = frozenset(("thinking", "redacted_thinking"))
SEALED_IN_MESSAGES = re.compile(rb'"(?:signature|redacted_thinking)"').search
LABELLED = b'"merino.'
"""How a seal begins that another dialect's maker set."""


def marks_in_messages(messages: bytes) -> list[bytes]:
    """The marks of all sealed thinking in messages, in order."""
    return [
        mark_of(seal) for block in _thoughts_in(_decoded(messages)) if (seal := _seal_of(block))
    ]


def messages_without_sealed(messages: bytes) -> bytes | None:
    """Messages without sealed thinking; `None` if there is none."""
    return _messages_without(messages, lambda seal: True)


def messages_without_labelled(messages: bytes) -> bytes | None:
    """Messages without the thinking that another dialect's maker sealed; `None` if there is
    none."""
    return _messages_without(messages, lambda seal: seal.startswith("merino."))


def ends_in_turn(messages: bytes) -> bool:
    """Whether the last message brings results: the model goes on with what it was doing."""
    found = _decoded(messages)
    return bool(found) and any(
        isinstance(block, dict) and cast("dict[str, Any]", block).get("type") == "tool_result"
        for block in _blocks_of(found[-1])
    )


def _messages_without(messages: bytes, is_out: Callable[[str], bool]) -> bytes | None:
    has_left_out = False
    kept: list[Any] = []
    for message in _decoded(messages):
        blocks = _blocks_of(message)
        left = [each for each in blocks if not (_is_thought(each) and is_out(_seal_of(each)))]
        if len(left) == len(blocks):
            kept.append(message)
            continue
        has_left_out = True
        if left:  # thinking alone is no message
            kept.append({**message, "content": left})
    return encode_lenient(kept) if has_left_out else None


def _decoded(messages: bytes) -> list[Any]:
    try:
        value = decode_lenient(messages)
    except ValueError:
        return []
    return cast("list[Any]", value) if isinstance(value, list) else []


def _blocks_of(message: Any) -> list[Any]:
    if not isinstance(message, dict):
        return []
    content: object = cast("dict[str, Any]", message).get("content")
    return cast("list[Any]", content) if isinstance(content, list) else []


def _thoughts_in(messages: list[Any]) -> Iterator[dict[str, Any]]:
    for message in messages:
        for block in _blocks_of(message):
            if _is_thought(block):
                yield block


def _is_thought(block: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(block, dict) and cast("dict[str, Any]", block).get("type") in _THOUGHTS


def _seal_of(block: dict[str, Any]) -> str:
    seal: object = block.get("signature") or block.get("data")
    return seal if isinstance(seal, str) else ""
