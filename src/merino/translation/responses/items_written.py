"""Output items of `responses` while they are written: what each has so far, and its events.

Every event is a tuple of its type and its members without `sequence_number`, which the writer adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from merino.translation.tool_names import Meant
from merino.translation.unwrapping import Unwrapping
from merino.translation.values import (
    Members,
    decode,
    list_of,
    members_of,
    piece_of,
    text_in,
    text_of,
)

Status = Literal["in_progress", "completed", "incomplete"]
NewEvent = tuple[str, Members]


def string(piece: bytes) -> msgspec.Raw:
    """A piece as a JSON string."""
    return msgspec.Raw(b'"%b"' % piece)


class Item:
    """`id` and `index` say where it is in the output."""

    def __init__(self, item_id: str, index: int) -> None:
        self.id = item_id
        self.index = index
        self.status: Status = "in_progress"

    @property
    def place(self) -> Members:
        return {"item_id": self.id, "output_index": self.index}

    def members(self) -> Members:
        """The item as it is now."""
        raise NotImplementedError

    def opened(self) -> NewEvent:
        return "response.output_item.added", {"output_index": self.index, "item": self.members()}

    def close(self, status: Status) -> Iterator[NewEvent]:
        """Its last events."""
        yield from self._ended()
        self.status = status
        done = {"output_index": self.index, "item": self.members()}
        yield "response.output_item.done", done

    def _ended(self) -> Iterator[NewEvent]:
        yield from ()


class Part:
    """A part of an item's content. `kind` is `output_text`, `refusal` or `reasoning_text`."""

    def __init__(self, kind: str, index: int) -> None:
        self.kind = kind
        self.index = index
        self.pieces: list[bytes] = []
        self.annotations: list[Any] = []
        self.logprobs: list[Any] = []

    @property
    def text(self) -> msgspec.Raw:
        """All of it so far; what is whole is told several times, and put together once."""
        if len(self.pieces) != 1:
            self.pieces = [b"".join(self.pieces)]
        return string(self.pieces[0])

    def members(self) -> Members:
        text = self.text
        if self.kind == "output_text":
            return {
                "type": self.kind,
                "text": text,
                "annotations": list(self.annotations),
                "logprobs": list(self.logprobs),
            }
        return {"type": self.kind, "refusal" if self.kind == "refusal" else "text": text}


_EVENTS = {
    "output_text": "response.output_text",
    "refusal": "response.refusal",
    "reasoning_text": "response.reasoning_text",
}


class Parted(Item):
    """An item with content parts: a message, or thinking."""

    def __init__(self, item_id: str, index: int) -> None:
        super().__init__(item_id, index)
        self.parts: list[Part] = []

    def part(self, kind: str) -> Part | None:
        """The part that text of this kind belongs to."""
        return next((part for part in self.parts if part.kind == kind), None)

    def add_part(self, kind: str) -> tuple[Part, NewEvent]:
        part = Part(kind, len(self.parts))
        self.parts.append(part)
        where = {**self.place, "content_index": part.index}
        return part, ("response.content_part.added", {**where, "part": part.members()})

    def _ended(self) -> Iterator[NewEvent]:
        for part in self.parts:
            where: Members = {**self.place, "content_index": part.index}
            name = _EVENTS[part.kind]
            members = part.members()
            said = {"refusal": members["refusal"]} if part.kind == "refusal" else {}
            if not said:
                said = {"text": members["text"]}
            if part.kind == "output_text":
                said["logprobs"] = list(part.logprobs)
            yield f"{name}.done", {**where, **said}
            yield "response.content_part.done", {**where, "part": members}


class MessageItem(Parted):
    def members(self) -> Members:
        return {
            "id": self.id,
            "type": "message",
            "status": self.status,
            "role": "assistant",
            "content": [part.members() for part in self.parts],
        }


