"""What is asked, written as a request of `chat/completions`."""

from __future__ import annotations

from typing import Any

import msgspec

from merino.translation.asked import Asked, Tool
from merino.translation.chat.messages_written import write_messages
from merino.translation.custom_tools import ONE_TEXT, described
from merino.translation.fields import write_settings
from merino.translation.meanings import leave_out_marks
from merino.translation.tool_names import ToolNames, names_of
from merino.translation.values import encode
from merino.wire.fields import Fields

SETTINGS = {
    "output_tokens_max": "max_completion_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "logprobs": "logprobs",
    "top_logprobs": "top_logprobs",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logit_bias": "logit_bias",
    "seed": "seed",
    "stop": "stop",
    "prediction": "prediction",
    "effort": "reasoning_effort",
    "verbosity": "verbosity",
    "parallel_tool_calls": "parallel_tool_calls",
    "metadata": "",
    "user": "user",
    "safety_identifier": "safety_identifier",
    "service_tier": "service_tier",
    "cache_key": "prompt_cache_key",
    "cache_options": "prompt_cache_options",
    "cache_retention": "prompt_cache_retention",
    "moderation": "moderation",
}
"""Fields by meaning; an empty name: the answer repeats it, the upstream need not know it."""
_TRUE = msgspec.Raw(b"true")
_EFFORT = "reasoning_effort"
_THINKING = "reasoning_content"


def write_request(asked: Asked) -> tuple[Fields, ToolNames]:
    """The fields of the body, `model` as the caller named it, and the names of the tools in it.
    Raises `InvalidCall`."""
    names = names_of(asked)
    leave_out_marks(asked)
    fields: Fields = {"model": _raw(asked.model), **asked.others}
    messages = write_messages(asked, names)
    fields["messages"] = _raw(messages)
    if any(_THINKING in message for message in messages):
        plain = [
            {name: value for name, value in message.items() if name != _THINKING}
            for message in messages
        ]
        asked.dispensable["messages"] = _THINKING, _raw(plain)
    fields |= write_settings(asked, SETTINGS)
    if _EFFORT in fields and asked.wheres["effort"] != _EFFORT:
        # Clients of other dialects ask every model to think; some cannot be asked.
        asked.dispensable[_EFFORT] = _EFFORT, None
    if "top_logprobs" in fields:
        fields.setdefault("logprobs", _TRUE)
    tools = _tools(asked, names)
    if tools:
        fields["tools"] = _raw(tools)
        _choose(asked, names, fields)
    else:
        fields.pop("parallel_tool_calls", None)  # refused where there are no tools
    if asked.format is not None:
        fields["response_format"] = _raw(_format(asked))
    if asked.stream:
        fields["stream"] = _TRUE
    return fields, names


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(encode(value))


def _tools(asked: Asked, names: ToolNames) -> list[dict[str, Any]]:
    tools = asked.tools
    choice = asked.choice
    if choice is not None and choice.only and not choice.is_one:
        # Few servers know a choice among several tools; all know a shorter list.
        allowed = set(choice.only)
        tools = [tool for tool in tools if (tool.namespace, tool.name) in allowed]
        if len(tools) < len(asked.tools):
            asked.tell("tools limited to tool_choice.tools")
    return [_tool(tool, names) for tool in tools]


def _tool(tool: Tool, names: ToolNames) -> dict[str, Any]:
    function: dict[str, Any] = {
        "name": names.flat(tool.namespace, tool.name, is_custom=tool.is_custom)
    }
    if tool.is_custom:
        function["description"] = described(tool)
        function["parameters"] = ONE_TEXT
        return {"type": "function", "function": function}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.schema is not None:
        function["parameters"] = tool.schema
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _choose(asked: Asked, names: ToolNames, fields: Fields) -> None:
    choice = asked.choice
    if choice is None:
        return
    if choice.is_one:
        name = names.flat(*choice.only[0])
        fields["tool_choice"] = _raw({"type": "function", "function": {"name": name}})
    else:
        fields["tool_choice"] = _raw(choice.mode)


def _format(asked: Asked) -> dict[str, Any]:
    form = asked.format
    assert form is not None
    if form.kind != "json_schema":
        return {"type": form.kind}
    said = {"description": form.description, "schema": form.schema, "strict": form.strict}
    schema = {"name": form.name} | {name: each for name, each in said.items() if each is not None}
    return {"type": form.kind, "json_schema": schema}
