"""Contents of `generateContent`, written from items."""

from __future__ import annotations

from typing import Any, TypeGuard

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
from merino.wire.seals import CALL, GEMINI

Written = dict[str, Any]

_UNSIGNED = "skip_thought_signature_validator"
"""The value by which Google lets calls without a signature pass."""
_KINDS = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp",
          "gif": "image/gif", "pdf": "application/pdf"}  # fmt: skip


def write_contents(asked: Asked, names: ToolNames) -> tuple[list[Written], list[Written]]:
    """Parts of the instructions, and contents. Raises `InvalidCall`."""
    return _Writer(asked, names).write()


class _Writer:
    def __init__(self, asked: Asked, names: ToolNames) -> None:
        self._asked = asked
        self._names = names
        self._written: list[Written] = []
        self._system: list[Written] = []
        self._seal: str | None = None
        """The signature of the next part of the model's."""
        self._call_seal: str | None = None
        self._called: dict[str, str] = {}
        self._open: list[str] = []
        self._results: dict[str, list[Result]] = {}
        for item in asked.items:
            if isinstance(item, Result):
                self._results.setdefault(item.call_id, []).append(item)
        self._loop_at = max(
            (
                at
                for at, item in enumerate(asked.items)
                if isinstance(item, Message) and item.role == "user"
            ),
            default=-1,
        )

    def write(self) -> tuple[list[Written], list[Written]]:
        has_begun = False
        for at, item in enumerate(self._asked.items):
            if isinstance(item, Message) and item.role in {"system", "developer"}:
                if has_begun:
                    self._asked.tell(f"{item.where} moved to system")
                self._system += [{"text": each.text} for each in item.parts if _is_text(each)]
                continue
            has_begun = True
            self._item(item, is_now=at > self._loop_at)
        self._flush_results()
        return self._system, self._written

    def _item(self, item: Item, *, is_now: bool) -> None:
        match item:
            case Message():
                role = "model" if item.role == "assistant" else "user"
                if role == "user":
                    self._flush_results()
                parts = [self._part(each) for each in item.parts if _is_filled(each)]
                self._say(role, parts)
            case Thought():
                if item.maker == GEMINI and item.sealed and item.id == CALL:
                    self._call_seal = item.sealed
                elif item.maker == GEMINI and item.sealed:
                    self._seal = item.sealed
                else:
                    self._asked.tell(f"{item.where} removed (another maker's thinking)")
            case Call():
                self._call(item, is_now=is_now)
            case Result():
                if item.call_id in self._results:
                    self._flush_results()
                    if item.call_id in self._results:  # of no call that is here
                        self._say("user", self._results_of(item.call_id))

    def _call(self, item: Call, *, is_now: bool) -> None:
        given: object = {"input": item.payload}
        if not item.is_custom:
            try:
                given = decode(item.payload.encode("utf-8", "surrogatepass"))
            except ValueError:
                given = item.payload
            if not is_object(given):
                given = {"input": given}
        name = self._names.flat(item.namespace, item.name, is_custom=item.is_custom)
        self._called[item.id] = name
        part: Written = {"functionCall": {"name": name, "args": given}}
        if self._call_seal is not None:
            part["thoughtSignature"], self._call_seal = self._call_seal, None
        elif self._seal is None and is_now and not self._open:
            # Of calls made at once, the first one has the signature; without it, it is refused.
            part["thoughtSignature"] = _UNSIGNED
        self._open.append(item.id)
        self._say("model", [part])

    def _flush_results(self) -> None:
        parts: list[Written] = []
        for call_id in self._open:
            parts += self._results_of(call_id)
        self._open.clear()
        self._say("user", parts)

    def _results_of(self, call_id: str) -> list[Written]:
        found: list[Written] = []
        for result in self._results.pop(call_id, ()):
            text = "".join(each.text for each in result.parts if _is_text(each))
            said = {"error" if result.is_error else "output": text}
            name = self._called.get(call_id, call_id)
            written: Written = {"name": name, "response": said}
            media = [self._part(each) for each in result.parts if not _is_text(each)]
            if media:
                written["parts"] = media
            found.append({"functionResponse": written})
        return found

    def _say(self, role: str, parts: list[Written]) -> None:
        if not parts:
            return
        if role == "model" and self._seal is not None:
            parts[0]["thoughtSignature"], self._seal = self._seal, None
        elif role == "user":
            self._seal = self._call_seal = None
        if self._written and self._written[-1]["role"] == role:
            self._written[-1]["parts"] += parts
        else:
            self._written.append({"role": role, "parts": parts})

    # -- parts ------------------------------------------------------------------------------------

    def _part(self, part: Part) -> Written:
        match part:
            case Text() | Refusal():
                return {"text": part.text}
            case Image():
                if part.url is None:
                    raise self._not_there(f"{part.where}.file_id")
                if part.detail not in (None, "auto"):
                    self._asked.tell(f"{part.where}.detail removed")
                return _data(part.url, "image/png")
            case File():
                if part.file_id is not None:
                    raise self._not_there(f"{part.where}.file_id")
                if part.data and inline_data(part.data) is None:
                    return {"inlineData": {"mimeType": "application/pdf", "data": part.data}}
                return _data(part.data or part.url or "", "application/pdf")
            case Audio():
                return {"inlineData": {"mimeType": f"audio/{part.format}", "data": part.data}}

    def _not_there(self, where: str) -> Exception:
        return cannot_carry(where, self._asked.via, "what was uploaded elsewhere is not there")


def _data(url: str, kind: str) -> Written:
    inline = inline_data(url)
    if inline is not None:
        media_type, data = inline
        return {"inlineData": {"mimeType": media_type, "data": data}}
    ending = url.partition("?")[0].rpartition(".")[2].lower()
    return {"fileData": {"mimeType": _KINDS.get(ending, kind), "fileUri": url}}


def _is_text(part: Part) -> TypeGuard[Text | Refusal]:
    return isinstance(part, Text | Refusal)


def _is_filled(part: Part) -> bool:
    return not isinstance(part, Text | Refusal) or bool(part.text)
