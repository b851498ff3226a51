"""An answer in the dialect of `chat/completions`, read for a writer of another."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from merino.translation.answered import AnswerWriter, Stop
from merino.translation.values import (
    Members,
    decode,
    encode,
    is_list,
    is_object,
    list_of,
    members_of,
    piece_in,
    piece_of,
    text_of,
)
from merino.wire.seals import OPENAI, Sealed
from merino.wire.sse import data_of

RawMembers = dict[str, msgspec.Raw]


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: RawMembers | None = None
    message: RawMembers | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = msgspec.Raw(b"null")


class _Answer(msgspec.Struct, gc=False):
    model: str | None = None
    choices: list[_Choice] | None = None
    service_tier: str | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_members = msgspec.json.Decoder(RawMembers).decode
_PLAIN_TEXT = re.compile(rb"[ !#-\[\]-~]+").fullmatch
_LEARNS_MAX = 4
_CONTENT = (b'"content":', b'"content": ')
_DATA = b"data: {"
_DONE = b"data: [DONE]"
_SEALED = "reasoning.encrypted"
_STOPS: dict[str, Stop] = {
    "length": "length",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "content_filter": "filter",
    "SAFETY": "filter",
    "refusal": "filter",
}
"""All others mean that the model was done."""
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Vendors that send two of these send the same text twice."""


@dataclass(slots=True)
class _Called:
    """A tool call of which pieces come. It begins once its name is known."""

    id: str = ""
    has_begun: bool = False
    waiting: list[bytes] = field(default_factory=list[bytes])


