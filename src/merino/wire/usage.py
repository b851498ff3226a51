"""What an upstream says a call used, and the little the relay must know of a whole answer.

Upstreams that are compatible on paper differ in practice; whatever does not add up is no usage at
all, and the caller of these functions counts instead.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from merino.domain.usage import Usage
from merino.wire.errors import read_error
from merino.wire.lenient import decode_lenient

TOKENS_MAX = 10**9
"""No call has more; a larger number is a mistake of the upstream."""


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_creation_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


_NO_DETAILS = _Details()


class RawUsage(msgspec.Struct, gc=False):
    """A usage object in either of OpenAI's spellings, with DeepSeek's `prompt_cache_hit_tokens`."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None


_decode_usage = msgspec.json.Decoder(RawUsage | None).decode


def parse_usage(raw: bytes | msgspec.Raw) -> Usage | None:
    """Read a usage object; `None` if it is null, incomplete or does not add up."""
    try:
        read = _decode_usage(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if read is None else to_usage(read)


def usage_of(value: object) -> Usage | None:
    """The same of a decoded value of any shape."""
    try:
        read = msgspec.convert(value, RawUsage | None)
    except msgspec.ValidationError:
        return None
    return None if read is None else to_usage(read)


def to_usage(raw: RawUsage) -> Usage | None:
    """Check the numbers and give them the relay's names.

    Some vendors (xAI) report reasoning beside the output instead of inside; where only that makes
    the total right, it is added to the output.
    """
    input_tokens = raw.prompt_tokens
    output_tokens = raw.completion_tokens
    input_details = raw.prompt_tokens_details
    output_details = raw.completion_tokens_details
    if input_tokens is None:
        input_tokens = raw.input_tokens
        if input_tokens is None:
            return None
    if output_tokens is None:
        output_tokens = raw.output_tokens
        if output_tokens is None:
            if raw.total_tokens is None:
                return None
            output_tokens = raw.total_tokens - input_tokens
    if input_details is None:
        input_details = raw.input_tokens_details or _NO_DETAILS
    if output_details is None:
        output_details = raw.output_tokens_details or _NO_DETAILS
    cached = input_details.cached_tokens
    if cached is None:
        cached = raw.prompt_cache_hit_tokens or 0
    cache_write = input_details.cache_write_tokens
    if cache_write is None:
        cache_write = input_details.cache_creation_tokens or 0
    reasoning = output_details.reasoning_tokens or 0
    if reasoning and raw.total_tokens == input_tokens + output_tokens + reasoning:
        output_tokens += reasoning
    if not (0 <= input_tokens <= TOKENS_MAX and 0 <= output_tokens <= TOKENS_MAX):
        return None
    usage = Usage(
        input_tokens,
        output_tokens,
        cached,
        cache_write,
        reasoning,
        input_details.image_tokens or 0,
        input_details.audio_tokens or 0,
        output_details.audio_tokens or 0,
    )
    return usage if usage.is_consistent() else None


# Structs, not dataclasses: making one costs a tenth, and every call makes one.
class ChatResult(msgspec.Struct, frozen=True, gc=False):
    """What the relay reads of a whole answer. Sizes are UTF-8 bytes, 0 where usage was reported.

    `content_bytes` is what the caller sees: text, refusals, tool names and arguments, transcripts.
    `error_*` say what an error object said, which some upstreams send with status 200.
    """

    usage: Usage | None = None
    finish_reason: str | None = None
    content_bytes: int = 0
    reasoning_bytes: int = 0
    id: str | None = None
    service_tier: str | None = None
    is_error: bool = False
    error_message: str | None = None
    error_type: str | None = None
    error_code: str | None = None


class EmbeddingsResult(msgspec.Struct, frozen=True, gc=False):
    """What the relay reads of an `embeddings` answer."""

    usage: Usage | None = None
    is_error: bool = False
    error_message: str | None = None
    error_type: str | None = None
    error_code: str | None = None


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


class _Choice(msgspec.Struct, gc=False):
    message: Message | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct, gc=False):
    id: str | None = None
    choices: list[_Choice] | None = None
    usage: RawUsage | None = None
    service_tier: str | None = None
    error: msgspec.Raw = msgspec.Raw()


class _EmbeddingsAnswer(msgspec.Struct, gc=False):
    usage: RawUsage | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_embeddings = msgspec.json.Decoder(_EmbeddingsAnswer).decode


