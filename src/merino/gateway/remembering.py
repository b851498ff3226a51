"""What a call remembers of the attempts that were not its answer."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

from merino.domain.call import MESSAGE_LENGTH_MAX, Attempt
from merino.domain.errors import UpstreamFailed
from merino.gateway.call import Call
from merino.gateway.refusals import outcome_of


def remember_failed(
    call: Call, name: str, began: float, error: UpstreamFailed, reason_for_next: str | None
) -> None:
    """Remember an attempt that failed, in the upstream's words with its secrets taken out."""
    call.attempts += (
        Attempt(
            deployment=name,
            started_ms=(began - call.received_at) * 1000,
            duration_ms=(perf_counter() - began) * 1000,
            outcome=outcome_of(error),
            status=getattr(error, "status", 0),
            reason_for_next=reason_for_next,
            message=(error.said or error.message)[:MESSAGE_LENGTH_MAX],
        ),
    )


def remember_backoff(call: Call, seconds: float) -> None:
    """Remember how long nothing was asked after the last failed attempt."""
    call.backoff_s += seconds
    last = call.attempts[-1]
    call.attempts = (*call.attempts[:-1], replace(last, backoff_ms=seconds * 1000))


def forget_next(call: Call) -> None:
    """There was no next attempt after all."""
    call.attempts = (*call.attempts[:-1], replace(call.attempts[-1], reason_for_next=None))