class ChatReader:
    def __init__(self, writer: AnswerWriter) -> None:
        self._writer = writer
        self._prefix = self._suffix = b""
        self._learns_left = _LEARNS_MAX
        self._calls: dict[object, _Called] = {}
        self._last_key: object = None
        self.is_ended = False

    def plain(self, event: bytes) -> bool:
        prefix, suffix = self._prefix, self._suffix
        if not prefix or not event.startswith(prefix) or not event.endswith(suffix):
            return False
        piece = event[len(prefix) : len(event) - len(suffix)]
        if self.is_ended or not _PLAIN_TEXT(piece):
            return False
        self._writer.text(piece)
        return True

    def event(self, event: bytes) -> None:
        if event.startswith(_DONE):
            return
        # Nearly every event is one line of data; the decoder ignores the line ends after it.
        is_one_line = event.startswith(_DATA) and event.find(b"\n") == len(event) - 2
        choice = self._first(event[6:] if is_one_line else data_of(event))
        if choice is None or self.is_ended:
            return
        delta = choice.delta if choice.delta is not None else choice.message
        if delta is not None:
            if self._is_text_alone(choice, delta):
                self._learn(event, delta["content"])
            self._take(delta, choice.logprobs)
        if choice.finish_reason:
            self._stop(choice.finish_reason)

    def answer(self, body: bytes) -> None:
        if not isinstance(decode(body), dict):
            raise ValueError("the answer is no object")  # noqa: TRY004 - as documented
        choice = self._first(body)
        if choice is None:
            return
        message = choice.message if choice.message is not None else choice.delta
        if message is not None:
            self._take(message, choice.logprobs)
        self._stop(choice.finish_reason or "stop")

    def _first(self, data: bytes) -> _Choice | None:
        """The first choice; what the others say, nobody asked for."""
        try:
            answer = _decode_answer(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            answer = _loosely(data)
        self._writer.about(answer.model, answer.service_tier)
        for choice in answer.choices or ():
            if choice.index == 0:
                return choice
        return None

    def _stop(self, reason: str) -> None:
        for key, called in self._calls.items():
            self._begin_call(key, called, b"")
        self._writer.stop(_STOPS.get(reason, "stop"))
        self.is_ended = True

    # -- the members of a message, or of a piece of one -------------------------------------------

    def _take(self, delta: RawMembers, logprobs: msgspec.Raw) -> None:
        writer = self._writer
        for name in _THOUGHTS:
            piece = piece_in(delta.get(name))
            if piece:
                writer.thought(piece)
                break
        if (details := delta.get("reasoning_details")) is not None:
            self._take_sealed(details)
        if (content := delta.get("content")) is not None:
            if bytes(content)[:1] == b"[":
                self._take_parts(content)
            elif piece := piece_in(content):
                writer.text(piece, _logprobs_of(logprobs))
        if piece := piece_in(delta.get("refusal")):
            writer.refusal(piece)
        if (annotations := delta.get("annotations")) is not None:
            for each in list_of(_decoded(annotations)):
                self._cite(members_of(each))
        if (calls := delta.get("tool_calls")) is not None:
            self._take_calls(calls)
        if (call := delta.get("function_call")) is not None:
            self._take_called("function_call", "", _members(call), is_custom=False)

    def _take_parts(self, content: msgspec.Raw) -> None:
        """Content as a list: text, and thinking beside it (Mistral)."""
        for part in list_of(_decoded(content)):
            members = members_of(part)
            kind = text_of(members.get("type"))
            text: Any = members.get("text") or members.get("thinking") or members.get("content")
            for inner in text if is_list(text) else [text]:
                said = text_of(members_of(inner).get("text") if is_object(inner) else inner)
                if not said:
                    continue
                if "think" in kind or "reason" in kind:
                    self._writer.thought(piece_of(said))
                else:
                    self._writer.text(piece_of(said))

    def _take_sealed(self, raw: msgspec.Raw) -> None:
        for each in list_of(_decoded(raw)):
            members = members_of(each)
            if members.get("type") == _SEALED and isinstance(members.get("data"), str):
                item_id = text_of(members.get("id")) or None
                self._writer.sealed(Sealed(OPENAI, members["data"], item_id))

    def _cite(self, annotation: Members) -> None:
        cited = members_of(annotation.get("url_citation"))
        if cited:
            places = {"start_index": 0, "end_index": 0, "title": "", "url": ""}
            self._writer.cited({"type": "url_citation", **places, **cited})

    def _take_calls(self, raw: msgspec.Raw) -> None:
        for position, call in enumerate(list_of(_raw_list(raw))):
            members = _members(call)
            index = _decoded(members.get("index"))
            call_id = text_of(_decoded(members.get("id")))
            key: object = index if isinstance(index, int) else None
            if key is None:
                # Without a number, a call is told from others by its id, or it goes on.
                key = call_id or (position if self._last_key is None else self._last_key)
            is_custom = "custom" in members and "function" not in members
            inner = members.get("custom" if is_custom else "function")
            self._take_called(key, call_id, _members(inner), is_custom=is_custom)

    def _take_called(
        self, key: object, call_id: str, function: RawMembers, *, is_custom: bool
    ) -> None:
        name = piece_in(function.get("name"))
        called = self._calls.get(key)
        if called is not None and call_id and name and called.id not in {"", call_id}:
            # Another call under the same number (Gemini numbers all of them 0).
            key = call_id
            called = self._calls.get(key)
        if called is None:
            called = self._calls[key] = _Called()
        self._last_key = key
        called.id = called.id or call_id
        if name and not called.has_begun:
            self._begin_call(key, called, name, is_custom=is_custom)
        piece = piece_in(function.get("input" if is_custom else "arguments"))
        if not piece:
            return
        if called.has_begun:
            self._writer.arguments(key, piece)
        else:
            called.waiting.append(piece)

    def _begin_call(
        self, key: object, called: _Called, name: bytes, *, is_custom: bool = False
    ) -> None:
        if called.has_begun:
            return
        called.has_begun = True
        self._writer.call(key, called.id, name, is_custom=is_custom)
        for piece in called.waiting:
            self._writer.arguments(key, piece)

    # -- events that differ in their text only ----------------------------------------------------

    def _is_text_alone(self, choice: _Choice, delta: RawMembers) -> bool:
        return (
            self._learns_left > 0
            and choice.finish_reason is None
            and _logprobs_of(choice.logprobs) is None
            and delta.keys() <= {"content", "role"}
            and "content" in delta
            and len(bytes(delta["content"])) > 2
        )

    def _learn(self, event: bytes, content: msgspec.Raw) -> None:
        said = bytes(content)
        places = [event.find(name + said) + len(name) for name in _CONTENT if name + said in event]
        if len(places) != 1:
            return
        (at,) = places
        if event.count(b"\n") == 2 and event.endswith(b"\n\n"):
            self._learns_left -= 1
            self._prefix = event[: at + 1]
            self._suffix = event[at + len(said) - 1 :]


def _logprobs_of(raw: msgspec.Raw) -> msgspec.Raw | None:
    if bytes(raw) == b"null":
        return None
    found = list_of(members_of(_decoded(raw)).get("content"))
    return msgspec.Raw(encode(found)) if found else None


def _decoded(raw: msgspec.Raw | None) -> Any:
    if raw is None:
        return None
    try:
        return decode(raw)
    except ValueError:
        return None


def _members(raw: object) -> RawMembers:
    """The members of a raw object."""
    if not isinstance(raw, msgspec.Raw):
        return {}
    try:
        return _decode_members(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return {name: msgspec.Raw(encode(each)) for name, each in members_of(_decoded(raw)).items()}


_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _raw_list(raw: msgspec.Raw) -> list[msgspec.Raw]:
    try:
        return _decode_list(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        value = _decoded(raw)
        return [msgspec.Raw(encode(each)) for each in list_of(value)]


def _loosely(data: bytes) -> _Answer:
    """An answer or event that does not fit the schema: numbers as texts, NaN, lone surrogates."""
    try:
        members = members_of(decode(data))
    except ValueError:
        members = {}
    choices: list[_Choice] = []
    for position, each in enumerate(list_of(members.get("choices"))):
        its = members_of(each)
        index = its.get("index")
        reason = its.get("finish_reason")
        inner = [
            {name: msgspec.Raw(encode(value)) for name, value in members_of(its[key]).items()}
            if is_object(its.get(key))
            else None
            for key in ("delta", "message")
        ]
        if inner == [None, None] and isinstance(its.get("text"), str):
            inner[0] = {"content": msgspec.Raw(encode(its["text"]))}
        choices.append(
            _Choice(
                index if isinstance(index, int) else position,
                inner[0],
                inner[1],
                reason if isinstance(reason, str) else None,
                msgspec.Raw(encode(its.get("logprobs"))),
            )
        )
    model, tier = members.get("model"), members.get("service_tier")
    return _Answer(
        model if isinstance(model, str) else None,
        choices,
        tier if isinstance(tier, str) else None,
    )
