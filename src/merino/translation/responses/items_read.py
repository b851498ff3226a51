"""Input items of `responses`, read into what is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from merino.domain.errors import InvalidCall
from merino.translation.asked import (
    Asked,
    Audio,
    Call,
    File,
    Image,
    Message,
    Part,
    Refusal,
    Result,
    Text,
    Thought,
)
from merino.translation.fields import invalid
from merino.translation.meanings import cannot_carry
from merino.translation.responses.tools_read import read_tools
from merino.translation.values import (
    Members,
    encode,
    is_list,
    is_object,
    list_of,
    members_of,
    shown_kind,
    text_of,
)
from merino.wire.seals import NOBODY, OPENAI, unlabelled

_ROLES = frozenset(("system", "developer", "user", "assistant"))


def read_items(asked: Asked, items: list[Any]) -> None:
    """Raises `InvalidCall` for an item that has no like in other families."""
    for index, item in enumerate(items):
        where = f"input[{index}]"
        if not is_object(item):
            raise invalid(where, "an object", shown_kind(item))
        members = members_of(item)
        kind = text_of(members.get("type"))
        if not kind:
            # Both may go without their type.
            kind = "item_reference" if "id" in members and "role" not in members else "message"
        read = ITEMS.get(kind)
        if read is None:
            raise cannot_carry(where, asked.via, f"it has no items of type '{kind}'")
        read(asked, members, where)


def _message(asked: Asked, item: Members, where: str) -> None:
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidCall(
            f"Invalid value for '{where}.role': {encode(role).decode()}. Supported values are:"
            " 'assistant', 'system', 'developer', and 'user'.",
            param=f"{where}.role",
            code="invalid_value",
        )
    content: object = item.get("content")
    parts, is_plain = _parts(asked, content, f"{where}.content")
    phase = item.get("phase")
    asked.items.append(
        Message(
            role,
            parts,
            phase=phase if isinstance(phase, str) else None,
            is_plain=is_plain,
            where=where,
        )
    )


def _parts(asked: Asked, content: object, where: str) -> tuple[list[Part], bool]:
    if isinstance(content, str):
        return [Text(content)], True
    if content is None:
        return [], True
    if not is_list(content):
        raise invalid(where, "a string or an array", shown_kind(content))
    found: list[Part] = []
    for index, part in enumerate(list_of(content)):
        if isinstance(part, str):
            found.append(Text(part))
            continue
        found.append(_part(asked, members_of(part), f"{where}[{index}]"))
    return found, False


def _part(asked: Asked, part: Members, where: str) -> Part:
    kind = text_of(part.get("type"))
    cache = part.get("prompt_cache_breakpoint")
    if kind in {"input_text", "output_text", "text", "summary_text", "reasoning_text"}:
        return Text(text_of(part.get("text")), cache)
    if kind == "refusal":
        return Refusal(text_of(part.get("refusal")))
    if kind == "input_image":
        url: object = part.get("image_url")
        if is_object(url):  # chat's form of it
            url = members_of(url).get("url")
        return Image(
            _text_or_none(url),
            _text_or_none(part.get("file_id")),
            _text_or_none(part.get("detail")),
            where,
            cache,
        )
    if kind == "input_file":
        return File(
            _text_or_none(part.get("file_id")),
            _text_or_none(part.get("file_data")),
            _text_or_none(part.get("file_url")),
            _text_or_none(part.get("filename")),
            where,
            cache,
        )
    if kind == "input_audio":
        sound = members_of(part.get("input_audio"))
        return Audio(text_of(sound.get("data")), text_of(sound.get("format")) or "wav", where)
    raise cannot_carry(f"{where}.type", asked.via, f"it has no content of type '{kind}'")


def _reasoning(asked: Asked, item: Members, where: str) -> None:
    texts = [text_of(members_of(part).get("text")) for part in list_of(item.get("content"))]
    summary = [text_of(members_of(part).get("text")) for part in list_of(item.get("summary"))]
    thought = Thought("".join(texts), tuple(summary), id=_text_or_none(item.get("id")), where=where)
    sealed = _text_or_none(item.get("encrypted_content"))
    if sealed is not None:
        thought.maker, thought.sealed, thought.id = unlabelled(sealed, OPENAI, thought.id)
        if thought.maker == NOBODY:
            thought.sealed = None
    asked.items.append(thought)


def _function_call(asked: Asked, item: Members, where: str) -> None:
    asked.items.append(
        Call(
            _needed(item, "call_id", where),
            _needed(item, "name", where),
            text_of(item.get("arguments")) or "{}",
            _text_or_none(item.get("namespace")),
        )
    )


def _custom_tool_call(asked: Asked, item: Members, where: str) -> None:
    asked.items.append(
        Call(
            _needed(item, "call_id", where),
            _needed(item, "name", where),
            text_of(item.get("input")),
            _text_or_none(item.get("namespace")),
            is_custom=True,
        )
    )


def _output(asked: Asked, item: Members, where: str) -> None:
    output: object = item.get("output")
    if is_object(output):  # what a tool returned, not yet written as text
        output = text_of(output)
    parts, _ = _parts(asked, output, f"{where}.output")
    is_custom = item.get("type") == "custom_tool_call_output"
    asked.items.append(Result(_needed(item, "call_id", where), parts, is_custom, where))


def _needed(item: Members, name: str, where: str) -> str:
    value = item.get(name)
    if isinstance(value, str) and value:
        return value
    raise InvalidCall(
        f"Missing required parameter: '{where}.{name}'.",
        param=f"{where}.{name}",
        code="missing_required_parameter",
    )


def _reference(asked: Asked, _item: Members, where: str) -> None:
    raise cannot_carry(
        where,
        asked.via,
        "the item it refers to is kept nowhere; send the item itself (clients do that when they are"
        " told to store nothing)",
    )


def _additional_tools(asked: Asked, item: Members, where: str) -> None:
    asked.tools += read_tools(asked, list_of(item.get("tools")), f"{where}.tools")


def _no_effect(asked: Asked, _item: Members, where: str) -> None:
    asked.tell(f"{where} removed")


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


ITEMS: dict[str, Callable[[Asked, Members, str], None]] = {
    "message": _message,
    "reasoning": _reasoning,
    "function_call": _function_call,
    "function_call_output": _output,
    "custom_tool_call": _custom_tool_call,
    "custom_tool_call_output": _output,
    "additional_tools": _additional_tools,
    "configuration_update": _no_effect,
    "item_reference": _reference,
}
"""All others are of tools that the upstream runs, or of its state: refused."""
