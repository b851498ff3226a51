"""A request of `responses`, read into what is asked."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from merino.domain.errors import InvalidCall
from merino.translation.asked import Asked, Choice, Format, Message, Text
from merino.translation.fields import Field, invalid, read_fields, set_setting, tell_others
from merino.translation.meanings import cannot_carry
from merino.translation.responses.items_read import read_items
from merino.translation.responses.tools_read import read_tools
from merino.translation.values import (
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

_NULL = b"null"
_INSTEAD = ("previous_response_id", "conversation", "prompt")
"""What may stand for an input, and is refused by its own name where it cannot be carried."""


def read_request(fields: Fields, via: str) -> Asked:
    """Raises `InvalidCall`."""
    asked = Asked(via, fields=fields)
    read_fields(asked, FIELDS)
    if not asked.items and not any(bytes(fields.get(name, _NULL)) != _NULL for name in _INSTEAD):
        raise InvalidCall(
            "One of 'input', 'previous_response_id', 'prompt' and 'conversation' must be given.",
            param="input",
            code="missing_required_parameter",
        )
    return asked


def _model(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    asked.model = text_field(name, raw) or ""


def _input(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    value: object = decode(raw)
    if isinstance(value, str):
        asked.items.append(Message("user", [Text(value)], is_plain=True, where=name))
    elif is_list(value):
        read_items(asked, value)
    elif value is not None:
        raise invalid(name, "a string or an array", shown_kind(value))


def _instructions(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    text = text_field(name, raw)
    if text:
        asked.items.insert(0, Message("system", [Text(text)], is_plain=True, where=name))


def _tools(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    value: object = decode(raw)
    if value is not None and not is_list(value):
        raise invalid(name, "an array", shown_kind(value))
    asked.tools += read_tools(asked, list_of(value), name)


_CHOSEN = frozenset(("function", "custom"))


def _tool_choice(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    value: object = decode(raw)
    if value is None:
        return
    if isinstance(value, str):
        if value not in {"none", "auto", "required"}:
            raise InvalidCall(
                f"Invalid value for '{name}': '{value}'. Supported values are: 'none', 'auto',"
                " 'required', or an object that names a tool.",
                param=name,
                code="invalid_value",
            )
        asked.choice = Choice(cast("Any", value))
        return
    if not is_object(value):
        raise invalid(name, "a string or an object", shown_kind(value))
    members = members_of(value)
    kind = text_of(members.get("type"))
    if kind == "allowed_tools":
        only: list[tuple[str | None, str]] = []
        for index, each in enumerate(list_of(members.get("tools"))):
            only += _named(asked, members_of(each), f"{name}.tools[{index}]")
        is_must = members.get("mode") == "required"
        asked.choice = Choice("required" if is_must else "auto", tuple(only))
    else:
        asked.choice = Choice("required", tuple(_named(asked, members, name)), is_one=True)


def _named(asked: Asked, members: dict[str, object], where: str) -> list[tuple[str | None, str]]:
    kind = text_of(members.get("type"))
    if kind not in _CHOSEN:
        raise cannot_carry(where, asked.via, f"it runs no tool of type '{kind}'")
    namespace = members.get("namespace")
    return [(namespace if isinstance(namespace, str) else None, text_of(members.get("name")))]


def _text(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    members = _object(name, raw)
    set_setting(asked, "verbosity", f"{name}.verbosity", members.get("verbosity"))
    form = members_of(members.get("format"))
    kind = text_of(form.get("type"))
    if kind == "json_schema":
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
        raise cannot_carry(f"{name}.format.type", asked.via, f"it has no format '{kind}'")
    tell_others(asked, members, name, ("verbosity", "format"))


def _reasoning(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    members = _object(name, raw)
    summary = members.get("summary") or members.get("generate_summary")
    for member, meaning, value in (
        ("effort", "effort", members.get("effort")),
        ("summary", "summary", summary),
        ("context", "thinking_context", members.get("context")),
        ("mode", "thinking_mode", members.get("mode")),
    ):
        set_setting(asked, meaning, f"{name}.{member}", value)
    tell_others(asked, members, name, ("effort", "summary", "generate_summary", "context", "mode"))


def _stream(asked: Asked, _name: str, raw: msgspec.Raw) -> None:
    asked.stream = bytes(raw) == b"true"


def _stream_options(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    members = _object(name, raw)
    where = f"{name}.include_obfuscation"
    set_setting(asked, "obfuscation", where, members.get("include_obfuscation"))
    tell_others(asked, members, name, ("include_obfuscation",))


_LOGPROBS = "message.output_text.logprobs"
_NEVER_THERE = frozenset(
    (
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "web_search_call.action.sources",
        "web_search_call.results",
    )
)
"""What is included of hosted tools, which are refused anyway, and of what the caller sent."""


def _include(asked: Asked, name: str, raw: msgspec.Raw) -> None:
    rest = [each for each in map(text_of, list_of(decode(raw))) if each not in _NEVER_THERE]
    if _LOGPROBS in rest:
        rest.remove(_LOGPROBS)
        set_setting(asked, "logprobs", name, value=True)
    if rest:
        set_setting(asked, "extras", f"{name}={','.join(rest)}", rest)


def _object(name: str, raw: msgspec.Raw) -> dict[str, object]:
    value: object = decode(raw)
    if value is not None and not is_object(value):
        raise invalid(name, "an object", shown_kind(value))
    return members_of(value)


FIELDS = {
    "model": Field(read=_model, note="the deployment's own name for it"),
    "input": Field(read=_input, note="messages, calls, results and thinking, item by item"),
    "instructions": Field(read=_instructions, note="the first system message"),
    "tools": Field(read=_tools, note="functions; custom tools and namespaces as functions"),
    "tool_choice": Field(read=_tool_choice, note="the same choice among the tools"),
    "parallel_tool_calls": Field("parallel_tool_calls"),
    "text": Field(read=_text, note="`format` and `verbosity`"),
    "reasoning": Field(read=_reasoning, note="`effort`, `summary`, `context`, `mode`"),
    "stream": Field(read=_stream, note="a stream, with its usage"),
    "stream_options": Field(read=_stream_options, note="`include_obfuscation`"),
    "include": Field(read=_include, note="log probabilities, sealed thinking"),
    "max_output_tokens": Field("output_tokens_max"),
    "temperature": Field("temperature"),
    "top_p": Field("top_p"),
    "top_logprobs": Field("top_logprobs"),
    "max_tool_calls": Field("hosted_calls_max"),
    "metadata": Field("metadata"),
    "client_metadata": Field("client_metadata"),
    "user": Field("user"),
    "safety_identifier": Field("safety_identifier"),
    "service_tier": Field("service_tier"),
    "prompt_cache_key": Field("cache_key"),
    "prompt_cache_options": Field("cache_options"),
    "prompt_cache_retention": Field("cache_retention"),
    "moderation": Field("moderation"),
    "store": Field("store"),
    "background": Field("background"),
    "background_options": Field("background_options"),
    "previous_response_id": Field("previous"),
    "conversation": Field("conversation"),
    "prompt": Field("prompt"),
    "context_management": Field("compaction"),
    "truncation": Field("truncation"),
    "image": Field("images"),
    "access_programs": Field("access"),
}
