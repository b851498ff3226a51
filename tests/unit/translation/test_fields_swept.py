"""What becomes of each field of a request, in both directions, swept over all fields that the
`openai` package knows."""

from __future__ import annotations

import json
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params as responses_params
from openai.types.responses.response_input_item_param import ResponseInputItemParam
from openai.types.responses.tool_param import ToolParam
from tests.lengths import examples

from merino.domain.errors import CannotTranslate, InvalidCall
from merino.translation.chat.request_read import FIELDS as CHAT_FIELDS
from merino.translation.chat.request_written import SETTINGS as CHAT_SETTINGS
from merino.translation.fields import Field
from merino.translation.meanings import MEANINGS
from merino.translation.responses.items_read import ITEMS
from merino.translation.responses.request_read import FIELDS as RESPONSES_FIELDS
from merino.translation.responses.request_written import SETTINGS as RESPONSES_SETTINGS
from merino.translation.table import TRANSLATIONS, Made
from merino.wire.chat import parse_chat
from merino.wire.responses import parse_responses

MADE = Made("req_1", 1)
SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
FUNCTION = {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}
CHAT_FUNCTION = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}


def to_chat(fields: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    at_once = {name: value for name, value in fields.items() if name != "background"}
    request = parse_responses(json.dumps({"model": "m", "input": "hi", **at_once}).encode())
    if "background" in fields:  # refused by itself as long as nothing runs in the background
        request.change("background", msgspec.Raw(json.dumps(fields["background"]).encode()))
    carried = TRANSLATIONS["responses", "chat/completions"].carry(request, MADE)
    return json.loads(carried.body), carried.told


def to_responses(fields: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    carried = TRANSLATIONS["chat/completions", "responses"].carry(
        parse_chat(json.dumps(body).encode()), MADE
    )
    return json.loads(carried.body), carried.told


# Each field, a value, and what the upstream gets of it: members of the body, `None` for a refusal,
# a text for what the caller is told.
RESPONSES = {
    "access_programs": ({"cyber": "standard"}, "access_programs removed"),
    "background": (True, None),
    "background_options": ({"completion_window": "2h"}, "background_options removed"),
    "context_management": ([{"type": "compaction"}], "context_management removed"),
    "conversation": ("conv_1", None),
    "image": ({"context_compression": "enabled"}, "image removed"),
    "include": (["message.output_text.logprobs"], {"logprobs": True}),
    "input": ("ho", {"messages": [{"role": "user", "content": "ho"}]}),
    "instructions": (
        "Be brief.",
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "hi"},
            ]
        },
    ),
    "max_output_tokens": (9, {"max_completion_tokens": 9}),
    "max_tool_calls": (2, {}),
    "metadata": ({"a": "b"}, {}),
    "model": ("n", {"model": "n"}),
    "moderation": ({"model": "x"}, {"moderation": {"model": "x"}}),
    "parallel_tool_calls": (False, {"tools": [CHAT_FUNCTION], "parallel_tool_calls": False}),
    "previous_response_id": ("resp_1", None),
    "prompt": ({"id": "pmpt_1"}, None),
    "prompt_cache_key": ("k", {"prompt_cache_key": "k"}),
    "prompt_cache_options": ({"ttl": "12h"}, {"prompt_cache_options": {"ttl": "12h"}}),
    "prompt_cache_retention": ("24h", {"prompt_cache_retention": "24h"}),
    "reasoning": ({"effort": "low", "summary": "auto"}, {"reasoning_effort": "low"}),
    "safety_identifier": ("s", {"safety_identifier": "s"}),
    "service_tier": ("flex", {"service_tier": "flex"}),
    "store": (True, {}),
    "stream": (True, {"stream": True}),
    "stream_options": ({"include_obfuscation": True}, "stream_options.include_obfuscation removed"),
    "temperature": (0.5, {"temperature": 0.5}),
    "text": ({"format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
    "tool_choice": ("required", {"tools": [CHAT_FUNCTION], "tool_choice": "required"}),
    "tools": ([FUNCTION], {"tools": [CHAT_FUNCTION]}),
    "top_logprobs": (3, {"logprobs": True, "top_logprobs": 3}),
    "top_p": (0.9, {"top_p": 0.9}),
    "truncation": ("auto", "truncation removed"),
    "user": ("u", {"user": "u"}),
}
CHAT = {
    "audio": ({"voice": "alloy", "format": "mp3"}, None),
    "frequency_penalty": (0.5, "frequency_penalty removed"),
    "function_call": (
        {"name": "f"},
        {"tools": [{**FUNCTION, "strict": False}], "tool_choice": {"type": "function", "name": "f"}},
    ),
    "functions": (
        [{"name": "f", "parameters": SCHEMA}],
        {"tools": [{**FUNCTION, "strict": False}]},
    ),
    "logit_bias": ({"50256": -100}, "logit_bias removed"),
    "logprobs": (True, {"include": ["message.output_text.logprobs"]}),
    "max_completion_tokens": (90, {"max_output_tokens": 90}),
    "max_tokens": (90, {"max_output_tokens": 90}),
    "messages": (
        [{"role": "developer", "content": "d"}],
        {"input": [{"type": "message", "role": "developer", "content": "d"}]},
    ),
    "metadata": ({"a": "b"}, {"metadata": {"a": "b"}}),
    "modalities": (["text", "audio"], None),
    "model": ("n", {"model": "n"}),
    "moderation": ({"model": "x"}, {"moderation": {"model": "x"}}),
    "n": (2, None),
    "parallel_tool_calls": (
        False,
        {"tools": [{**FUNCTION, "strict": False}], "parallel_tool_calls": False},
    ),
    "prediction": ({"type": "content", "content": "x"}, "prediction removed"),
    "presence_penalty": (0.5, "presence_penalty removed"),
    "prompt_cache_key": ("k", {"prompt_cache_key": "k"}),
    "prompt_cache_options": ({"ttl": "12h"}, {"prompt_cache_options": {"ttl": "12h"}}),
    "prompt_cache_retention": ("24h", {"prompt_cache_retention": "24h"}),
    "reasoning_effort": (
        "high",
        {"reasoning": {"effort": "high"}, "include": ["reasoning.encrypted_content"]},
    ),
    "response_format": (
        {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA, "strict": False}}},
    ),
    "safety_identifier": ("s", {"safety_identifier": "s"}),
    "seed": (7, "seed removed"),
    "service_tier": ("flex", {"service_tier": "flex"}),
    "stop": (["x"], None),
    "store": (True, {"store": False}),
    "stream": (True, {"stream": True}),
    "stream_options": ({"include_obfuscation": True}, "stream_options.include_obfuscation removed"),
    "temperature": (0.5, {"temperature": 0.5}),
    "tool_choice": (
        {"type": "function", "function": {"name": "f"}},
        {"tools": [{**FUNCTION, "strict": False}], "tool_choice": {"type": "function", "name": "f"}},
    ),
    "tools": ([CHAT_FUNCTION], {"tools": [{**FUNCTION, "strict": False}]}),
    "top_logprobs": (3, {"top_logprobs": 3}),
    "top_p": (0.9, {"top_p": 0.9}),
    "user": ("u", {"user": "u"}),
    "verbosity": ("low", {"text": {"verbosity": "low"}}),
    "web_search_options": ({"search_context_size": "low"}, None),
}  # fmt: skip
_WITH_TOOLS = {"tool_choice", "parallel_tool_calls", "function_call"}


