"""Conversations and answers on the roads to and from the Messages API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.errors import CannotTranslate
from merino.translation.table import TRANSLATIONS, Made
from merino.wire.message_events import MessageReader
from merino.wire.seals import NOBODY, OPENAI, Sealed, labelled, unlabelled
from merino.wire.served import SERVED

MADE = Made("req_1", 1, 12, 500)
CHAT, RESPONSES, MESSAGES = "chat/completions", "responses", "messages"
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
TOOLS = [{"name": "look", "input_schema": SCHEMA}, {"name": "read", "input_schema": SCHEMA}]
PNG = "iVBORw0KGgo="
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
PDF = {"type": "document", "title": "a.pdf", "source": {
    "type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}  # fmt: skip
LOOP = [
    {"role": "user", "content": [{"type": "text", "text": "Look."}, IMAGE, PDF]},
    {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "sig+/="},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "So."},
        {"type": "tool_use", "id": "t1", "name": "look", "input": {"q": "a"}},
        {"type": "tool_use", "id": "t2", "name": "read", "input": {}},
    ]},
    {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t2", "content": "two", "is_error": True},
        {"type": "tool_result", "tool_use_id": "t1", "content": [
            {"type": "text", "text": "one"}, IMAGE]},
        {"type": "text", "text": "And now?"},
    ]},
]  # fmt: skip


def carry(caller: str, upstream: str, **body):
    request = SERVED[caller].parse(json.dumps({"model": "m", **body}).encode())
    return TRANSLATIONS[caller, upstream].carry(request, MADE)


def sent(caller: str, upstream: str, **body) -> tuple[dict[str, Any], tuple[str, ...]]:
    carried = carry(caller, upstream, **body)
    return json.loads(carried.body), carried.told


def reader_of(name: str):
    new_reader = SERVED[name].new_reader
    assert new_reader is not None
    return new_reader(1 << 20)


def test_a_tool_loop_becomes_a_chat() -> None:
    """Calls of one turn together, each result behind them in their order, pictures behind those in
    a message of the user; thinking within its turn; what has no like is told."""
    body, told = sent(MESSAGES, CHAT, max_tokens=90, tools=TOOLS, messages=LOOP)
    url = f"data:image/png;base64,{PNG}"
    assert [
        {"role": "user", "content": [
            {"type": "text", "text": "Look."},
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "file", "file": {
                "file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
        ]},
        {"role": "assistant", "content": "So.", "tool_calls": [
            {"id": "t1", "type": "function",
             "function": {"name": "look", "arguments": '{"q":"a"}'}},
            {"id": "t2", "type": "function", "function": {"name": "read", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "t1", "content": "one"},
        {"role": "tool", "tool_call_id": "t2", "content": "two"},
        {"role": "user", "content": [
            {"type": "text", "text": "Output of tool call t1:"},
            {"type": "image_url", "image_url": {"url": url}},
        ]},
        {"role": "user", "content": "And now?"},
    ] == body["messages"]  # fmt: skip
    assert "messages[2].content[1].output media moved into a message" in told
    assert "messages[2].content[0].is_error removed" in told


def test_a_tool_loop_goes_to_responses_and_back() -> None:
    """What Anthropic sealed goes nowhere else, and the rest is there item by item."""
    body, _ = sent(MESSAGES, RESPONSES, max_tokens=90, tools=TOOLS, messages=LOOP)
    kinds = [each["type"] for each in body["input"]]
    assert ["message", "message", "function_call", "function_call"] == kinds[:4]
    assert {"function_call_output"} == set(kinds[4:6])
    assert "sig" not in json.dumps(body)


def test_a_chat_becomes_a_tool_loop() -> None:
    """Results stand at the beginning of the user's next message, in the order of the calls; ids are
    of letters that are taken; what is empty is left out."""
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "functions.look:0", "type": "function",
             "function": {"name": "look", "arguments": '{"q":"a"}'}},
            {"id": "c2", "type": "function", "function": {"name": "read", "arguments": "oh"}},
        ]},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
        {"role": "tool", "tool_call_id": "functions.look:0", "content": [
            {"type": "text", "text": "one"},
            {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
        {"role": "system", "content": "late"},
        {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
    ]  # fmt: skip
    body, told = sent(CHAT, MESSAGES, messages=messages)
    assert [{"type": "text", "text": "s"}, {"type": "text", "text": "late"}] == body["system"]
    assert "messages[5] moved to system" in told
    assert [
        {"role": "user", "content": [{"type": "text", "text": "Look."}]},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "functions_look_0", "name": "look", "input": {"q": "a"}},
            {"type": "tool_use", "id": "c2", "name": "read", "input": {"input": "oh"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "functions_look_0", "content": [
                {"type": "text", "text": "one"},
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}]},
            {"type": "tool_result", "tool_use_id": "c2", "content": "two"},
            {"type": "text", "text": "And now?"},
        ]},
    ] == body["messages"]  # fmt: skip


ANSWER = {
    "id": "m", "type": "message", "role": "assistant", "model": "claude", "content": [
        {"type": "thinking", "thinking": "hm \u00fc", "signature": "sig+/="},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": 'So "it" is.'},
        {"type": "tool_use", "id": "t1", "name": "look", "input": {"q": "a\nb"}},
        {"type": "tool_use", "id": "t2", "name": "read", "input": {}},
    ],
    "stop_reason": "tool_use", "stop_sequence": None,
    "usage": {"input_tokens": 5, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 3,
              "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}},
}  # fmt: skip


def event(kind: str, **members) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def streamed(answer: dict[str, Any], size: int = 3) -> bytes:
    """The answer in events, each text in pieces of this size."""
    usage = {**answer["usage"], "output_tokens": 1}
    events = [event("message_start", message={**answer, "content": [], "usage": usage})]
    for index, block in enumerate(answer["content"]):
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""},
                 "tool_use": {"input": {}}}.get(block["type"], {})  # fmt: skip
        events.append(event("content_block_start", index=index, content_block={**block, **empty}))
        kind, field, text = {
            "text": ("text_delta", "text", block.get("text")),
            "thinking": ("thinking_delta", "thinking", block.get("thinking")),
            "tool_use": ("input_json_delta", "partial_json", json.dumps(block.get("input"))),
        }.get(block["type"], ("", "", ""))
        for at in range(0, len(text or ""), size):
            delta = {"type": kind, field: text[at : at + size]}
            events.append(event("content_block_delta", index=index, delta=delta))
        if block["type"] == "thinking":
            delta = {"type": "signature_delta", "signature": block["signature"]}
            events.append(event("content_block_delta", index=index, delta=delta))
        events.append(event("content_block_stop", index=index))
    delta = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    events.append(event("message_delta", delta=delta, usage=answer["usage"]))
    return b"".join((*events, event("message_stop")))


def test_thinking_goes_through_a_chat_and_comes_back() -> None:
    """A caller who sends the message back as it came gives the model its thinking back, sealed as
    it was and in its place."""
    user = {"role": "user", "content": "Look."}
    carried = carry(CHAT, MESSAGES, messages=[user], reasoning_effort="high")
    said = json.loads(carried.answer(json.dumps(ANSWER).encode()))["choices"][0]
    assert "tool_calls" == said["finish_reason"]
    assert "hm \u00fc" == said["message"]["reasoning_content"]
    results = [{"role": "tool", "tool_call_id": each, "content": each} for each in ("t1", "t2")]
    body, told = sent(
        CHAT, MESSAGES, messages=[user, said["message"], *results], reasoning_effort="high"
    )
    assert ANSWER["content"] == body["messages"][1]["content"]
    assert {"type": "adaptive", "display": "summarized"} == body["thinking"]
    assert () == tuple(each for each in told if "thinking" in each)


def test_thinking_goes_through_responses_and_comes_back() -> None:
    """As the reasoning items that its callers keep."""
    carried = carry(RESPONSES, MESSAGES, input="Look.", reasoning={"effort": "high"})
    said = json.loads(carried.answer(json.dumps(ANSWER).encode()))
    assert ["reasoning", "reasoning", "message", "function_call", "function_call"] == [
        each["type"] for each in said["output"]
    ]
    outputs = [{"type": "function_call_output", "call_id": c, "output": c} for c in ("t1", "t2")]
    user = {"role": "user", "content": "Look."}
    body, _ = sent(RESPONSES, MESSAGES, input=[user, *said["output"], *outputs],
                   reasoning={"effort": "high"})  # fmt: skip
    assert ANSWER["content"] == body["messages"][1]["content"]


def test_anothers_thinking_comes_back_to_its_maker_only() -> None:
    """What OpenAI sealed lies in a signature that says so, and goes to no other vendor."""
    item = {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA.b", "summary": [
        {"type": "summary_text", "text": "Well."}]}  # fmt: skip
    call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
    response = {"id": "r", "status": "completed", "model": "o", "output": [item, call]}
    messages = [{"role": "user", "content": "Look."}]
    carried = carry(MESSAGES, RESPONSES, max_tokens=90, messages=messages,
                    thinking={"type": "adaptive"})  # fmt: skip
    said = json.loads(carried.answer(json.dumps(response).encode()))
    assert {"type": "thinking", "thinking": "Well.",
            "signature": "merino.openai.rs_1.gAAA.b"} == said["content"][0]  # fmt: skip
    assert "tool_use" == said["stop_reason"]
    messages += [
        {"role": "assistant", "content": said["content"]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "x"}]},
    ]
    back, _ = sent(MESSAGES, RESPONSES, max_tokens=90, messages=messages)
    sealed = [each for each in back["input"] if each["type"] == "reasoning"]
    assert [("rs_1", "gAAA.b")] == [(each["id"], each["encrypted_content"]) for each in sealed]
    chat, _ = sent(MESSAGES, CHAT, max_tokens=90, messages=messages)
    assert "gAAA" not in json.dumps(chat)


def test_a_turn_without_its_thinking_is_not_to_think() -> None:
    """A client that dropped what was sealed would be refused: thinking is switched off for the rest
    of the turn, and that is told."""
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "x"},
    ]
    body, told = sent(CHAT, MESSAGES, messages=messages, reasoning_effort="high")
    assert {"type": "disabled"} == body["thinking"]
    assert "reasoning_effort removed (earlier thinking is missing)" in told
    later = [*messages, {"role": "user", "content": "Go on."}]
    body, _ = sent(CHAT, MESSAGES, messages=later, reasoning_effort="high")
    assert "adaptive" == body["thinking"]["type"]


def test_cache_marks_are_kept_where_there_are_caches() -> None:
    """Of parts and tools, four at most; elsewhere they are told."""
    mark = {"type": "ephemeral", "ttl": "1h"}
    parts = [{"type": "text", "text": str(n), "cache_control": mark} for n in range(5)]
    body, told = sent(CHAT, MESSAGES, messages=[{"role": "user", "content": parts}])
    kept = [each.get("cache_control") for each in body["messages"][0]["content"]]
    assert [mark] * 4 + [None] == kept
    assert "cache marks beyond 4 removed" in told
    parts = [{"type": "text", "text": "a", "prompt_cache_breakpoint": {}}]
    body, _ = sent(CHAT, MESSAGES, messages=[{"role": "user", "content": parts}])
    assert {"type": "ephemeral"} == body["messages"][0]["content"][0]["cache_control"]
    system = [{"type": "text", "text": "s", "cache_control": mark}]
    _, told = sent(MESSAGES, CHAT, max_tokens=9, system=system, messages=LOOP[:1])
    assert "cache_control removed" in told


def test_claude_codes_attribution_goes_to_nobody_else() -> None:
    """It changes, and is no part of the prompt: other vendors' caches would find nothing."""
    system = [{"type": "text", "text": "x-anthropic-billing-header: cc_version=1"},
              {"type": "text", "text": "You are."}]  # fmt: skip
    body, told = sent(MESSAGES, CHAT, max_tokens=9, system=system, messages=LOOP[:1])
    assert {"role": "system", "content": "You are."} == body["messages"][0]
    assert "system[0] removed (attribution)" in told


