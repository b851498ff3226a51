"""The benchmark reads answers as the relay does, however a vendor writes them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.bench.caller import Asked, Caller, CallerPolicy
from merino.bench.samples import CallSample, tpot_ms
from merino.bench.targets import Target

BODY = json.dumps({"model": "m", "messages": []}).encode()


class Answer:
    connect_s = None
    status = 200

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def header(self, name: bytes) -> bytes | None:
        return None

    async def read(self, bytes_max: int) -> bytes:
        return b"".join(self.pieces)

    async def pipe(self, sink) -> None:
        for piece in self.pieces:
            sink(piece)

    def close(self) -> None:
        pass


class Server:
    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    async def send(self, data: bytes) -> Any:
        return Answer(self.pieces)


def measured(*pieces: bytes, asked: Asked | None = None, is_streamed: bool = True) -> CallSample:
    caller = Caller(
        Server(list(pieces)).send,
        Target("t", "http://x/v1", "m", ""),
        CallerPolicy(is_streamed=is_streamed),
        lambda model, tier, used: used.output_tokens,
    )
    asked = asked or Asked(0, BODY, 0.0, input_tokens_estimate=11)
    return asyncio.run(caller.call(asked))


def event(delta: Any = None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"choices": choices, **more}).encode() + b"\n\n"


STOP = event({}, "stop")
DONE = b"data: [DONE]\n\n"
TWO = event({"content": "a"}) + event({"content": "b"}) + STOP


@pytest.mark.parametrize(
    ("last", "inside", "outside", "source"),
    [
        (b'data: {"choices":null,"usage":null}\n\n', 11, 2, "counted"),
        (b'data: {"choices":null,"usage":{"prompt_tokens":5,"completion_tokens":9}}\n\n', 5, 9,
         "reported"),
        (event(usage={"prompt_tokens": 5, "completion_tokens": None}), 5, 2, "counted"),
        (event(usage={"prompt_tokens": None, "completion_tokens": 7}), 11, 7, "reported"),
        (event(usage={}), 11, 2, "counted"),
        (event(usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}), 11, 2,
         "counted"),
        (event(usage={"prompt_tokens": "5", "completion_tokens": 2.0}), 5, 2, "reported"),
        (event(usage={"input_tokens": 5, "output_tokens": 4}), 5, 4, "reported"),
        (event(usage={"total_tokens": 31}), 11, 20, "reported"),
        (event({}, None, usage={"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}),
         5, 3, "reported"),
        (b"", 11, 2, "counted"),
    ],
)  # fmt: skip
def test_null_is_nothing_and_counts_are_read_however_written(last, inside, outside, source) -> None:
    """What is not reported is counted; what is reported under any name is taken."""
    found = measured(TWO, last, DONE)
    assert (None, inside, outside, source) == (
        found.error,
        found.input_tokens,
        found.output_tokens,
        found.tokens_source,
    )


@pytest.mark.parametrize("is_streamed", [True, False])
def test_reasoning_beside_the_output_is_output(is_streamed) -> None:
    """As xAI reports it: the total tells; the pace is over what was sent."""
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 107,
        "completion_tokens_details": {"reasoning_tokens": 100},
    }
    message = {"choices": [{"message": {"content": "ab"}}], "usage": usage}
    whole = [json.dumps(message).encode()]
    pieces = [event({"content": "a"}), event({"content": "b"}), STOP, event(usage=usage), DONE]
    found = measured(*(pieces if is_streamed else whole), is_streamed=is_streamed)
    assert (102, 100, 102) == (found.output_tokens, found.reasoning_tokens, found.cost_nanos)
    if is_streamed:
        assert tpot_ms(found) is not None


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "aGk="}], "content": ""},
        {"thinking": "hm"},
        {"thinking_blocks": [{"type": "thinking", "thinking": "hm"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
    ],
)
def test_thinking_under_any_name_is_a_token_that_nobody_sees(delta) -> None:
    """It is the first token, and not the first visible one."""
    thought = measured(event(delta), STOP, DONE)
    assert thought.error is None
    assert thought.first_token_s is not None
    assert thought.first_visible_s is None
    both = measured(event(delta), event({"content": "so"}), STOP, DONE)
    assert both.first_token_s is not None
    assert both.first_visible_s is not None
    assert both.first_token_s < both.first_visible_s


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"content": [{"type": "text", "text": "a"}]},
        {"refusal": "no"},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]},
        {"images": [{"image_url": {"url": "data:image/png;base64,aGk="}}]},
        {"audio": {"data": "aGk="}},
    ],
)
def test_whatever_else_comes_is_seen(delta) -> None:
    """Text, refusals, tool calls, images and sound."""
    found = measured(event({"role": "assistant", "content": ""}), event(delta), STOP, DONE)
    assert found.error is None
    assert found.first_visible_s == found.first_token_s is not None


@given(
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.booleans(),
    st.booleans(),
    st.lists(st.integers(1, 40), max_size=30),
)
def test_line_ends_and_cuts_change_nothing(end, has_bom, is_spread, cuts) -> None:
    """The standard's line ends, a byte order mark, data over several lines, reads of any size."""
    usage = event(usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7})
    stream = TWO + usage + DONE
    if is_spread:
        stream = stream.replace(b'"choices": ', b'"choices":\ndata: ')
    stream = (b"\xef\xbb\xbf" if has_bom else b"") + stream.replace(b"\n", end)
    pieces: list[bytes] = []
    for size in cuts:
        pieces.append(stream[:size])
        stream = stream[size:]
    asked = Asked(0, BODY, 0.0, keeps_text=True)
    found = measured(*filter(None, [*pieces, stream]), asked=asked)
    assert (None, 5, 2, "ab") == (
        found.error,
        found.input_tokens,
        found.output_tokens,
        asked.text,
    )


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([event({"content": "a"})], "truncated"),
        ([event({"content": "a"}), b'data: {"choices":[{"del'], "truncated"),
        ([event({"content": "a"}), STOP[:-2]], None),
        ([event({"content": "a"}), b"data: {nonsense}\n\n", DONE], "error_event"),
        ([b'event: error\ndata: {"message":"no room","code":"overloaded"}\n\n'],
         "error_event overloaded"),
        ([b'data: {"object":"error","message":"no room","code":40303}\n\n'], "error_event 40303"),
        ([b"<html>Sign in</html>"], "empty"),
        ([b": waiting\n\nevent: ping\ndata: x\n\n", TWO, DONE], None),
    ],
)  # fmt: skip
def test_what_ends_wrongly_is_named(pieces, error) -> None:
    """An error in any vendor's words is one, and half an answer is none."""
    assert error == measured(*pieces).error


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"error": {"message": "no", "code": "busy"}}, "error_body busy"),
        ({"choices": []}, "error_body"),
        ({"choices": None}, "error_body"),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate"}}, "error_body 1002"),
        ({"choices": [{"message": {"content": "hi"}}], "usage": None, "error": None}, None),
    ],
)
def test_a_whole_200_may_be_no_answer(answer, error) -> None:
    """The same of calls that are not streamed."""
    assert error == measured(json.dumps(answer).encode(), is_streamed=False).error


def test_what_the_relay_says_of_the_cost_is_taken() -> None:
    """It stands in a comment before the last event."""
    found = measured(TWO, b": x-merino-cost: 0.002\n" + DONE)
    assert 2_000_000 == found.cost_nanos
