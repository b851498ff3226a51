"""Try a call's candidates until one answers, as long as nothing has reached the caller.

The only retry loop of the relay. The state of deployments is in `fleet.py`, one attempt in
`attempt.py`, two at once in `hedge.py`. The call's deadline limits how long the loop may go on; the
retry budget of the next deployment limits how often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from merino.domain.deployment import Deployment
from merino.domain.errors import LimitExceeded, UpstreamFailed, UpstreamRefused
from merino.gateway.attempt import Consumer, OneAttempt, go_on, timed_out
from merino.gateway.blame import is_too_large
from merino.gateway.call import Call
from merino.gateway.fleet import Fleet, Member
from merino.gateway.hedge import Hedging
from merino.gateway.origins import may_be_elsewhere
from merino.gateway.ports import Provider
from merino.gateway.refusals import may_ask_again, may_fail_over, most_telling
from merino.gateway.remembering import forget_next, remember_backoff, remember_failed
from merino.gateway.roads import Roads
from merino.gateway.search import Search
from merino.gateway.turns import Turns
from merino.resilience.backoff import wait_s
from merino.running.standstill import Standstill

LOOK_S = 0.05
"""How often a call that waits for a deployment looks for room: nothing signals the end of a call in
flight."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts_max` counts the first. Backoff before going back to the same deployment. `wait_s`
    is how long a call may wait for room at its deployments; with 0 it is refused at once."""

    attempts_max: int = 3
    backoff_base_s: float = 0.05
    backoff_throttled_s: float = 1.0
    backoff_max_s: float = 20.0
    hedge_delay_min_s: float = 1.0
    hedge_share: float = 0.05
    wait_s: float = 0.0
    waiting_max: int = 1000


class _Tried:
    """The members that failed, and those of them that may do better if asked again."""

    __slots__ = ("again", "members", "telling")

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.again: list[Member] = []
        self.telling: UpstreamFailed | None = None
        """The failure that best explains why the call fails."""

    def add(self, member: Member, error: UpstreamFailed) -> None:
        self.members.append(member)
        if may_ask_again(error):
            self.again.append(member)
        elif member in self.again:
            self.again.remove(member)


class Attempts:
    def __init__(
        self,
        providers: Mapping[str, Provider],
        fleet: Fleet,
        policy: RetryPolicy | None = None,
        standstill: Standstill | None = None,
        roads: Roads | None = None,
    ) -> None:
        self._fleet = fleet
        self.one = OneAttempt(providers, fleet, standstill or Standstill(), roads)
        self.hedging = Hedging(self.one, fleet)
        self.turns = Turns(LOOK_S)
        self.configure(policy or RetryPolicy())

    def configure(self, policy: RetryPolicy) -> None:
        """Another policy from now on."""
        self.policy = policy
        self.hedging.configure(share=policy.hedge_share, delay_min_s=policy.hedge_delay_min_s)

    async def run(
        self,
        call: Call,
        candidates: Sequence[Deployment],
        consumer: Consumer,
        may_use: Callable[[Deployment], bool] | None = None,
    ) -> None:
        """Return once one attempt was consumed whole. Raises the last attempt's `UpstreamFailed`.

        When a deployment fails before anything was committed to the caller, the next one is tried,
        unless its answer says that the call itself is wrong. `may_use` is asked before a deployment
        gets the call. Raises `LimitExceeded` if all of them are at their limits,
        `NoDeploymentAvailable` if none can be asked for other reasons.
        """
        search = Search(self._fleet, call, candidates, may_use)
        try:
            if call.alias.name in self.turns.queues:
                raise _behind_others(call)
            member = search.first()
        except LimitExceeded as refusal:
            member = await self._in_turn(search, refusal)
        member.budget.call()
        tried: _Tried | None = None
        while True:
            began = perf_counter()
            try:
                if call.alias.hedging and tried is None and call.background is None:
                    await self.hedging.attempt(search, member, consumer)
                else:
                    await self.one.make(call, member, search.demand, consumer)
            except UpstreamFailed as error:
                tried = tried or _Tried()
                member = await self._after(search, member, consumer, error, tried, began)
            else:
                call.upstream_done_at = perf_counter()
                return

    async def _after(
        self,
        search: Search,
        member: Member,
        consumer: Consumer,
        error: UpstreamFailed,
        tried: _Tried,
        began: float,
    ) -> Member:
        """The next member to ask after `member` failed, once it is time. Raises the failure if
        there is none."""
        call = search.call
        go_on(call)
        tried.add(member, error)
        found = None
        answering = call.deployment if consumer.is_committed else None
        name = (answering or member.deployment).name
        may_go_on = may_fail_over(error) and not is_too_large(error)
        may_go_on = may_go_on or may_be_elsewhere(call.request.state, call.origin, error)
        if not consumer.is_committed and may_go_on:
            found = self._next(search, tried, error)
            tried.telling = most_telling(error, tried.telling)
        if found is None:
            remember_failed(call, name, began, error, None)
            if tried.telling is not None and tried.telling is not error:
                raise tried.telling from error
            raise error
        following, after_s = found
        why = "retry" if following in tried.members else "fail over"
        remember_failed(call, name, began, error, why)
        took_s = perf_counter() - began
        if after_s > 0:
            await self._wait(call, following, after_s)
            if following.why_not(search.demand, self._fleet.clock()) is not None:
                # Drained meanwhile, or other calls were quicker: there is no next one.
                forget_next(call)
                raise error
        call.earlier_s += took_s
        return following

    async def _in_turn(self, search: Search, refusal: LimitExceeded) -> Member:
        """Where to try first, once there is room and it is this call's turn; if it may wait."""
        policy, call = self.policy, search.call
        within_s = min(policy.wait_s, call.patience_s())
        # A batch's item has its turn after the callers that wait for an answer.
        may_wait = call.batch_item is None and len(self.turns) < policy.waiting_max
        if within_s <= 0 or not may_wait or refusal.retry_after_s is None:
            raise refusal
        began_at = perf_counter()
        try:
            return await self.turns.wait(
                call.alias.name, call.key.account_id, within_s, lambda _: search.first()
            )
        finally:
            call.waited_s += perf_counter() - began_at

    def _next(
        self, search: Search, tried: _Tried, error: UpstreamFailed
    ) -> tuple[Member, float] | None:
        """Where to try next, and after how long; `None` to give up.

        Another deployment at once. If there is no other, the same ones after a backoff, if they may
        do better then (`again`; the last one tried comes last). An attempt at a deployment that is
        not known to answer is taken from its retry budget, so that an outage of all of them is not
        made worse.
        """
        policy, fleet, call = self.policy, self._fleet, search.call
        if len(tried.members) >= policy.attempts_max or call.cancel_cause is not None:
            return None
        if call.remaining_s() <= 0:
            return None  # no deployment asked now could answer in time
        now = fleet.clock()
        for member in search.usable(now, tried.members):
            if member.answers or member.budget.try_take(now):
                return member, 0.0
        if not tried.again:
            return None
        member = tried.again[-1]
        throttled = isinstance(error, UpstreamRefused) and error.status == 429
        after_s = wait_s(
            len(tried.members) - 1,
            base_s=policy.backoff_throttled_s if throttled else policy.backoff_base_s,
            max_s=policy.backoff_max_s,
            retry_after_s=error.retry_after_s,
            uniform=fleet.chance.uniform,
        )
        rest_s = member.throttled_until_s - now
        if rest_s > after_s:
            after_s += rest_s  # so that calls do not all come at once when its rest is over
        if after_s >= call.remaining_s():
            return None  # it would be too late
        may_be_used = member.may_be_used_after(after_s, search.demand, now)
        if not may_be_used or not member.budget.try_take(now):
            return None
        return member, after_s

    async def _wait(self, call: Call, member: Member, wait_s: float) -> None:
        """Wait before the same deployment is asked again. Nothing is asked meanwhile."""
        began_at = perf_counter()
        call.is_between_attempts = True
        try:
            await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            late = timed_out(call, member.deployment)
            go_on(call)
            raise late or asyncio.CancelledError from None
        finally:
            remember_backoff(call, perf_counter() - began_at)
        call.is_between_attempts = False


def _behind_others(call: Call) -> LimitExceeded:
    return LimitExceeded(
        f"Other calls wait for room at the deployments of '{call.alias.name}'. Try again in 1s.",
        code="rate_limit_exceeded",
        retry_after_s=1.0,
    )
