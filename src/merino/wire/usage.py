"""The little the relay must know about a whole answer: whether it is one, what it reports it used,
and how large it is.

A status of 200 alone makes no answer. Anything else that upstreams send with it is an error here,
described in its own words.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from merino.domain.usage import Usage
from merino.wire.errors import NOTHING_SAID, ErrorParts, error_told
from merino.wire.lenient import decode_lenient
from merino.wire.produced import Message, loose_sizes, message_sizes, produces
from merino.wire.reported_usage import (
    MAY_BE_BESIDE,
    RawUsage,
    all_input,
    of_all,
    to_usage,
    usage_beside,
    usage_of,
)

NULLISH = frozenset((b"null", b"false", b'""', b"0", b"{}", b"[]", b""))
"""A member that vendors always send means something only if it is none of these."""
FAILED_REASONS = frozenset(("error", "failed"))
"""Finish reasons that no model gives: upstreams' own words for a failed choice."""
CUT_REASONS = FAILED_REASONS | {
    "abort",
    "aborted",
    "cancelled",
    "insufficient_system_resource",
    "network_error",
}
"""The same for a choice without content (SGLang and vLLM, DeepSeek, Zhipu). After content they say
how an answer ended, and the caller may read them."""


# Structs, not dataclasses: making one costs a tenth, and every call makes one.
class ChatResult(msgspec.Struct, frozen=True, gc=False):
    """What the relay reads from a whole answer; sizes as in `produced.Sizes`.

    `error_*` say why it is no answer, if it is none.
    """

    usage: Usage | None = None
    finish_reason: str | None = None
    content_bytes: int = 0
    reasoning_bytes: int = 0
    wide_bytes: int = 0
    has_content: bool = False
    id: str | None = None
    service_tier: str | None = None
    is_error: bool = False
    error_message: str | None = None
    error_type: str | None = None
    error_code: str | None = None
    sealed: tuple[bytes, ...] = ()
    """The marks of what of it only its maker can read."""


class EmbeddingsResult(msgspec.Struct, frozen=True, gc=False):
    """What the relay reads from an `embeddings` answer."""

    usage: Usage | None = None
    is_error: bool = False
    error_message: str | None = None
    error_type: str | None = None
    error_code: str | None = None


class _Choice(msgspec.Struct, gc=False):
    message: Message | None = None
    finish_reason: str | None = None
    error: msgspec.Raw = msgspec.Raw()


class _Answer(msgspec.Struct, gc=False):
    id: str | None = None
    choices: list[_Choice] | None = None
    usage: RawUsage | None = None
    service_tier: str | None = None
    error: msgspec.Raw = msgspec.Raw()


class _EmbeddingsAnswer(msgspec.Struct, gc=False):
    data: msgspec.Raw = msgspec.Raw()
    usage: RawUsage | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_embeddings = msgspec.json.Decoder(_EmbeddingsAnswer).decode


