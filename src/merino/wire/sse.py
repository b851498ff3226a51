"""Server-sent events of a chat stream: split exactly as they came, read as far as billing needs.

The bytes of all events, joined, are the bytes that were fed; nothing is normalised.
"""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

from merino.domain.usage import Units, Usage
from merino.wire.errors import NOTHING_SAID, ErrorParts, error_told, read_error
from merino.wire.lenient import decode_lenient
from merino.wire.produced import (
    TEXT_PLAIN_MAX,
    Message,
    loose_sizes,
    message_sizes,
    produces,
    utf8_len,
)
from merino.wire.reported_usage import (
    MAY_BE_BESIDE,
    RawUsage,
    merged,
    of_all,
    to_usage,
    usage_beside,
    usage_of,
)
from merino.wire.splitting import (
    BOM,
    EVENT_BYTES_MAX,
    LINE_END,
    Event,
    EventKind,
    EventSplitter,
)
from merino.wire.usage import (
    CUT_REASONS,
    FAILED_REASONS,
    NULLISH,
    failure_of_choice,
    shares_in,
    text_or_none,
)

DONE = b"data: [DONE]\n\n"

_NOT_SENT = msgspec.Raw()


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: Message | None = None
    finish_reason: str | None = None
    text: str | None = None
    usage: RawUsage | None = None
    message: msgspec.Raw = _NOT_SENT
    error: msgspec.Raw = _NOT_SENT


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: RawUsage | None = None
    service_tier: str | None = None
    error: msgspec.Raw = _NOT_SENT


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class _AnyChoice(msgspec.Struct, gc=False):
    delta: dict[str, msgspec.Raw] | None = None


class _AnyChunk(msgspec.Struct, gc=False):
    choices: list[_AnyChoice]


_decode_members = msgspec.json.Decoder(_AnyChunk).decode

_DATA_OBJECT = b"data: {"
_CONTENT = b'"content":"'
_LEARNS_MAX = 4
_PLAIN_TEXT = re.compile(rb"[ !#-\[\]-~]+").fullmatch
"""Text that JSON does not escape: ASCII without quotes, backslashes and control characters."""
_OPENAIS_NAMES = frozenset((b"", b"message", b"error"))
"""Names of events that carry what the model produced, or an error. All other names are private."""
_DONES = frozenset((b"[DONE]", b"[done]", b'"[DONE]"'))
_SIGNS_OF_LIFE = (NULLISH - {b"{}"}) | {
    b"ping",
    b"pong",
    b"heartbeat",
    b"keep-alive",
    b"keepalive",
    b"keep_alive",
}
"""Data that is empty or means nothing."""
_DONE_BYTES_MAX = 16
_DONE_LINE = re.compile(rb"data: ?\[DONE\][\r\n]*").fullmatch


