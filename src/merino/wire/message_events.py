"""The event stream of the Messages API, read as far as billing needs.

Nearly all events are pieces of text that differ from each other in the text, and in the spaces that
the vendor puts behind it. What stands before the text is learned from one event of a block, and the
others are not decoded.
"""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

from merino.domain.usage import Units, Usage
from merino.wire.errors import NOTHING_SAID, ErrorParts, error_told, read_error
from merino.wire.lenient import decode_lenient
from merino.wire.message_object import Block, mark_of_block
from merino.wire.message_usage import ESTIMATED, overlaid, tier_told, usage_told
from merino.wire.produced import TEXT_PLAIN_MAX, utf8_len
from merino.wire.response_events import parts_of
from merino.wire.sealed import mark_of
from merino.wire.splitting import BOM, EVENT_BYTES_MAX, Event, EventKind, EventSplitter
from merino.wire.usage import text_or_none

LAST = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

_PIECE = re.compile(rb'([ !#-\[\]-~]+)"\} *\}\n\n').fullmatch
"""Plain text and all that follows it in an event."""
_LEARNS_MAX = 64
_MARK = "merino"
_TEXTS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
}
"""Where the text of a piece is, by the piece's type."""
_QUIET = frozenset(("text", "thinking"))
"""Blocks that bring nothing when they begin; others tell what the model does."""
_NOT_SENT = msgspec.Raw()


