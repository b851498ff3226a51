"""What a model produced: a message or a piece of one, and how much text there is in it.

Text is measured in UTF-8 bytes, and in how many of these are beyond one per character. Base64 is
not text.
"""

from __future__ import annotations

import re
from operator import attrgetter
from typing import Any, cast

import msgspec

from merino.wire.lenient import encode_lenient

Sizes = tuple[int, int, int]
"""Bytes that the caller sees (text, refusals, tool names and arguments, transcripts), bytes of
thinking, and how many of both are beyond one a character."""


class Function(msgspec.Struct, gc=False):
    """Name and arguments, or a piece of them."""

    name: str | None = None
    arguments: str | None = None
    input: str | None = None


class ToolCall(msgspec.Struct, gc=False):
    """One tool call, or a piece of one."""

    function: Function | None = None
    custom: Function | None = None


class Audio(msgspec.Struct, gc=False):
    """Spoken output; its sound is not text and is not measured."""

    transcript: str | None = None


class Message(msgspec.Struct, gc=False):
    """A choice's message, or a piece (delta) of one."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None
    audio: Audio | None = None


_beside_content = attrgetter(
    "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "audio"
)
_NOTHING_BESIDE = (None,) * 6

TEXT_PLAIN_MAX = 2048
"""Longer texts are searched for base64."""
_BASE64 = re.compile(r";base64,[A-Za-z0-9+/=_-]*")


def utf8_len(text: str) -> int:
    """Bytes of `text` in UTF-8, even if it holds half a surrogate pair."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _measured(text: str) -> tuple[int, int]:
    """Bytes of a text without the files in it, and how many are beyond one a character."""
    if len(text) > TEXT_PLAIN_MAX and ";base64," in text:
        text = _BASE64.sub(";base64,", text)
    size = utf8_len(text)
    return size, size - len(text)


def message_sizes(message: Message) -> Sizes:
    """The sizes of a message, or of a piece of one, in the shape that nearly all have."""
    visible = wide = 0
    if content := message.content:
        if len(content) <= TEXT_PLAIN_MAX and content.isascii():
            visible = len(content)
        else:
            visible, wide = _measured(content)
        if _beside_content(message) == _NOTHING_BESIDE:
            return visible, 0, wide
    if message.refusal:
        size, more = _measured(message.refusal)
        visible += size
        wide += more
    if message.tool_calls:
        for call in message.tool_calls:
            called = call.function or call.custom
            if called is not None:
                size, more = _function_size(called)
                visible += size
                wide += more
    if message.function_call is not None:
        size, more = _function_size(message.function_call)
        visible += size
        wide += more
    if message.audio is not None and message.audio.transcript:
        size, more = _measured(message.audio.transcript)
        visible += size
        wide += more
    # Vendors that send both names send the same text twice.
    thought = message.reasoning_content or message.reasoning
    if not thought:
        return visible, 0, wide
    size, more = _measured(thought)
    return visible, size, wide + more


def _function_size(function: Function) -> tuple[int, int]:
    size = wide = 0
    for text in (function.name, function.arguments, function.input):
        if text:
            more, more_wide = _measured(text)
            size += more
            wide += more_wide
    return size, wide


# -- messages of a shape that no schema foresaw ----------------------------------------------------

_VISIBLE = ("content", "refusal", "function_call", "tool_calls", "audio", "text")
_THOUGHT = re.compile(r"reason|think|thought", re.IGNORECASE)
_TEXTS = frozenset(
    ("text", "content", "name", "arguments", "input", "transcript", "refusal", "summary")
)
_LOOKED_INTO = frozenset(("function", "custom"))
_OBJECTS = frozenset(("arguments", "input"))
"""In a tool call whose JSON is an object rather than a text (Ollama)."""
_NO_TEXT = frozenset(
    (
        "channel", "finish_reason", "format", "id", "index", "mime_type", "model", "name", "object",
        "phase", "recipient", "role", "status", "tool_call_id", "type",
    )
)  # fmt: skip
_OPAQUE_TEXT = re.compile(
    r"data:|https?:|(?=\D*[0-9])(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])[A-Za-z0-9+/_=-]{64,}\Z"
).match
"""Files, addresses and sealed things."""


def loose_sizes(message: dict[str, Any]) -> Sizes:
    """The same for a decoded message of any shape, with thinking under any name. What appears under
    several names counts once."""
    said: list[object] = []
    thought_parts: list[object] = []
    thoughts: list[list[object]] = [thought_parts]
    for name, value in message.items():
        if name == "content" and isinstance(value, list):
            for part in cast("list[object]", value):
                (thought_parts if _is_thought(part) else said).append(part)
        elif name in _VISIBLE:
            said.append(value)
        elif _THOUGHT.search(name):
            thoughts.append([value])
        elif isinstance(value, str) and name not in _NO_TEXT and not _OPAQUE_TEXT(value):
            said.append(value)  # under a name of the vendor's own
    visible, wide = _text_size(said)
    thought, more_wide = max(map(_text_size, thoughts))
    return visible, thought, wide + more_wide


def produces(message: dict[str, Any]) -> bool:
    """Whether a decoded message, or a piece of one, holds anything besides its role."""
    return any(value for name, value in message.items() if name != "role")


def only_thinks(message: dict[str, Any]) -> bool:
    """Whether a decoded message, or a piece of one, holds only thinking, readable or not."""
    for name, value in message.items():
        if not value or name == "role" or _THOUGHT.search(name):
            continue
        parts = cast("list[object]", value) if name == "content" and isinstance(value, list) else ()
        if not parts or not all(map(_is_thought, parts)):
            return False
    return True


def visible_text(message: dict[str, Any]) -> str:
    """The text of a decoded message, or of a piece of one, without thinking and tool calls."""
    content: object = message.get("content") or message.get("text")
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for part in cast("list[object]", content) if isinstance(content, list) else ():
        if isinstance(part, dict) and not _is_thought(cast("object", part)):
            text: object = cast("dict[str, Any]", part).get("text")
            if isinstance(text, str):
                texts.append(text)
    return "".join(texts)


def _is_thought(part: object) -> bool:
    kind = cast("dict[str, Any]", part).get("type") if isinstance(part, dict) else None
    return isinstance(kind, str) and _THOUGHT.search(kind) is not None


def _text_size(values: list[object]) -> tuple[int, int]:
    """Bytes of the texts in decoded values, however deep, and how many are beyond one a character.
    Without recursion: an upstream's data may be nested to any depth."""
    size = wide = 0
    stack = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            more, more_wide = _measured(value)
            size += more
            wide += more_wide
        elif isinstance(value, list):
            stack += cast("list[object]", value)
        elif isinstance(value, dict):
            for name, member in cast("dict[str, object]", value).items():
                if name in _OBJECTS and not isinstance(member, str):
                    stack.append(encode_lenient(member).decode("utf-8", "surrogatepass"))
                elif name in _TEXTS or name in _LOOKED_INTO or _THOUGHT.search(name):
                    stack.append(member)
    return size, wide
