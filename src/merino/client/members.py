"""What a client knows of each base URL it calls, and its attempts there.

Pure state, asked under the engine's lock.
"""

from __future__ import annotations

import random

from merino.client.policy import ClientPolicy, Endpoint
from merino.resilience.breaker import Breaker, BreakerPolicy
from merino.resilience.retry_budget import RetryBudget

PAUSES_MAX = 1024
"""Keys of one endpoint whose pauses are kept."""


class Member:
    """A base URL: its breaker and retry budget, and until when each key leaves it alone."""

    def __init__(self, base_url: str, policy: ClientPolicy, now: float) -> None:
        self.base_url = base_url
        self.breaker = Breaker(
            BreakerPolicy(
                outcomes_min=max(2, policy.breaker_threshold),
                consecutive_failures=policy.breaker_threshold,
                open_s=policy.breaker_open_s,
                open_max_s=max(300.0, policy.breaker_open_s),
            ),
            uniform=random.uniform,
        )
        self.budget = RetryBudget(policy.retry_share, policy.retry_reserve, now)
        self._pauses: dict[str, float] = {}

    def paused_until_s(self, key: str) -> float:
        return self._pauses.get(key, 0.0)

    def pause(self, key: str, until_s: float, now: float) -> None:
        pauses = self._pauses
        if len(pauses) >= PAUSES_MAX:
            self._pauses = pauses = {each: at for each, at in pauses.items() if at > now}
        pauses[key] = until_s


class Attempt:
    """One attempt at an endpoint; made by `Engine.attempt` and `Engine.hedge`."""

    __slots__ = ("began_s", "begun", "endpoint", "is_hedge", "is_primary", "member")

    def __init__(
        self,
        member: Member,
        endpoint: Endpoint,
        begun: int,
        now: float,
        *,
        is_primary: bool = True,
        is_hedge: bool = False,
    ) -> None:
        self.member = member
        self.endpoint = endpoint
        self.begun = begun
        self.began_s = now
        self.is_primary = is_primary
        self.is_hedge = is_hedge


def rest_s_of(member: Member, endpoint: Endpoint, now: float) -> float:
    """How long the endpoint is left alone with its key; 0: it may be asked now."""
    if not member.breaker.allows(now):
        return max(member.breaker.retry_after_s(now), 1e-3)
    return max(0.0, member.paused_until_s(endpoint.api_key) - now)
