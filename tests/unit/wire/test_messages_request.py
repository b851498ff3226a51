"""A body of the Messages API: what the relay reads of it, and what it changes."""

from __future__ import annotations

import json

import pytest

from merino.domain.errors import InvalidCall
from merino.wire.messages import parse_counted, parse_messages

PLAIN = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}


def parsed(**more):
    body = {name: value for name, value in {**PLAIN, **more}.items() if value is not None}
    return parse_messages(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 1}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"stream": 1}, "stream"),
        ({"thinking": []}, "thinking"),
        ({"output_config": {"effort": 1}}, "output_config"),
        ({"speed": 1}, "speed"),
    ],
)
def test_what_no_vendor_could_read_is_refused_by_name(more, param) -> None:
    """The error names the field."""
    with pytest.raises(InvalidCall) as caught:
        parsed(**more)
    assert param == caught.value.param


def test_what_is_read() -> None:
    """The limit, the effort, and what has a price of its own."""
    request = parsed(stream=True, output_config={"effort": "high"}, speed="fast")
    assert (100, True, "high", "fast-mode") == (
        request.output_tokens_max, request.stream, request.reasoning_effort, request.service_tier,
    )  # fmt: skip


def test_nothing_is_written_anew() -> None:
    """As long as nothing changes, the body is the caller's, byte for byte."""
    body = (
        b'{ "model":"m","max_tokens":0, "messages":[{"role":"user","content":"\\u00fc"}]  ,"x":1}'
    )
    request = parse_messages(body)
    request.set_model("m")
    assert body == request.render()
    assert 0 == request.output_tokens_max


@pytest.mark.parametrize(
    ("tokens", "thinking"),
    [
        (5000, {"type": "enabled", "budget_tokens": 4000}),
        (3000, {"type": "enabled", "budget_tokens": 1500}),
        (1500, {"type": "enabled", "budget_tokens": 1024}),
        (1024, {"type": "disabled"}),
        (8, {"type": "disabled"}),
    ],
)
def test_a_lower_limit_leaves_room_for_the_answer(tokens, thinking) -> None:
    """Models refuse to think as much as they may say in all: the budget goes down too, or there is
    no thinking; and that is told."""
    request = parsed(max_tokens=8000, thinking={"type": "enabled", "budget_tokens": 4000})
    request.set_output_tokens_max(tokens, reason="balance")
    sent = json.loads(request.render())
    assert (tokens, thinking) == (sent["max_tokens"], sent["thinking"])
    assert (tokens < 4001) == any(each.startswith("thinking") for each in request.adjusted)


def test_a_count_needs_no_limit() -> None:
    """It is asked with the same fields, and has no answer to limit."""
    body = {name: value for name, value in PLAIN.items() if name != "max_tokens"}
    request = parse_counted(json.dumps({**body, "stream": True}).encode())
    assert ("messages/count_tokens", False, False) == (
        request.endpoint.name, request.stream, request.endpoint.has_output,
    )  # fmt: skip