@pytest.mark.parametrize(
    ("block", "param"),
    [
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, "source.type"),
        ({"type": "hologram"}, "type"),
    ],
)
def test_content_without_a_like_is_refused_by_its_place(block, param) -> None:
    """Not left out: the answer would be about something else."""
    with pytest.raises(CannotTranslate) as caught:
        sent(MESSAGES, CHAT, max_tokens=9, messages=[{"role": "user", "content": [block]}])
    assert f"messages[0].content[0].{param}" == caught.value.param


def test_the_vendors_own_tools_are_refused_by_their_place() -> None:
    """Nobody here would run them."""
    tools = [*TOOLS, {"type": "web_search_20250305", "name": "web_search"}]
    with pytest.raises(CannotTranslate) as caught:
        sent(MESSAGES, CHAT, max_tokens=9, tools=tools, messages=LOOP[:1])
    assert "tools[2].type" == caught.value.param


def test_what_a_vendors_tool_left_behind_is_told() -> None:
    """A conversation may be moved: what an earlier model's vendor did in it stays out."""
    content = [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
               {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
               {"type": "text", "text": "Found."}]  # fmt: skip
    messages = [LOOP[0], {"role": "assistant", "content": content},
                {"role": "user", "content": "ok"}]  # fmt: skip
    body, told = sent(MESSAGES, CHAT, max_tokens=9, messages=messages)
    assert {"role": "assistant", "content": "Found."} == body["messages"][1]
    assert "messages[1].content[0] removed (server_tool_use)" in told


def test_what_was_changed_in_many_places_is_told_once() -> None:
    """A long conversation has hundreds of them; a header has little room."""
    result = {"type": "tool_result", "tool_use_id": "t", "content": "x", "is_error": True}
    many = [{"role": "user", "content": [result]}] * 40
    _, told = sent(MESSAGES, CHAT, max_tokens=9, messages=many)
    assert ("messages[*].content[*].is_error removed (40 times)",) == told


# -- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", [CHAT, RESPONSES])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_stream_says_what_the_whole_answer_says(caller, size) -> None:
    """However it is cut, in pieces of any size, and split at every byte."""
    asked = {"messages": [{"role": "user", "content": "x"}]} if caller == CHAT else {"input": "x"}
    carried = carry(caller, MESSAGES, stream=True, **asked)
    data = streamed(ANSWER, size)
    translator = carried.stream()
    expected = translator.feed(data) + translator.finish()
    for step in (1, 7):
        translator = carried.stream()
        pieces = [translator.feed(data[at : at + step]) for at in range(0, len(data), step)]
        assert expected == b"".join(pieces) + translator.finish()
    reader = reader_of(caller)
    reader.feed(expected)
    whole = SERVED[caller].read_answer(carried.answer(json.dumps(ANSWER).encode()))
    if caller == CHAT:
        return
    assert (15, 9, 7, 3, 4) == (
        reader.usage.input_tokens, reader.usage.output_tokens, reader.usage.cached_tokens,
        reader.usage.cache_write_tokens, reader.usage.reasoning_tokens,
    )  # fmt: skip
    assert whole.usage == reader.usage


def chunk(delta: dict, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return f"data: {json.dumps({'model': 'up', 'choices': [choice]})}\n\n".encode()


def called(index: int, piece: str, name: str | None = None) -> dict:
    function = {"arguments": piece} | ({"name": name} if name else {})
    call = {"index": index, "function": function} | ({"id": f"c{index}"} if name else {})
    return {"tool_calls": [call]}


USED = {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28,
        "prompt_tokens_details": {"cached_tokens": 15},
        "completion_tokens_details": {"reasoning_tokens": 3}}  # fmt: skip
END = f"data: {json.dumps({'choices': [], 'usage': USED})}\n\n".encode() + b"data: [DONE]\n\n"
INTERLEAVED = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "hm"}),
    chunk({"content": "Let "}),
    chunk({"content": 'me "see".'}),
    chunk(called(0, "", "look")),
    chunk(called(1, '{"q"', "read")),
    chunk(called(0, '{"q":')),
    chunk(called(1, ':"b"}')),
    chunk(called(0, '"a"}')),
    chunk({}, "tool_calls"),
    END,
]


