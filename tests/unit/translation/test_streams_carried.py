"""Streams of one family as events of the other, judged by the `openai` package's own parsers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import omit
from openai._models import construct_type
from openai.lib.streaming.chat._completions import ChatCompletionStreamState
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.lengths import cuts, examples

from merino.translation.table import TRANSLATIONS, Carried, Made
from merino.wire.chat import parse_chat
from merino.wire.responses import parse_responses

MADE = Made("req_5f0c01", 1_790_000_000)
TOOLS = [
    {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False},
    {"type": "custom", "name": "patch"},
    {
        "type": "namespace",
        "name": "mcp__files",
        "description": "files",
        "tools": [{"type": "function", "name": "read", "parameters": {"type": "object"}}],
    },
]
_events = TypeAdapter(ResponseStreamEvent)


def through_chat(**fields: Any) -> Carried:
    body = {"model": "m", "input": "hi", "stream": True, "tools": TOOLS, **fields}
    request = parse_responses(json.dumps(body).encode())
    return TRANSLATIONS["responses", "chat/completions"].carry(request, MADE)


def through_responses(**fields: Any) -> Carried:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, **fields}
    request = parse_chat(json.dumps(body).encode())
    return TRANSLATIONS["chat/completions", "responses"].carry(request, MADE)


def chunk(delta: dict[str, Any], reason: str | None = None, **members: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up"}
    return b"data: %b\n\n" % json.dumps({**body, "choices": [choice], **members}).encode()


def usage_chunk(prompt: int, completion: int, reasoning: int = 0) -> bytes:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": prompt // 2},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    return b"data: %b\n\n" % json.dumps({"choices": [], "usage": usage}).encode()


DONE = b"data: [DONE]\n\n"


def carried(call: Carried, pieces: list[bytes]) -> bytes:
    stream = call.stream()
    return b"".join([stream.feed(piece) for piece in pieces]) + stream.finish()


def datas(stream: bytes) -> list[dict[str, Any]]:
    lines = [line for line in stream.split(b"\n") if line.startswith(b"data: {")]
    return [json.loads(line[6:]) for line in lines]


def accumulated(stream: bytes) -> Response:
    """What the SDK makes of a stream; every event must fit its strict model."""
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    final: Response | None = None
    for number, data in enumerate(datas(stream)):
        assert number == data["sequence_number"]
        _events.validate_python(data)
        event: Any = construct_type(type_=ResponseStreamEvent, value=data)
        state.handle_event(event)
        if data["type"] in {"response.completed", "response.incomplete"}:
            assert final is None, "there is one last event"
            final = Response.model_validate(data["response"])
        else:
            assert final is None, "nothing follows the last event"
    assert final is not None
    return final


def shape(items: list[Any]) -> list[Any]:
    return [
        {key: value for key, value in item.items() if value is not None}
        for item in (each if isinstance(each, dict) else each.to_dict() for each in items)
    ]


# -- scripts --------------------------------------------------------------------------------------

texts = st.text(min_size=1, max_size=12)
custom_inputs = st.text(max_size=20)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """What a model says: thinking, a text, calls."""
    calls = draw(
        st.lists(
            st.one_of(
                st.tuples(
                    st.just("look"),
                    st.builds(json.dumps, st.dictionaries(texts, texts, max_size=2)),
                ),
                st.tuples(
                    st.just("mcp__files__read"),
                    st.builds(json.dumps, st.dictionaries(texts, texts, max_size=2)),
                ),
                st.tuples(
                    st.just("patch"),
                    st.builds(lambda text: json.dumps({"input": text}), custom_inputs),
                ),
            ),
            max_size=3,
        )
    )
    text = draw(st.lists(texts, max_size=6))
    thought = draw(st.lists(texts, max_size=3))
    refusal = draw(st.lists(texts, max_size=2)) if not calls and not text else []
    return {
        "thought": thought,
        "text": text,
        "refusal": refusal,
        "calls": calls,
        "reason": draw(st.sampled_from(["stop", "length", "content_filter"])),
        "name": draw(st.sampled_from(["reasoning_content", "reasoning"])),
        "interleave": draw(st.booleans()),
        "ascii": draw(st.booleans()),
    }


def chat_stream(answer: dict[str, Any]) -> bytes:
    chunks = [chunk({"role": "assistant", "content": ""})]
    chunks += [chunk({answer["name"]: piece}) for piece in answer["thought"]]
    chunks += [chunk({"content": piece}) for piece in answer["text"]]
    chunks += [chunk({"refusal": piece}) for piece in answer["refusal"]]
    pieces: list[tuple[int, bytes]] = []
    for index, (name, arguments) in enumerate(answer["calls"]):
        head = {"index": index, "id": f"call_{index}", "type": "function"}
        chunks_of = [chunk({"tool_calls": [{**head, "function": {"name": name, "arguments": ""}}]})]
        for at in range(0, len(arguments), 7):
            part = {"index": index, "function": {"arguments": arguments[at : at + 7]}}
            chunks_of.append(chunk({"tool_calls": [part]}))
        pieces += list(enumerate(chunks_of))
    if answer["interleave"]:
        pieces.sort(key=lambda piece: piece[0])
    chunks += [piece for _, piece in pieces]
    reason = "tool_calls" if answer["calls"] and answer["reason"] == "stop" else answer["reason"]
    chunks += [chunk({}, reason), usage_chunk(10, 20, 5), DONE]
    return b"".join(chunks)


def chat_answer(answer: dict[str, Any]) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(answer["text"]) or None}
    if answer["thought"]:
        message[answer["name"]] = "".join(answer["thought"])
    if answer["refusal"]:
        message["refusal"] = "".join(answer["refusal"])
    if answer["calls"]:
        message["tool_calls"] = [
            {
                "id": f"call_{index}",
                "type": "function",
                "function": {"name": name, "arguments": said},
            }
            for index, (name, said) in enumerate(answer["calls"])
        ]
    reason = "tool_calls" if answer["calls"] and answer["reason"] == "stop" else answer["reason"]
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "up",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        **json.loads(usage_chunk(10, 20, 5)[6:]),
    }
    body["choices"] = [{"index": 0, "message": message, "finish_reason": reason}]
    return json.dumps(body).encode()


def is_empty(answer: dict[str, Any]) -> bool:
    return not (answer["thought"] or answer["text"] or answer["refusal"] or answer["calls"])


@settings(max_examples=examples(60))
@given(answer=answers(), size=st.integers(1, 400))
def test_a_chats_stream_is_the_translation_of_its_whole_answer(
    answer: dict[str, Any], size: int
) -> None:
    """However the bytes of a chat's stream are cut, the SDK accumulates what its whole answer is
    translated to, with the same ids; each item's last event has the item of the final object."""
    if is_empty(answer):
        answer["text"] = ["x"]
    call = through_chat(reasoning={"summary": "auto"} if answer["ascii"] else None)
    stream = chat_stream(answer)
    out = carried(call, [stream[at : at + size] for at in range(0, len(stream), size)])
    final = accumulated(out)
    whole = json.loads(call.answer(chat_answer(answer)))
    assert Response.model_validate(whole).to_dict() == final.to_dict()
    done = {
        data["output_index"]: data["item"]
        for data in datas(out)
        if data["type"] == "response.output_item.done"
    }
    assert whole["output"] == [done[index] for index in sorted(done)]
    assert out.endswith(DONE)
    text = "".join(answer["text"])
    assert text == final.output_text
    assert {"stop": "completed"}.get(answer["reason"], "incomplete") == final.status
    calls = [item for item in whole["output"] if item["type"].endswith("_call")]
    for (name, arguments), item in zip(answer["calls"], calls, strict=True):
        if name == "patch":
            assert json.loads(arguments)["input"] == item["input"]
        else:
            assert arguments == item["arguments"]
        assert {"mcp__files__read": ("mcp__files", "read")}.get(name, (None, name)) == (
            item.get("namespace"),
            item["name"],
        )