def _names(params: Any, streaming: Any) -> set[str]:
    return {*get_type_hints(params), *get_type_hints(streaming)}


OF_PROGRAMS = {"client_metadata"}
"""What programs send that the package does not know."""


def test_every_field_of_the_package_has_its_fate() -> None:
    """A field that a new version of the package knows fails here until its fate is decided."""
    responses = _names(
        responses_params.ResponseCreateParamsBase, responses_params.ResponseCreateParamsStreaming
    )
    chat = _names(
        chat_params.CompletionCreateParamsBase, chat_params.CompletionCreateParamsStreaming
    )
    assert responses == set(RESPONSES_FIELDS) - OF_PROGRAMS == set(RESPONSES)
    assert chat == set(CHAT_FIELDS) == set(CHAT)


@pytest.mark.parametrize("table", [RESPONSES_FIELDS, CHAT_FIELDS])
def test_every_setting_has_a_meaning(table: dict[str, Field]) -> None:
    """A field is read by a function, or is a setting whose meaning is in the one table."""
    assert all((each.meaning in MEANINGS) != (each.read is not None) for each in table.values())
    assert set(CHAT_SETTINGS) | set(RESPONSES_SETTINGS) <= set(MEANINGS)


def _check(
    outcome: Any, name: str, carry: Any, fields: dict[str, Any], plain: dict[str, Any]
) -> None:
    if outcome is None:
        with pytest.raises(CannotTranslate) as caught:
            carry(fields)
        assert name == caught.value.param
        assert f"'{name}'" in caught.value.message
        return
    body, told = carry(fields)
    if isinstance(outcome, str):
        assert (outcome,) == told
        assert plain == body
    else:
        assert () == told
        assert {**plain, **outcome} == body


