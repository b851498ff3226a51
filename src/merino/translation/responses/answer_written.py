"""An answer in the dialect of `responses`: items, and the stream's events in their order.

Thinking ends when anything else begins; all other items stay open until the model stops, since
pieces of several calls, and of text beside them, may come in turns.
"""

from __future__ import annotations

import msgspec

from merino.domain.usage import Usage
from merino.translation.answered import Made, Stop
from merino.translation.asked import Asked
from merino.translation.responses.items_written import (
    CallItem,
    Item,
    MessageItem,
    Part,
    Parted,
    ReasoningItem,
    Status,
    logprobs_in,
    string,
)
from merino.translation.responses.response_object import ResponseObject
from merino.translation.responses.usage_written import write_usage
from merino.translation.tool_names import Meant, ToolNames
from merino.translation.values import Members, encode, text_in
from merino.wire.errors import ErrorParts
from merino.wire.seals import OPENAI, Sealed, labelled
from merino.wire.sse import DONE

_TEXT_DELTA = (
    b"event: response.output_text.delta\n"
    b'data: {"type":"response.output_text.delta","sequence_number":'
)
_INCOMPLETE = {"length": "max_output_tokens", "filter": "content_filter"}


class ResponsesWriter:
    def __init__(self, asked: Asked, made: Made, names: ToolNames, is_stream: bool) -> None:
        self._made = made
        self._names = names
        self._is_stream = is_stream
        self._object = ResponseObject(asked, made)
        self._as_summary = "summary" in asked.settings
        self._items: list[Item] = []
        self._calls: dict[object, CallItem] = {}
        self._message: MessageItem | None = None
        self._thinking: ReasoningItem | None = None
        self._text: Part | None = None
        self._text_head = (b"", b"")
        self._summary_part: int | None = None
        self._events: list[bytes] = []
        self._number = -1
        self._reason: Stop | None = None
        self._has_begun = self._is_closed = False

    # -- what the reader tells --------------------------------------------------------------------

    def about(self, model: str | None, tier: str | None) -> None:
        self._object.model = model or self._object.model
        self._object.tier = tier or self._object.tier
        self._begin()

    def text(self, piece: bytes, logprobs: msgspec.Raw | None = None) -> None:
        part = self._text
        if part is None or self._thinking is not None:
            part = self._text = self._begin_text()
        part.pieces.append(piece)
        if not self._is_stream:
            part.logprobs += logprobs_in(logprobs)
        elif logprobs is None:
            self._number = number = self._number + 1
            head, place = self._text_head
            self._events.append(b'%b%d%b%b","logprobs":[]}\n\n' % (head, number, place, piece))
        else:
            found = logprobs_in(logprobs)
            part.logprobs += found
            message = self._message
            assert message is not None
            where = {**message.place, "content_index": part.index}
            delta = {**where, "delta": string(piece), "logprobs": found}
            self._emit("response.output_text.delta", delta)

    def _begin_text(self) -> Part:
        part = self._part(self._in_message(), "output_text")
        message = self._message
        assert message is not None
        self._text_head = (
            _TEXT_DELTA,
            b',"item_id":"%b","output_index":%d,"content_index":%d,"delta":"'
            % (message.id.encode(), message.index, part.index),
        )
        return part

    def cited(self, annotation: dict[str, object]) -> None:
        message = self._in_message()
        part = self._part(message, "output_text")
        part.annotations.append(annotation)
        said: Members = {**message.place, "content_index": part.index}
        said |= {"annotation_index": len(part.annotations) - 1, "annotation": annotation}
        self._emit("response.output_text.annotation.added", said)

    def refusal(self, piece: bytes) -> None:
        message = self._in_message()
        part = self._part(message, "refusal")
        part.pieces.append(piece)
        where = {**message.place, "content_index": part.index}
        self._emit("response.refusal.delta", {**where, "delta": string(piece)})

    def thought(self, piece: bytes, *, part: int | None = None) -> None:
        item = self._in_thinking()
        kind = "summary_text" if self._as_summary else "reasoning_text"
        its = item.part(kind)
        if its is None:
            its, event = item.add_part(kind)
            self._emit(*event)
        its.pieces.append(piece)
        if self._as_summary:
            where = {**item.place, "summary_index": its.index}
            self._emit("response.reasoning_summary_text.delta", {**where, "delta": string(piece)})
        else:
            where = {**item.place, "content_index": its.index}
            self._emit("response.reasoning_text.delta", {**where, "delta": string(piece)})

    def sealed(self, seal: Sealed) -> None:
        self._in_thinking().sealed = seal.sealed if seal.maker == OPENAI else labelled(seal)
        if seal.maker != OPENAI:
            self._end_thinking()  # what comes next is sealed by itself

    def call(self, key: object, call_id: str, name: bytes, *, is_custom: bool = False) -> None:
        self._begin()
        self._end_thinking()
        meant = self._names.meant(text_in(name))
        wrapped = meant.is_custom
        if is_custom:
            meant = Meant(meant.namespace, meant.name, is_custom=True)
        index = len(self._items)
        prefix = "ctc" if meant.is_custom else "fc"
        call_id = call_id or f"call_{self._made.seed}_{index}"
        item = CallItem(self._id(prefix), index, call_id, meant)
        if wrapped and not is_custom:
            item.unwrap()
        self._calls[key] = item
        self._open(item)

    def arguments(self, key: object, piece: bytes) -> None:
        item = self._calls.get(key)
        if item is None:
            return
        given = item.add(piece)
        if given:
            self._emit(item.delta_event, {**item.place, "delta": string(given)})

    def stop(self, reason: Stop) -> None:
        self._reason = self._reason or reason
        self._begin()
        self._close()

    # -- what the caller gets ---------------------------------------------------------------------

    def take(self) -> bytes:
        events = self._events
        if not events:
            return b""
        data = events[0] if len(events) == 1 else b"".join(events)
        events.clear()
        return data

    def end(self, usage: Usage | None) -> bytes:
        self._begin()
        self._close()
        final = self._final(usage)
        self._emit(f"response.{final['status']}", {"response": final})
        return self.take() + DONE

    def fail(self, error: ErrorParts, usage: Usage | None = None) -> bytes:
        message, _, param, code = error
        said = {"code": code or "server_error", "message": message, "param": param}
        self._emit("error", said)
        return self.take()

    def whole(self, usage: Usage | None) -> bytes:
        self._close()
        return encode(self._final(usage))

    def _final(self, usage: Usage | None) -> Members:
        reason = _INCOMPLETE.get(self._reason or "stop")
        return self._object.members(
            "completed" if reason is None else "incomplete",
            [item.members() for item in self._items],
            write_usage(usage),
            incomplete=reason,
        )

    # -- items ------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        if self._is_stream:
            begun = msgspec.Raw(encode(self._object.members("in_progress", [])))
            for name in ("created", "in_progress"):
                self._emit(f"response.{name}", {"response": begun})

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._made.seed}_{len(self._items)}"

    def _open(self, item: Item) -> None:
        self._items.append(item)
        self._emit(*item.opened())

    def _in_message(self) -> MessageItem:
        self._begin()
        self._end_thinking()
        if self._message is None:
            self._message = MessageItem(self._id("msg"), len(self._items))
            self._open(self._message)
        return self._message

    def _in_thinking(self) -> ReasoningItem:
        self._begin()
        if self._thinking is None:
            item = ReasoningItem(self._id("rs"), len(self._items), as_summary=self._as_summary)
            self._thinking = item
            self._open(item)
        return self._thinking

    def _part(self, item: Parted, kind: str) -> Part:
        part = item.part(kind)
        if part is None:
            part, event = item.add_part(kind)
            self._emit(*event)
        return part

    def _end_thinking(self) -> None:
        item, self._thinking = self._thinking, None
        if item is not None:
            self._emit_all(item, "completed")

    def _close(self) -> None:
        """End all items that are open."""
        if self._is_closed:
            return
        self._is_closed = True
        is_cut = self._reason in _INCOMPLETE
        for item in self._items:
            if item.status == "in_progress":
                self._emit_all(item, "incomplete" if is_cut else "completed")

    def _emit_all(self, item: Item, status: Status) -> None:
        for event in item.close(status):
            self._emit(*event)

    def _emit(self, name: str, members: Members) -> None:
        if not self._is_stream:
            return
        self._number += 1
        data = encode({"type": name, "sequence_number": self._number, **members})
        self._events.append(b"event: %b\ndata: %b\n\n" % (name.encode(), data))