def blocks_of(stream: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """What a client that is strict about the order makes of a stream, and the events' names."""
    blocks: list[dict[str, Any]] = []
    names: list[str] = []
    is_open = False
    for raw in stream.split(b"\n\n")[:-1]:
        name, data = raw.decode().split("\n")
        said = json.loads(data.removeprefix("data: "))
        assert name == f"event: {said['type']}"
        names.append(said["type"])
        if said["type"] == "content_block_start":
            assert not is_open
            assert len(blocks) == said["index"]
            blocks.append(dict(said["content_block"]))
            is_open = True
        elif said["type"] == "content_block_delta":
            assert is_open
            assert len(blocks) - 1 == said["index"]
            delta = said["delta"]
            field = {"text_delta": "text", "thinking_delta": "thinking",
                     "signature_delta": "signature"}.get(delta["type"])  # fmt: skip
            if field is None:
                blocks[-1]["json"] = blocks[-1].get("json", "") + delta["partial_json"]
            else:
                blocks[-1][field] += delta[field]
        elif said["type"] == "content_block_stop":
            assert is_open
            is_open = False
    assert not is_open or "message_stop" not in names
    return blocks, names


def from_chat():
    return carry(MESSAGES, CHAT, max_tokens=90, stream=True, messages=[LOOP[0]])


def test_one_block_at_a_time() -> None:
    """Pieces of two calls that come in turns are two blocks, one after the other; nothing else
    waits for its end."""
    translator = from_chat().stream()
    came = [translator.feed(each) for each in INTERLEAVED]
    stream = b"".join(came) + translator.finish()
    blocks, names = blocks_of(stream)
    assert ["thinking", "text", "tool_use", "tool_use"] == [each["type"] for each in blocks]
    assert ("hm", 'Let me "see".') == (blocks[0]["thinking"], blocks[1]["text"])
    assert labelled(Sealed(NOBODY, "")) == blocks[0]["signature"]
    assert [{"q": "a"}, {"q": "b"}] == [json.loads(each["json"]) for each in blocks[2:]]
    assert ("message_start", "message_stop") == (names[0], names[-1])
    assert b"hm" in came[1]
    assert b"Let " in came[2]
    assert b'{\\"q\\":' in came[6]


def test_usage_is_carried_and_never_made_up() -> None:
    """Counts lie beside each other there; the first event has an estimate, which nobody bills."""
    translator = from_chat().stream()
    stream = b"".join(translator.feed(each) for each in INTERLEAVED) + translator.finish()
    reader = MessageReader()
    reader.feed(stream)
    assert (20, 8, 15, 3) == (
        reader.usage.input_tokens, reader.usage.output_tokens, reader.usage.cached_tokens,
        reader.usage.reasoning_tokens,
    )  # fmt: skip
    start = json.loads(stream.split(b"\n\n")[0].split(b"data: ")[1])
    assert 12 == start["message"]["usage"]["input_tokens"]
    silent = from_chat().stream()
    stream = b"".join(silent.feed(each) for each in (*INTERLEAVED[:-1], b"data: [DONE]\n\n"))
    reader = MessageReader()
    reader.feed(stream + silent.finish())
    assert (None, True) == (reader.usage, reader.is_complete)


@pytest.mark.parametrize("count", range(len(INTERLEAVED)))
def test_a_cut_stream_is_never_a_whole_one(count) -> None:
    """Killed at every event: no end, no block out of its order; or an error event."""
    translator = from_chat().stream()
    stream = b"".join(translator.feed(each) for each in INTERLEAVED[:count])
    if count < 10:
        stream += translator.finish()
        _, names = blocks_of(stream)
        assert "message_stop" not in names
        assert "message_delta" not in names


def test_an_error_in_the_stream_is_one_of_this_api() -> None:
    """With the vendor's words."""
    translator = from_chat().stream()
    stream = b"".join(
        translator.feed(each)
        for each in (
            *INTERLEAVED[:3],
            b'data: {"error":{"message":"Boom","type":"server_error"}}\n\n',
        )
    )
    last = stream.split(b"\n\n")[-2].split(b"\n")
    assert b"event: error" == last[0]
    assert "Boom" == json.loads(last[1].removeprefix(b"data: "))["error"]["message"]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"),
     ("tool_calls", "end_turn"), ("odd", "end_turn")],
)  # fmt: skip
def test_stop_reasons_of_a_chat(reason, expected) -> None:
    """The same streamed and whole."""
    carried = from_chat()
    translator = carried.stream()
    stream = translator.feed(chunk({"content": "x"}) + chunk({}, reason) + END)
    reader = MessageReader()
    reader.feed(stream)
    choice = {"index": 0, "message": {"content": "x"}, "finish_reason": reason}
    whole = json.loads(carried.answer(json.dumps({"choices": [choice]}).encode()))
    assert (expected, expected) == (reader.finish_reason, whole["stop_reason"])


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"),
     ("model_context_window_exceeded", "length"), ("refusal", "content_filter"),
     ("tool_use", "tool_calls"), ("pause_turn", "stop")],
)  # fmt: skip
def test_stop_reasons_for_a_chat(reason, expected) -> None:
    """As the table of the reference says."""
    content = ANSWER["content"] if reason == "tool_use" else [{"type": "text", "text": "x"}]
    answer = {**ANSWER, "content": content, "stop_reason": reason}
    carried = carry(CHAT, MESSAGES, messages=[{"role": "user", "content": "x"}])
    whole = json.loads(carried.answer(json.dumps(answer).encode()))
    translator = carried.stream()
    reader = reader_of(CHAT)
    reader.feed(translator.feed(streamed(answer)))
    assert (expected, expected) == (whole["choices"][0]["finish_reason"], reader.finish_reason)