@pytest.mark.parametrize("name", sorted(RESPONSES))
def test_each_field_of_the_responses_api_on_its_way_to_a_chat(name: str) -> None:
    """Carried under the chat's name, refused under the caller's, or told: nothing is silent but
    what has no effect."""
    value, outcome = RESPONSES[name]
    fields = {name: value} if name not in _WITH_TOOLS else {"tools": [FUNCTION], name: value}
    plain = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    if isinstance(outcome, dict) and "tools" in outcome:
        strict = {**CHAT_FUNCTION["function"], "strict": True}
        outcome = {**outcome, "tools": [{"type": "function", "function": strict}]}
    _check(outcome, name, to_chat, fields, plain)


@pytest.mark.parametrize("name", sorted(CHAT))
def test_each_field_of_a_chat_on_its_way_to_the_responses_api(name: str) -> None:
    """The same the other way; what is kept at the upstream is nothing."""
    value, outcome = CHAT[name]
    fields = {name: value} if name not in _WITH_TOOLS else {"tools": [CHAT_FUNCTION], name: value}
    hi = [{"type": "message", "role": "user", "content": "hi"}]
    _check(outcome, name, to_responses, fields, {"model": "m", "input": hi, "store": False})


@pytest.mark.parametrize("value", [None, [], {}, "", False, 0])
def test_what_asks_for_nothing_is_no_reason_to_refuse(value: Any) -> None:
    """Null, empty and switched off settings are left out without a word, as clients send them."""
    for name in ("previous_response_id", "conversation", "prompt", "context_management"):
        if value in (None, "", {}, []):
            assert () == to_chat({name: value or None})[1]
    harmless = {
        "background": False,
        "truncation": "disabled",
        "store": False,
        "max_tool_calls": None,
    }
    assert () == to_chat(harmless)[1]
    chat = {
        "n": 1,
        "stop": None,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logprobs": False,
    }
    assert () == to_responses({**chat, "modalities": ["text"]})[1]


def test_fields_of_a_vendor_go_along() -> None:
    """What no dialect knows is for the upstream to judge, as on the native road."""
    assert to_chat({"top_k": 3})[0]["top_k"] == 3
    assert to_responses({"chat_template_kwargs": {"a": 1}})[0]["chat_template_kwargs"] == {"a": 1}


def test_nothing_that_is_sent_along_is_changed() -> None:
    """A translation reads a request and leaves it as it is."""
    body = json.dumps({"model": "m", "input": "hi", "reasoning": {"effort": "low"}}).encode()
    request = parse_responses(body)
    TRANSLATIONS["responses", "chat/completions"].carry(request, MADE)
    assert body == request.render()


# -- tools and items ------------------------------------------------------------------------------


def _kinds(union: Any) -> set[str]:
    found: set[str] = set()
    for each in get_args(union):
        for kind in get_args(get_type_hints(each, include_extras=False)["type"]):
            found |= {kind} if isinstance(kind, str) else set(map(str, get_args(kind)))
    return found - {"None"}


_CARRIED_TOOLS = {"function", "custom", "namespace"}
_CARRIED_ITEMS = set(ITEMS) - {"item_reference"}


def test_all_kinds_of_tools_and_items_are_known_here() -> None:
    """The sweep below runs over what the package has."""
    assert _CARRIED_TOOLS <= _kinds(ToolParam)
    assert set(ITEMS) <= _kinds(ResponseInputItemParam)


