"""Messages of `chat/completions`, read into items."""

from __future__ import annotations

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
    Role,
    Text,
    Thought,
)
from merino.translation.chat.answer_written import FORMAT_OF
from merino.translation.fields import invalid
from merino.translation.meanings import cannot_carry
from merino.translation.values import (
    Members,
    is_list,
    is_object,
    list_of,
    members_of,
    shown_kind,
    text_of,
)
from merino.wire.seals import ANTHROPIC, GEMINI, OPENAI, REDACTED

_SPEAKERS = frozenset(("system", "developer", "user"))


def read_messages(asked: Asked, messages: list[Any]) -> None:
    """Raises `InvalidCall` for content that has no like in other families."""
    custom: set[str] = set()
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not is_object(message):
            raise invalid(where, "an object", shown_kind(message))
        members = members_of(message)
        role = text_of(members.get("role"))
        if role in _SPEAKERS:
            asked.items.append(_message(asked, role, members, where))
        elif role == "assistant":
            _assistant(asked, members, where, custom)
        elif role in {"tool", "function"}:
            _result(asked, members, where, custom)
        else:
            raise InvalidCall(
                f"Invalid value for '{where}.role': '{role}'. Supported values are:"
                " 'system', 'developer', 'user', 'assistant', 'tool' and 'function'.",
                param=f"{where}.role",
                code="invalid_value",
            )


def _message(asked: Asked, role: Role, members: Members, where: str) -> Message:
    parts, is_plain = _parts(asked, members.get("content"), f"{where}.content")
    name = members.get("name")
    return Message(role, parts, text_of(name) or None, is_plain=is_plain, where=where)


def _assistant(asked: Asked, members: Members, where: str, custom: set[str]) -> None:
    details = map(members_of, list_of(members.get("reasoning_details")))
    thoughts = [each for each in map(_sealed, details) if each is not None]
    for each in thoughts:
        each.where = f"{where}.reasoning_details"
    asked.items += thoughts
    thought = text_of(members.get("reasoning_content") or members.get("reasoning"))
    if thought and not any(each.text for each in thoughts):
        asked.items.append(Thought(thought, where=f"{where}.reasoning_content"))
    message = _message(asked, "assistant", members, where)
    if members.get("refusal"):
        message.parts.append(Refusal(text_of(members["refusal"])))
    if members.get("audio"):
        raise cannot_carry(f"{where}.audio", asked.via, "it keeps no spoken answers")
    if any(part.text for part in message.parts if isinstance(part, Text | Refusal)):
        asked.items.append(message)
    for number, call in enumerate(map(members_of, list_of(members.get("tool_calls")))):
        call_id = text_of(call.get("id")) or f"call_{where}_{number}"
        inner = members_of(call.get("custom"))
        if inner:
            custom.add(call_id)
            name, payload = text_of(inner.get("name")), text_of(inner.get("input"))
            asked.items.append(Call(call_id, name, payload, is_custom=True))
        else:
            inner = members_of(call.get("function"))
            arguments = text_of(inner.get("arguments")) or "{}"
            asked.items.append(Call(call_id, text_of(inner.get("name")), arguments))
    old = members_of(members.get("function_call"))
    if old:
        name = text_of(old.get("name"))
        asked.items.append(Call(f"call_{name}", name, text_of(old.get("arguments")) or "{}"))


def _sealed(detail: Members) -> Thought | None:
    """Sealed thinking with its maker."""
    sealed, kind = detail.get("data"), detail.get("format")
    item_id = detail.get("id")
    if kind == FORMAT_OF[OPENAI] and isinstance(sealed, str):
        return Thought(sealed=sealed, id=item_id if isinstance(item_id, str) else None)
    if kind == FORMAT_OF[GEMINI] and isinstance(sealed, str):
        its = item_id if isinstance(item_id, str) else None
        return Thought(sealed=sealed, maker=GEMINI, id=its)
    if kind != FORMAT_OF[ANTHROPIC]:
        return None
    signature = detail.get("signature")
    if isinstance(signature, str) and signature:
        return Thought(text_of(detail.get("text")), sealed=signature, maker=ANTHROPIC)
    return Thought(sealed=sealed, maker=REDACTED) if isinstance(sealed, str) else None


def _result(asked: Asked, members: Members, where: str, custom: set[str]) -> None:
    call_id = text_of(members.get("tool_call_id"))
    if not call_id and members.get("role") == "function":
        call_id = f"call_{text_of(members.get('name'))}"
    if not call_id:
        raise InvalidCall(
            f"Missing required parameter: '{where}.tool_call_id'.",
            param=f"{where}.tool_call_id",
            code="missing_required_parameter",
        )
    parts, _ = _parts(asked, members.get("content"), f"{where}.content")
    asked.items.append(Result(call_id, parts, call_id in custom, where))


def _parts(asked: Asked, content: object, where: str) -> tuple[list[Part], bool]:
    if content is None:
        return [], True
    if not is_list(content):
        return [Text(text_of(content))], True
    found: list[Part] = []
    for index, part in enumerate(list_of(content)):
        place = f"{where}[{index}]"
        if isinstance(part, str):
            found.append(Text(part))
        else:
            found.append(_part(asked, members_of(part), place))
    return found, False


def _part(asked: Asked, part: Members, where: str) -> Part:
    kind = text_of(part.get("type"))
    cache = part.get("prompt_cache_breakpoint")
    control = part.get("cache_control")
    if kind == "text":
        return Text(text_of(part.get("text")), cache, control)
    if kind == "refusal":
        return Refusal(text_of(part.get("refusal")))
    if kind == "image_url":
        image: object = part.get("image_url")
        inner = members_of(image)
        url = image if isinstance(image, str) else text_of(inner.get("url"))
        return Image(url, None, text_of(inner.get("detail")) or None, where, cache, control)
    if kind == "file":
        inner = members_of(part.get("file"))
        return File(
            text_of(inner.get("file_id")) or None,
            text_of(inner.get("file_data")) or None,
            None,
            text_of(inner.get("filename")) or None,
            where,
            cache,
            control,
        )
    if kind == "input_audio":
        sound = members_of(part.get("input_audio"))
        return Audio(text_of(sound.get("data")), text_of(sound.get("format")), where)
    raise cannot_carry(f"{where}.type", asked.via, f"it has no content of type '{kind}'")
