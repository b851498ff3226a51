"""The object of the Responses API, whole or at the end of its stream: how it ended, what it used,
and how large what it brought is."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from merino.domain.usage import Usage
from merino.wire.errors import NOTHING_SAID, ErrorParts, error_told, read_error
from merino.wire.lenient import decode_lenient, encode_lenient
from merino.wire.produced import loose_sizes, utf8_len
from merino.wire.reported_units import ItemUnits, most_units, units_of, with_units
from merino.wire.reported_usage import usage_beside, usage_of
from merino.wire.sealed import SEALED, mark_of_item
from merino.wire.usage import ChatResult, text_or_none

ItemSizes = tuple[int, int, int, int, bool]
"""As in `produced.Sizes`, then bytes of summarised reasoning, and whether there is anything."""

UNFINISHED = frozenset(("queued", "in_progress"))
"""States of a response that runs in the background."""
_NOTHING: ItemSizes = (0, 0, 0, 0, False)


class Ending(msgspec.Struct, gc=False):
    """Of a decoded response what its end tells; not what it produced."""

    id: str | None = None
    object: str | None = None
    status: str | None = None
    error: Any = None
    incomplete_details: Any = None
    usage: Any = None
    tool_usage: Any = None
    service_tier: Any = None


class HowEnded(msgspec.Struct, frozen=True, gc=False):
    id: str | None
    status: str
    finish_reason: str
    usage: Usage | None
    service_tier: str | None
    error: ErrorParts | None


class _Whole(Ending):
    output: list[msgspec.Raw] | None = None


_decode_ending = msgspec.json.Decoder(Ending).decode
_decode_whole = msgspec.json.Decoder(_Whole).decode


def decode_ending(response: bytes) -> Ending:
    """Empty if it is no such object."""
    try:
        return _decode_ending(response)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Ending()


def ending_of(response: Ending, said: str = "") -> HowEnded:
    """How a response ended; `said` is what the name of its event says. Its own status counts first:
    some servers call every end `completed`."""
    status = response.status or said
    if said in ("failed", "incomplete") and response.status in (None, "completed", *UNFINISHED):
        status = said
    reason = status
    details: object = response.incomplete_details
    if status == "incomplete" and isinstance(details, dict):
        reason = text_or_none(cast("dict[str, Any]", details).get("reason")) or status
    error: ErrorParts | None = None
    if status == "failed" or response.error:
        told: object = response.error
        error = read_error({"error": told}) if told else None
    return HowEnded(
        response.id,
        status,
        reason,
        response_usage(response),
        text_or_none(response.service_tier),
        error,
    )


def response_usage(response: Ending) -> Usage | None:
    """What it used, with what its tools did."""
    return with_units(usage_of(response.usage), units_of(response.usage, response.tool_usage))


def with_items(
    usage: Usage | None, output: list[msgspec.Raw] | None, tool_usage: object
) -> Usage | None:
    """The same, with what the items of an answer show of a vendor's tools."""
    if usage is None or not output:
        return usage
    counted = ItemUnits()
    for item in output:
        counted.note(bytes(item))
    return with_units(usage, most_units(usage.units, counted.units(tool_usage)))


