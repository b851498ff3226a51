"""A stream of the Responses API that breaks off costs at least what was seen, and no more than was
held for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.response_streams import ENDED, asked, streamed
from tests.unit.gateway.test_both_roads import Cut, Stream, called, datas

from merino.gateway.reckoning import CHARACTERS_PER_TOKEN_MAX
from merino.simulator.playback import Simulation
from merino.simulator.steps import Bytes
from merino.translation.table import TRANSLATIONS, Made
from merino.wire.responses import parse_responses

ROADS = ("responses", "chat/completions")


def scripted(kind: str, road: str) -> bytes:
    """What the upstream sends over this road."""
    if road == "responses":
        return streamed(kind)
    request = parse_responses(json.dumps(asked(kind)).encode())
    body = TRANSLATIONS["responses", road].carry(request, Made("req_1", 1)).body
    fields = json.loads(body) | {"stream_options": {"include_usage": True}}
    steps = Simulation().steps(road, json.dumps(fields).encode())
    return b"".join(each.data for each in steps if isinstance(each, Bytes))


def call(pieces: list[bytes], road: str, kind: str, *, breaks: bool) -> tuple[Any, Any, Any]:
    """The caller's events, the call's record, and what the operator is told of it."""
    fields = {name: value for name, value in asked(kind).items() if name not in ("model", "input")}
    upstream = (Cut if breaks else Stream)(*pieces, ends=True)
    fields.setdefault("max_output_tokens", 200)
    reply, _, world, _ = called({road: upstream}, "responses", endpoints=(road,), **fields)
    return reply, world.ledger.records[-1], world.pipeline.oddities.alarming()


def characters(events: list[dict[str, Any]]) -> int:
    """What the caller saw of the answer, in characters."""
    return sum(len(each["delta"]) for each in events if isinstance(each.get("delta"), str))


@pytest.mark.parametrize("road", ROADS)
@settings(max_examples=50)
@given(
    kind=st.sampled_from(sorted(ENDED)),
    share=st.floats(0, 1),
    ends_cleanly=st.booleans(),
)
def test_a_cut_stream_costs_what_was_seen_and_at_most_the_hold(
    road: str, kind: str, share: float, ends_cleanly: bool
) -> None:
    """Wherever an upstream breaks off, by a reset or as if it had ended: what the caller saw is
    paid for, no more than was held, nobody is alarmed, and the caller's stream has one end."""
    stream = scripted(kind, road)
    cut = stream[: int(share * len(stream))]
    reply, record, odd = call([cut], road, kind, breaks=not ends_cleanly)
    events = datas(reply.body)
    seen = characters(events)
    assert record.charged_nanos <= record.held_nanos
    assert 0 == record.overrun_nanos
    assert [] == odd
    if not events:
        assert (0, "voided") == (record.charged_nanos, record.resolution)
        return
    assert record.output_tokens >= -(-seen // CHARACTERS_PER_TOKEN_MAX)
    assert record.input_tokens > 0
    assert record.charged_nanos > 0
    ends = [each["type"] for each in events if each["type"] in (
        "response.completed", "response.incomplete", "response.failed")]  # fmt: skip
    assert len(ends) <= 1
    assert bool(ends) == (reply.error is None)


@pytest.mark.parametrize("road", ROADS)
@settings(max_examples=30)
@given(kind=st.sampled_from(sorted(ENDED)), one=st.floats(0, 1), other=st.floats(0, 1))
def test_more_of_a_stream_never_costs_less(road: str, kind: str, one: float, other: float) -> None:
    """As long as nothing was reported, whoever got more of an answer pays no less."""
    stream = scripted(kind, road)
    end = stream.rfind(b'"usage":{"')
    end = stream.rfind(b"\n\n", 0, end) if end > 0 else len(stream)
    shorter, longer = sorted((int(one * end), int(other * end)))
    bills = [
        call([stream[:at]], road, kind, breaks=True)[1].charged_nanos for at in (shorter, longer)
    ]
    assert bills[0] <= bills[1]


@pytest.mark.parametrize("road", ROADS)
@settings(max_examples=40)
@given(kind=st.sampled_from(sorted(ENDED)), share=st.floats(0, 1), single=st.booleans())
def test_however_it_is_cut_into_reads_the_caller_gets_the_same(
    road: str, kind: str, share: float, single: bool
) -> None:
    """In two reads, or byte by byte, the caller gets the bytes of one read and pays the same."""
    stream = scripted(kind, road)
    at = int(share * len(stream))
    pieces = [stream[:at], stream[at:]]
    if single:
        pieces = [stream[each : each + 1] for each in range(len(stream))]
    expected, bill, _ = call([stream], road, kind, breaks=False)
    reply, record, _ = call([each for each in pieces if each], road, kind, breaks=False)
    if road == "responses":
        assert expected.body == reply.body
    else:
        kinds = [each["type"] for each in datas(reply.body)]
        assert [each["type"] for each in datas(expected.body)] == kinds
    assert bill.charged_nanos == record.charged_nanos
    assert bill.output_tokens == record.output_tokens