@settings(max_examples=examples(60))
@given(answer=answers())
def test_to_the_responses_api_and_back_changes_nothing(answer: dict[str, Any]) -> None:
    """A chat's answer that is carried to the Responses API and back has the same text, thinking,
    calls, reason and usage, streamed and whole."""
    answer["calls"] = [call for call in answer["calls"] if call[0] == "look"]
    if is_empty(answer):
        answer["text"] = ["x"]
    responses, chat = through_chat(tools=TOOLS[:1]), through_responses()
    stream = carried(chat, [carried(responses, [chat_stream(answer)])])
    state: Any = ChatCompletionStreamState()
    for data in datas(stream):
        event = ChatCompletionChunk.model_validate(data)
        state.handle_chunk(event)
    final = state.current_completion_snapshot.to_dict()
    whole = json.loads(chat.answer(responses.answer(chat_answer(answer))))
    given_message = json.loads(chat_answer(answer))["choices"][0]
    message = whole["choices"][0]["message"]
    assert given_message["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert given_message["message"].get("content") == message["content"]
    assert given_message["message"].get("tool_calls") == message.get("tool_calls")
    assert "".join(answer["thought"]) == (message.get("reasoning_content") or "")
    assert 30 == whole["usage"]["total_tokens"]
    assert 5 == whole["usage"]["completion_tokens_details"]["reasoning_tokens"]
    streamed = final["choices"][0]["message"]
    assert (message["content"] or "") == (streamed["content"] or "")
    assert whole["usage"] == final["usage"]
    assert [call["function"] for call in message.get("tool_calls") or []] == [
        {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        for call in streamed.get("tool_calls") or []
    ]


def test_every_split_of_a_stream_gives_the_same() -> None:
    """A stream cut in two anywhere is translated to the same bytes."""
    answer = {
        "thought": ["th", "ink ü"],
        "text": ["Hel", "lo", ' "you"', " \U0001f600"],
        "refusal": [],
        "calls": [("look", '{"a": 1}'), ("patch", '{"input": "a\\nb"}')],
        "reason": "stop",
        "name": "reasoning",
        "interleave": True,
        "ascii": False,
    }
    stream = chat_stream(answer)
    call, back = through_chat(), through_responses()
    expected = carried(call, [stream])
    expected_back = carried(back, [expected])
    assert all(expected == carried(call, [stream[:at], stream[at:]]) for at in cuts(stream))
    assert all(
        expected_back == carried(back, [expected[:at], expected[at:]]) for at in cuts(expected)
    )
    single = [stream[at : at + 1] for at in range(len(stream))]
    assert expected == carried(call, single)


def test_events_come_as_soon_as_their_text() -> None:
    """Each chunk's text is in the events that its bytes give: nothing waits for what follows."""
    stream = through_chat().stream()
    stream.feed(chunk({"role": "assistant", "content": ""}))
    for piece in ("One", " two", " three", " four \u00e9", " five"):
        assert [piece] == [
            data["delta"]
            for data in datas(stream.feed(chunk({"content": piece})))
            if "delta" in data
        ]


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_stream_that_was_cut_has_no_last_event(cut: int) -> None:
    """A stream that ends before its finish reason is not ended for the upstream."""
    answer = {
        "thought": ["a"], "text": ["b", "c"], "refusal": [], "calls": [], "reason": "stop",
        "name": "reasoning", "interleave": False, "ascii": False,
    }  # fmt: skip
    chunks = chat_stream(answer).split(b"\n\n")
    pieces = [each + b"\n\n" for each in chunks[:cut]]
    kinds = [data["type"] for data in datas(carried(through_chat(), pieces))]
    has_reason = any(b'"finish_reason": "stop"' in piece for piece in pieces)
    assert has_reason == ("response.completed" in kinds)


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":{"message":"overloaded","code":"busy"}}\n\n',
        b'event: error\ndata: {"message":"overloaded","code":"busy"}\n\n',
        b"data: oh no\n\n",
    ],
)
def test_a_failure_in_a_chats_stream_is_an_error_event(event: bytes) -> None:
    """A stream that fails has one error event, numbered on, and nothing after it."""
    out = carried(through_chat(), [chunk({"content": "x"}), event, chunk({}, "stop"), DONE])
    kinds = [data["type"] for data in datas(out)]
    assert "error" == kinds[-1]
    assert 1 == kinds.count("error")
    assert list(range(len(kinds))) == [data["sequence_number"] for data in datas(out)]
    assert "response.completed" not in kinds


