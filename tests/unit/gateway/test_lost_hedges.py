"""What an attempt that lost a race cost us, and that callers and operators learn of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.gateway.test_pipeline import PRICE, World

from merino.domain.call import HEDGE_LOST
from merino.domain.usage import Usage
from merino.gateway.attempts import Attempts, RetryPolicy
from merino.pricing.cost import cost

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]%b}\n\n'
REPORTED = b',"usage":{"prompt_tokens":11,"completion_tokens":40,"total_tokens":51}'
CONTENT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
END = (
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":1,"total_tokens":12}}\n\n'
    b"data: [DONE]\n\n"
)


class Stream:
    """A stream of these pieces that then ends, or never does."""

    status = 200
    has_finished = False
    headers = ((b"content-type", b"text/event-stream"),)

    def __init__(self, *pieces: bytes, ends: bool) -> None:
        self.pieces, self.ends = pieces, ends

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)

    def header_like(self, prefix: bytes) -> bool:
        return False

    async def pipe(self, sink) -> None:
        for piece in self.pieces:
            sink(piece)
        if not self.ends:
            await asyncio.Event().wait()

    def close(self) -> None:
        pass


class Upstreams:
    def __init__(self, **streams: Stream) -> None:
        self.streams = streams

    async def send(self, request) -> Any:
        return self.streams[request.deployment.name]


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        (REPORTED, Usage(input_tokens=11, output_tokens=40)),
        (b"", None),
    ],
)
def test_a_lost_hedge_is_booked_with_what_it_used(reported, usage) -> None:
    """Its own report if it came before the race was lost, else its input; the caller's header, which
    goes out with the winner's first content, names it already; the account pays for neither."""
    world = World("plain", "plain")
    world.alias = replace(world.alias, hedging=True)
    upstreams = Upstreams(
        d0=Stream(ROLE % reported, ends=False), d1=Stream(ROLE % b"", CONTENT, END, ends=True)
    )
    policy = RetryPolicy(hedge_delay_min_s=0.01, hedge_share=1.0)
    world.pipeline._attempts = Attempts({"simulator": upstreams}, world.fleet, policy)
    world.fleet.keep(world.alias.deployments)
    pace = world.fleet.of(world.alias.deployments[0]).pace(streamed=True)
    for _ in range(200):
        pace.observe(0.001, world.fleet.clock(), is_ranked=True)

    reply = world.run(stream=True)

    (record,) = world.ledger.records
    assert "d1" == record.deployment
    (lost,) = record.attempts
    assert ("d0", HEDGE_LOST) == (lost.deployment, lost.outcome)
    least = cost(Usage(input_tokens=1), PRICE).upstream_nanos
    if usage is None:
        assert lost.upstream_nanos >= least
    else:
        assert cost(usage, PRICE).upstream_nanos == lost.upstream_nanos
    assert cost(Usage(11, 1), PRICE).account_nanos == record.charged_nanos
    assert record.charged_nanos + lost.upstream_nanos == record.upstream_nanos
    assert [HEDGE_LOST] == reply.told
