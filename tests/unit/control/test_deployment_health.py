"""How deployments do over time: what counts as a failure there, and which colour it has."""

from __future__ import annotations

import asyncio

import pytest

from merino.control.deployment_health import HealthDesk, failed_share, is_deployments_fault, step_of
from merino.control.overview import CallSums
from merino.control.usage import Spread, SpreadRow, UsageRow
from merino.control.usage import step_of as spread_step
from merino.domain.call import HEDGE_LOST, Attempt
from merino.domain.clock import HOUR_MS


def test_a_failover_is_a_failure_of_the_one_that_failed():
    """Nine answered and one failed attempt, whose call went elsewhere: a tenth."""
    assert 0.1 == failed_share(CallSums("", calls=9), 1)
    assert 0.1 == failed_share(CallSums("", calls=10, failed=1), 0)
    assert 0.1 == failed_share(CallSums("", calls=10, failed=1), 1)
    assert 1.0 == failed_share(CallSums(""), 3)
    assert failed_share(CallSums("", calls=4, refused=4), 0) is None


@pytest.mark.parametrize(
    ("status", "outcome", "expected"),
    [
        (500, "UpstreamRefused", True),
        (429, "UpstreamRefused", True),
        (401, "UpstreamRefused", True),
        (0, "ConnectFailed", True),
        (400, "UpstreamRefused", False),
        (422, "UpstreamRefused", False),
        (0, HEDGE_LOST, False),
    ],
)
def test_callers_mistakes_and_lost_races_are_no_failures(status, outcome, expected):
    """They say nothing about the deployment."""
    assert expected == is_deployments_fault(Attempt("d", 0.0, 1.0, outcome, status))


@pytest.mark.parametrize(
    ("value", "of", "expected"),
    [
        (0.0, "errors", 0), (0.01, "errors", 1), (0.011, "errors", 2), (1.0, "errors", 5),
        (None, "first_token", 0), (999, "first_token", 0), (2_001, "first_token", 2),
    ],
)  # fmt: skip
def test_each_value_has_the_colour_of_its_step(value, of, expected):
    """Bounds belong to the lower step."""
    assert expected == step_of(value, of)


class _Read:
    """Sums of two deployments in two hours."""

    async def usage(self, by, since_ms, until_ms, cut, slot_ms=None, only=()):
        del by, since_ms, until_ms, cut, slot_ms, only
        sums = CallSums("", calls=10, failed=2, generated_tokens=500, generating_ms=10_000)
        return [
            UsageRow(0, ("a",), "USD", sums),
            UsageRow(0, ("a",), "EUR", CallSums("", calls=2)),
            UsageRow(HOUR_MS, ("b",), "USD", CallSums("", calls=4)),
        ]

    async def spreads(self, by, since_ms, until_ms, cut, slot_ms=None):
        del by, since_ms, until_ms, cut, slot_ms
        return [SpreadRow(0, "a", Spread({spread_step(3_000): 10}))]

    async def failed(self, since_ms, until_ms, slot_ms):
        del since_ms, until_ms, slot_ms
        return {("a", 0): 5, ("c", HOUR_MS): 1}


def test_the_map_has_a_row_for_whoever_was_asked():
    """Also for one that only failed; a slot without calls is empty."""
    read = _Read()
    desk = HealthDesk(read, read, read)
    heat = asyncio.run(desk.heat(0, 2 * HOUR_MS, HOUR_MS, "errors"))
    assert ([0, HOUR_MS], ["a", "b", "c"]) == (heat.slots, list(heat.rows))
    first, empty = heat.rows["a"]
    assert (12, 5, 5 / 15, 4, None) == (first.calls, first.failed, first.value, first.step, empty)
    assert 5 == heat.rows["c"][1].step
    pace = asyncio.run(desk.pace("a", 0, 2 * HOUR_MS, HOUR_MS))
    assert [50.0, None] == pace.tokens_per_s
    assert [5 / 15, None] == pace.errors