class ReasoningItem(Parted):
    """Thinking as content, or as a summary if the caller asked for one."""

    def __init__(self, item_id: str, index: int, *, as_summary: bool) -> None:
        super().__init__(item_id, index)
        self.as_summary = as_summary
        self.sealed: str | None = None

    def members(self) -> Members:
        texts = [part.text for part in self.parts]
        members: Members = {"id": self.id, "type": "reasoning", "summary": []}
        if self.as_summary:
            members["summary"] = [{"type": "summary_text", "text": text} for text in texts]
        else:
            members["content"] = [{"type": "reasoning_text", "text": text} for text in texts]
        if self.sealed is not None:
            members["encrypted_content"] = self.sealed
        members["status"] = self.status
        return members

    def add_part(self, kind: str) -> tuple[Part, NewEvent]:
        part, event = super().add_part(kind)
        if self.as_summary:
            where = {**self.place, "summary_index": part.index}
            empty = {"type": "summary_text", "text": ""}
            return part, ("response.reasoning_summary_part.added", {**where, "part": empty})
        return part, event

    def _ended(self) -> Iterator[NewEvent]:
        if not self.as_summary:
            yield from super()._ended()
            return
        for part in self.parts:
            where: Members = {**self.place, "summary_index": part.index}
            text = part.text
            yield "response.reasoning_summary_text.done", {**where, "text": text}
            whole = {"type": "summary_text", "text": text}
            yield "response.reasoning_summary_part.done", {**where, "part": whole}


class CallItem(Item):
    """A call of a function, or of a custom tool that went out as one."""

    def __init__(self, item_id: str, index: int, call_id: str, meant: Meant) -> None:
        super().__init__(item_id, index)
        self.call_id = call_id
        self.meant = meant
        self._pieces: list[bytes] = []
        self._unwrapping: Unwrapping | None = None

    def unwrap(self) -> None:
        """The arguments that come are those of the function that stands for a custom tool."""
        self._unwrapping = Unwrapping()

    @property
    def delta_event(self) -> str:
        if self.meant.is_custom:
            return "response.custom_tool_call_input.delta"
        return "response.function_call_arguments.delta"

    def add(self, piece: bytes) -> bytes:
        """Take a piece of the arguments; what the caller gets of it."""
        if self._unwrapping is not None:
            return piece_of(self._unwrapping.feed(text_in(piece)))
        self._pieces.append(piece)
        return piece

    @property
    def payload(self) -> msgspec.Raw:
        if self._unwrapping is not None:
            return string(piece_of(self._unwrapping.whole))
        return string(b"".join(self._pieces))

    def members(self) -> Members:
        name = "custom_tool_call" if self.meant.is_custom else "function_call"
        members: Members = {"id": self.id, "type": name, "call_id": self.call_id}
        members["name"] = self.meant.name
        if self.meant.namespace is not None:
            members["namespace"] = self.meant.namespace
        members["input" if self.meant.is_custom else "arguments"] = self.payload
        members["status"] = self.status
        return members

    def _ended(self) -> Iterator[NewEvent]:
        if self._unwrapping is not None:
            rest = self._unwrapping.finish()
            if rest:
                yield self.delta_event, {**self.place, "delta": rest}
        if self.meant.is_custom:
            yield "response.custom_tool_call_input.done", {**self.place, "input": self.payload}
        else:
            said = {"name": self.meant.name, "arguments": self.payload}
            yield "response.function_call_arguments.done", {**self.place, **said}


def logprobs_in(raw: msgspec.Raw | None) -> list[Any]:
    """The log probabilities of a piece, each as `responses` has it."""
    found = [] if raw is None else list_of(decode(raw))
    return [_logprob(members_of(each)) for each in found]


def _logprob(said: Members) -> Members:
    token = text_of(said.get("token"))
    probability = said.get("logprob")
    written: Members = {
        "token": token,
        "bytes": said.get("bytes") or list(token.encode("utf-8", "surrogatepass")),
        "logprob": probability if isinstance(probability, int | float) else 0.0,
    }
    if "top_logprobs" in said:
        others = list_of(said["top_logprobs"])
        written["top_logprobs"] = [_logprob(members_of(each)) for each in others]
    return written