def test_a_failure_in_a_responses_stream_is_an_error_of_a_chat() -> None:
    """`response.failed` becomes a chunk with the error's words, without a finish reason."""
    failed = {
        "type": "response.failed",
        "sequence_number": 1,
        "response": {
            "id": "r",
            "status": "failed",
            "error": {"code": "server_error", "message": "oh"},
        },
    }
    event = b"event: response.failed\ndata: %b\n\n" % json.dumps(failed).encode()
    out = carried(through_responses(), [event])
    assert ["oh"] == [data["error"]["message"] for data in datas(out) if "error" in data]
    assert b"finish_reason" not in out.replace(b'"finish_reason":null', b"")


def test_a_chats_comments_pass() -> None:
    """Signs of life of the upstream reach the caller."""
    out = carried(through_chat(), [b": ping\n\n", chunk({"content": "x"})])
    assert out.startswith(b": ping\n\n")


def test_calls_under_one_number_are_told_apart_by_their_ids() -> None:
    """Several calls that an upstream numbers 0 alike are several items."""
    calls = [
        {"index": 0, "id": f"c{number}", "function": {"name": "look", "arguments": "{}"}}
        for number in range(3)
    ]
    pieces = [chunk({"tool_calls": [call]}) for call in calls] + [chunk({}, "tool_calls"), DONE]
    final = accumulated(carried(through_chat(), pieces))
    assert ["c0", "c1", "c2"] == [
        item.call_id for item in final.output if item.type == "function_call"
    ]


