"""A request of `messages`, read into what is asked."""

from __future__ import annotations

from hashlib import sha256

import msgspec

from merino.domain.errors import InvalidCall
from merino.translation.asked import Asked, Choice, Format, Tool
from merino.translation.fields import Field, invalid, read_fields, set_setting, tell_others
from merino.translation.meanings import cannot_carry
from merino.translation.messages.blocks_read import read_messages, read_system
from merino.translation.thinking import effort_for
from merino.translation.values import (
    Members,
    decode,
    is_list,
    is_object,
    list_of,
    members_of,
    shown_kind,
    text_of,
)
from merino.wire.fields import Fields
from merino.wire.fields import text_of as text_field

_USER_LENGTH_MAX = 64
"""What other vendors take; Claude Code sends more."""


def read_request(fields: Fields, via: str) -> Asked:
    """Raises `InvalidCall`."""
    asked = Asked(via, fields=fields)
    read_fields(asked, FIELDS)
    return asked


def _model(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    asked.model = text_field(name, raw) or ""


def _messages(asked: Asked, _name: str, raw: msgspec.Raw) -> None:
    read_messages(asked, list_of(decode(raw)))


def _system(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    found = read_system(asked, decode(raw), name)
    if found is not None:
        asked.items.insert(0, found)


def _stream(asked: Asked, _name: str, raw: msgspec.Raw) -> None:
    asked.stream = bytes(raw) == b"true"


def _tools(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    value: object = decode(raw)
    if value is not None and not is_list(value):
        raise invalid(name, "an array", shown_kind(value))
    for index, each in enumerate(list_of(value)):
        where = f"{name}[{index}]"
        tool = members_of(each)
        kind = text_of(tool.get("type"))
        if kind not in {"", "custom"} or "input_schema" not in tool:
            raise cannot_carry(
                f"{where}.type", asked.via, f"it knows no tool of type '{kind or 'custom'}'"
            )
        strict = tool.get("strict")
        asked.tools.append(
            Tool(
                text_of(tool.get("name")),
                tool.get("description"),
                tool.get("input_schema"),
                strict if isinstance(strict, bool) else None,
                where=where,
                control=tool.get("cache_control"),
            )
        )
        for member in sorted(tool.keys() - _OF_TOOLS):
            if tool[member] not in (None, False, ["direct"]):
                asked.tell(f"{where}.{member} removed")


_OF_TOOLS = frozenset(("type", "name", "description", "input_schema", "strict", "cache_control"))


def _tool_choice(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    members = _object(name, raw)
    kind = text_of(members.get("type"))
    if kind == "tool":
        asked.choice = Choice("required", ((None, text_of(members.get("name"))),), is_one=True)
    elif kind in {"auto", "any", "none"}:
        asked.choice = Choice("required" if kind == "any" else kind)  # pyright: ignore[reportArgumentType]
    elif kind:
        raise InvalidCall(
            f"Invalid value for '{name}.type'. Supported values are: 'auto', 'any', 'tool' and"
            " 'none'.",
            param=f"{name}.type",
            code="invalid_value",
        )
    if members.get("disable_parallel_tool_use") is True:
        set_setting(asked, "parallel_tool_calls", f"{name}.disable_parallel_tool_use", value=False)


def _thinking(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    """A budget becomes an effort; an effort that is said counts first."""
    members = _object(name, raw)
    kind, budget = text_of(members.get("type")), members.get("budget_tokens")
    if members.get("display") != "omitted" and kind != "disabled":
        set_setting(asked, "summary", f"{name}.display", "auto")
    if "effort" in asked.settings:
        return
    if kind == "disabled":
        set_setting(asked, "effort", f"{name}.type", "none")
    elif kind == "enabled" and isinstance(budget, int):
        effort = effort_for(budget)
        set_setting(asked, "effort", f"{name}.budget_tokens", effort)
        asked.tell(f"{name}.budget_tokens->effort={effort}")
    elif kind == "between_tools":
        asked.tell(f"{name}.type=between_tools removed")


def _output_config(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    members = _object(name, raw)
    if members.get("effort") is not None:
        asked.settings.pop("effort", None)
        set_setting(asked, "effort", f"{name}.effort", members["effort"])
        asked.told[:] = [each for each in asked.told if "budget_tokens->" not in each]
    form = members_of(members.get("format"))
    kind = text_of(form.get("type"))
    if kind == "json_schema":
        asked.format = Format(kind, "answer", None, form.get("schema"), strict=True)
    elif kind:
        raise cannot_carry(f"{name}.format.type", asked.via, f"it has no format '{kind}'")
    tell_others(asked, members, name, ("effort", "format"))


def _metadata(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    members = _object(name, raw)
    user = members.get("user_id")
    if isinstance(user, str) and user:
        if len(user) > _USER_LENGTH_MAX:
            user = sha256(user.encode("utf-8", "surrogatepass")).hexdigest()
            asked.tell(f"{name}.user_id hashed")
        set_setting(asked, "user", f"{name}.user_id", user)
    tell_others(asked, members, name, ("user_id",))


def _service_tier(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    """Both values name the standard price, or what a contract has."""
    if bytes(raw) not in (b'"auto"', b'"standard_only"', b"null"):
        set_setting(asked, "service_tier", name, raw)


def _object(name: str, raw: msgspec.Raw) -> Members:
    value: object = decode(raw)
    if value is not None and not is_object(value):
        raise invalid(name, "an object", shown_kind(value))
    return members_of(value)


FIELDS = {
    "model": Field(read=_model, note="the deployment's own name for it"),
    "messages": Field(read=_messages, note="messages, calls, results and thinking, block by block"),
    "system": Field(read=_system, note="the first system message"),
    "tools": Field(read=_tools, note="functions; tools that the vendor runs are refused"),
    "tool_choice": Field(read=_tool_choice, note="the same choice; one call at a time"),
    "stream": Field(read=_stream, note="a stream"),
    "thinking": Field(read=_thinking, note="the effort, unless `output_config.effort` says it"),
    "output_config": Field(read=_output_config, note="effort and format"),
    "metadata": Field(read=_metadata, note="`user_id` as the end user; beyond 64 letters its hash"),
    "service_tier": Field(read=_service_tier, note="not sent: the standard price"),
    "max_tokens": Field("output_tokens_max"),
    "temperature": Field("temperature"),
    "top_p": Field("top_p"),
    "top_k": Field("top_k"),
    "stop_sequences": Field("stop"),
    "cache_control": Field("cache_everywhere"),
    "speed": Field("speed"),
    "inference_geo": Field("place"),
    "container": Field("container"),
    "mcp_servers": Field("mcp_servers"),
    "thread": Field("conversation"),
    "context_management": Field("compaction"),
    "compaction": Field("compaction"),
    "fallbacks": Field("fallbacks"),
    "fallback_credit_token": Field("credit_token"),
    "billing_policy": Field("billing_policy"),
    "diagnostics": Field("diagnostics"),
}
