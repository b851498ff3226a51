"""The event stream of the Responses API, read as far as billing needs.

Nearly all events are pieces of text that differ from each other in a number, the text and padding.
Those that look as is usual are known by their form; otherwise what surrounds number and text is
learned from one event, and the others are not decoded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, cast

import msgspec

from merino.domain.usage import Units, Usage
from merino.wire.errors import NOTHING_SAID, ErrorParts, error_object, error_told, read_error
from merino.wire.lenient import decode_lenient
from merino.wire.produced import TEXT_PLAIN_MAX, utf8_len
from merino.wire.reported_units import ItemUnits
from merino.wire.reported_usage import merged
from merino.wire.response_object import (
    Ending,
    decode_ending,
    ending_of,
    item_sizes,
)
from merino.wire.sealed import mark_of_item
from merino.wire.splitting import (
    BOM,
    EVENT_BYTES_MAX,
    LINE_END,
    Event,
    EventKind,
    EventSplitter,
)

ENDINGS = frozenset(
    ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
)
"""The event that ends an answer, one of them and once."""
_BEGINNINGS = frozenset(("response.created", "response.queued", "response.in_progress"))
_ANNOUNCED = frozenset(("message", "reasoning", "compaction"))
"""Items that bring nothing when they are added; others tell what the model does."""
_NO_CONTENT = frozenset(
    (
        "keepalive",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
        "response.rate_limits.updated",
    )
)
_DATA = b"\ndata: {"
_DONES = frozenset((b"[DONE]", b"[done]", b'"[DONE]"'))
_PLAIN_TEXT = re.compile(rb"[ !#-\[\]-~]+").fullmatch
_PLAIN_OREMPTY_RESPONSE = re.compile(rb"[ !#-\[\]-~]*").fullmatch
_SEQUENCE = re.compile(rb'"sequence_number": ?([0-9]+)')
_DELTA = re.compile(rb'"delta": ?"([ !#-\[\]-~]+)"')
_PADDING = re.compile(rb'"obfuscation": ?"([ !#-\[\]-~]*)"')
_AS_OPENAI_WRITES = re.compile(
    rb"event: response\.output_text\.delta\ndata: "
    rb'\{"type":"response\.output_text\.delta","sequence_number":([0-9]{1,12}),'
    rb'"item_id":"[^"\\]*","output_index":([0-9]{1,12}),"content_index":[0-9]{1,12},'
    rb'"delta":"([ !#-\[\]-~]+)","logprobs":\[\](?:,"obfuscation":"[^"\\]*")?\}\n\n'
).fullmatch
_AS_VLLM_WRITES = re.compile(
    rb"event: response\.output_text\.delta\ndata: "
    rb'\{"content_index":[0-9]{1,12},"delta":"([ !#-\[\]-~]+)","item_id":"[^"\\]*",'
    rb'"logprobs":\[\],"output_index":([0-9]{1,12}),"sequence_number":([0-9]{1,12}),'
    rb'"type":"response\.output_text\.delta"\}\n\n'
).fullmatch
UsualForm = tuple[Callable[[bytes], re.Match[bytes] | None], int, int]
USUAL: UsualForm = (_AS_OPENAI_WRITES, 1, 3)
"""How nearly every event of a stream looks, byte for byte, and which groups are number and text;
the second is that of the output's index. What looks so need not be decoded."""
_FORMS: tuple[UsualForm, ...] = (USUAL, (_AS_VLLM_WRITES, 3, 1))
_LEARNS_MAX = 32
_DIGITS_MAX = 12
_MARK = "merino"
_CODES = frozenset(
    (
        "bio_policy",
        "context_length_exceeded",
        "data_residency_mismatch",
        "empty_image_file",
        "failed_to_download_image",
        "image_content_policy_violation",
        "image_file_not_found",
        "image_file_too_large",
        "image_parse_error",
        "image_too_large",
        "image_too_small",
        "insufficient_quota",
        "invalid_base64_image",
        "invalid_image",
        "invalid_image_format",
        "invalid_image_mode",
        "invalid_image_url",
        "invalid_prompt",
        "misalignment_policy_violation",
        "rate_limit_exceeded",
        "unsupported_image_media_type",
        "usage_not_included",
        "vector_store_timeout",
    )
)
"""What a failed response's error may be called: typed clients know only these, and those by which
agents decide whether to go on. The `error` event before it has any code."""
EMPTY_RESPONSE: dict[str, Any] = {
    "id": "",
    "object": "response",
    "created_at": 0,
    "completed_at": None,
    "status": "failed",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "model": "",
    "output": [],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": None,
    "store": False,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "truncation": "disabled",
    "usage": None,
    "metadata": {},
}
"""Every member that clients may insist on, of a response that never began."""