class StreamReader(EventSplitter):
    """Reads one stream, fed in pieces of any size.

    The attributes say what was seen so far: `usage` (what all reports say together),
    `finish_reason`, `service_tier`, `output_bytes`, `reasoning_bytes` and `wide_bytes` (as in
    `produced.Sizes`), `chunks` (events with an object that is no error), `has_content`, `is_done`,
    `error` (in OpenAI's members, if one came) and `failure` (the object that reported it).
    """

    ending = final = b""
    id: str | None = None
    sealed: tuple[bytes, ...] = ()
    units: Units = ()
    __slots__ = (
        "_begun",
        "_finished",
        "_is_first",
        "_learns_left",
        "_plain_bytes_max",
        "_prefix",
        "_shares",
        "_suffix",
        "chunks",
        "error",
        "failure",
        "finish_reason",
        "has_content",
        "is_done",
        "output_bytes",
        "reasoning_bytes",
        "service_tier",
        "usage",
        "wide_bytes",
    )

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        super().__init__(event_bytes_max)
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.service_tier: str | None = None
        self.output_bytes = 0
        self.reasoning_bytes = 0
        self.wide_bytes = 0
        self.chunks = 0
        self.has_content = False
        self.is_done = False
        self.error: dict[str, Any] | None = None
        self.failure: dict[str, Any] | None = None
        self._begun: set[int] = set()
        self._shares: dict[int, Usage] | None = None
        self._finished: set[int] = set()
        self._plain_bytes_max = min(event_bytes_max, TEXT_PLAIN_MAX)
        self._is_first = True
        self._prefix = self._suffix = b""
        self._learns_left = _LEARNS_MAX

    @property
    def has_finished(self) -> bool:
        """Every choice that was seen has its finish reason."""
        return bool(self._finished) and self._begun <= self._finished

    @property
    def is_complete(self) -> bool:
        """Nothing of the answer is missing. Having received usage does not prove that."""
        return self.is_done or self.has_finished

    @property
    def is_at_done(self) -> bool:
        """The held bytes are `[DONE]`, and only its blank line is missing."""
        held = self._held
        return 0 < len(held) <= _DONE_BYTES_MAX and _DONE_LINE(held) is not None

    def feed_one(self, data: bytes) -> EventKind | None:
        """Take the next bytes if they are exactly one event of one line, as most reads are, and
        return its kind. Otherwise `None`, and nothing was taken: give the bytes to `feed`."""
        size = len(data)
        prefix = self._prefix
        if prefix and data.startswith(prefix) and data.endswith(self._suffix):
            # The same as an earlier event except for its text, which is plain.
            end = size - len(self._suffix)
            if (
                _PLAIN_TEXT(data, len(prefix), end)
                and not self._held
                and size <= self._plain_bytes_max
            ):
                self.chunks += 1
                self.output_bytes += end - len(prefix)
                return "content"
        if (
            self._held
            or data[:7] != _DATA_OBJECT
            or data.find(b"\n") != size - 2
            or data[-1] != 0x0A
            or size > self._event_bytes_max
            or b"\r" in data
        ):
            return None
        self._is_first = False
        payload = data[6:]
        try:
            chunk = _decode_chunk(payload)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return self._read_chunk(payload)
        choices = chunk.choices
        if chunk.usage is None and chunk.error is _NOT_SENT and choices and len(choices) == 1:
            # A piece of visible text and nothing else: nearly all events of an answer.
            choice = choices[0]
            delta = choice.delta
            if (
                delta is not None
                and choice.finish_reason is None
                and choice.usage is None
                and choice.error is _NOT_SENT
            ):
                text = delta.content
                if (
                    text
                    and len(text) <= TEXT_PLAIN_MAX
                    and delta.tool_calls is None
                    and delta.reasoning_content is None
                    and delta.reasoning is None
                    and delta.refusal is None
                    and delta.function_call is None
                    and delta.audio is None
                ):
                    self.chunks += 1
                    if chunk.service_tier is not None:
                        self.service_tier = chunk.service_tier
                    self.has_content = True
                    if choice.index not in self._begun:
                        self._begun.add(choice.index)
                    if text.isascii():
                        self.output_bytes += len(text)
                    else:
                        text_bytes = utf8_len(text)
                        self.output_bytes += text_bytes
                        self.wide_bytes += text_bytes - len(text)
                    if self._learns_left:
                        self._learn(data, text)
                    return "content"
        return self._read_decoded(chunk, payload)

    def _learn(self, data: bytes, text: str) -> None:
        """Learn what surrounds the text of an event that brings nothing else. In most streams it is
        the same in every event, so later events need no decoding."""
        self._learns_left -= 1
        before, found, rest = data.partition(_CONTENT)
        told = text.encode("utf-8", "replace")
        if not found or not rest.startswith(told + b'"') or not _PLAIN_TEXT(told):
            return
        prefix, suffix = before + found, rest[len(told) :]
        # The proof that this is where the text is.
        probe = _decode_chunk(prefix[6:] + b"merino" + suffix)
        if probe.choices and probe.choices[0].delta and probe.choices[0].delta.content == "merino":
            self._prefix, self._suffix = prefix, suffix

    def _read(self, raw: bytes) -> Event:
        size = len(raw)
        if size > self._event_bytes_max:
            self._check_size(size)
        prefix, suffix = self._prefix, self._suffix
        if prefix and raw.startswith(prefix) and raw.endswith(suffix):
            end = size - len(suffix)
            if size <= self._plain_bytes_max and _PLAIN_TEXT(raw, len(prefix), end):
                self.chunks += 1
                self.output_bytes += end - len(prefix)
                return Event(raw, "content")
        # Nearly every event is one line of data; the decoder ignores the line ends after it.
        if raw.startswith(_DATA_OBJECT):
            line_end = raw.find(b"\n")
            if line_end == size - 2 or (line_end == size - 3 and raw.endswith(b"\r\n\r\n")):
                self._is_first = False
                return Event(raw, self._read_chunk(raw[6:]))
        return Event(raw, self._read_lines(raw))

    def _read_lines(self, raw: bytes) -> EventKind:
        text = raw
        if self._is_first:
            text = raw.removeprefix(BOM)
            self._is_first = False
        data: list[bytes] = []
        name = b""
        for line in LINE_END.split(text):
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ")
        if not data:
            return "comment"
        payload = b"\n".join(data)
        said = payload.strip()
        if said in _DONES:
            self.is_done = True
            return "done"
        if said in _SIGNS_OF_LIFE and name != b"error":
            return "comment"  # by the standard, if the event is entirely empty
        kind = self._read_chunk(payload, is_named_error=name == b"error")
        return "comment" if kind == "garbage" and name not in _OPENAIS_NAMES else kind

    def _read_chunk(self, payload: bytes, *, is_named_error: bool = False) -> EventKind:
        try:
            chunk = _decode_chunk(payload)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return self._read_loosely(payload, is_named_error=is_named_error)
        return self._read_decoded(chunk, payload, is_named_error=is_named_error)

    def _read_decoded(
        self, chunk: _Chunk, payload: bytes, *, is_named_error: bool = False
    ) -> EventKind:
        try:
            if is_named_error or (
                chunk.error is not _NOT_SENT and bytes(chunk.error) not in NULLISH
            ):
                return self._read_loosely(payload, is_named_error=is_named_error)
            choices = chunk.choices
            usage = chunk.usage
            if not choices and (usage is None or not self.has_content or b'"base_resp"' in payload):
                # Nothing that a stream must contain: perhaps a vendor's own form of an error.
                return self._read_loosely(payload)
            kind: EventKind = "other"
            output_bytes = reasoning_bytes = wide_bytes = 0
            finish_reason: str | None = None
            has_shares = False
            for choice in choices or ():
                if choice.finish_reason:
                    finish_reason = choice.finish_reason
                if choice.usage is not None:
                    has_shares = True
                delta = choice.delta
                if delta is None:
                    if choice.text or choice.message is not _NOT_SENT:
                        return self._read_loosely(payload)
                    continue
                visible, reasoning, wide = message_sizes(delta)
                if visible or reasoning or delta.tool_calls or delta.audio:
                    kind = "content"
                    output_bytes += visible
                    reasoning_bytes += reasoning
                    wide_bytes += wide
                elif kind == "other" and delta.role:
                    kind = "role"
            if choices:
                # The last event brings only its finish reason.
                may_have_more = not (finish_reason and self.has_content)
                if kind != "content" and (
                    finish_reason in (FAILED_REASONS if self.has_content else CUT_REASONS)
                    or (may_have_more and _has_more(choices, payload))
                ):
                    return self._read_loosely(payload)
                self._note(choices)
            said = None if usage is None else to_usage(usage)
            if said is None and (
                usage is not None
                or has_shares
                or ((finish_reason or not choices) and MAY_BE_BESIDE(payload))
            ):
                said = self._usage_in(decode_lenient(payload))
        except (msgspec.DecodeError, ValueError, RecursionError):
            return self._read_loosely(payload, is_named_error=is_named_error)
        self.chunks += 1
        if finish_reason is not None:
            self.finish_reason = finish_reason
        if chunk.service_tier is not None:
            self.service_tier = chunk.service_tier
        if usage is not None and not choices:
            kind = "usage"
        if said is not None:
            self.usage = merged(self.usage, said)
        if kind == "content":
            self.has_content = True
            self.output_bytes += output_bytes
            self.reasoning_bytes += reasoning_bytes
            self.wide_bytes += wide_bytes
        return kind

    def _note(self, choices: list[_Choice]) -> None:
        """Note which choices there are, and which have ended."""
        for choice in choices:
            self._begun.add(choice.index)
            if choice.finish_reason:
                self._finished.add(choice.index)

    def _read_loosely(self, payload: bytes, *, is_named_error: bool = False) -> EventKind:
        """Read an object whose shape the schema does not know."""
        try:
            value = decode_lenient(payload)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            if self.has_finished:
                return "comment"  # once every choice has ended, nothing is lost
            if not is_named_error:
                return "garbage"
            text = payload.decode("utf-8", "replace").strip()[:1000]
            return self._failed({}, (text, "upstream_error", None, None))
        chunk = cast("dict[str, Any]", value)
        error = error_told(chunk)
        if error is None and is_named_error:
            error = read_error(chunk) or NOTHING_SAID
        if error is not None:
            return "comment" if self.has_finished else self._failed(chunk, error)
        listed: object = chunk.get("choices")
        choices = cast("list[object]", listed) if isinstance(listed, list) else []
        kind: EventKind = "other"
        failures: list[ErrorParts] = []
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            members = cast("dict[str, Any]", choice)
            delta: object = members.get("delta") or members.get("message")
            if not isinstance(delta, dict):
                delta = {"text": members["text"]} if members.get("text") else {}
            piece = cast("dict[str, Any]", delta)
            failure = failure_of_choice(members, piece)
            reason = text_or_none(members.get("finish_reason"))
            if self.has_content and not members.get("error") and reason not in FAILED_REASONS:
                failure = None
            if failure is not None:
                failures.append(failure)
            self._note_loosely(members, is_failed=failure is not None)
            visible, reasoning, wide = loose_sizes(piece)
            if produces(piece):
                kind = "content"
                self.has_content = True
                self.output_bytes += visible
                self.reasoning_bytes += reasoning
                self.wide_bytes += wide
            elif kind == "other" and piece.get("role"):
                kind = "role"
        if choices and len(failures) == len(choices) and not self.finish_reason:
            self._finished.clear()
            return self._failed({}, failures[0])
        self.chunks += 1
        self.service_tier = text_or_none(chunk.get("service_tier")) or self.service_tier
        self.usage = merged(self.usage, self._usage_in(chunk))
        if chunk.get("usage") is not None and not choices:
            kind = "usage"
        return kind

    def _usage_in(self, chunk: object) -> Usage | None:
        """The usage that a decoded event reports, in any place. If choices report their own
        (Moonshot), the sum of those seen so far."""
        if not isinstance(chunk, dict):
            return None
        members = cast("dict[str, Any]", chunk)
        said = usage_of(members.get("usage")) or usage_beside(members)
        if said is not None:
            return said
        shares = shares_in(members)
        if not shares:
            return None
        known = self._shares = self._shares or {}
        for index, share in shares.items():
            known[index] = merged(known.get(index), share) or share
        return of_all(known.values())

    def _failed(self, chunk: dict[str, Any], error: ErrorParts) -> EventKind:
        message, kind, param, code = error
        self.error = {"message": message, "type": kind, "param": param, "code": code}
        self.failure = chunk or {"error": {"message": message}}
        return "error"

    def _note_loosely(self, choice: dict[str, Any], *, is_failed: bool) -> None:
        index: object = choice.get("index")
        number = index if isinstance(index, int) else 0
        self._begun.add(number)
        reason = text_or_none(choice.get("finish_reason"))
        if reason and not is_failed:
            self.finish_reason = reason
        if reason or is_failed:
            self._finished.add(number)