def utf8_len(text: str) -> int:
    """Bytes of `text` in UTF-8, also when it holds half a surrogate pair."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def message_sizes(message: Message) -> tuple[int, int]:
    """Visible and reasoning bytes of a message or a piece of one."""
    visible = 0
    if message.content:
        visible = utf8_len(message.content)
    if message.refusal:
        visible += utf8_len(message.refusal)
    if message.tool_calls:
        for call in message.tool_calls:
            called = call.function or call.custom
            if called is not None:
                visible += _function_bytes(called)
    if message.function_call is not None:
        visible += _function_bytes(message.function_call)
    if message.audio is not None and message.audio.transcript:
        visible += utf8_len(message.audio.transcript)
    # Vendors that send both names send the same text twice.
    reasoning = message.reasoning_content or message.reasoning
    return visible, utf8_len(reasoning) if reasoning else 0


def _function_bytes(function: Function) -> int:
    return sum(
        utf8_len(text) for text in (function.name, function.arguments, function.input) if text
    )


def loose_sizes(message: dict[str, Any]) -> tuple[int, int]:
    """Visible and reasoning bytes of a decoded message of a shape that no schema foresaw."""
    visible = sum(
        _text_bytes(message.get(name))
        for name in ("content", "refusal", "function_call", "tool_calls", "audio", "text")
    )
    return visible, _text_bytes(message.get("reasoning_content") or message.get("reasoning"))


_COUNTED = frozenset({"text", "content", "name", "arguments", "input", "transcript", "refusal"})
_LOOKED_INTO = frozenset({"function", "custom"})


def _text_bytes(value: object) -> int:
    if isinstance(value, str):
        return utf8_len(value)
    if isinstance(value, list):
        return sum(_text_bytes(item) for item in cast("list[object]", value))
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return sum(
            _text_bytes(member)
            for name, member in members.items()
            if name in _COUNTED or name in _LOOKED_INTO
        )
    return 0


def parse_chat_response(body: bytes) -> ChatResult:
    """Read a whole answer of `chat/completions`. Raises `ValueError` if it is not a JSON object."""
    try:
        answer = _decode_answer(body)
        if answer.error:
            return _loose_result(_decode_object(body))
        usage = None if answer.usage is None else to_usage(answer.usage)
        visible = reasoning = 0
        finish_reason: str | None = None
        for choice in answer.choices or ():
            finish_reason = choice.finish_reason or finish_reason
            if usage is None and choice.message is not None:
                more_visible, more_reasoning = message_sizes(choice.message)
                visible += more_visible
                reasoning += more_reasoning
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _loose_result(_decode_object(body))
    return ChatResult(
        usage,
        finish_reason,
        visible,
        reasoning,
        answer.id,
        answer.service_tier,
    )


def parse_embeddings_response(body: bytes) -> EmbeddingsResult:
    """Read a whole answer of `embeddings`. Raises `ValueError` if it is not a JSON object."""
    try:
        answer = _decode_embeddings(body)
        if not answer.error:
            return EmbeddingsResult(None if answer.usage is None else to_usage(answer.usage))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    loose = _decode_object(body)
    error = read_error(loose) if loose.get("error") else None
    usage = usage_of(loose.get("usage"))
    if error is None:
        return EmbeddingsResult(usage)
    return EmbeddingsResult(usage, True, error[0], error[1], error[3])


def _decode_object(body: bytes) -> dict[str, Any]:
    value = decode_lenient(body)
    if not isinstance(value, dict):
        raise ValueError("the answer is JSON, but not an object")  # noqa: TRY004 - as documented
    return cast("dict[str, Any]", value)


def _loose_result(answer: dict[str, Any]) -> ChatResult:
    visible = reasoning = 0
    finish_reason: str | None = None
    choices: object = answer.get("choices")
    for choice in cast("list[Any]", choices) if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        members = cast("dict[str, Any]", choice)
        reason = members.get("finish_reason")
        if isinstance(reason, str):
            finish_reason = reason
        message = members.get("message")
        if isinstance(message, dict):
            more_visible, more_reasoning = loose_sizes(cast("dict[str, Any]", message))
            visible += more_visible
            reasoning += more_reasoning
    error = read_error(answer) if answer.get("error") else None
    return ChatResult(
        usage_of(answer.get("usage")),
        finish_reason,
        visible,
        reasoning,
        text_or_none(answer.get("id")),
        text_or_none(answer.get("service_tier")),
        error is not None,
        *(() if error is None else (error[0], error[1], error[3])),
    )


def text_or_none(value: object) -> str | None:
    """`value` if it is text."""
    return value if isinstance(value, str) else None
