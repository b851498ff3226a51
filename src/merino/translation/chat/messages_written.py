"""Messages of `chat/completions`, written from items.

A chat wants the results of calls directly behind the message that made them, one message for calls
made at once, and texts only in results. Items come in any order: they are brought into that form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from merino.translation.asked import (
    Asked,
    Audio,
    Call,
    File,
    Image,
    Item,
    Message,
    Part,
    Refusal,
    Result,
    Text,
    Thought,
)
from merino.translation.meanings import cannot_carry
from merino.translation.tool_names import ToolNames
from merino.translation.values import encode

Written = dict[str, Any]


@dataclass(slots=True)
class _Turn:
    """What the assistant said until somebody else spoke."""

    messages: list[Message] = field(default_factory=list[Message])
    calls: list[Call] = field(default_factory=list[Call])
    thoughts: list[str] = field(default_factory=list[str])


def write_messages(asked: Asked, names: ToolNames) -> list[Written]:
    """Raises `InvalidCall` for content that a chat cannot have."""
    return _Writer(asked, names).write()


class _Writer:
    def __init__(self, asked: Asked, names: ToolNames) -> None:
        self._asked = asked
        self._names = names
        self._written: list[Written] = []
        self._turn = _Turn()
        self._results: dict[str, list[Result]] = {}
        for item in asked.items:
            if isinstance(item, Result):
                self._results.setdefault(item.call_id, []).append(item)

    def write(self) -> list[Written]:
        items = self._asked.items
        begin = self._write_system(items)
        loop_at = max(
            (at for at, item in enumerate(items) if isinstance(item, Message) and _asks(item)),
            default=-1,
        )
        for at, item in enumerate(items[begin:], begin):
            if isinstance(item, Call):
                self._turn.calls.append(item)
            elif isinstance(item, Thought):
                # Models that want their thinking back want it within one turn of tool calls.
                thought = item.text or ("" if item.sealed else "\n\n".join(item.summary))
                if at > loop_at and thought:
                    self._turn.thoughts.append(thought)
            elif isinstance(item, Result):
                self._end_turn()
                if item.call_id in self._results:  # of no call that is here: the upstream says so
                    self._write_results([item.call_id])
            elif item.role == "assistant":
                self._turn.messages.append(item)
            else:
                self._end_turn()
                self._written.append(self._message(item))
        self._end_turn()
        return self._written

    def _write_system(self, items: list[Item]) -> int:
        """Join the first instructions: many models' templates take one system message only. Returns
        how many items that are."""
        texts: list[str] = []
        begin = 0
        for item in items:
            if not isinstance(item, Message) or _asks(item) or item.role == "assistant":
                break
            if not all(isinstance(part, Text) and part.cache is None for part in item.parts):
                break
            texts.append(_plain(item.parts))
            begin += 1
        if texts:
            self._written.append({"role": "system", "content": "\n\n".join(texts)})
        return begin

    def _message(self, item: Message) -> Written:
        role = "system" if item.role == "developer" else item.role
        message: Written = {"role": role, "content": self._content(item.parts)}
        if item.name is not None:
            message["name"] = item.name
        return message

    def _content(self, parts: list[Part]) -> str | list[Written]:
        if all(isinstance(part, Text | Refusal) for part in parts):
            texts = [part for part in parts if isinstance(part, Text)]
            if len(parts) <= 1 and not any(part.cache for part in texts):
                return _plain(parts)
        return [self._part(part) for part in parts]

    def _part(self, part: Part) -> Written:
        written: Written
        match part:
            case Text():
                written = {"type": "text", "text": part.text}
            case Refusal():
                written = {"type": "text", "text": part.text}
            case Image():
                written = self._image(part)
            case File():
                written = self._file(part)
            case Audio():
                sound = {"data": part.data, "format": part.format}
                return {"type": "input_audio", "input_audio": sound}
        cache = None if isinstance(part, Refusal) else part.cache
        if cache is not None:
            written["prompt_cache_breakpoint"] = cache
        return written

    def _image(self, part: Image) -> Written:
        if part.url is None:
            raise cannot_carry(
                f"{part.where}.file_id", self._asked.via, "it reads images by URL only"
            )
        url: Written = {"url": part.url}
        if part.detail is not None:
            url["detail"] = part.detail
        return {"type": "image_url", "image_url": url}

    def _file(self, part: File) -> Written:
        if part.url is not None:
            why = "it reads no files by URL; send file_data"
            raise cannot_carry(f"{part.where}.file_url", self._asked.via, why)
        named = (("file_id", part.file_id), ("file_data", part.data), ("filename", part.name))
        return {"type": "file", "file": {name: value for name, value in named if value}}

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, _Turn()
        messages: list[Written] = [
            {"role": "assistant", "content": _plain(each.parts)} for each in turn.messages
        ]
        if turn.calls or (turn.thoughts and not messages):
            if not messages:
                messages.append({"role": "assistant", "content": None})
            if turn.calls:
                messages[-1]["tool_calls"] = [self._call(call) for call in turn.calls]
        if turn.thoughts:
            messages[-1]["reasoning_content"] = "\n\n".join(turn.thoughts)
            if not turn.calls and messages[-1]["content"] is None:
                messages.pop()  # thinking alone is no message
        self._written += messages
        self._write_results([call.id for call in turn.calls])

    def _call(self, call: Call) -> Written:
        payload = call.payload
        if call.is_custom:
            payload = encode({"input": payload}).decode()
        name = self._names.flat(call.namespace, call.name, is_custom=call.is_custom)
        return {
            "id": call.id,
            "type": "function",
            "function": {"name": name, "arguments": payload},
        }

    def _write_results(self, call_ids: list[str]) -> None:
        """The results of these calls. What is no text follows them in a message of the user."""
        shown: list[Written] = []
        for call_id in call_ids:
            for result in self._results.pop(call_id, ()):
                others = [part for part in result.parts if not isinstance(part, Text | Refusal)]
                text = _plain([part for part in result.parts if isinstance(part, Text | Refusal)])
                if others:
                    self._asked.tell(f"{result.where}.output media moved into a message")
                    shown.append({"type": "text", "text": f"Output of tool call {call_id}:"})
                    shown += [self._part(part) for part in others]
                    text = text or "The output follows in the next message."
                self._written.append({"role": "tool", "tool_call_id": call_id, "content": text})
        if shown:
            self._written.append({"role": "user", "content": shown})


def _asks(item: Message) -> bool:
    return item.role == "user"


def _plain(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text | Refusal))