def test_the_packages_accumulator_takes_every_split() -> None:
    """The `anthropic` package makes the same message of a translated stream, wherever it was
    split."""
    messages = pytest.importorskip("anthropic.lib.streaming._messages")
    types = pytest.importorskip("anthropic.types")
    pydantic = pytest.importorskip("pydantic")
    adapter = pydantic.TypeAdapter(types.RawMessageStreamEvent)
    data = b"".join(INTERLEAVED)

    def accumulated(stream: bytes):
        snapshot, buffers = None, {}
        for raw in stream.split(b"\n\n")[:-1]:
            said = adapter.validate_json(raw.split(b"data: ", 1)[1])
            snapshot = messages.accumulate_event(
                event=said, current_snapshot=snapshot, json_bufs=buffers
            )
        return snapshot

    expected = None
    for at in range(0, len(data), 5):
        translator = from_chat().stream()
        stream = translator.feed(data[:at]) + translator.feed(data[at:]) + translator.finish()
        found = accumulated(stream).to_dict()
        expected = expected or found
        assert expected == found
    assert [{"q": "a"}, {"q": "b"}] == [each["input"] for each in expected["content"][2:]]


TEXTS = st.text(max_size=20)


@given(
    st.sampled_from((OPENAI, NOBODY)),
    TEXTS,
    st.none() | st.from_regex(r"[a-z_0-9]+", fullmatch=True),
)
def test_a_label_comes_off_again(maker, sealed, item_id) -> None:
    """Whatever is sealed, maker, name and seal come back; without a label it is the own maker's."""
    assert Sealed(maker, sealed, item_id) == unlabelled(
        labelled(Sealed(maker, sealed, item_id)), "x"
    )
    assert Sealed("x", "abc", "i") == unlabelled("abc", "x", "i")