_NOT_SENT = msgspec.Raw()


class _AnyEvent(msgspec.Struct, gc=False):
    type: str | None = None
    delta: msgspec.Raw = _NOT_SENT
    sequence_number: int | None = None
    item: msgspec.Raw = _NOT_SENT
    response: msgspec.Raw = _NOT_SENT
    error: msgspec.Raw = _NOT_SENT


class _Kind(msgspec.Struct, gc=False):
    type: str | None = None


_decode_event = msgspec.json.Decoder(_AnyEvent).decode
_decode_kind = msgspec.json.Decoder(_Kind).decode
_decode_text = msgspec.json.Decoder(str).decode


class ResponseReader(EventSplitter):
    """Reads one stream of a response, fed in pieces of any size; `endpoints.EventReader` says what
    is known of it. `begun` is the response as its first event told it, `final` as its last one
    did, `ending` the bytes of the event that failed it, `sequence_number` the last one seen.

    Summaries of reasoning are text that was seen, but not the reasoning that was paid for: they
    count only as long as nothing was reported.
    """

    __slots__ = (
        "_around",
        "_counted",
        "_delta_bytes",
        "_delta_wide",
        "_is_first",
        "_is_over",
        "_item_bytes",
        "_item_summary",
        "_item_thought",
        "_item_wide",
        "_learned_type",
        "_learns_left",
        "_plain_bytes_max",
        "_summary_bytes",
        "_thought_bytes",
        "_tool_usage",
        "_usual",
        "begun",
        "chunks",
        "ending",
        "error",
        "failure",
        "final",
        "finish_reason",
        "has_content",
        "id",
        "sealed",
        "sequence_number",
        "service_tier",
        "status",
        "usage",
    )

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        super().__init__(event_bytes_max)
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.service_tier: str | None = None
        self.status: str | None = None
        self.id: str | None = None
        self.chunks = 0
        self.has_content = False
        self.error: dict[str, Any] | None = None
        self.failure: dict[str, Any] | None = None
        self.sealed: list[bytes] = []
        self._counted = ItemUnits()
        self._tool_usage: object = None
        self.begun = b""
        self.final = b""
        self.ending = b""
        self.sequence_number = -1
        # What pieces brought, and what whole items did: some upstreams send only the latter.
        self._delta_bytes = self._delta_wide = 0
        self._item_bytes = self._item_wide = 0
        self._thought_bytes = self._summary_bytes = 0
        self._item_thought = self._item_summary = 0
        self._around: tuple[bytes, int, bytes, bytes, bytes, bool] | None = None
        self._learned_type = ""
        self._learns_left = _LEARNS_MAX
        self._plain_bytes_max = min(event_bytes_max, 2 * TEXT_PLAIN_MAX)
        self._is_first = True
        self._is_over = False
        self._usual = USUAL

    @property
    def output_bytes(self) -> int:
        return max(self._delta_bytes, self._item_bytes)

    @property
    def wide_bytes(self) -> int:
        return self._delta_wide if self._delta_bytes >= self._item_bytes else self._item_wide

    @property
    def reasoning_bytes(self) -> int:
        thought = max(self._thought_bytes, self._item_thought)
        if self.usage is not None:
            return thought
        return thought + max(self._summary_bytes, self._item_summary)

    @property
    def units(self) -> Units:
        """What a vendor's tools did, by the items that came."""
        return self._counted.units(self._tool_usage)

    @property
    def is_complete(self) -> bool:
        return self._is_over

    @property
    def has_finished(self) -> bool:
        return self._is_over

    @property
    def is_at_done(self) -> bool:
        """The held bytes are the last event, and only its blank line is missing."""
        held = bytes(self._held).rstrip()
        if not held.endswith(b"}") or b"response." not in held[:64]:
            return False
        name, payload = parts_of(held)
        try:
            return (name or _decode_kind(payload).type) in ENDINGS
        except (msgspec.DecodeError, ValueError):
            return False

    # -- one event -------------------------------------------------------------------------------

    def feed_one(self, data: bytes) -> EventKind | None:
        """Take the next bytes if they are exactly one event of the usual form, or like those
        learned."""
        if self._held or not self._is_usual(data):
            return None
        return "content"

    def _is_usual(self, raw: bytes) -> bool:
        """Whether these bytes are one piece of plain text; if so, it is noted."""
        form, number, text = self._usual
        found = form(raw) if len(raw) <= self._plain_bytes_max else None
        if found is None:
            return self._around is not None and self._is_piece(raw)
        self.chunks += 1
        self.has_content = True
        self.sequence_number = int(found[number])
        start, end = found.span(text)
        self._delta_bytes += end - start
        return True

    def _is_piece(self, raw: bytes) -> bool:
        """Whether these bytes are a piece of plain text like an earlier one; if so, it is noted."""
        around = self._around
        assert around is not None
        head, head_size, middle, tail, end, is_thought = around
        if not raw.startswith(head) or not raw.endswith(end) or len(raw) > self._plain_bytes_max:
            return False
        digits_end = raw.find(middle, head_size, head_size + _DIGITS_MAX + len(middle))
        if digits_end < 0 or not (digits := raw[head_size:digits_end]).isdigit():
            return False
        text_at = digits_end + len(middle)
        text_end = raw.find(b'"', text_at)
        if not _PLAIN_TEXT(raw, text_at, text_end) or not raw.startswith(tail, text_end):
            return False
        padding_at = text_end + len(tail)
        if end:
            if not _PLAIN_OREMPTY_RESPONSE(raw, padding_at, len(raw) - len(end)):
                return False
        elif padding_at != len(raw):
            return False
        self.chunks += 1
        self.sequence_number = int(digits)
        if is_thought:
            self._count_thought(self._learned_type, text_end - text_at)
        else:
            self._delta_bytes += text_end - text_at
        return True

    def _learn(self, raw: bytes, kind: str) -> None:
        """Learn what surrounds number, text and padding of a piece."""
        self._learns_left -= 1
        self._usual = usual_form(raw) or self._usual
        if raw.count(b'"delta"') != 1 or raw.count(b'"sequence_number"') != 1:
            return
        number, text = _SEQUENCE.search(raw), _DELTA.search(raw)
        if number is None or text is None or number.start() > text.start():
            return
        padding = _PADDING.search(raw, text.end())
        end = b""
        tail = raw[text.end(1) :]
        if padding is not None:
            tail = raw[text.end(1) : padding.start(1)]
            end = raw[padding.end(1) :]
        head, middle = raw[: number.start(1)], raw[number.end(1) : text.start(1)]
        probe = parts_of(head + b"7" + middle + _MARK.encode() + tail + b"x" * bool(end) + end)[1]
        try:
            # The proof that this is where they are.
            found = _decode_event(probe)
            is_right = (
                found.sequence_number == 7
                and found.type in (kind, None)
                and _decode_text(found.delta) == _MARK
            )
        except (msgspec.DecodeError, ValueError):
            return
        if is_right:
            self._around = (head, len(head), middle, tail, end, "reasoning" in kind)
            self._learned_type = kind

    def _read(self, raw: bytes) -> Event:
        self._check_size(len(raw))
        if self._is_usual(raw):
            return Event(raw, "content")
        if self._is_first:
            self._is_first = False
            name, payload = parts_of(raw.removeprefix(BOM))
        else:
            name, payload = parts_of(raw)
        said = payload.strip()
        if not said:
            return Event(raw, "comment")
        if said in _DONES:
            # Only says something after the event that ends the answer.
            return Event(raw, "done" if self._is_over else "comment")
        try:
            event = _decode_event(payload)
            kind = event.type or name
            if kind and kind != "error" and event.error is _NOT_SENT:
                return Event(raw, self._read_event(raw, kind, event))
        except (msgspec.DecodeError, ValueError, RecursionError):
            pass
        return Event(raw, self._read_loosely(raw, name, payload))

    def _read_event(self, raw: bytes, kind: str, event: _AnyEvent) -> EventKind:
        if event.sequence_number is not None:
            self.sequence_number = event.sequence_number
        delta = event.delta
        if delta is not _NOT_SENT:
            return self._read_delta(raw, kind, delta)
        if kind in ENDINGS:
            # One ends the answer; a second one is none of it.
            return "comment" if self._is_over else self._end(raw, kind, event.response)
        self.chunks += 1
        if kind in _BEGINNINGS:
            if not self.begun and event.response is not _NOT_SENT:
                self.begun = bytes(event.response)
                self.id = decode_ending(self.begun).id
            return "role"
        if kind == "response.output_item.done" and event.item is not _NOT_SENT:
            return self._content() if self._add_item(bytes(event.item)) else "other"
        if kind == "response.output_item.added":
            its = _decode_kind(event.item).type if event.item is not _NOT_SENT else None
            return "other" if its is None or its in _ANNOUNCED else self._content()
        if kind in _NO_CONTENT or not kind.startswith("response."):
            return "other"
        return self._content() if self.has_content else "other"

    def _read_delta(self, raw: bytes, kind: str, delta: msgspec.Raw) -> EventKind:
        self.chunks += 1
        if bytes(memoryview(delta)[:1]) != b'"':
            return self._content() if bytes(delta) not in (b"null", b"{}") else "other"
        text = _decode_text(delta)
        if not text:
            return "other"
        if "audio.delta" not in kind:  # sound is no text
            size = utf8_len(text)
            wide = size - len(text)
            if "reasoning" in kind:
                self._count_thought(kind, size)
                self._delta_wide += wide
            else:
                self._delta_bytes += size
                self._delta_wide += wide
            is_new = self._around is None or self._learned_type != kind or not wide
            if is_new and self._learns_left and len(raw) <= self._plain_bytes_max:
                self._learn(raw, kind)
        return self._content()

    def _count_thought(self, kind: str, size: int) -> None:
        if "summary" in kind:
            self._summary_bytes += size
        else:
            self._thought_bytes += size

    def _content(self) -> EventKind:
        self.has_content = True
        return "content"

    def _add_item(self, item: bytes) -> bool:
        """Count a whole item; false if there is nothing in it."""
        visible, thought, wide, summary, is_filled = item_sizes(item)
        self._counted.note(item)
        if (mark := mark_of_item(item)) is not None:
            self.sealed.append(mark)
        self._item_bytes += visible
        self._item_wide += wide
        self._item_thought += thought
        self._item_summary += summary
        return is_filled

    # -- the end ---------------------------------------------------------------------------------

    def _end(self, raw: bytes, kind: str, response: msgspec.Raw) -> EventKind:
        """Read the event that ends the answer. One that failed is an error, and another upstream
        may do better, unless it reports use before anything was seen: then that is what the caller
        gets and pays."""
        self.chunks += 1
        self.final = b"" if response is _NOT_SENT else bytes(response)
        ending = decode_ending(self.final) if self.final else Ending()
        found = ending_of(ending, kind.removeprefix("response."))
        self.id = found.id or self.id
        self.usage = merged(self.usage, found.usage)
        self._tool_usage = ending.tool_usage
        self.service_tier = found.service_tier or self.service_tier
        self.status, self.finish_reason = found.status, found.finish_reason
        is_paid = found.usage is not None and found.usage.output_tokens > 0
        if found.status == "failed" and (self.has_content or not is_paid):
            self._note_failure(found.error or NOTHING_SAID)
            self.ending = raw
            return "error"
        self._is_over = True
        return "done"

    def _read_loosely(self, raw: bytes, name: str, payload: bytes) -> EventKind:
        """Read an error, or an object whose shape the schema does not know."""
        try:
            value = decode_lenient(payload)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            if name == "error":
                text = payload.decode("utf-8", "replace").strip()[:1000]
                return self._note_failure((text, "upstream_error", None, None))
            return "comment" if self._is_over or name else "garbage"
        members = cast("dict[str, Any]", value)
        kind: object = members.get("type") or name
        number: object = members.get("sequence_number")
        if isinstance(number, int):
            self.sequence_number = number
        error = error_told(members)
        if error is None and kind == "error":
            error = read_error(members) or NOTHING_SAID
        if error is not None:
            return "comment" if self._is_over else self._note_failure(error)
        if kind in ENDINGS and self._is_over:
            return "comment"
        if kind in ENDINGS:
            told: object = members.get("response")
            its = json.dumps(told).encode() if isinstance(told, dict) else b"{}"
            return self._end(raw, cast("str", kind), msgspec.Raw(its))
        self.chunks += 1
        delta: object = members.get("delta")
        if isinstance(delta, str) and delta:
            size = len(delta.encode("utf-8", "surrogatepass"))
            if "reasoning" in str(kind):
                self._count_thought(str(kind), size)
            else:
                self._delta_bytes += size
            return self._content()
        return "other"

    def _note_failure(self, error: ErrorParts) -> EventKind:
        message, kind, param, code = error
        self.error = {"message": message, "type": kind, "param": param, "code": code}
        self.failure = {"error": self.error}
        return "error"


