"""Streams that say nothing are failed attempts; and nobody is asked when it is too late."""

from __future__ import annotations

import pytest
from tests.unit.gateway.test_attempts import World as Attempted
from tests.unit.gateway.test_lost_hedges import CONTENT, END, ROLE, Stream, Upstreams
from tests.unit.gateway.test_pipeline import World

from merino.gateway.attempts import Attempts, RetryPolicy


@pytest.mark.parametrize("pieces", [(), (b"data: [DONE]\n\n",), (ROLE % b"", b"data: [DONE]\n\n")])
def test_an_empty_stream_fails_over(pieces) -> None:
    """No event, or none but the last, is no answer: another deployment is asked."""
    world = World("plain", "plain")
    upstreams = Upstreams(
        d0=Stream(*pieces, ends=True), d1=Stream(ROLE % b"", CONTENT, END, ends=True)
    )
    world.pipeline._attempts = Attempts({"simulator": upstreams}, world.fleet, RetryPolicy())
    world.run(stream=True)
    (record,) = world.ledger.records
    assert ("d1", 200) == (record.deployment, record.status)
    assert ["d0"] == [attempt.deployment for attempt in record.attempts]


def test_nobody_is_asked_after_the_deadline() -> None:
    """When the first attempt has used up the call's time, no other begins."""
    world = Attempted(a=[503], b=[200])
    call = world.call()
    call.timeout_s = 0.0
    _, _, error = world.one(call)
    assert error is not None
    assert ["a"] == world.upstreams.asked
