"""What is asked, written as a request of `responses` that keeps nothing at the upstream."""

from __future__ import annotations

from typing import Any

import msgspec

from merino.translation.asked import Asked, Format, Tool
from merino.translation.fields import write_settings
from merino.translation.meanings import leave_out_marks
from merino.translation.responses.items_as_input import write_items
from merino.translation.tool_names import ToolNames
from merino.translation.values import Members, decode, encode
from merino.wire.fields import Fields
from merino.wire.responses import LIMIT_MIN, LIMIT_NAME

SETTINGS = {
    "output_tokens_max": "max_output_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "logprobs": "",
    "top_logprobs": "top_logprobs",
    "effort": "",
    "summary": "",
    "verbosity": "",
    "parallel_tool_calls": "parallel_tool_calls",
    "metadata": "metadata",
    "user": "user",
    "safety_identifier": "safety_identifier",
    "service_tier": "service_tier",
    "cache_key": "prompt_cache_key",
    "cache_options": "prompt_cache_options",
    "cache_retention": "prompt_cache_retention",
    "moderation": "moderation",
    "store": "",
}
"""Fields by meaning; an empty name: part of another field, below."""
_TRUE = msgspec.Raw(b"true")
_FALSE = msgspec.Raw(b"false")
_NO_THINKING = frozenset((b"null", b'"none"'))


def write_request(asked: Asked) -> tuple[Fields, ToolNames]:
    """The fields of the body, `model` as the caller named it. Raises `InvalidCall`."""
    fields: Fields = {"model": _raw(asked.model), **asked.others}
    leave_out_marks(asked)
    fields["input"] = _raw(write_items(asked))
    fields["store"] = _FALSE
    fields |= write_settings(asked, SETTINGS)
    _raise_limit(asked, fields)
    include = _include(asked)
    if include:
        fields["include"] = _raw(include)
    reasoning = {
        name: asked.settings[name] for name in ("effort", "summary") if name in asked.settings
    }
    if reasoning:
        fields["reasoning"] = _raw(reasoning)
    if "summary" in reasoning:
        # Clients of other dialects ask every model for its thinking; some have none to show.
        asked.dispensable["reasoning"] = "reasoning", None
        asked.dispensable["include"] = "encrypted", None
    text: Members = {} if asked.format is None else {"format": _format(asked.format)}
    if "verbosity" in asked.settings:
        text["verbosity"] = asked.settings["verbosity"]
    if text:
        fields["text"] = _raw(text)
    if asked.tools:
        fields["tools"] = _raw([_tool(tool) for tool in asked.tools])
        _choose(asked, fields)
    else:
        fields.pop("parallel_tool_calls", None)
    if asked.stream:
        fields["stream"] = _TRUE
    return fields, ToolNames()


def _raise_limit(asked: Asked, fields: Fields) -> None:
    limit: object = decode(fields[LIMIT_NAME]) if LIMIT_NAME in fields else None
    if isinstance(limit, int) and limit < LIMIT_MIN:
        fields[LIMIT_NAME] = _raw(LIMIT_MIN)
        asked.tell(f"{LIMIT_NAME}={LIMIT_MIN} (minimum)")


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(encode(value))


def _include(asked: Asked) -> list[str]:
    include: list[str] = []
    effort = asked.settings.get("effort")
    is_shown = effort is None and "summary" in asked.settings
    if is_shown or (effort is not None and bytes(effort) not in _NO_THINKING):
        # The caller may send it back with their tools' results.
        include.append("reasoning.encrypted_content")
    logprobs = asked.settings.get("logprobs")
    if logprobs is not None and bytes(logprobs) == b"true":
        include.append("message.output_text.logprobs")
    return include


def _tool(tool: Tool) -> Members:
    if tool.is_custom:
        written: Members = {"type": "custom", "name": tool.name}
        if tool.grammar is not None:
            written["format"] = tool.grammar
    else:
        # Without a word, `responses` is strict, and a chat is not.
        written = {
            "type": "function",
            "name": tool.name,
            "parameters": tool.schema or {"type": "object", "properties": {}},
            "strict": bool(tool.strict),
        }
    if tool.description is not None:
        written["description"] = tool.description
    return written


def _choose(asked: Asked, fields: Fields) -> None:
    choice = asked.choice
    if choice is None:
        return
    custom = {tool.name for tool in asked.tools if tool.is_custom}
    only: list[Any] = [
        {"type": "custom" if name in custom else "function", "name": name}
        for _, name in choice.only
    ]
    if not only:
        fields["tool_choice"] = _raw(choice.mode)
    elif choice.is_one:
        fields["tool_choice"] = _raw(only[0])
    else:
        fields["tool_choice"] = _raw({"type": "allowed_tools", "mode": choice.mode, "tools": only})


def _format(form: Format) -> Members:
    if form.kind != "json_schema":
        return {"type": form.kind}
    written: Members = {
        "type": form.kind,
        "name": form.name,
        "schema": form.schema,
        "strict": bool(form.strict),
    }
    if form.description is not None:
        written["description"] = form.description
    return written
