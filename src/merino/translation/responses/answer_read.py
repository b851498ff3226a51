"""An answer in the dialect of `responses`, read for a writer of another.

The deltas tell what there is. What came without any (items that an upstream sends whole, at their
end or in the last event) is told from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from merino.translation.answered import AnswerWriter, Stop
from merino.translation.values import (
    Members,
    decode,
    encode,
    is_object,
    list_of,
    members_of,
    piece_in,
    piece_of,
    text_of,
)
from merino.wire.response_events import USUAL, usual_form
from merino.wire.seals import OPENAI, Sealed
from merino.wire.sse import data_of

_PLAIN_TEXT = re.compile(rb"[ !#-\[\]-~]+").fullmatch
_LEARNS_MAX = 8
_DIGITS_MAX = 12
_NUMBER = re.compile(rb'"sequence_number": ?([0-9]+)')
_DELTA = re.compile(rb'"delta": ?"([ !#-\[\]-~]+)"')
_PADDING = re.compile(rb',?"obfuscation": ?"[A-Za-z0-9]*"')
_NULL = msgspec.Raw(b"null")


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: msgspec.Raw = _NULL
    item_id: str | None = None
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    item: msgspec.Raw = _NULL
    annotation: msgspec.Raw = _NULL
    logprobs: msgspec.Raw = _NULL
    response: msgspec.Raw = _NULL
    text: msgspec.Raw = _NULL
    refusal: msgspec.Raw = _NULL
    arguments: msgspec.Raw = _NULL
    input: msgspec.Raw = _NULL


_decode_event = msgspec.json.Decoder(_Event).decode


class ResponsesAnswerReader:
    def __init__(self, writer: AnswerWriter) -> None:
        self._writer = writer
        self._told: set[object] = set()
        """What was told already, by place: of a text that came in pieces, its end is no news."""
        self._around: tuple[bytes, bytes, bytes] | None = None
        """Before the number, between number and text, and after the text."""
        self._usual = USUAL
        self._plain_index = b""
        """The output that the latest text was of."""
        self._learns_left = _LEARNS_MAX
        self._has_named = False
        self.is_ended = False
        self._handlers: Mapping[str, Callable[[_Event], None]] = {
            "response.created": self._about,
            "response.in_progress": self._about,
            "response.output_item.added": self._added,
            "response.output_text.delta": self._text,
            "response.output_text.annotation.added": self._cited,
            "response.refusal.delta": self._refusal,
            "response.reasoning_summary_text.delta": self._summary,
            "response.reasoning_text.delta": self._thought,
            "response.function_call_arguments.delta": self._arguments,
            "response.custom_tool_call_input.delta": self._arguments,
            "response.output_item.done": self._item_done,
            "response.completed": self._ended,
            "response.incomplete": self._ended,
            "response.failed": self._ended,
            "response.cancelled": self._ended,
        }

    def plain(self, event: bytes) -> bool:
        form, _, text = self._usual
        if (found := form(event)) is not None:
            # Of a text that was not begun yet, its end would be news.
            if self.is_ended or found[2] != self._plain_index:
                return False
            self._writer.text(found[text])
            return True
        around = self._around
        if around is None or not event.startswith(around[0]):
            return False
        head, middle, tail = around
        at = event.find(middle, len(head), len(head) + _DIGITS_MAX + len(middle))
        if at < 0 or not event[len(head) : at].isdigit():
            return False
        at += len(middle)
        end = event.find(b'"', at)
        piece = event[at:end]
        if end < 0 or not _PLAIN_TEXT(piece) or _unpadded(event[end:]) != tail:
            return False
        self._writer.text(piece)
        return True

    def event(self, event: bytes) -> None:
        data = data_of(event)
        try:
            said = _decode_event(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            said = _loosely(data)
        handler = self._handlers.get(said.type)
        if handler is not None and not self.is_ended:
            handler(said)
            if said.type == "response.output_text.delta":
                self._learn(event, said)

    def answer(self, body: bytes) -> None:
        value: object = decode(body)
        if not is_object(value):
            raise ValueError("the answer is no object")
        self._end_with(members_of(value))

    # -- events -----------------------------------------------------------------------------------

    def _about(self, said: _Event) -> None:
        self._name(members_of(_decoded(said.response)))

    def _name(self, response: Members) -> None:
        model, tier = response.get("model"), response.get("service_tier")
        if not self._has_named or isinstance(tier, str):
            self._writer.about(
                model if isinstance(model, str) else None, tier if isinstance(tier, str) else None
            )
            self._has_named = True

    def _text(self, said: _Event) -> None:
        self._told.add(("text", said.output_index))
        logprobs = None if bytes(said.logprobs) in _NO_LOGPROBS else said.logprobs
        if piece := piece_in(said.delta):
            self._writer.text(piece, logprobs)

    def _refusal(self, said: _Event) -> None:
        self._told.add(("refusal", said.output_index))
        if piece := piece_in(said.delta):
            self._writer.refusal(piece)

    def _summary(self, said: _Event) -> None:
        self._told.add(("thought", said.output_index))
        if piece := piece_in(said.delta):
            self._writer.thought(piece, part=said.summary_index)

    def _thought(self, said: _Event) -> None:
        if ("thought", said.output_index) in self._told and said.output_index not in self._told:
            return  # the summary of the same thinking is told
        self._told |= {("thought", said.output_index), said.output_index}
        if piece := piece_in(said.delta):
            self._writer.thought(piece)

    def _cited(self, said: _Event) -> None:
        self._told.add(("cited", said.output_index))
        self._writer.cited(members_of(_decoded(said.annotation)))

    def _added(self, said: _Event) -> None:
        item = members_of(_decoded(said.item))
        if text_of(item.get("type")) in _CALLS:
            self._begin_call(item, said.output_index)

    def _arguments(self, said: _Event) -> None:
        key = said.output_index
        if ("call", key) not in self._told:
            return  # pieces of a call that was never announced
        self._told.add(("arguments", key))
        if piece := piece_in(said.delta):
            self._writer.arguments(key, piece)

    def _item_done(self, said: _Event) -> None:
        self._item(members_of(_decoded(said.item)), said.output_index)

    def _ended(self, said: _Event) -> None:
        self._end_with(members_of(_decoded(said.response)))

    # -- whole items ------------------------------------------------------------------------------

    def _end_with(self, response: Members) -> None:
        self._name(response)
        for index, item in enumerate(list_of(response.get("output"))):
            self._item(members_of(item), index)
        reason = text_of(members_of(response.get("incomplete_details")).get("reason"))
        stop: Stop = "stop"
        if text_of(response.get("status")) in _BROKEN_OFF:
            stop = "filter" if reason == "content_filter" else "length"
        self._writer.stop(stop)
        self.is_ended = True

    def _item(self, item: Members, index: int) -> None:
        """Tell what was not told of an item that is whole now."""
        kind = text_of(item.get("type"))
        if kind == "message":
            self._message(item, index)
        elif kind == "reasoning":
            self._reasoning(item, index)
        elif kind in _CALLS:
            self._begin_call(item, index)
            if ("arguments", index) not in self._told:
                self._told.add(("arguments", index))
                said = item.get("input" if kind == "custom_tool_call" else "arguments")
                if piece := piece_of(text_of(said)):
                    self._writer.arguments(index, piece)

    def _message(self, item: Members, index: int) -> None:
        parts = [members_of(part) for part in list_of(item.get("content"))]
        known = frozenset(self._told)
        for part in parts:
            kind = "refusal" if part.get("type") == "refusal" else "text"
            self._told |= {(kind, index), ("cited", index)}
            if (kind, index) not in known and (piece := piece_of(text_of(part.get(kind)))):
                logprobs = list_of(part.get("logprobs"))
                if kind == "refusal":
                    self._writer.refusal(piece)
                else:
                    self._writer.text(piece, msgspec.Raw(encode(logprobs)) if logprobs else None)
            if ("cited", index) not in known:
                for each in list_of(part.get("annotations")):
                    self._writer.cited(members_of(each))

    def _reasoning(self, item: Members, index: int) -> None:
        if ("thought", index) not in self._told:
            self._told.add(("thought", index))
            for number, part in enumerate(list_of(item.get("summary"))):
                if piece := piece_of(text_of(members_of(part).get("text"))):
                    self._writer.thought(piece, part=number)
            for part in () if item.get("summary") else list_of(item.get("content")):
                if piece := piece_of(text_of(members_of(part).get("text"))):
                    self._writer.thought(piece)
        sealed = item.get("encrypted_content")
        if isinstance(sealed, str) and sealed and ("sealed", index) not in self._told:
            self._told.add(("sealed", index))
            self._writer.sealed(Sealed(OPENAI, sealed, text_of(item.get("id")) or None))

    def _begin_call(self, item: Members, index: int) -> None:
        if ("call", index) in self._told:
            return
        self._told.add(("call", index))
        is_custom = item.get("type") == "custom_tool_call"
        call_id = text_of(item.get("call_id")) or text_of(item.get("id"))
        name = piece_of(text_of(item.get("name")))
        self._writer.call(index, call_id, name, is_custom=is_custom)

    # -- events that differ in their text only ----------------------------------------------------

    def _learn(self, event: bytes, said: _Event) -> None:
        if self._learns_left <= 0 or bytes(said.logprobs) not in _NO_LOGPROBS:
            return
        self._learns_left -= 1
        self._plain_index = str(said.output_index).encode()
        self._usual = usual_form(event) or self._usual
        number, delta = _NUMBER.search(event), _DELTA.search(event)
        is_usual = event.count(b'"delta"') == 1 and event.count(b'"sequence_number"') == 1
        if number is None or delta is None or number.start() > delta.start() or not is_usual:
            return
        if event.endswith(b"\n\n") and event.count(b"\n") <= 3:
            middle = event[number.end(1) : delta.start(1)]
            self._around = event[: number.start(1)], middle, _unpadded(event[delta.end(1) :])


def _unpadded(rest: bytes) -> bytes:
    """What follows the text of an event, without its padding."""
    return _PADDING.sub(b"", rest) if b'"obfuscation"' in rest else rest


_NO_LOGPROBS = frozenset((b"null", b"[]"))
_BROKEN_OFF = frozenset(("incomplete", "failed", "cancelled"))
"""How a response ends that is not whole. One that failed is an answer only if it is all there is to
pay for."""
_CALLS = frozenset(("function_call", "custom_tool_call"))


def _decoded(raw: msgspec.Raw) -> object:
    try:
        return decode(raw)
    except ValueError:
        return None


def _loosely(data: bytes) -> _Event:
    """An event that does not fit the schema."""
    try:
        members = members_of(decode(data))
    except ValueError:
        return _Event()
    event = _Event(type=text_of(members.get("type")))
    for name in ("output_index", "content_index", "summary_index"):
        number = members.get(name)
        if isinstance(number, str) and number.isdigit():
            number = int(number[:9])
        if isinstance(number, int):
            setattr(event, name, number)
    for name in _Event.__struct_fields__:
        if name not in {"type", "item_id", "output_index", "content_index", "summary_index"}:
            if members.get(name) is not None:
                setattr(event, name, msgspec.Raw(encode(members[name])))
    return event
