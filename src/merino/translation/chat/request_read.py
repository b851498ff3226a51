"""A request of `chat/completions`, read into what is asked."""

from __future__ import annotations

from typing import Any

import msgspec

from merino.domain.errors import InvalidCall
from merino.translation.asked import Asked, Choice, Format, Tool
from merino.translation.chat.messages_read import read_messages
from merino.translation.fields import Field, invalid, read_fields, set_setting
from merino.translation.meanings import cannot_carry
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


def read_request(fields: Fields, via: str) -> Asked:
    """Raises `InvalidCall`."""
    asked = Asked(via, fields=fields)
    read_fields(asked, FIELDS)
    return asked


def _model(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    asked.model = text_field(name, raw) or ""


def _messages(asked: Asked, _name: str, raw: msgspec.Raw) -> None:
    read_messages(asked, list_of(decode(raw)))


def _limit(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    """Of two limits the newer name counts, as at OpenAI."""
    if name == "max_completion_tokens" or "output_tokens_max" not in asked.settings:
        set_setting(asked, "output_tokens_max", name, raw)


def _tools(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    value: object = decode(raw)
    if value is not None and not is_list(value):
        raise invalid(name, "an array", shown_kind(value))
    for index, each in enumerate(list_of(value)):
        where = f"{name}[{index}]"
        tool = members_of(each)
        kind = tool.get("type") or "function"
        if kind == "function":
            asked.tools.append(_function(members_of(tool.get("function")), where))
        elif kind == "custom":
            custom = members_of(tool.get("custom"))
            grammar = members_of(custom.get("format"))
            inner = members_of(grammar.get("grammar"))
            flat = {**inner, "type": "grammar"} if inner else grammar
            asked.tools.append(
                Tool(
                    text_of(custom.get("name")),
                    custom.get("description"),
                    is_custom=True,
                    grammar=flat or None,
                    where=where,
                )
            )
        else:
            raise cannot_carry(
                f"{where}.type", asked.via, f"it has no tool of type '{text_of(kind)}'"
            )


def _function(function: Members, where: str) -> Tool:
    strict = function.get("strict")
    return Tool(
        text_of(function.get("name")),
        function.get("description"),
        function.get("parameters"),
        strict if isinstance(strict, bool) else None,
        where=where,
    )


def _functions(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    """The old form of tools."""
    for index, each in enumerate(list_of(decode(raw))):
        asked.tools.append(_function(members_of(each), f"{name}[{index}]"))


def _function_call(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    value: object = decode(raw)
    if is_object(value):
        only = text_of(members_of(value).get("name"))
        asked.choice = Choice("required", ((None, only),), is_one=True)
    elif value is not None:
        asked.choice = Choice(_mode(name, value))


def _tool_choice(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    value: object = decode(raw)
    if value is None:
        return
    if not is_object(value):
        asked.choice = Choice(_mode(name, value))
        return
    members = members_of(value)
    if members.get("type") == "allowed_tools":
        allowed = members_of(members.get("allowed_tools"))
        only = [
            _named(members_of(each), f"{name}.allowed_tools")
            for each in list_of(allowed.get("tools"))
        ]
        is_must = allowed.get("mode") == "required"
        asked.choice = Choice("required" if is_must else "auto", tuple(only))
    else:
        asked.choice = Choice("required", (_named(members, name),), is_one=True)


def _mode(name: str, value: object) -> Any:
    if isinstance(value, str) and value in {"none", "auto", "required"}:
        return value
    raise InvalidCall(
        f"Invalid value for '{name}'. Supported values are: 'none', 'auto', 'required', or an"
        " object that names a tool.",
        param=name,
        code="invalid_value",
    )


def _named(members: Members, where: str) -> tuple[str | None, str]:
    inner = members_of(members.get("function") or members.get("custom")) or members
    found = text_of(inner.get("name"))
    if found:
        return None, found
    raise InvalidCall(
        f"Missing required parameter: '{where}.function.name'.",
        param=f"{where}.function.name",
        code="missing_required_parameter",
    )


def _format(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    members = members_of(decode(raw))
    kind = text_of(members.get("type"))
    if kind == "json_schema":
        form = members_of(members.get("json_schema"))
        asked.format = Format(
            kind,
            text_of(form.get("name")) or "answer",
            form.get("description"),
            form.get("schema"),
            form.get("strict"),
        )
    elif kind == "json_object":
        asked.format = Format(kind)
    elif kind not in {"text", ""}:
        raise cannot_carry(f"{name}.type", asked.via, f"it has no format '{kind}'")


def _stream(asked: Asked, _name: str, raw: msgspec.Raw) -> None:
    asked.stream = bytes(raw) == b"true"


def _stream_options(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    for member, value in members_of(decode(raw)).items():
        if member == "include_obfuscation":
            set_setting(asked, "obfuscation", f"{name}.{member}", value)
        elif member != "include_usage" and value is not None:
            asked.tell(f"{name}.{member} removed")


FIELDS = {
    "model": Field(read=_model, note="the deployment's own name for it"),
    "messages": Field(read=_messages, note="items, message by message"),
    "tools": Field(read=_tools, note="the same tools"),
    "tool_choice": Field(read=_tool_choice, note="the same choice among the tools"),
    "functions": Field(read=_functions, note="tools"),
    "function_call": Field(read=_function_call, note="the choice among the tools"),
    "parallel_tool_calls": Field("parallel_tool_calls"),
    "response_format": Field(read=_format, note="the format of the text"),
    "stream": Field(read=_stream, note="a stream"),
    "stream_options": Field(read=_stream_options, note="`include_usage`, `include_obfuscation`"),
    "max_completion_tokens": Field(read=_limit, note="the output limit"),
    "max_tokens": Field(read=_limit, note="the output limit, if there is no other"),
    "temperature": Field("temperature"),
    "top_p": Field("top_p"),
    "n": Field("n"),
    "stop": Field("stop"),
    "seed": Field("seed"),
    "logprobs": Field("logprobs"),
    "top_logprobs": Field("top_logprobs"),
    "frequency_penalty": Field("frequency_penalty"),
    "presence_penalty": Field("presence_penalty"),
    "logit_bias": Field("logit_bias"),
    "prediction": Field("prediction"),
    "reasoning_effort": Field("effort"),
    "verbosity": Field("verbosity"),
    "metadata": Field("metadata"),
    "user": Field("user"),
    "safety_identifier": Field("safety_identifier"),
    "service_tier": Field("service_tier"),
    "prompt_cache_key": Field("cache_key"),
    "prompt_cache_options": Field("cache_options"),
    "prompt_cache_retention": Field("cache_retention"),
    "moderation": Field("moderation"),
    "store": Field("store"),
    "modalities": Field("modalities"),
    "audio": Field("voice"),
    "web_search_options": Field("hosted_search"),
}
