"""An answer in the dialect of `chat/completions`: one choice, whole or in chunks.

Thinking goes under `reasoning_content`; what only its issuer can read under `reasoning_details`, so
that a caller who sends the message back gives the model its thinking back.
"""

from __future__ import annotations

from typing import Any

import msgspec

from merino.domain.usage import Usage
from merino.translation.answered import Made, Stop
from merino.translation.asked import Asked
from merino.translation.chat.usage_written import write_usage
from merino.translation.tool_names import ToolNames
from merino.translation.values import Members, decode, encode, list_of, text_in
from merino.wire.errors import ErrorParts, error_body
from merino.wire.seals import ANTHROPIC, GEMINI, OPENAI, REDACTED, Sealed
from merino.wire.sse import DONE, error_event

FORMAT_OF = {
    OPENAI: "openai-responses-v1",
    ANTHROPIC: "anthropic-claude-v1",
    REDACTED: "anthropic-claude-v1",
    GEMINI: "google-gemini-v1",
}
"""Whose sealed thinking this is, as OpenRouter names it."""
_REASONS = {"stop": "stop", "length": "length", "filter": "content_filter"}
_BETWEEN_PARTS = b"\\n\\n"


class ChatWriter:
    def __init__(self, asked: Asked, made: Made, names: ToolNames, is_stream: bool) -> None:
        self._is_stream = is_stream
        self._id = f"chatcmpl-{made.seed}"
        self._made = made
        self._model = asked.model
        self._tier: str | None = None
        self._text: list[bytes] = []
        self._thought: list[bytes] = []
        self._refusal: list[bytes] = []
        self._details: list[Members] = []
        self._annotations: list[Members] = []
        self._logprobs: list[Any] = []
        self._calls: dict[object, _Call] = {}
        self._part: int | None = None
        self._sealed_to = 0
        self._reason: Stop | None = None
        self._events: list[bytes] = []
        self._head = b""

    # -- what the reader tells --------------------------------------------------------------------

    def about(self, model: str | None, tier: str | None) -> None:
        self._tier = tier or self._tier
        self._model = model or self._model
        if model is not None or not self._head:
            self._begin()

    def _begin(self) -> None:
        is_first = not self._head
        chunk = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._made.at_s,
            "model": self._model,
        }
        self._head = b"data: " + encode(chunk)[:-1]
        if is_first:
            self._chunk(b'{"role":"assistant","content":""}')

    def text(self, piece: bytes, logprobs: msgspec.Raw | None = None) -> None:
        self._text.append(piece)
        if logprobs is not None:
            self._logprobs += list_of(decode(logprobs))
        self._chunk(b'{"content":"%b"}' % piece, logprobs=logprobs)

    def cited(self, annotation: dict[str, object]) -> None:
        if annotation.get("type") != "url_citation":
            return  # a chat cites pages only
        cited = {name: value for name, value in annotation.items() if name != "type"}
        said = {"type": "url_citation", "url_citation": cited}
        self._annotations.append(said)
        self._chunk(encode({"annotations": [said]}))

    def thought(self, piece: bytes, *, part: int | None = None) -> None:
        if part != self._part and self._thought:
            piece = _BETWEEN_PARTS + piece
        self._part = part
        self._thought.append(piece)
        self._chunk(b'{"reasoning_content":"%b"}' % piece)

    def sealed(self, seal: Sealed) -> None:
        said: Members = {"type": "reasoning.encrypted", "data": seal.sealed, "id": seal.item_id}
        if seal.maker == ANTHROPIC:
            text = _string(self._thought[self._sealed_to :])
            said = {"type": "reasoning.text", "text": text, "signature": seal.sealed, "id": None}
        self._sealed_to = len(self._thought)
        said |= {"format": FORMAT_OF[seal.maker], "index": len(self._details)}
        self._details.append(said)
        self._chunk(encode({"reasoning_details": [said]}))

    def refusal(self, piece: bytes) -> None:
        self._refusal.append(piece)
        self._chunk(b'{"refusal":"%b"}' % piece)

    def call(self, key: object, call_id: str, name: bytes, *, is_custom: bool = False) -> None:
        index = len(self._calls)
        call_id = call_id or f"call_{self._made.seed}_{index}"
        call = self._calls[key] = _Call(index, call_id, text_in(name), is_custom=is_custom)
        self._chunk(encode({"tool_calls": [{"index": index, **call.members()}]}))

    def arguments(self, key: object, piece: bytes) -> None:
        call = self._calls.get(key)
        if call is None:
            return
        call.pieces.append(piece)
        kind, name = call.words
        self._chunk(
            b'{"tool_calls":[{"index":%d,"%b":{"%b":"%b"}}]}' % (call.index, kind, name, piece)
        )

    def stop(self, reason: Stop) -> None:
        if self._reason is not None:
            return
        self._reason = reason
        self._chunk(b"{}", self._finish_reason().encode())

    def _finish_reason(self) -> str:
        if self._calls and self._reason in {"stop", None}:
            return "tool_calls"
        return _REASONS[self._reason or "stop"]

    # -- what the caller gets ---------------------------------------------------------------------

    def take(self) -> bytes:
        events = self._events
        if not events:
            return b""
        data = events[0] if len(events) == 1 else b"".join(events)
        events.clear()
        return data

    def end(self, usage: Usage | None) -> bytes:
        self.stop("stop")
        self._say_usage(usage)
        return self.take() + DONE

    def fail(self, error: ErrorParts, usage: Usage | None = None) -> bytes:
        if self._head:
            self._say_usage(usage)
        return self.take() + error_event(error_body(*error))

    def _say_usage(self, usage: Usage | None) -> None:
        if usage is not None:
            said = encode(write_usage(usage))
            self._events.append(
                b'%b%b,"choices":[],"usage":%b}\n\n' % (self._head, self._said_tier(), said)
            )

    def whole(self, usage: Usage | None) -> bytes:
        message: Members = {
            "role": "assistant",
            "content": _string(self._text),
            "refusal": _string(self._refusal),
        }
        if self._thought:
            message["reasoning_content"] = _string(self._thought)
        if self._details:
            message["reasoning_details"] = self._details
        if self._annotations:
            message["annotations"] = self._annotations
        if self._calls:
            message["tool_calls"] = [call.members() for call in self._calls.values()]
        answer: Members = {
            "id": self._id,
            "object": "chat.completion",
            "created": self._made.at_s,
            "model": self._model,
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "logprobs": {"content": self._logprobs} if self._logprobs else None,
                    "finish_reason": self._finish_reason(),
                }
            ],
        }
        if usage is not None:
            answer["usage"] = write_usage(usage)
        if self._tier is not None:
            answer["service_tier"] = self._tier
        return encode(answer)

    def _chunk(
        self, delta: bytes, reason: bytes | None = None, logprobs: msgspec.Raw | None = None
    ) -> None:
        if not self._is_stream:
            return
        if not self._head:
            self._begin()
        said = b"" if logprobs is None else b',"logprobs":{"content":%b}' % bytes(logprobs)
        ended = b"null" if reason is None else b'"%b"' % reason
        tier = b"" if reason is None else self._said_tier()
        self._events.append(
            b'%b%b,"choices":[{"index":0,"delta":%b%b,"finish_reason":%b}]}\n\n'
            % (self._head, tier, delta, said, ended)
        )

    def _said_tier(self) -> bytes:
        return b"" if self._tier is None else b',"service_tier":%b' % encode(self._tier)


class _Call:
    def __init__(self, index: int, call_id: str, name: str, *, is_custom: bool) -> None:
        self.index = index
        self.id = call_id
        self.name = name
        self.is_custom = is_custom
        self.pieces: list[bytes] = []

    @property
    def words(self) -> tuple[bytes, bytes]:
        return (b"custom", b"input") if self.is_custom else (b"function", b"arguments")

    def members(self) -> Members:
        kind, payload = (word.decode() for word in self.words)
        said = msgspec.Raw(b'"%b"' % b"".join(self.pieces))
        return {"id": self.id, "type": kind, kind: {"name": self.name, payload: said}}


def _string(pieces: list[bytes]) -> msgspec.Raw | None:
    return msgspec.Raw(b'"%b"' % b"".join(pieces)) if pieces else None