def test_thinking_that_nobody_but_its_issuer_reads_reaches_a_chat_and_comes_back() -> None:
    """Sealed thinking goes out under `reasoning_details`, and back as the item it was."""
    item = {"id": "rs_9", "type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
    call = {"type": "function_call", "id": "fc", "call_id": "c1", "name": "look", "arguments": "{}"}
    answer = {"id": "r", "object": "response", "status": "completed", "output": [item, call]}
    whole = json.loads(through_responses().answer(json.dumps(answer).encode()))
    message = whole["choices"][0]["message"]
    assert "gAAA" == message["reasoning_details"][0]["data"]
    history = [
        {"role": "user", "content": "hi"},
        message,
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
    ]
    back = json.loads(through_responses(messages=history).body)["input"]
    assert ["message", "reasoning", "function_call", "function_call_output"] == [
        each["type"] for each in back
    ]
    assert {"id": "rs_9", "encrypted_content": "gAAA", "type": "reasoning", "summary": []} == back[
        1
    ]


# -- odd upstreams --------------------------------------------------------------------------------

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
_NAMES = (
    "content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "role",
    "annotations", "reasoning_details", "index", "id", "function", "name", "arguments", "choices",
    "delta", "message", "finish_reason", "logprobs", "usage", "model", "service_tier", "type",
    "custom", "text", "output", "item", "response", "output_index", "summary", "status",
)  # fmt: skip
odd_objects = st.recursive(
    json_values,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(_NAMES), inner, max_size=5), st.lists(inner, max_size=2)
    ),
    max_leaves=12,
)
odd_choices = st.fixed_dictionaries(
    {
        "choices": st.one_of(
            json_values,
            st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "index": json_values,
                        "delta": st.dictionaries(st.sampled_from(_NAMES), odd_objects, max_size=4),
                        "message": st.dictionaries(
                            st.sampled_from(_NAMES), odd_objects, max_size=4
                        ),
                        "finish_reason": json_values,
                        "logprobs": odd_objects,
                    },
                ),
                max_size=2,
            ),
        )
    }
)
_KINDS = st.sampled_from(
    [
        "response.created", "response.output_item.added", "response.output_text.delta",
        "response.reasoning_summary_text.delta", "response.function_call_arguments.delta",
        "response.output_item.done", "response.completed", "response.incomplete", "error",
        "response.output_text.annotation.added", "response.custom_tool_call_input.delta",
    ]
)  # fmt: skip


@settings(max_examples=examples(100))
@given(objects=st.lists(st.one_of(odd_choices, odd_objects), max_size=5))
def test_nothing_that_a_chat_upstream_sends_is_a_fault_of_ours(objects: list[Any]) -> None:
    """Whatever JSON comes where a chunk should be, a stream is translated to events that the SDK
    reads, with at most one last event; a whole answer at least is no fault."""
    call = through_chat()
    events = [b"data: %b\n\n" % json.dumps(each).encode() for each in objects]
    out = carried(call, [*events, chunk({}, "stop"), DONE])
    kinds = [data["type"] for data in datas(out)]
    assert list(range(len(kinds))) == [data["sequence_number"] for data in datas(out)]
    assert kinds.count("response.completed") + kinds.count("error") <= 1
    for data in datas(out):
        construct_type(type_=ResponseStreamEvent, value=data)
    for each in objects:
        if isinstance(each, dict):
            json.loads(call.answer(json.dumps(each).encode()))


@settings(max_examples=examples(100))
@given(
    objects=st.lists(
        st.tuples(_KINDS, st.dictionaries(st.sampled_from(_NAMES), odd_objects, max_size=5)),
        max_size=6,
    )
)
def test_nothing_that_a_responses_upstream_sends_is_a_fault_of_ours(
    objects: list[tuple[str, dict[str, Any]]],
) -> None:
    """Whatever JSON comes where an event should be, a stream is translated to JSON."""
    call = through_responses()
    events = [
        b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({**each, "type": kind}).encode())
        for kind, each in objects
    ]
    datas(carried(call, events))
    for _, each in objects:
        json.loads(call.answer(json.dumps(each).encode()))