def read_response(body: bytes) -> ChatResult:
    """Read a whole answer of `responses`. Raises `ValueError` if it is not a JSON object."""
    try:
        answer = _decode_whole(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = _loosely(body)
    if answer.output is None and answer.status not in UNFINISHED:
        return _no_response(body, answer)
    found = ending_of(answer, "" if answer.status else "completed")
    visible = thought = wide = summary = 0
    has_content = False
    for item in answer.output or ():
        more, more_thought, more_wide, more_summary, is_filled = item_sizes(bytes(item))
        visible += more
        thought += more_thought
        wide += more_wide
        summary += more_summary
        has_content = has_content or is_filled
    usage = with_items(found.usage, answer.output, answer.tool_usage)
    has_failed = found.status == "failed" or (found.error is not None and not has_content)
    is_error = has_failed and not has_content and (usage is None or not usage.output_tokens)
    message, kind, _, code = (found.error or NOTHING_SAID) if is_error else (None, None, None, None)
    return ChatResult(
        usage,
        found.finish_reason,
        visible,
        # A summary is not the reasoning that was paid for.
        thought if usage is not None else thought + summary,
        wide,
        has_content,
        found.id,
        found.service_tier,
        is_error,
        message,
        kind,
        code,
        _marks(answer.output) if SEALED in body else (),
    )


def _marks(output: list[msgspec.Raw] | None) -> tuple[bytes, ...]:
    marks = [mark_of_item(bytes(item)) for item in output or ()]
    return tuple(mark for mark in marks if mark is not None)


def _no_response(body: bytes, answer: Ending) -> ChatResult:
    loose = decode_lenient(body)
    if not isinstance(loose, dict):
        raise ValueError("the answer is JSON, but not an object")  # noqa: TRY004 - as documented
    members = cast("dict[str, Any]", loose)
    told = error_told(members) or (
        (read_error(members) or NOTHING_SAID) if answer.status == "failed" else None
    )
    message, kind, _, code = told or (
        "The upstream answered 200 without any output.",
        "upstream_error",
        None,
        None,
    )
    usage = response_usage(answer) or usage_beside(members)
    return ChatResult(usage, is_error=True, error_message=message, error_type=kind, error_code=code)


def _loosely(body: bytes) -> _Whole:
    """The same for an object of another shape than expected."""
    value = decode_lenient(body)
    if not isinstance(value, dict):
        raise ValueError("the answer is JSON, but not an object")  # noqa: TRY004 - as documented
    members = cast("dict[str, Any]", value)
    output: object = members.get("output")
    return _Whole(
        id=text_or_none(members.get("id")),
        object=text_or_none(members.get("object")),
        status=text_or_none(members.get("status")),
        error=members.get("error"),
        incomplete_details=members.get("incomplete_details"),
        usage=members.get("usage"),
        tool_usage=members.get("tool_usage"),
        service_tier=members.get("service_tier"),
        output=[msgspec.Raw(encode_lenient(each)) for each in cast("list[object]", output)]
        if isinstance(output, list)
        else None,
    )


# -- items ----------------------------------------------------------------------------------------


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    transcript: str | None = None


class _Item(msgspec.Struct, gc=False):
    type: str | None = None
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    encrypted_content: msgspec.Raw = msgspec.Raw()
    name: str | None = None
    arguments: str | None = None
    input: str | None = None


_decode_item = msgspec.json.Decoder(_Item).decode
_TEXTS = frozenset(("message", "reasoning", "function_call", "custom_tool_call", "mcp_call"))


def item_sizes(item: bytes) -> ItemSizes:
    """The sizes of one item of an output."""
    try:
        known = _decode_item(item)
    except (msgspec.DecodeError, ValueError, RecursionError):
        known = None
    if known is None or known.type not in _TEXTS:
        return _loose_item_sizes(item)
    texts: list[str] = []
    for part in known.content or ():
        texts += [each for each in (part.text, part.refusal, part.transcript) if each]
    size, wide = _sizes(texts)
    if known.type == "reasoning":
        summary, _ = _sizes([part.text for part in known.summary or () if part.text])
        is_filled = bool(size or summary) or bytes(known.encrypted_content) not in (b"", b"null")
        return 0, size, wide, summary, is_filled
    called = [each for each in (known.name, known.arguments, known.input) if each]
    if called:
        more, more_wide = _sizes(called)
        size, wide = size + more, wide + more_wide
    return size, 0, wide, 0, bool(size) or known.type != "message"


def _loose_item_sizes(item: bytes) -> ItemSizes:
    try:
        value = decode_lenient(item)
    except ValueError:
        return _NOTHING
    if not isinstance(value, dict):
        return _NOTHING
    visible, thought, wide = loose_sizes(cast("dict[str, Any]", value))
    return visible, thought, wide, 0, True


def _sizes(texts: list[str]) -> tuple[int, int]:
    size = wide = 0
    for text in texts:
        more = utf8_len(text)
        size += more
        wide += more - len(text)
    return size, wide
