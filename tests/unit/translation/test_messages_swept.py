"""What becomes of each field on the roads to and from the Messages API: nothing is silent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from merino.domain.errors import CannotTranslate
from merino.translation.chat.request_read import FIELDS as CHAT_FIELDS
from merino.translation.messages.request_read import FIELDS as MESSAGES_FIELDS
from merino.translation.responses.request_read import FIELDS as RESPONSES_FIELDS
from merino.translation.table import TRANSLATIONS, Made
from merino.wire.served import SERVED

MADE = Made("req_1", 1, 10, 500)
SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
CHAT_TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
RESPONSES_TOOL = {"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}
TOOL = {"name": "f", "input_schema": SCHEMA}
USER = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
LEAST = {
    "chat/completions": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "responses": {"model": "m", "input": "hi"},
    "messages": {"model": "m", "max_tokens": 40, "messages": [{"role": "user", "content": "hi"}]},
}


def carried(caller: str, upstream: str, fields: dict) -> tuple[dict[str, Any], tuple[str, ...]]:
    body = json.dumps({**LEAST[caller], **fields}).encode()
    request = SERVED[caller].parse(body)
    found = TRANSLATIONS[caller, upstream].carry(request, MADE)
    TRANSLATIONS[caller, upstream].target.parse(found.body)
    return json.loads(found.body), found.told


# Each field, a value, and what the upstream gets of it: members of the body, `None` for a refusal,
# a text for what the caller is told.
TO_CHAT = {
    "billing_policy": ({"type": "x"}, "billing_policy removed"),
    "cache_control": ({"type": "ephemeral"}, "cache_control removed"),
    "compaction": ({"type": "auto"}, "compaction removed"),
    "container": ("c_1", None),
    "context_management": ({"edits": []}, "context_management removed"),
    "diagnostics": ({"a": 1}, "diagnostics removed"),
    "fallback_credit_token": ("t", "fallback_credit_token removed"),
    "fallbacks": ([{"model": "n"}], "fallbacks removed"),
    "inference_geo": ("us", None),
    "max_tokens": (90, {"max_completion_tokens": 90}),
    "mcp_servers": ([{"url": "u"}], None),
    "messages": ([{"role": "user", "content": "ho"}],
                 {"messages": [{"role": "user", "content": "ho"}]}),
    "metadata": ({"user_id": "u"}, {"user": "u"}),
    "model": ("n", {"model": "n"}),
    "output_config": ({"effort": "max"}, {"reasoning_effort": "max"}),
    "service_tier": ("standard_only", {}),
    "speed": ("fast", None),
    "stop_sequences": (["x"], {"stop": ["x"]}),
    "stream": (True, {"stream": True}),
    "system": ("s", {"messages": [{"role": "system", "content": "s"},
                                  {"role": "user", "content": "hi"}]}),
    "temperature": (0.5, {"temperature": 0.5}),
    "thinking": ({"type": "enabled", "budget_tokens": 2000}, {"reasoning_effort": "low"}),
    "thread": ({"id": "t"}, None),
    "tool_choice": ({"type": "any", "disable_parallel_tool_use": True},
                    {"tools": [CHAT_TOOL], "tool_choice": "required",
                     "parallel_tool_calls": False}),
    "tools": ([TOOL], {"tools": [CHAT_TOOL]}),
    "top_k": (5, "top_k removed"),
    "top_p": (0.9, {"top_p": 0.9}),
}  # fmt: skip
TO_RESPONSES = TO_CHAT | {
    "max_tokens": (90, {"max_output_tokens": 90}),
    "messages": ([{"role": "user", "content": "ho"}],
                 {"input": [{"type": "message", "role": "user", "content": "ho"}]}),
    "output_config": ({"effort": "max"}, {"reasoning": {"effort": "max"}}),
    "stop_sequences": (["x"], None),
    "system": ("s", {"input": [{"type": "message", "role": "system", "content": "s"},
                               {"type": "message", "role": "user", "content": "hi"}]}),
    "thinking": ({"type": "enabled", "budget_tokens": 2000},
                 {"reasoning": {"effort": "low", "summary": "auto"},
                  "include": ["reasoning.encrypted_content"]}),
    "tool_choice": ({"type": "tool", "name": "f"},
                    {"tools": [RESPONSES_TOOL],
                     "tool_choice": {"type": "function", "name": "f"}}),
    "tools": ([TOOL], {"tools": [RESPONSES_TOOL]}),
}  # fmt: skip
FROM_CHAT = {
    "audio": ({"voice": "alloy"}, None),
    "frequency_penalty": (0.5, "frequency_penalty removed"),
    "function_call": ({"name": "f"}, {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}}),
    "functions": ([{"name": "f", "parameters": SCHEMA}], {"tools": [TOOL]}),
    "logit_bias": ({"5": 1}, "logit_bias removed"),
    "logprobs": (True, None),
    "max_completion_tokens": (90, {"max_tokens": 90}),
    "max_tokens": (90, {"max_tokens": 90}),
    "messages": ([{"role": "developer", "content": "d"}, {"role": "user", "content": "hi"}],
                 {"system": [{"type": "text", "text": "d"}], "messages": USER}),
    "metadata": ({"a": "b"}, "metadata removed"),
    "modalities": (["text", "audio"], None),
    "model": ("n", {"model": "n"}),
    "moderation": ({"model": "x"}, None),
    "n": (2, None),
    "parallel_tool_calls": (False, {"tools": [TOOL], "tool_choice": {
        "type": "auto", "disable_parallel_tool_use": True}}),
    "prediction": ({"type": "content"}, "prediction removed"),
    "presence_penalty": (0.5, "presence_penalty removed"),
    "prompt_cache_key": ("k", "prompt_cache_key removed"),
    "prompt_cache_options": ({"ttl": "12h"}, "prompt_cache_options removed"),
    "prompt_cache_retention": ("24h", "prompt_cache_retention removed"),
    "reasoning_effort": ("high", {"thinking": {"type": "adaptive", "display": "summarized"},
                                  "output_config": {"effort": "high"}}),
    "response_format": ({"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
                        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
    "safety_identifier": ("s", {"metadata": {"user_id": "s"}}),
    "seed": (1, "seed removed"),
    "service_tier": ("flex", None),
    "stop": ("x", {"stop_sequences": ["x"]}),
    "store": (True, {}),
    "stream": (True, {"stream": True}),
    "stream_options": ({"include_usage": True}, {}),
    "temperature": (1.5, {"temperature": 1}),
    "tool_choice": ("required", {"tools": [TOOL], "tool_choice": {"type": "any"}}),
    "tools": ([CHAT_TOOL], {"tools": [TOOL]}),
    "top_logprobs": (3, None),
    "top_p": (0.9, {"top_p": 0.9}),
    "user": ("u", {"metadata": {"user_id": "u"}}),
    "verbosity": ("low", "verbosity removed"),
    "web_search_options": ({"search_context_size": "low"}, None),
}  # fmt: skip
FROM_RESPONSES = {
    "access_programs": ({"cyber": "standard"}, "access_programs removed"),
    "background": (True, None),
    "background_options": ({"completion_window": "2h"}, "background_options removed"),
    "client_metadata": ({"a": "b"}, "client_metadata removed"),
    "context_management": ([{"type": "compaction"}], "context_management removed"),
    "conversation": ("conv_1", None),
    "image": ({"a": "b"}, "image removed"),
    "include": (["reasoning.encrypted_content"], {}),
    "input": ("ho", {"messages": [{"role": "user", "content": [{"type": "text", "text": "ho"}]}]}),
    "instructions": ("s", {"system": [{"type": "text", "text": "s"}]}),
    "max_output_tokens": (90, {"max_tokens": 90}),
    "max_tool_calls": (2, {}),
    "metadata": ({"a": "b"}, "metadata removed"),
    "model": ("n", {"model": "n"}),
    "moderation": ({"model": "x"}, None),
    "parallel_tool_calls": (False, {"tools": [TOOL], "tool_choice": {
        "type": "auto", "disable_parallel_tool_use": True}}),
    "previous_response_id": ("resp_1", None),
    "prompt": ({"id": "p"}, None),
    "prompt_cache_key": ("k", "prompt_cache_key removed"),
    "prompt_cache_options": ({"ttl": "12h"}, "prompt_cache_options removed"),
    "prompt_cache_retention": ("24h", "prompt_cache_retention removed"),
    "reasoning": ({"effort": "none"}, {"thinking": {"type": "disabled"}}),
    "safety_identifier": ("s", {"metadata": {"user_id": "s"}}),
    "service_tier": ("priority", None),
    "store": (True, {}),
    "stream": (True, {"stream": True}),
    "stream_options": ({"include_obfuscation": True}, "stream_options.include_obfuscation removed"),
    "temperature": (0.5, {"temperature": 0.5}),
    "text": ({"format": {"type": "json_object"}}, "response_format=json_object asked for in words"),
    "tool_choice": ({"type": "function", "name": "f"},
                    {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}}),
    "tools": ([RESPONSES_TOOL], {"tools": [TOOL]}),
    "top_logprobs": (3, None),
    "top_p": (0.9, {"top_p": 0.9}),
    "truncation": ("auto", "truncation removed"),
    "user": ("u", {"metadata": {"user_id": "u"}}),
}  # fmt: skip
GEMINI_TOOL = [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": SCHEMA}]}]
CONFIG = "generationConfig"
IN_ALL = {
    "model": ("n", {"model": "n"}),
    "stream": (True, {"stream": True}),
    "temperature": (0.5, {CONFIG: {"temperature": 0.5}}),
    "top_p": (0.9, {CONFIG: {"topP": 0.9}}),
}
CHAT_TO_GEMINI: dict[str, Any] = (
    FROM_CHAT
    | IN_ALL
    | {
        "frequency_penalty": (0.5, {CONFIG: {"frequencyPenalty": 0.5}}),
        "function_call": (
            {"name": "f"},
            {
                "tools": GEMINI_TOOL,
                "toolConfig": {
                    "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}
                },
            },
        ),
        "functions": ([{"name": "f", "parameters": SCHEMA}], {"tools": GEMINI_TOOL}),
        "max_completion_tokens": (90, {CONFIG: {"maxOutputTokens": 90}}),
        "max_tokens": (90, {CONFIG: {"maxOutputTokens": 90}}),
        "messages": (
            [{"role": "developer", "content": "d"}, {"role": "user", "content": "hi"}],
            {
                "systemInstruction": {"parts": [{"text": "d"}]},
                "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            },
        ),
        "parallel_tool_calls": (False, "parallel_tool_calls removed"),
        "presence_penalty": (0.5, {CONFIG: {"presencePenalty": 0.5}}),
        "reasoning_effort": (
            "high",
            {CONFIG: {"thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True}}},
        ),
        "response_format": (
            {"type": "json_object"},
            {CONFIG: {"responseMimeType": "application/json"}},
        ),
        "safety_identifier": ("s", "safety_identifier removed"),
        "seed": (1, {CONFIG: {"seed": 1}}),
        "stop": ("x", {CONFIG: {"stopSequences": ["x"]}}),
        "tool_choice": (
            "required",
            {"tools": GEMINI_TOOL, "toolConfig": {"functionCallingConfig": {"mode": "ANY"}}},
        ),
        "tools": ([CHAT_TOOL], {"tools": GEMINI_TOOL}),
        "user": ("u", "user removed"),
    }
)
RESPONSES_TO_GEMINI: dict[str, Any] = (
    FROM_RESPONSES
    | IN_ALL
    | {
        "input": ("ho", {"contents": [{"role": "user", "parts": [{"text": "ho"}]}]}),
        "instructions": ("s", {"systemInstruction": {"parts": [{"text": "s"}]}}),
        "max_output_tokens": (90, {CONFIG: {"maxOutputTokens": 90}}),
        "parallel_tool_calls": (False, "parallel_tool_calls removed"),
        "reasoning": ({"effort": "none"}, {CONFIG: {"thinkingConfig": {"thinkingBudget": 0}}}),
        "safety_identifier": ("s", "safety_identifier removed"),
        "text": (
            {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}},
            {CONFIG: {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}},
        ),
        "tool_choice": (
            {"type": "function", "name": "f"},
            {
                "tools": GEMINI_TOOL,
                "toolConfig": {
                    "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}
                },
            },
        ),
        "tools": ([RESPONSES_TOOL], {"tools": GEMINI_TOOL}),
        "user": ("u", "user removed"),
    }
)
MESSAGES_TO_GEMINI: dict[str, Any] = TO_CHAT | {
    "max_tokens": (90, {CONFIG: {"maxOutputTokens": 90}}),
    "messages": ([{"role": "user", "content": "ho"}],
                 {"contents": [{"role": "user", "parts": [{"text": "ho"}]}]}),
    "metadata": ({"user_id": "u"}, "metadata.user_id removed"),
    "output_config": ({"effort": "max"}, "output_config.effort=xhigh"),
    "stop_sequences": (["x"], {CONFIG: {"maxOutputTokens": 40, "stopSequences": ["x"]}}),
    "system": ("s", {"systemInstruction": {"parts": [{"text": "s"}]}}),
    "temperature": (0.5, {CONFIG: {"maxOutputTokens": 40, "temperature": 0.5}}),
    "thinking": ({"type": "disabled"},
                 {CONFIG: {"maxOutputTokens": 40, "thinkingConfig": {"thinkingBudget": 0}}}),
    "tool_choice": ({"type": "none"}, {"tools": GEMINI_TOOL, "toolConfig": {
        "functionCallingConfig": {"mode": "NONE"}}}),
    "tools": ([TOOL], {"tools": GEMINI_TOOL}),
    "top_k": (5, {CONFIG: {"maxOutputTokens": 40, "topK": 5}}),
    "top_p": (0.9, {CONFIG: {"maxOutputTokens": 40, "topP": 0.9}}),
}  # fmt: skip
ROADS = {
    ("messages", "chat/completions"): (TO_CHAT, MESSAGES_FIELDS, {"tools": [TOOL]}),
    ("messages", "responses"): (TO_RESPONSES, MESSAGES_FIELDS, {"tools": [TOOL]}),
    ("chat/completions", "messages"): (FROM_CHAT, CHAT_FIELDS, {"tools": [CHAT_TOOL]}),
    ("responses", "messages"): (FROM_RESPONSES, RESPONSES_FIELDS, {"tools": [RESPONSES_TOOL]}),
    ("chat/completions", "generateContent"): (CHAT_TO_GEMINI, CHAT_FIELDS, {"tools": [CHAT_TOOL]}),
    ("responses", "generateContent"): (
        RESPONSES_TO_GEMINI,
        RESPONSES_FIELDS,
        {"tools": [RESPONSES_TOOL]},
    ),
    ("messages", "generateContent"): (MESSAGES_TO_GEMINI, MESSAGES_FIELDS, {"tools": [TOOL]}),
}
NEEDS_TOOLS = {"tool_choice", "parallel_tool_calls"}
CASES = [(road, name) for road, (cases, _, _) in ROADS.items() for name in cases]


@pytest.mark.parametrize(("road", "name"), CASES, ids=["-".join((*r, n)) for r, n in CASES])
def test_what_becomes_of_a_field(road, name) -> None:
    """It is there under its like, or the caller is told, or the call is refused by its name."""
    cases, _, tools = ROADS[road]
    value, expected = cases[name]
    fields = {name: value, **(tools if name in NEEDS_TOOLS else {})}
    if name == "function_call":
        fields["functions"] = [{"name": "f", "parameters": SCHEMA}]
    if expected is None:
        with pytest.raises(CannotTranslate) as caught:
            carried(road[0], road[1], fields)
        assert caught.value.param.startswith(name.removesuffix("_options"))
        return
    body, told = carried(road[0], road[1], fields)
    if isinstance(expected, str):
        assert expected in told
    else:
        assert expected == {member: body[member] for member in expected}


@pytest.mark.parametrize("road", ROADS, ids=["-".join(each) for each in ROADS])
def test_every_field_has_its_case(road) -> None:
    """No field of the tables is left out."""
    cases, table, _ = ROADS[road]
    assert set() == set(table) - set(cases)


def test_every_field_of_the_package_is_known() -> None:
    """What the `anthropic` package can send has a place in the table; its headers aside."""
    pytest.importorskip("anthropic")
    from anthropic.types import message_create_params as plain
    from anthropic.types.beta import message_create_params as beta

    known = {
        name
        for params in (plain.MessageCreateParamsBase, beta.MessageCreateParamsBase)
        for name in params.__annotations__
    }
    headers = {"betas", "user_profile_id", "workspace_id"}
    assert set() == known - headers - set(MESSAGES_FIELDS)


EFFORTS = {
    "none": None, "minimal": "low", "low": "low", "medium": "medium", "high": "high",
    "xhigh": "xhigh", "max": "max",
}  # fmt: skip


@pytest.mark.parametrize("effort", EFFORTS)
def test_efforts_go_there_and_back(effort) -> None:
    """Each has its like, and comes back as itself where there is one."""
    body, told = carried("chat/completions", "messages", {"reasoning_effort": effort})
    assert EFFORTS[effort] == body.get("output_config", {}).get("effort")
    assert (effort == "minimal") == ("reasoning_effort=low" in told)
    thinking = {name: body[name] for name in ("thinking", "output_config") if name in body}
    back, _ = carried("messages", "chat/completions", thinking)
    assert (EFFORTS[effort] or "none") == back["reasoning_effort"]


@pytest.mark.parametrize(
    ("budget", "effort"),
    [(1024, "low"), (2048, "low"), (2049, "medium"), (8192, "medium"), (16_384, "high"),
     (24_576, "xhigh"), (31_999, "max"), (100_000, "max")],
)  # fmt: skip
def test_a_budget_is_the_effort_next_above(budget, effort) -> None:
    """It is told; an effort that is said counts first."""
    thinking = {"type": "enabled", "budget_tokens": budget}
    body, told = carried("messages", "chat/completions", {"thinking": thinking})
    assert effort == body["reasoning_effort"]
    assert f"thinking.budget_tokens->effort={effort}" in told
    said = {"thinking": thinking, "output_config": {"effort": "low"}}
    body, told = carried("messages", "chat/completions", said)
    assert ("low", ()) == (body["reasoning_effort"], told)


@pytest.mark.parametrize(
    ("effort", "limit", "older"),
    [
        ("high", 100_000, {"type": "enabled", "budget_tokens": 16_384}),
        ("high", 4_000, {"type": "enabled", "budget_tokens": 2_000}),
        ("minimal", 4_000, {"type": "enabled", "budget_tokens": 1_024}),
        ("max", 1_500, {"type": "enabled", "budget_tokens": 1_024}),
        ("max", 1_024, {"type": "disabled"}),
    ],
)
def test_older_models_get_a_budget(effort, limit, older) -> None:
    """Once a model has refused to decide by itself: less than its limit, and never less than is
    taken."""
    fields = {"reasoning_effort": effort, "max_completion_tokens": limit}
    body = json.dumps({**LEAST["chat/completions"], **fields}).encode()
    request = SERVED["chat/completions"].parse(body)
    found = TRANSLATIONS["chat/completions", "messages"].carry(request, MADE)
    word, other = found.dispensable["thinking"]
    assert ("adaptive", older) == (word, json.loads(bytes(other or b"")))
    assert ("effort", None) == found.dispensable["output_config"]