def _has_more(choices: list[_Choice], payload: bytes) -> bool:
    """Whether the deltas bring anything under a name that the schema does not know: thinking under
    one of its many names, images, or something newer."""
    if any(choice.error is not _NOT_SENT for choice in choices):
        return True
    for choice in _decode_members(payload).choices:
        for name, raw in (choice.delta or {}).items():
            if name != "role" and bytes(raw) not in NULLISH:
                return True
    return False


def data_of(raw: bytes) -> bytes:
    """The data of an event's bytes; empty if there is none."""
    lines = LINE_END.split(raw.removeprefix(BOM))
    fields = (line.partition(b":") for line in lines)
    return b"\n".join([value.removeprefix(b" ") for name, _, value in fields if name == b"data"])


def without_usage(events: list[Event]) -> list[Event]:
    """The event for a caller who did not ask for usage.

    Usage inside a chunk with choices stays: cutting it out would change bytes that carry content.
    """
    return [event for event in events if event.kind != "usage"]


def comment(text: str) -> bytes:
    """A comment line, which clients skip. It comes directly before an event, without a blank line
    of its own: some clients deliver an event at every blank line, even an empty one. Line ends in
    `text` become spaces."""
    return b": %b\n" % " ".join(text.splitlines()).encode("utf-8", "replace")


def comment_lines(raw: bytes) -> bytes:
    """What is passed on of an event without data: its comments, without the blank line after them.
    A name or an id without data means nothing, but some clients take it for an event."""
    lines = [line for line in LINE_END.split(raw.removeprefix(BOM)) if line.startswith(b":")]
    return b"".join([line + b"\n" for line in lines])


def terminated(raw: bytes) -> bytes:
    """An event with its final blank line, which the last event of a stream may lack."""
    if _TERMINATED(raw[-4:]):
        return raw
    # A line end after CR might be the second half of CRLF.
    return raw + (b"\n" if raw.endswith(b"\n") else b"\n\n")


_TERMINATED = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)\Z").search


def data_event(obj: bytes) -> bytes:
    """An event with one line of data."""
    return b"data: %b\n\n" % obj


def error_event(error_body: bytes, _reader: object = None) -> bytes:
    """The event by which OpenAI's clients learn that a stream failed."""
    return b"data: %b\n\n" % error_body
