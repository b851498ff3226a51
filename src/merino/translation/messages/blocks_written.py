"""Messages of `messages`, written from items.

There the results of calls stand at the beginning of the next message of the user, all of one turn
together; instructions stand beside the messages; and no text is empty.
"""

from __future__ import annotations

import re
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
from merino.translation.values import decode, inline_data, is_object
from merino.wire.seals import ANTHROPIC, REDACTED

Written = dict[str, Any]

_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")
_EPHEMERAL = {"type": "ephemeral"}
_BREAKPOINTS_MAX = 4
"""More cache marks than this are refused."""


def write_messages(asked: Asked, names: ToolNames) -> tuple[list[Written], list[Written]]:
    """Instructions and messages. Raises `InvalidCall` for content that messages cannot have."""
    return _Writer(asked, names).write()


class _Writer:
    def __init__(self, asked: Asked, names: ToolNames) -> None:
        self._asked = asked
        self._names = names
        self._written: list[Written] = []
        self._system: list[Written] = []
        self._marks = 0
        self._results: dict[str, list[Result]] = {}
        for item in asked.items:
            if isinstance(item, Result):
                self._results.setdefault(item.call_id, []).append(item)
        self._open: list[str] = []
        """The calls of this turn, whose results stand at the beginning of the next message."""

    def write(self) -> tuple[list[Written], list[Written]]:
        has_begun = False
        for item in self._asked.items:
            if isinstance(item, Message) and item.role in {"system", "developer"}:
                if has_begun:
                    self._asked.tell(f"{item.where} moved to system")
                self._system += [self._part(part) for part in item.parts if _is_filled(part)]
                continue
            has_begun = True
            self._item(item)
        self._flush_results()
        return self._system, self._written

    def _item(self, item: Item) -> None:
        match item:
            case Message():
                if item.name is not None:
                    self._asked.tell(f"{item.where}.name removed")
                if item.role == "user":
                    self._flush_results()
                parts = [self._part(part) for part in item.parts if _is_filled(part)]
                self._say("assistant" if item.role == "assistant" else "user", parts)
            case Thought():
                self._say("assistant", self._thought(item))
            case Call():
                self._say("assistant", [self._call(item)])
                self._open.append(item.id)
            case Result():
                if item.call_id in self._results:
                    self._flush_results()
                    if item.call_id in self._results:  # of no call that is here
                        self._say("user", self._results_of(item.call_id))

    def _flush_results(self) -> None:
        blocks: list[Written] = []
        for call_id in self._open:
            blocks += self._results_of(call_id)
        self._open.clear()
        self._say("user", blocks)

    def _results_of(self, call_id: str) -> list[Written]:
        return [self._result(each) for each in self._results.pop(call_id, ())]

    def _say(self, role: str, blocks: list[Written]) -> None:
        if not blocks:
            return
        if self._written and self._written[-1]["role"] == role:
            self._written[-1]["content"] += blocks
        else:
            self._written.append({"role": role, "content": blocks})

    # -- blocks -----------------------------------------------------------------------------------

    def _thought(self, item: Thought) -> list[Written]:
        """Only what the upstream's vendor sealed: it takes no other thinking."""
        if item.maker == REDACTED and item.sealed:
            return [{"type": "redacted_thinking", "data": item.sealed}]
        if item.maker == ANTHROPIC and item.sealed:
            text = item.text or "\n\n".join(item.summary)
            return [{"type": "thinking", "thinking": text, "signature": item.sealed}]
        self._asked.tell(f"{item.where} removed (another maker's thinking)")
        return []

    def _call(self, item: Call) -> Written:
        payload: object = {"input": item.payload}
        if not item.is_custom:
            try:
                payload = decode(item.payload.encode("utf-8", "surrogatepass"))
            except ValueError:
                payload = item.payload
            if not is_object(payload):
                payload = {"input": payload}
        name = self._names.flat(item.namespace, item.name, is_custom=item.is_custom)
        written = {"type": "tool_use", "id": safe_id(item.id), "name": name, "input": payload}
        return self._marked(written, item.control)

    def _result(self, item: Result) -> Written:
        written: Written = {"type": "tool_result", "tool_use_id": safe_id(item.call_id)}
        parts = [part for part in item.parts if _is_filled(part)]
        if all(isinstance(part, Text) for part in parts):
            written["content"] = "".join(part.text for part in parts if isinstance(part, Text))
        else:
            written["content"] = [self._part(part) for part in parts]
        if item.is_error:
            written["is_error"] = True
        return self._marked(written, item.control)

    def _part(self, part: Part) -> Written:
        written: Written
        match part:
            case Text():
                written = {"type": "text", "text": part.text}
            case Refusal():
                return {"type": "text", "text": part.text}
            case Image():
                written = self._image(part)
            case File():
                written = self._file(part)
            case Audio():
                raise cannot_carry(f"{part.where}.type", self._asked.via, "it hears nothing")
        control = part.control or (_EPHEMERAL if part.cache is not None else None)
        return self._marked(written, control)

    def _marked(self, written: Written, control: object) -> Written:
        if control is None:
            return written
        self._marks += 1
        if self._marks > _BREAKPOINTS_MAX:
            self._asked.tell(f"cache marks beyond {_BREAKPOINTS_MAX} removed")
            return written
        return {**written, "cache_control": control}

    def _image(self, part: Image) -> Written:
        if part.url is None:
            raise cannot_carry(
                f"{part.where}.file_id", self._asked.via, "what was uploaded elsewhere is not there"
            )
        if part.detail not in (None, "auto"):
            self._asked.tell(f"{part.where}.detail removed")
        return {"type": "image", "source": _source(part.url)}

    def _file(self, part: File) -> Written:
        if part.file_id is not None:
            raise cannot_carry(
                f"{part.where}.file_id", self._asked.via, "what was uploaded elsewhere is not there"
            )
        source = _source(part.data or part.url or "")
        if source["type"] == "url" and part.data:
            source = {"type": "base64", "media_type": "application/pdf", "data": part.data}
        if source.get("media_type", "").startswith("image/"):
            return {"type": "image", "source": source}
        written: Written = {"type": "document", "source": source}
        if part.name:
            written["title"] = part.name
        return written


def safe_id(call_id: str) -> str:
    """A call's id in letters that are taken; the same for a call and for its result."""
    return _NOT_IN_IDS.sub("_", call_id)


def _source(url: str) -> Written:
    inline = inline_data(url)
    if inline is None:
        return {"type": "url", "url": url}
    media_type, data = inline
    return {"type": "base64", "media_type": media_type, "data": data}


def _is_filled(part: Part) -> bool:
    return not isinstance(part, Text | Refusal) or bool(part.text.strip())
