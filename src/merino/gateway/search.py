"""Where a call may be sent: its candidates in order, and why each of them cannot take it now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from merino.domain.deployment import Deployment
from merino.domain.errors import LimitExceeded, NoDeploymentAvailable
from merino.domain.limits import LIMIT_WORDS, Demand
from merino.gateway.call import Call
from merino.gateway.fleet import Fleet, Member
from merino.gateway.limits import demand_of, format_reset

_UNAVAILABLE_RETRY_S_MAX = 300.0
"""If only an operator can help, the time is unknown; the API decides what callers are told."""


class Search:
    """`demand` is what the call takes of a deployment's limits. `may_use` is asked before a
    deployment gets the call, and may have to hold more money for it."""

    __slots__ = ("_fleet", "_may_use", "call", "candidates", "demand")

    def __init__(
        self,
        fleet: Fleet,
        call: Call,
        candidates: Sequence[Deployment],
        may_use: Callable[[Deployment], bool] | None,
    ) -> None:
        self._fleet = fleet
        self._may_use = may_use
        self.call = call
        self.candidates = candidates
        self.demand = demand_of(call, candidates)

    def usable(self, now: float, but: Collection[Member]) -> Iterator[Member]:
        """The candidates that can take the call now, in order, without the excluded ones."""
        for deployment in self.candidates:
            member = self._fleet.of(deployment)
            if member in but or member.why_not(self.demand, now) is not None:
                continue
            if self._may_use is None or self._may_use(deployment):
                yield member

    def first(self) -> Member:
        """Where to try first. Raises `LimitExceeded` if all are at their limits,
        `NoDeploymentAvailable` if none can be asked for other reasons."""
        now = self._fleet.clock()
        soonest_s = float("inf")
        why: list[str] = []
        are_at_limits = bool(self.candidates)
        for deployment in self.candidates:
            member = self._fleet.of(deployment)
            unusable = member.why_not(self.demand, now)
            if unusable is None:
                if self._may_use is None or self._may_use(deployment):
                    return member
                unusable = "too_dear"
            else:
                soonest_s = min(soonest_s, member.usable_in_s(self.demand, now))
            are_at_limits = are_at_limits and unusable in {"busy", "rate_limited"}
            why.append(f"{deployment.name}: {_told(member, unusable, self.demand, now)}")
        raise _none_usable(self.call.alias.name, why, soonest_s, are_at_limits=are_at_limits)


def _none_usable(
    alias_name: str, why: Sequence[str], soonest_s: float, *, are_at_limits: bool
) -> LimitExceeded | NoDeploymentAvailable:
    if are_at_limits:
        retry_after_s = min(max(soonest_s, 0.05), _UNAVAILABLE_RETRY_S_MAX)
        return LimitExceeded(
            f"Limit reached: every deployment of '{alias_name}' has all it may have "
            f"({', '.join(why)}). Try again in {format_reset(retry_after_s)}.",
            code="rate_limit_exceeded",
            retry_after_s=retry_after_s,
        )
    return NoDeploymentAvailable(
        f"No deployment of '{alias_name}' is available ({', '.join(why) or 'none'}).",
        code="no_deployment_available",
        retry_after_s=min(max(soonest_s, 1.0), _UNAVAILABLE_RETRY_S_MAX),
    )


def _told(member: Member, unusable: str, demand: Demand, now: float) -> str:
    """Why a deployment is passed over; for a limit, which one and how much."""
    refusal = member.limits.refusal(demand, now) if unusable in {"busy", "rate_limited"} else None
    if unusable == "breaker_open" and member.trouble is not None:
        return f"breaker open: {member.breaker.reason}"
    if refusal is None:
        return unusable.replace("_", " ")
    return f"{refusal.limit:,} {LIMIT_WORDS[refusal.kind]}"
