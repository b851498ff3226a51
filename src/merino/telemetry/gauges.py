"""What is read when metrics are asked for, instead of counted as it happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from merino.gateway.attempts import Attempts
from merino.gateway.fleet import Fleet
from merino.gateway.limits import RateLimiter
from merino.gateway.oddities import Oddities
from merino.telemetry.metrics import Metrics

_BREAKER_VALUES = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


class BusyLedger(Protocol):
    """A ledger that says how far it is."""

    @property
    def backlog_calls(self) -> int: ...

    @property
    def open_holds(self) -> int: ...


def add_gauges(
    metrics: Metrics,
    *,
    oddities: Oddities,
    limits: RateLimiter,
    fleet: Fleet,
    attempts: Attempts,
    ledger: BusyLedger,
    damage: Callable[[], Sequence[str]],
) -> None:
    metrics.labelled_gauge(
        "merino_odd_usage_calls",
        "Calls whose usage or bill is odd, since the start",
        ("deployment", "oddity"),
        lambda: [((each.deployment, each.oddity), float(each.count)) for each in oddities.all()],
    )
    metrics.gauge(
        "merino_ledger_backlog_calls",
        "Settled calls in the journal that the database does not have yet",
        lambda: ledger.backlog_calls,
    )
    metrics.gauge(
        "merino_journal_damaged",
        "Damaged ends of the journal that nobody has taken note of",
        lambda: len(damage()),
    )
    metrics.gauge("merino_holds_open", "Holds of calls in flight", lambda: ledger.open_holds)
    metrics.gauge("merino_calls_waiting", "Calls that wait for a limit", lambda: limits.waiting)
    metrics.labelled_gauge(
        "merino_breaker_state",
        "Breakers: 0 closed, 1 half-open, 2 open",
        ("deployment",),
        lambda: [
            ((each.deployment.name,), _BREAKER_VALUES[each.breaker.state])
            for each in fleet.members()
        ],
    )
    metrics.labelled_gauge(
        "merino_deployment_calls_in_flight",
        "Attempts running at a deployment",
        ("deployment",),
        lambda: [((each.deployment.name,), float(each.in_flight)) for each in fleet.members()],
    )
    metrics.labelled_gauge(
        "merino_parameters_refused",
        "Parameters and values that a deployment's models refused, and that are left out",
        ("deployment",),
        lambda: [((name,), float(count)) for name, count in attempts.one.parameters.counts()],
    )