@pytest.mark.parametrize("kind", sorted(_kinds(ToolParam) - _CARRIED_TOOLS))
def test_tools_that_the_upstream_would_run_are_refused(kind: str) -> None:
    """The refusal names the tool's place and its kind."""
    with pytest.raises(CannotTranslate) as caught:
        to_chat({"tools": [FUNCTION, {"type": kind}]})
    assert "tools[1].type" == caught.value.param
    assert kind in caught.value.message


@pytest.mark.parametrize("kind", sorted(_kinds(ToolParam) - _CARRIED_TOOLS))
def test_a_choice_of_such_a_tool_is_refused(kind: str) -> None:
    """A model cannot be made to call what it does not have."""
    with pytest.raises(CannotTranslate) as caught:
        to_chat({"tools": [FUNCTION], "tool_choice": {"type": kind}})
    assert "tool_choice" == caught.value.param


@pytest.mark.parametrize("kind", sorted(_kinds(ResponseInputItemParam) - _CARRIED_ITEMS))
def test_items_of_hosted_tools_and_of_kept_state_are_refused(kind: str) -> None:
    """The refusal names the item."""
    with pytest.raises(CannotTranslate) as caught:
        to_chat({"input": [{"role": "user", "content": "hi"}, {"type": kind, "id": "x"}]})
    assert "input[1]" == caught.value.param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "bot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 3}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "movie"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"tools": "f"}, "tools"),
        ({"tools": ["f"]}, "tools[0]"),
        ({"tool_choice": "any", "tools": [FUNCTION]}, "tool_choice"),
        ({"tool_choice": 3}, "tool_choice"),
        ({"instructions": 3}, "instructions"),
        ({"text": "json"}, "text"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "u"}]}]},
            "input[0].content[0].file_url",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_place(fields: dict[str, Any], param: str) -> None:
    """The place is the caller's own, in the caller's body."""
    with pytest.raises(InvalidCall) as caught:
        to_chat(fields)
    assert param == caught.value.param


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False)
    | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
_INNER = (
    "type", "role", "content", "text", "name", "call_id", "id", "arguments", "input", "output",
    "image_url", "tools", "function", "custom", "tool_calls", "tool_call_id", "format", "mode",
    "json_schema", "effort", "summary", "namespace", "allowed_tools", "encrypted_content",
    "reasoning_details", "function_call", "refusal", "audio", "file", "input_audio", "phase",
)  # fmt: skip
_WORDS = st.sampled_from(
    [
        "message", "user", "assistant", "system", "tool", "function", "custom", "namespace",
        "function_call", "function_call_output", "custom_tool_call", "reasoning", "input_text",
        "input_image", "input_file", "input_audio", "text", "image_url", "file", "refusal",
        "json_schema", "allowed_tools", "additional_tools", "auto",
    ]
)  # fmt: skip
odd = st.recursive(
    json_values | _WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_INNER), inner | _WORDS, max_size=5)
    ),
    max_leaves=14,
)


@settings(max_examples=examples(60))
@given(st.dictionaries(st.sampled_from(sorted(RESPONSES)), odd, max_size=4), st.booleans())
def test_no_request_to_the_responses_api_is_a_fault_of_ours(
    fields: dict[str, Any], as_items: bool
) -> None:
    """Whatever a caller sends is carried, or refused as theirs."""
    fields.pop("background", None)
    if as_items and "input" in fields and not isinstance(fields["input"], list):
        fields["input"] = [fields["input"]]
    try:
        to_chat({**fields, "model": "m"})
    except InvalidCall as error:
        assert error.message


@settings(max_examples=examples(60))
@given(st.dictionaries(st.sampled_from(sorted(CHAT)), odd, max_size=4), st.booleans())
def test_no_chat_is_a_fault_of_ours(fields: dict[str, Any], as_list: bool) -> None:
    """The same for chats."""
    if as_list and "messages" in fields and not isinstance(fields["messages"], list):
        fields["messages"] = [fields["messages"]]
    try:
        to_responses({**fields, "model": "m"})
    except InvalidCall as error:
        assert error.message
