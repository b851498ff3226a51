"""What is asked, written as a request of `messages`."""

from __future__ import annotations

from typing import Any

import msgspec

from merino.translation.asked import Asked, Call, Format, Message, Result, Thought, Tool
from merino.translation.custom_tools import ONE_TEXT, described
from merino.translation.fields import write_settings
from merino.translation.messages.blocks_written import write_messages
from merino.translation.thinking import budget_for, effort_of
from merino.translation.tool_names import ToolNames, names_of
from merino.translation.values import (
    Members,
    decode,
    encode,
    is_list,
    is_object,
    list_of,
    members_of,
)
from merino.wire.fields import Fields
from merino.wire.seals import ANTHROPIC, REDACTED

SETTINGS = {
    "output_tokens_max": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "stop": "stop_sequences",
    "effort": "",
    "summary": "",
    "parallel_tool_calls": "",
    "extras": "",
    "user": "",
    "safety_identifier": "",
}
"""Fields by meaning; an empty name: part of another field, below."""
_TEMPERATURE_MAX = 1
_JSON = "Answer with one JSON object and nothing else."
_SEALED = "reasoning.encrypted_content"
_TRUE = msgspec.Raw(b"true")


def write_request(asked: Asked) -> tuple[Fields, ToolNames]:
    """The fields of the body, `model` as the caller named it, and the names of the tools in it.
    Raises `InvalidCall`."""
    names = names_of(asked)
    fields: Fields = {"model": _raw(asked.model), **asked.others}
    system, messages = write_messages(asked, names)
    fields["messages"] = _raw(messages)
    fields |= write_settings(asked, SETTINGS)
    limit = _limit(asked, fields)
    _sample(asked, fields)
    _stop(fields)
    _end_user(asked, fields)
    _extras(asked)
    if asked.tools:
        fields["tools"] = _raw([_tool(tool, names) for tool in asked.tools])
    _choose(asked, names, fields)
    _think(asked, fields, limit)
    form = asked.format
    if form is not None and form.kind == "json_schema":
        output = members_of(decode(fields.get("output_config", b"{}")))
        fields["output_config"] = _raw({**output, "format": _format(asked, form)})
        _keep_format(asked, fields)
    elif form is not None:
        system.append({"type": "text", "text": _JSON})
        asked.tell(f"response_format={form.kind} asked for in words")
    if system:
        fields["system"] = _raw(system)
    if asked.stream:
        fields["stream"] = _TRUE
    return fields, names


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(encode(value))


def _limit(asked: Asked, fields: Fields) -> int:
    """There is no answer without a limit: what is paid for."""
    said: object = decode(fields["max_tokens"]) if "max_tokens" in fields else None
    if isinstance(said, int):
        return said
    limit = max(1, asked.made.output_tokens)
    fields["max_tokens"] = _raw(limit)
    asked.tell(f"max_tokens={limit} (required)")
    return limit


def _sample(asked: Asked, fields: Fields) -> None:
    said: object = decode(fields["temperature"]) if "temperature" in fields else None
    if isinstance(said, int | float) and said > _TEMPERATURE_MAX:
        fields["temperature"] = _raw(_TEMPERATURE_MAX)
        asked.tell(f"temperature={_TEMPERATURE_MAX} (maximum)")
    for name in ("temperature", "top_p"):
        if name in fields:
            asked.dispensable[name] = name, None  # newer models take none


def _stop(fields: Fields) -> None:
    said: object = decode(fields["stop_sequences"]) if "stop_sequences" in fields else None
    if isinstance(said, str):
        fields["stop_sequences"] = _raw([said])


def _end_user(asked: Asked, fields: Fields) -> None:
    user = asked.settings.get("user") or asked.settings.get("safety_identifier")
    if user is not None:
        fields["metadata"] = _raw({"user_id": user})


def _extras(asked: Asked) -> None:
    """Sealed thinking is there anyway; nothing else of the kind is."""
    if "extras" in asked.settings:
        rest = [each for each in list_of(decode(asked.settings["extras"])) if each != _SEALED]
        if rest:
            asked.tell(f"{asked.wheres['extras'].partition('=')[0]}={','.join(rest)} removed")


