"""An answer in the dialect of `messages`: blocks, one after the other.

Only one block is open at a time. What belongs to a later one waits until the one before it is
whole: a call is once its arguments are, since pieces of several calls may come in turns.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from merino.domain.usage import Usage
from merino.translation.answered import Made, Stop
from merino.translation.asked import Asked
from merino.translation.messages.usage_written import estimated, write_usage
from merino.translation.tool_names import ToolNames
from merino.translation.values import Members, decode, encode, is_object, text_in
from merino.wire.errors import ErrorParts, error_body
from merino.wire.message_errors import error_event
from merino.wire.message_events import LAST
from merino.wire.seals import ANTHROPIC, NOBODY, REDACTED, Sealed, labelled

_REASONS = {"stop": "end_turn", "length": "max_tokens", "filter": "refusal"}
_Kind = Literal["text", "thinking", "redacted", "call"]
_DELTAS = {
    "text": (b"text_delta", b"text"),
    "thinking": (b"thinking_delta", b"thinking"),
    "call": (b"input_json_delta", b"partial_json"),
}


class _Block:
    """`pieces` are all of it so far, `sent` how many of them went out."""

    def __init__(self, kind: _Kind, *, call_id: str = "", name: str = "") -> None:
        self.kind: _Kind = kind
        self.call_id = call_id
        self.name = name
        self.pieces: list[bytes] = []
        self.sent = 0
        self.seal = ""
        self.is_open = False

    @property
    def is_whole(self) -> bool:
        """Whether another may begin. Of a call that is known by its arguments."""
        if self.kind != "call":
            return True
        try:
            return is_object(decode(text_in(b"".join(self.pieces)).encode()))
        except ValueError:
            return False

    def begun(self) -> Members:
        match self.kind:
            case "text":
                return {"type": "text", "text": ""}
            case "thinking":
                return {"type": "thinking", "thinking": "", "signature": ""}
            case "redacted":
                return {"type": "redacted_thinking", "data": self.seal}
            case "call":
                return {"type": "tool_use", "id": self.call_id, "name": self.name, "input": {}}

    def whole(self) -> Members:
        text = b"".join(self.pieces)
        match self.kind:
            case "text":
                return {"type": "text", "text": _string(text)}
            case "thinking":
                return {"type": "thinking", "thinking": _string(text), "signature": self.seal}
            case "redacted":
                return self.begun()
            case "call":
                return {**self.begun(), "input": self._input(text)}

    def _input(self, text: bytes) -> object:
        try:
            value: object = decode(text_in(text).encode("utf-8", "surrogatepass"))
        except ValueError:
            value = text_in(text)
        if is_object(value):
            return value
        return {"input": value} if value else {}


class MessagesWriter:
    def __init__(self, asked: Asked, made: Made, names: ToolNames, is_stream: bool) -> None:
        self._is_stream = is_stream
        self._made = made
        self._names = names
        self._id = f"msg_{made.seed}"
        self._model = asked.model
        self._tier: str | None = None
        self._blocks: list[_Block] = []
        self._first = 0
        """The block that is open, or opened next."""
        self._calls: dict[object, _Block] = {}
        self._reason: Stop | None = None
        self._has_begun = False
        self._events: list[bytes] = []
        self._text_head = b""

    # -- what the reader tells --------------------------------------------------------------------

    def about(self, model: str | None, tier: str | None) -> None:
        self._model = model or self._model
        self._tier = tier or self._tier
        self._begin()

    def text(self, piece: bytes, logprobs: msgspec.Raw | None = None) -> None:
        self._add(self._last("text"), piece)

    def cited(self, annotation: dict[str, object]) -> None:
        """A page may be cited in a block of text only."""
        block = self._last("text")
        if not self._is_stream or not block.is_open:
            return
        citation = {
            "type": "web_search_result_location",
            "url": annotation.get("url"),
            "title": annotation.get("title"),
            "cited_text": "",
            "encrypted_index": "",
        }
        delta = {"type": "citations_delta", "citation": citation}
        self._emit("content_block_delta", index=self._first, delta=delta)

    def thought(self, piece: bytes, *, part: int | None = None) -> None:
        self._add(self._last("thinking"), piece)

    def sealed(self, seal: Sealed) -> None:
        if seal.maker == REDACTED:
            block = self._new(_Block("redacted"))
            block.seal = seal.sealed
        else:
            block = self._last("thinking")
            block.seal = seal.sealed if seal.maker == ANTHROPIC else labelled(seal)
        self._move_on()

    def refusal(self, piece: bytes) -> None:
        self._reason = self._reason or "filter"
        self._add(self._last("text"), piece)

    def call(self, key: object, call_id: str, name: bytes, *, is_custom: bool = False) -> None:
        call_id = call_id or f"toolu_{self._made.seed}_{len(self._calls)}"
        meant = self._names.meant(text_in(name)).name
        self._calls[key] = self._new(_Block("call", call_id=call_id, name=meant))
        self._move_on()

    def arguments(self, key: object, piece: bytes) -> None:
        block = self._calls.get(key)
        if block is not None:
            self._add(block, piece)

    def stop(self, reason: Stop) -> None:
        self._reason = self._reason or reason

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
        self._close_all()
        delta = {"stop_reason": self._stop_reason(), "stop_sequence": None}
        self._emit("message_delta", delta=delta, usage=self._usage(usage))
        return self.take() + LAST

    def fail(self, error: ErrorParts, usage: Usage | None = None) -> bytes:
        if usage is not None and self._has_begun:
            delta = {"stop_reason": None, "stop_sequence": None}
            self._emit("message_delta", delta=delta, usage=self._usage(usage))
        return self.take() + error_event(error_body(*error), None)

    def whole(self, usage: Usage | None) -> bytes:
        for block in self._blocks:
            _seal(block)
        said = self._message([block.whole() for block in self._blocks], self._usage(usage))
        said["stop_reason"] = self._stop_reason()
        return encode(said)

    def _stop_reason(self) -> str:
        if self._calls and self._reason in {"stop", None}:
            return "tool_use"
        return _REASONS[self._reason or "stop"]

    def _usage(self, usage: Usage | None) -> Members:
        if usage is None:
            size = sum(len(piece) for block in self._blocks for piece in block.pieces)
            said = estimated(self._made.input_tokens, (size + 3) // 4)
        else:
            said = write_usage(usage)
        if self._tier is not None:
            said["service_tier"] = self._tier
        return said

    def _message(self, content: list[Members], usage: Members) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }

    # -- blocks -----------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        usage = estimated(self._made.input_tokens)
        self._emit("message_start", message=self._message([], usage))

    def _last(self, kind: _Kind) -> _Block:
        """The block that a piece of this kind belongs to."""
        last = self._blocks[-1] if self._blocks else None
        if last is not None and last.kind == kind and not last.seal:
            return last
        return self._new(_Block(kind))

    def _new(self, block: _Block) -> _Block:
        self._blocks.append(block)
        return block

    def _add(self, block: _Block, piece: bytes) -> None:
        block.pieces.append(piece)
        if block.is_open and self._blocks[-1] is block:
            self._send(block)  # nearly always: the block that is open goes on
        else:
            self._move_on()

    def _move_on(self) -> None:
        """Open, fill and close blocks, as far as their order allows."""
        self._begin()
        while self._first < len(self._blocks):
            block = self._blocks[self._first]
            if not block.is_open:
                block.is_open = True
                self._emit("content_block_start", index=self._first, content_block=block.begun())
                self._text_head = b""
            self._send(block)
            is_last = self._first == len(self._blocks) - 1
            if (is_last and not block.seal) or not (block.is_whole or is_last):
                return
            self._close(block)

    def _send(self, block: _Block) -> None:
        if not self._is_stream:
            return
        head = self._text_head
        if not head and block.kind != "redacted":
            kind, field = _DELTAS[block.kind]
            head = self._text_head = (
                b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
                b'"delta":{"type":"%b","%b":"' % (self._first, kind, field)
            )
        for piece in block.pieces[block.sent :]:
            self._events.append(b'%b%b"}}\n\n' % (head, piece))
        block.sent = len(block.pieces)

    def _close(self, block: _Block) -> None:
        _seal(block)
        if block.kind == "thinking":
            delta = {"type": "signature_delta", "signature": block.seal}
            self._emit("content_block_delta", index=self._first, delta=delta)
        self._emit("content_block_stop", index=self._first)
        self._first += 1

    def _close_all(self) -> None:
        """End all blocks, whole or not."""
        while self._first < len(self._blocks):
            self._move_on()
            if self._first < len(self._blocks):
                self._close(self._blocks[self._first])

    def _emit(self, name: str, **members: Any) -> None:
        if self._is_stream:
            data = encode({"type": name, **members})
            self._events.append(b"event: %b\ndata: %b\n\n" % (name.encode(), data))


def _seal(block: _Block) -> None:
    """Thinking must have a seal, and clients send it back: nobody's, where nobody gave one."""
    if block.kind == "thinking" and not block.seal:
        block.seal = labelled(Sealed(NOBODY, ""))


def _string(piece: bytes) -> msgspec.Raw:
    return msgspec.Raw(b'"%b"' % piece)