class _Delta(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    delta: _Delta | None = None
    content_block: msgspec.Raw = _NOT_SENT
    message: msgspec.Raw = _NOT_SENT
    usage: msgspec.Raw = _NOT_SENT
    error: msgspec.Raw = _NOT_SENT


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    usage: Any = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_block = msgspec.json.Decoder(Block).decode


class MessageReader(EventSplitter):
    """Reads one stream of a message, fed in pieces of any size; `endpoints.EventReader` says what
    is known of it.

    Thinking that is shown may be a summary: it counts only as long as the answer's usage was not
    reported. What the first event says of the output is a beginning, and no count.
    """

    final = b""
    units: Units = ()
    __slots__ = (
        "_has_usage",
        "_is_first",
        "_is_thought",
        "_learns_left",
        "_plain_bytes_max",
        "_prefix",
        "_signed",
        "_thought_bytes",
        "_told",
        "chunks",
        "ending",
        "error",
        "failure",
        "finish_reason",
        "has_content",
        "id",
        "is_done",
        "output_bytes",
        "sealed",
        "service_tier",
        "usage",
        "wide_bytes",
    )

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        super().__init__(event_bytes_max)
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.service_tier: str | None = None
        self.id: str | None = None
        self.chunks = 0
        self.output_bytes = 0
        self.wide_bytes = 0
        self.has_content = False
        self.is_done = False
        self.error: dict[str, Any] | None = None
        self.failure: dict[str, Any] | None = None
        self.sealed: list[bytes] = []
        self.ending = b""
        self._thought_bytes = 0
        self._told: dict[str, Any] = {}
        self._has_usage = False
        self._signed = ""
        self._prefix = b""
        self._is_thought = False
        self._learns_left = _LEARNS_MAX
        self._plain_bytes_max = min(event_bytes_max, 2 * TEXT_PLAIN_MAX)
        self._is_first = True

    @property
    def reasoning_bytes(self) -> int:
        return 0 if self._has_usage else self._thought_bytes

    @property
    def is_complete(self) -> bool:
        return self.is_done or self.finish_reason is not None

    @property
    def has_finished(self) -> bool:
        return self.is_complete

    @property
    def is_at_done(self) -> bool:
        """The held bytes are the last event, and only its blank line is missing."""
        held = bytes(self._held)
        return 0 < len(held) < 256 and b"message_stop" in held and held.rstrip().endswith(b"}")

    # -- one event -------------------------------------------------------------------------------

    def feed_one(self, data: bytes) -> EventKind | None:
        """Take the next bytes if they are exactly one event like those learned."""
        if self._prefix and not self._held and self._is_piece(data):
            return "content"
        return None

    def _is_piece(self, raw: bytes) -> bool:
        """Whether these bytes are a piece of plain text like an earlier one; if so, it is noted."""
        prefix = self._prefix
        if not raw.startswith(prefix) or len(raw) > self._plain_bytes_max:
            return False
        found = _PIECE(raw, len(prefix))
        if found is None:
            return False
        self.chunks += 1
        size = found.end(1) - len(prefix)
        if self._is_thought:
            self._thought_bytes += size
        else:
            self.output_bytes += size
        return True

    def _learn(self, raw: bytes, field: str, text: str) -> None:
        """Learn what stands before the text of a piece."""
        if not self._learns_left or len(raw) > self._plain_bytes_max:
            return
        self._learns_left -= 1
        before, found, rest = raw.partition(b'"%b":"' % field.encode())
        if not found or not rest.startswith(text.encode("utf-8", "replace") + b'"'):
            return
        prefix = before + found
        if prefix.count(b"\n") != 1 or _PIECE(prefix + b'x"}}\n\n', len(prefix)) is None:
            return
        try:
            # The proof that this is where the text is.
            probe = _decode_event(parts_of(prefix + _MARK.encode() + b'"}}\n\n')[1]).delta
        except (msgspec.DecodeError, ValueError):
            return
        if probe is not None and getattr(probe, field) == _MARK:
            self._prefix, self._is_thought = prefix, field == "thinking"

    def _read(self, raw: bytes) -> Event:
        self._check_size(len(raw))
        if self._prefix and self._is_piece(raw):
            return Event(raw, "content")
        if self._is_first:
            self._is_first = False
            name, payload = parts_of(raw.removeprefix(BOM))
        else:
            name, payload = parts_of(raw)
        said = payload.strip()
        if not said:
            return Event(raw, "comment")
        if said == b"[DONE]":
            return Event(raw, "comment")  # of servers that end every stream so
        try:
            event = _decode_event(payload)
            kind = event.type or name
            if kind and kind != "error" and event.error is _NOT_SENT:
                return Event(raw, self._read_event(raw, kind, event))
        except (msgspec.DecodeError, ValueError, RecursionError):
            pass
        return Event(raw, self._read_loosely(raw, name, payload))

    def _read_event(self, raw: bytes, kind: str, event: _Event) -> EventKind:
        self.chunks += 1
        if kind == "content_block_delta" and event.delta is not None:
            return self._read_delta(raw, event.delta)
        if kind == "content_block_start":
            return self._begin_block(bytes(event.content_block))
        if kind == "content_block_stop":
            if self._signed:
                self.sealed.append(mark_of(self._signed))
                self._signed = ""
            return "other"
        if kind == "message_start":
            if event.message is not _NOT_SENT:
                message = _decode_message(event.message)
                self.id = message.id or self.id
                self._note_usage(message.usage)
            return "role"
        if kind == "message_delta":
            if event.delta is not None and event.delta.stop_reason:
                self.finish_reason = event.delta.stop_reason
            if event.usage is not _NOT_SENT:
                self._has_usage = ESTIMATED.encode() not in bytes(event.usage)
                self._note_usage(decode_lenient(bytes(event.usage)))
            return "other"
        if kind == "message_stop":
            self.is_done = True
            return "done"
        return "other"

    def _note_usage(self, said: object) -> None:
        self._told = overlaid(self._told, said)
        if not self._has_usage:
            self._told.pop("output_tokens", None)
        self.usage = usage_told(self._told, is_begun_only=not self._has_usage) or self.usage
        self.service_tier = tier_told(self._told) or self.service_tier

    def _begin_block(self, block: bytes) -> EventKind:
        self._prefix = b""
        found = _decode_block(block) if block else Block()
        if (mark := mark_of_block(block)) is not None:
            self.sealed.append(mark)
        for text, is_thought in ((found.text, False), (found.thinking, True), (found.name, False)):
            if text:
                self._count(text, is_thought=is_thought)
        if found.type in _QUIET and not (found.text or found.thinking):
            return "other"
        return self._content()

    def _read_delta(self, raw: bytes, delta: _Delta) -> EventKind:
        if delta.signature:
            self._signed += delta.signature
            return self._content()
        field = _TEXTS.get(delta.type or "")
        if field is None:
            # Pieces of a kind that came later belong to an answer that has begun.
            return self._content() if self.has_content else "other"
        text: str | None = getattr(delta, field)
        if not text:
            return "other"
        self._count(text, is_thought=field == "thinking")
        if not self._prefix:
            self._learn(raw, field, text)
        return self._content()

    def _count(self, text: str, *, is_thought: bool) -> None:
        size = utf8_len(text)
        self.wide_bytes += size - len(text)
        if is_thought:
            self._thought_bytes += size
        else:
            self.output_bytes += size

    def _content(self) -> EventKind:
        self.has_content = True
        return "content"

    # -- what no schema foresaw -------------------------------------------------------------------

    def _read_loosely(self, raw: bytes, name: str, payload: bytes) -> EventKind:
        """Read an error, or an object whose shape the schema does not know."""
        try:
            value = decode_lenient(payload)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            if name == "error":
                text = payload.decode("utf-8", "replace").strip()[:1000]
                return self._note_failure(raw, {}, (text, "upstream_error", None, None))
            return "comment" if self.is_done or name else "garbage"
        members = cast("dict[str, Any]", value)
        kind: object = members.get("type") or name
        error = error_told(members)
        if error is None and kind == "error":
            error = read_error(members) or NOTHING_SAID
        if error is not None:
            return "comment" if self.is_done else self._note_failure(raw, members, error)
        self.chunks += 1
        its: object = members.get("delta")
        delta = cast("dict[str, Any]", its) if isinstance(its, dict) else {}
        if kind == "message_delta":
            self.finish_reason = text_or_none(delta.get("stop_reason")) or self.finish_reason
            self._has_usage = self._has_usage or bool(members.get("usage"))
            self._note_usage(members.get("usage"))
            return "other"
        for field in _TEXTS.values():
            text: object = delta.get(field)
            if isinstance(text, str) and text:
                self._count(text, is_thought=field == "thinking")
                return self._content()
        return "other"

    def _note_failure(self, raw: bytes, members: dict[str, Any], error: ErrorParts) -> EventKind:
        message, kind, param, code = error
        self.error = {"message": message, "type": kind, "param": param, "code": code}
        self.failure = members or {"error": {"message": message}}
        if members.get("type") == "error" and raw.startswith(b"event: error"):
            self.ending = raw
        return "error"