def _tool(tool: Tool, names: ToolNames) -> Members:
    written: Members = {"name": names.flat(tool.namespace, tool.name, is_custom=tool.is_custom)}
    if tool.is_custom:
        written["description"] = described(tool)
        written["input_schema"] = ONE_TEXT
        return written
    if tool.description is not None:
        written["description"] = tool.description
    schema = members_of(tool.schema)
    written["input_schema"] = {"type": "object", **schema} if schema else {"type": "object"}
    if tool.strict:
        written["strict"] = True
    if tool.control is not None:
        written["cache_control"] = tool.control
    return written


def _choose(asked: Asked, names: ToolNames, fields: Fields) -> None:
    if not asked.tools:
        return
    choice = asked.choice
    written: Members | None = None
    if choice is not None:
        if choice.is_one:
            written = {"type": "tool", "name": names.flat(*choice.only[0])}
        elif choice.only:
            allowed = {names.flat(*each) for each in choice.only}
            tools = [each for each in list_of(decode(fields["tools"])) if each["name"] in allowed]
            fields["tools"] = _raw(tools)
            asked.tell("tools limited to tool_choice.tools")
        if written is None:
            modes = {"required": "any", "auto": "auto", "none": "none"}
            written = {"type": modes[choice.mode]}
    parallel = asked.settings.get("parallel_tool_calls")
    if parallel is not None and bytes(parallel) == b"false":
        written = written or {"type": "auto"}
        if written["type"] != "none":
            written["disable_parallel_tool_use"] = True
    if written is not None:
        fields["tool_choice"] = _raw(written)


# -- thinking -------------------------------------------------------------------------------------


def _think(asked: Asked, fields: Fields, limit: int) -> None:
    """How much to think, in the words of newer models; older ones get a budget instead, once they
    have refused those."""
    said: object = decode(asked.settings["effort"]) if "effort" in asked.settings else None
    if not isinstance(said, str):
        return
    if said == "none" or _lost_thinking(asked):
        fields["thinking"] = _raw({"type": "disabled"})
        if said != "none":
            asked.tell(f"{asked.wheres['effort']} removed (earlier thinking is missing)")
        return
    effort = effort_of(said)
    if effort != said:
        asked.tell(f"{asked.wheres['effort']}={effort}")
    fields["thinking"] = _raw({"type": "adaptive", "display": "summarized"})
    fields["output_config"] = _raw({"effort": effort})
    is_forced = asked.choice is not None and asked.choice.mode == "required"
    budget = 0 if is_forced else budget_for(said, limit)
    older = {"type": "enabled", "budget_tokens": budget} if budget else {"type": "disabled"}
    asked.dispensable["thinking"] = "adaptive", _raw(older)
    asked.dispensable["output_config"] = "effort", None
    for name in ("temperature", "top_p"):
        if fields.pop(name, None) is not None:
            asked.dispensable.pop(name, None)
            asked.tell(f"{name} removed (thinking)")


def _keep_format(asked: Asked, fields: Fields) -> None:
    if "output_config" in asked.dispensable:
        form = members_of(decode(fields["output_config"]))["format"]
        asked.dispensable["output_config"] = "effort", _raw({"format": form})


def _lost_thinking(asked: Asked) -> bool:
    """Whether tools were called in this turn by thinking that did not come back: then a model that
    is to think refuses the turn."""
    has_thought = has_called = False
    for item in asked.items:
        match item:
            case Message() if item.role == "user":
                has_thought = has_called = False
            case Thought() if item.maker in {ANTHROPIC, REDACTED} and item.sealed:
                has_thought = True
            case Call() if not has_thought:
                has_called = True
            case _:
                pass
    return has_called and any(isinstance(item, Result) for item in asked.items)


# -- formats --------------------------------------------------------------------------------------


def _format(asked: Asked, form: Format) -> Members:
    changed: list[str] = []
    schema = _closed(form.schema, changed)
    if changed:
        asked.tell("schema: additionalProperties=false")
    return {"type": "json_schema", "schema": schema}


def _closed(schema: Any, changed: list[str]) -> Any:
    """Objects must say that they have no other members."""
    if is_list(schema):
        return [_closed(each, changed) for each in schema]
    if not is_object(schema):
        return schema
    members = {name: _closed(each, changed) for name, each in schema.items()}
    if members.get("type") == "object" and members.get("additionalProperties") is not False:
        members["additionalProperties"] = False
        changed.append("object")
    return members
