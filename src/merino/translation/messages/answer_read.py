"""An answer in the dialect of `messages`, read for a writer of another."""

from __future__ import annotations

import re
from typing import Any

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
    text_in,
    text_of,
)
from merino.wire.message_usage import tier_told
from merino.wire.seals import ANTHROPIC, REDACTED, Sealed
from merino.wire.sse import data_of

_PIECE = re.compile(rb'([ !#-\[\]-~]+)"\} *\}\n\n').fullmatch
_TEXT = b'"text_delta","text":"'
_STOPS: dict[str, Stop] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "filter",
}
"""All others mean that the model was done, also to have tools called."""
_NULL = msgspec.Raw(b"null")


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: msgspec.Raw = _NULL
    thinking: msgspec.Raw = _NULL
    partial_json: msgspec.Raw = _NULL
    signature: msgspec.Raw = _NULL
    citation: msgspec.Raw = _NULL
    stop_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: msgspec.Raw = _NULL
    message: msgspec.Raw = _NULL


_decode_event = msgspec.json.Decoder(_Event).decode


class MessagesAnswerReader:
    def __init__(self, writer: AnswerWriter) -> None:
        self._writer = writer
        self._prefix = b""
        self._signature: dict[int, bytes] = {}
        self._calls: set[int] = set()
        self.is_ended = False

    def plain(self, event: bytes) -> bool:
        prefix = self._prefix
        if not prefix or not event.startswith(prefix):
            return False
        found = _PIECE(event, len(prefix))
        if found is None:
            return False
        self._writer.text(found[1])
        return True

    def event(self, event: bytes) -> None:
        if self.is_ended:
            return
        try:
            said = _decode_event(data_of(event))
        except (msgspec.DecodeError, ValueError, RecursionError):
            return
        match said.type:
            case "content_block_delta" if said.delta is not None:
                self._take(said.index, said.delta)
                if said.delta.type == "text_delta":
                    self._learn(event)
            case "content_block_start":
                self._prefix = b""
                self._begin(said.index, members_of(decode(said.content_block)))
            case "content_block_stop":
                self._end(said.index)
            case "message_start":
                self._about(members_of(decode(said.message)))
            case "message_delta" if said.delta is not None and said.delta.stop_reason:
                self._stop(said.delta.stop_reason)
            case _:
                pass

    def answer(self, body: bytes) -> None:
        value: object = decode(body)
        if not is_object(value):
            raise ValueError("the answer is no object")
        message = members_of(value)
        self._about(message)
        for index, each in enumerate(list_of(message.get("content"))):
            self._whole_block(index, members_of(each))
        self._stop(text_of(message.get("stop_reason")) or "end_turn")

    # -- blocks -----------------------------------------------------------------------------------

    def _about(self, message: Members) -> None:
        model, tier = message.get("model"), tier_told(message.get("usage"))
        self._writer.about(model if isinstance(model, str) else None, tier)

    def _begin(self, index: int, block: Members) -> None:
        match block.get("type"):
            case "text" if block.get("text"):
                self._writer.text(piece_of(text_of(block["text"])))
            case "thinking" if block.get("thinking"):
                self._writer.thought(piece_of(text_of(block["thinking"])))
            case "redacted_thinking":
                self._writer.sealed(Sealed(REDACTED, text_of(block.get("data"))))
            case "tool_use":
                self._calls.add(index)
                name = piece_of(text_of(block.get("name")))
                self._writer.call(index, text_of(block.get("id")), name)
                if block.get("input"):
                    self._writer.arguments(index, piece_of(encode(block["input"]).decode()))
            case _:
                pass

    def _take(self, index: int, delta: _Delta) -> None:
        match delta.type:
            case "text_delta":
                if piece := piece_in(delta.text):
                    self._writer.text(piece)
            case "thinking_delta":
                if piece := piece_in(delta.thinking):
                    self._writer.thought(piece)
            case "input_json_delta":
                if (piece := piece_in(delta.partial_json)) and index in self._calls:
                    self._writer.arguments(index, piece)
            case "signature_delta":
                signed = self._signature.get(index, b"") + piece_in(delta.signature)
                self._signature[index] = signed
            case "citations_delta":
                self._cite(members_of(decode(delta.citation)))
            case _:
                pass

    def _end(self, index: int) -> None:
        signed = self._signature.pop(index, b"")
        if signed:
            self._writer.sealed(Sealed(ANTHROPIC, text_in(signed)))

    def _whole_block(self, index: int, block: Members) -> None:
        for each in list_of(block.get("citations")):
            self._cite(members_of(each))
        self._begin(index, block)
        signature = block.get("signature")
        if block.get("type") == "thinking" and isinstance(signature, str) and signature:
            self._writer.sealed(Sealed(ANTHROPIC, signature))
        if block.get("type") == "tool_use" and not block.get("input"):
            self._writer.arguments(index, b"{}")

    def _cite(self, citation: Members) -> None:
        if citation.get("type") != "web_search_result_location":
            return
        said: dict[str, Any] = {"type": "url_citation", "start_index": 0, "end_index": 0}
        said |= {"url": text_of(citation.get("url")), "title": text_of(citation.get("title"))}
        self._writer.cited(said)

    def _stop(self, reason: str) -> None:
        self._writer.stop(_STOPS.get(reason, "stop"))
        self.is_ended = True

    def _learn(self, event: bytes) -> None:
        if self._prefix:
            return
        at = event.find(_TEXT)
        prefix = event[: at + len(_TEXT)]
        if at > 0 and prefix.count(b"\n") == 1 and _PIECE(event, len(prefix)) is not None:
            self._prefix = prefix