def parse_chat_response(body: bytes) -> ChatResult:
    """Read a whole answer of `chat/completions`. Raises `ValueError` if it is not a JSON object."""
    try:
        answer = _decode_answer(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _loose_result(_decode_object(body))
    if answer.error or not answer.choices:
        return _loose_result(_decode_object(body))
    visible = thought = wide = 0
    finish_reason: str | None = None
    for choice in answer.choices:
        message = choice.message
        finish_reason = choice.finish_reason or finish_reason
        if message is None or choice.error or choice.finish_reason in CUT_REASONS:
            return _loose_result(_decode_object(body))
        sizes = message_sizes(message)
        if len(answer.choices) == 1:
            visible, thought, wide = sizes
            break
        visible += sizes[0]
        thought += sizes[1]
        wide += sizes[2]
    usage = None if answer.usage is None else to_usage(answer.usage)
    is_elsewhere = usage is None and (answer.usage is not None or MAY_BE_BESIDE(body))
    if is_elsewhere or not visible + thought:
        # Spelled differently, or not foreseen by the schema.
        return _loose_result(_decode_object(body))
    return ChatResult(
        usage,
        finish_reason,
        visible,
        thought,
        wide,
        True,
        answer.id,
        answer.service_tier,
    )


def parse_embeddings_response(body: bytes) -> EmbeddingsResult:
    """Read a whole answer of `embeddings`. Raises `ValueError` if it is not a JSON object."""
    try:
        answer = _decode_embeddings(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    else:
        usage = None if answer.usage is None else to_usage(answer.usage)
        is_said = usage is not None or (answer.usage is None and not MAY_BE_BESIDE(body[-1024:]))
        if not answer.error and is_said and _is_list_of_something(answer.data):
            return EmbeddingsResult(all_input(usage))
    loose = _decode_object(body)
    usage = all_input(usage_of(loose.get("usage")) or usage_beside(loose))
    error = error_told(loose)
    if error is None and loose.get("data"):
        return EmbeddingsResult(usage)
    message, kind, _, code = error or _no_answer("without any data")
    return EmbeddingsResult(usage, True, message, kind, code)


def _is_list_of_something(raw: msgspec.Raw) -> bool:
    begin = bytes(memoryview(raw)[:64]) if raw else b""
    return begin[:1] == b"[" and begin[1:].lstrip()[:1] not in (b"]", b"")


def _no_answer(why: str) -> ErrorParts:
    return f"The upstream answered 200 {why}.", "upstream_error", None, None


def _decode_object(body: bytes) -> dict[str, Any]:
    value = decode_lenient(body)
    if not isinstance(value, dict):
        raise ValueError("the answer is JSON, but not an object")  # noqa: TRY004 - as documented
    return cast("dict[str, Any]", value)


def _loose_result(answer: dict[str, Any]) -> ChatResult:
    visible = thought = wide = 0
    finish_reason: str | None = None
    has_content = is_answer = False
    failure: ErrorParts | None = None
    choices: object = answer.get("choices")
    for choice in cast("list[Any]", choices) if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        members = cast("dict[str, Any]", choice)
        reason = text_or_none(members.get("finish_reason"))
        message: object = members.get("message")
        if not isinstance(message, dict):
            message = {"text": members.get("text")} if members.get("text") is not None else None
        produced = cast("dict[str, Any] | None", message)
        found = failure_of_choice(members, produced)
        if found is not None:
            failure = failure or found
            continue
        finish_reason = reason or finish_reason
        if produced is None:
            continue
        its = produces(produced)
        is_answer = is_answer or its or reason is not None
        has_content = has_content or its
        more_visible, more_thought, more_wide = loose_sizes(produced)
        visible += more_visible
        thought += more_thought
        wide += more_wide
    error = error_told(answer)
    if error is None and not is_answer:
        error = failure or _no_answer("without any choice")
    usage = usage_of(answer.get("usage")) or usage_beside(answer)
    return ChatResult(
        usage or of_all(shares_in(answer).values()),
        finish_reason,
        visible,
        thought,
        wide,
        has_content,
        text_or_none(answer.get("id")),
        text_or_none(answer.get("service_tier")),
        error is not None,
        None if error is None else error[0],
        None if error is None else error[1],
        None if error is None else error[3],
    )


def failure_of_choice(choice: dict[str, Any], produced: dict[str, Any] | None) -> ErrorParts | None:
    """Why a decoded choice failed, if it did: it has an error, or it brought nothing and its finish
    reason is a failure."""
    if choice.get("error"):
        return error_told(choice) or NOTHING_SAID
    reason = text_or_none(choice.get("finish_reason"))
    if reason in CUT_REASONS and not (produced and produces(produced)):
        return f"The upstream ended with finish_reason '{reason}'.", "upstream_error", None, None
    return None


def shares_in(members: dict[str, Any]) -> dict[int, Usage]:
    """What each choice of a decoded answer or stream event says about itself alone."""
    found: dict[int, Usage] = {}
    listed: object = members.get("choices")
    for position, choice in enumerate(
        cast("list[Any]", listed) if isinstance(listed, list) else ()
    ):
        if not isinstance(choice, dict):
            continue
        its = cast("dict[str, Any]", choice)
        inner: object = its.get("delta") or its.get("message")
        said = usage_of(its.get("usage"))
        if said is None and isinstance(inner, dict):
            said = usage_of(cast("dict[str, Any]", inner).get("usage"))
        if said is not None:
            index: object = its.get("index")
            found[index if isinstance(index, int) else position] = said
    return found


def text_or_none(value: object) -> str | None:
    """`value` if it is text."""
    return value if isinstance(value, str) else None