def usual_form(raw: bytes) -> UsualForm | None:
    """In which of the usual forms a piece of text is written, if in any."""
    return next((each for each in _FORMS if each[0](raw) is not None), None)


def failed_events(error_body: bytes, reader: object) -> bytes:
    """The events by which clients of this API learn that a stream failed: an `error`, as packages
    raise it, and the `response.failed` that ends every failed answer. If the upstream itself ended
    it so, these are its own bytes."""
    known = reader if isinstance(reader, ResponseReader) else None
    if known is not None and known.ending:
        return known.ending if known.ending.endswith(b"\n\n") else known.ending + b"\n\n"
    told: dict[str, Any] = error_object(error_body).get("error") or {}
    code, message = told.get("code"), told.get("message")
    number = 0 if known is None else known.sequence_number + 1
    response = _echoed(known)
    response |= {
        "status": "failed",
        "error": {"code": code if code in _CODES else "server_error", "message": message},
    }
    error = {
        "type": "error",
        "sequence_number": number,
        "code": code,
        "message": message,
        "param": told.get("param"),
        "error": told,
    }
    failed = {
        "type": "response.failed",
        "sequence_number": number + 1,
        "response": response,
    }
    return event_of("error", error) + event_of("response.failed", failed)


def event_of(name: str, value: object) -> bytes:
    """A named event."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data.encode("utf-8", "surrogatepass"))


def _echoed(known: ResponseReader | None) -> dict[str, Any]:
    """The response as its first event told it, or what every response has."""
    if known is not None and known.begun:
        value = error_object(known.begun)
        if value:
            return {**EMPTY_RESPONSE, **value, "completed_at": None}
    return {**EMPTY_RESPONSE, "id": (known.id if known is not None else None) or "resp_failed"}


def parts_of(raw: bytes) -> tuple[str, bytes]:
    """The name of an event and its data."""
    if raw.startswith(b"event: "):
        name_end = raw.find(b"\n")
        if raw.startswith(_DATA, name_end) and b"\r" not in raw[:name_end]:
            body = raw[name_end + 7 :].rstrip(b"\r\n")
            if b"\n" not in body and b"\r" not in body:
                return raw[7:name_end].decode("latin-1"), body
    name = b""
    data: list[bytes] = []
    for line in LINE_END.split(raw):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return name.decode("latin-1"), b"\n".join(data)
