"""Messages of `messages`, read into items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from merino.domain.errors import InvalidCall
from merino.translation.asked import (
    Asked,
    Call,
    File,
    Image,
    Message,
    Part,
    Result,
    Role,
    Text,
    Thought,
)
from merino.translation.fields import invalid
from merino.translation.meanings import cannot_carry
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
from merino.wire.seals import ANTHROPIC, NOBODY, REDACTED, unlabelled

_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}
_ATTRIBUTION = "x-anthropic-billing-header:"
"""How the block begins by which Claude Code tells Anthropic who asks. It is no part of the prompt,
and since it changes, other vendors' caches would never find a prompt again."""
_OF_SERVER_TOOLS = frozenset(
    (
        "advisor_tool_result", "bash_code_execution_tool_result", "code_execution_tool_result",
        "container_upload", "mcp_tool_result", "mcp_tool_use", "server_tool_use",
        "text_editor_code_execution_tool_result", "tool_search_tool_result",
        "web_fetch_tool_result", "web_search_tool_result",
    )
)  # fmt: skip
"""What is left in a conversation of tools that its vendor ran: the answer's text says what came of
them."""


def read_system(asked: Asked, value: object, name: str) -> Message | None:
    """The instructions, which stand beside the messages."""
    if value is None:
        return None
    if isinstance(value, str):
        return Message("system", [Text(value)], is_plain=True, where=name) if value else None
    if not is_list(value):
        raise invalid(name, "a string or an array", shown_kind(value))
    parts: list[Part] = []
    for index, each in enumerate(list_of(value)):
        members, where = members_of(each), f"{name}[{index}]"
        text = text_of(members.get("text"))
        if text.startswith(_ATTRIBUTION):
            asked.tell(f"{where} removed (attribution)")
        elif text:
            parts.append(Text(text, control=members.get("cache_control")))
    return Message("system", parts, where=name) if parts else None


def read_messages(asked: Asked, messages: list[Any]) -> None:
    """Raises `InvalidCall` for content that has no like in other families."""
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not is_object(message):
            raise invalid(where, "an object", shown_kind(message))
        members = members_of(message)
        role = _ROLES.get(text_of(members.get("role")))
        if role is None:
            raise InvalidCall(
                f"Invalid value for '{where}.role': {encode(members.get('role')).decode()}."
                " Supported values are: 'user', 'assistant' and 'system'.",
                param=f"{where}.role",
                code="invalid_value",
            )
        content: object = members.get("content")
        if isinstance(content, str):
            if content:
                asked.items.append(Message(role, [Text(content)], is_plain=True, where=where))
        elif is_list(content):
            _Blocks(asked, role, where).read(list_of(content))
        else:
            raise invalid(f"{where}.content", "a string or an array", shown_kind(content))


class _Blocks:
    """The blocks of one message. Neighbouring texts and media are one message of other families."""

    def __init__(self, asked: Asked, role: Role, where: str) -> None:
        self._asked = asked
        self._role: Role = role
        self._where = where
        self._parts: list[Part] = []

    def read(self, blocks: list[Any]) -> None:
        for index, block in enumerate(blocks):
            where = f"{self._where}.content[{index}]"
            members = members_of(
                {"type": "text", "text": block} if isinstance(block, str) else block
            )
            kind = text_of(members.get("type"))
            read = _READ.get(kind)
            if read is not None:
                self._end_message()
                read(self._asked, members, where)
            elif kind in _OF_SERVER_TOOLS:
                self._asked.tell(f"{where} removed ({kind})")
            else:
                self._parts += parts_of(self._asked, members, where)
        self._end_message()

    def _end_message(self) -> None:
        parts, self._parts = self._parts, []
        if parts:
            self._asked.items.append(Message(self._role, parts, where=self._where))


def parts_of(asked: Asked, block: Members, where: str) -> list[Part]:
    """A block of text or media. Raises `InvalidCall` for any other."""
    kind, control = text_of(block.get("type")), block.get("cache_control")
    if kind == "text":
        if block.get("citations"):
            asked.tell(f"{where}.citations removed")
        text = text_of(block.get("text"))
        return [Text(text, control=control)] if text else []
    if kind == "image":
        return [_image(asked, block, where, control)]
    if kind == "document":
        return _document(asked, block, where, control)
    if kind == "search_result":
        found = [text_of(members_of(each).get("text")) for each in list_of(block.get("content"))]
        head = f"{text_of(block.get('title'))} ({text_of(block.get('source'))})"
        return [Text("\n".join((head, *found)), control=control)]
    if kind == "compaction":
        return [Text(text_of(block.get("content")), control=control)]
    raise cannot_carry(f"{where}.type", asked.via, f"it has no content of type '{kind}'")


def _image(asked: Asked, block: Members, where: str, control: object) -> Image:
    source = members_of(block.get("source"))
    kind = text_of(source.get("type"))
    if kind == "url":
        return Image(text_of(source.get("url")), where=where, control=control)
    if kind == "base64":
        media = text_of(source.get("media_type")) or "image/png"
        url = f"data:{media};base64,{text_of(source.get('data'))}"
        return Image(url, where=where, control=control)
    raise _no_source(asked, kind, where)


def _document(asked: Asked, block: Members, where: str, control: object) -> list[Part]:
    source = members_of(block.get("source"))
    kind = text_of(source.get("type"))
    title = text_of(block.get("title"))
    if members_of(block.get("citations")).get("enabled"):
        asked.tell(f"{where}.citations removed")
    before: list[Part] = []
    if context := text_of(block.get("context")):
        before.append(Text(context))
    if kind == "text":
        text = text_of(source.get("data"))
        return [*before, Text(f"{title}\n{text}" if title else text, control=control)]
    if kind == "content":
        inner: object = source.get("content")
        if isinstance(inner, str):
            return [*before, Text(inner, control=control)]
        for number, each in enumerate(list_of(inner)):
            before += parts_of(asked, members_of(each), f"{where}.source.content[{number}]")
        return before
    name = title or "document.pdf"
    if kind == "base64":
        media = text_of(source.get("media_type")) or "application/pdf"
        data = f"data:{media};base64,{text_of(source.get('data'))}"
        return [*before, File(data=data, name=name, where=where, control=control)]
    if kind == "url":
        return [*before, File(url=text_of(source.get("url")), where=where, control=control)]
    raise _no_source(asked, kind, where)


def _no_source(asked: Asked, kind: str, where: str) -> InvalidCall:
    why = "what was uploaded to another vendor is not there"
    return cannot_carry(f"{where}.source.type", asked.via, why if kind == "file" else f"'{kind}'")


def _thinking(asked: Asked, block: Members, where: str) -> None:
    seal = unlabelled(text_of(block.get("signature")), ANTHROPIC)
    text = text_of(block.get("thinking"))
    thought = Thought(text, sealed=seal.sealed or None, id=seal.item_id, where=where)
    thought.maker = seal.maker
    if seal.maker == NOBODY:
        thought.sealed = None
    if text or thought.sealed:
        asked.items.append(thought)


def _redacted(asked: Asked, block: Members, where: str) -> None:
    data = text_of(block.get("data"))
    asked.items.append(Thought(sealed=data, maker=REDACTED, where=where))


def _tool_use(asked: Asked, block: Members, where: str) -> None:
    given: object = block.get("input")
    payload = "{}" if given is None else encode(given).decode()
    call = Call(_needed(block, "id", where), _needed(block, "name", where), payload)
    call.control = block.get("cache_control")
    asked.items.append(call)


def _tool_result(asked: Asked, block: Members, where: str) -> None:
    content: object = block.get("content")
    parts: list[Part] = []
    if isinstance(content, str):
        parts.append(Text(content))
    for index, each in enumerate(list_of(content)):
        inner = members_of(each)
        place = f"{where}.content[{index}]"
        if inner.get("type") == "tool_reference":
            asked.tell(f"{place} removed (tool_reference)")
        else:
            parts += parts_of(asked, inner, place)
    asked.items.append(
        Result(
            _needed(block, "tool_use_id", where),
            parts,
            where=where,
            is_error=block.get("is_error") is True,
            control=block.get("cache_control"),
        )
    )


def _needed(block: Members, name: str, where: str) -> str:
    value = block.get(name)
    if isinstance(value, str) and value:
        return value
    raise InvalidCall(
        f"Missing required parameter: '{where}.{name}'.",
        param=f"{where}.{name}",
        code="missing_required_parameter",
    )


_READ: dict[str, Callable[[Asked, Members, str], None]] = {
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
}
"""Blocks that are items of their own."""
