"""Hedging: a second attempt elsewhere when the first is slow to begin. Whichever begins first is
the answer, the other is cancelled, and what it used is on our bill.

A `Race` runs the attempts; a `Contender` takes an attempt's answer and knows whether it won.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Generic, Self, TypeVar

from merino.domain.call import HEDGE_LOST, Attempt
from merino.domain.deployment import Deployment
from merino.domain.errors import UpstreamFailed
from merino.domain.limits import Demand
from merino.domain.usage import NO_USAGE, Usage
from merino.gateway.attempt import Consumer, OneAttempt, timed_out
from merino.gateway.call import Call
from merino.gateway.fleet import Fleet, Member
from merino.gateway.remembering import remember_failed
from merino.gateway.search import Search
from merino.pricing.cost import cost
from merino.pricing.estimate import input_tokens_counted
from merino.pricing.price import Price
from merino.resilience.retry_budget import RetryBudget
from merino.wire.redaction import NO_SECRETS, Secrets

T = TypeVar("T")


class _Finish(Generic[T]):
    """Where rivals for one call meet. A single contender has none: it would refer to itself, and
    only the garbage collector could free it."""

    __slots__ = ("winner",)

    def __init__(self, winner: T | None) -> None:
        self.winner = winner


class Contender:
    """Takes an answer. A call may have several of these; the caller gets only one answer."""

    # What most of them do not have costs nothing: the default stays on the class.
    _finish: _Finish[Self] | None = None
    on_win: Callable[[], None] | None = None
    deployment: Deployment | None = None
    secrets: Secrets = NO_SECRETS

    @property
    def chosen(self) -> Self:
        """The one that the caller gets: this one, or a rival that was quicker."""
        return self if self._finish is None else self._finish.winner or self

    def _has_winner(self) -> bool:
        return self._finish is not None and self._finish.winner is not None

    def _claim(self) -> bool:
        """Be the answer; false if another one is."""
        if self._finish is not None:
            if self._finish.winner is not None:
                return False
            self._finish.winner = self
        if self.on_win is not None:
            self.on_win()
        return True

    def _compete(self, rival: Self, *, has_won: bool = False) -> Self:
        """From now on only one of the two can win, unless this one already has."""
        if self._finish is None:
            self._finish = _Finish(self if has_won else None)
        rival._finish = self._finish
        return rival


class Hedging:
    """Attempts that may be hedged, each alias within its share of extra ones."""

    def __init__(self, one: OneAttempt, fleet: Fleet) -> None:
        self._one = one
        self._fleet = fleet
        self._budgets: dict[str, RetryBudget] = {}
        self.configure(share=0.05, delay_min_s=1.0)

    def configure(self, *, share: float, delay_min_s: float) -> None:
        """Holds from now on. `share`: the extra attempts allowed, as a share of an alias's calls.
        `delay_min_s`: the least time to wait for the first attempt."""
        self._share = share
        self._delay_min_s = delay_min_s
        for budget in self._budgets.values():
            budget.configure(share, 0)

    def budget(self, alias_name: str) -> RetryBudget:
        budget = self._budgets.get(alias_name)
        if budget is None:
            budget = RetryBudget(self._share, 0, self._fleet.clock())
            self._budgets[alias_name] = budget
        return budget

    async def attempt(self, search: Search, first: Member, consumer: Consumer) -> None:
        """Make an attempt, and a second one elsewhere if the first is slower to begin than 95 of
        100 at its deployment."""
        call = search.call
        budget = self.budget(call.alias.name)
        budget.call()
        usual_s = first.pace(streamed=call.request.stream).p95.value
        if usual_s is None:
            await self._one.make(call, first, search.demand, consumer)
            return
        race = _Race(self._one, self._fleet, search)
        try:
            race.start(first, consumer)
            if await race.is_late(max(usual_s, self._delay_min_s)):
                now = self._fleet.clock()
                other = next(search.usable(now, (first,)), None)
                if other is not None and budget.try_take(now):
                    race.start(other, consumer.rival())
            await race.end()
        except asyncio.CancelledError:
            late = timed_out(call, first.deployment)
            await race.cancel()
            raise late or asyncio.CancelledError from None


class _Entry:
    """An attempt in a race."""

    __slots__ = ("began", "begun", "consumer", "is_sent", "member")

    def __init__(self, member: Member, consumer: Consumer, demand: Demand) -> None:
        self.member = member
        self.consumer = consumer
        self.begun = member.begin(demand)  # now: calls that arrive meanwhile must see it
        self.began = perf_counter()
        self.is_sent = False


class _Race:
    """The attempts at one call that run side by side."""

    def __init__(self, one: OneAttempt, fleet: Fleet, search: Search) -> None:
        self._one = one
        self._fleet = fleet
        self._call = search.call
        self._demand = search.demand
        self._entries: dict[asyncio.Task[None], _Entry] = {}
        self._won: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._began_at = perf_counter()

    def start(self, member: Member, consumer: Consumer) -> None:
        entry = _Entry(member, consumer, self._demand)
        task = asyncio.create_task(self._attempt(entry))
        task.add_done_callback(partial(self._ended, entry))
        self._entries[task] = entry
        consumer.on_win = partial(self._win, task, entry)

    async def is_late(self, seconds: float) -> bool:
        """Whether nothing has begun or failed within this time."""
        waited_for = (*self._entries, self._won)
        await asyncio.wait(waited_for, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return not any(each.done() for each in waited_for)

    async def end(self) -> None:
        """Return when one of them has answered. Raises their failure if all have failed."""
        await asyncio.wait(self._entries)
        failure: UpstreamFailed | None = None
        failed: list[tuple[_Entry, UpstreamFailed]] = []
        is_answered = False
        for task, entry in self._entries.items():
            if task.cancelled():
                continue
            error = task.exception()
            if error is None:
                is_answered = True
            elif not isinstance(error, UpstreamFailed):
                raise error
            else:
                failed.append((entry, error))
                if entry.consumer.is_committed or failure is None:
                    failure = error
        for entry, error in failed:
            if is_answered or error is not failure:  # else its catcher remembers it
                name = entry.member.deployment.name
                remember_failed(self._call, name, entry.began, error, "hedge")
        if not is_answered and failure is not None:
            raise failure

    async def cancel(self) -> None:
        for task in self._entries:
            task.cancel()
        await asyncio.gather(*self._entries, return_exceptions=True)

    async def _attempt(self, entry: _Entry) -> None:
        entry.is_sent = True
        await self._one.make(self._call, entry.member, self._demand, entry.consumer, entry.begun)

    def _ended(self, entry: _Entry, _: asyncio.Task[None]) -> None:
        if not entry.is_sent:  # cancelled before it ran at all
            now = self._fleet.clock()
            entry.member.end(entry.begun, "ignored", now, unused=self._demand)

    def _win(self, task: asyncio.Task[None], entry: _Entry) -> None:
        call = self._call
        call.deployment = entry.consumer.deployment or entry.member.deployment
        call.sent_at = entry.began
        call.earlier_s += call.sent_at - self._began_at
        # Remembered now: the reply that begins next reports them.
        for other, loser in self._entries.items():
            if other is not task and not other.done():
                other.cancel()
                _remember_loser(call, loser)
        if not self._won.done():
            self._won.set_result(None)


def _remember_loser(call: Call, loser: _Entry) -> None:
    """Remember an attempt that lost a race, and what it had used."""
    who, arrived = loser.consumer.deployment, loser.consumer.arrived
    call.lost_usage += (NO_USAGE if who is not None and who.is_free else arrived,)
    call.attempts += (
        Attempt(
            deployment=loser.member.deployment.name,
            started_ms=(loser.began - call.received_at) * 1000,
            duration_ms=(perf_counter() - loser.began) * 1000,
            outcome=HEDGE_LOST,
        ),
    )


def book_losers(call: Call, prices: Mapping[str, Price]) -> int:
    """Book the cost to us of attempts that lost a race: what they had used when they were
    cancelled, at least their input."""
    lost_nanos = 0
    attempts: list[Attempt] = []
    used = iter(call.lost_usage)
    for attempt in call.attempts:
        price = prices.get(attempt.deployment)
        nanos = 0
        if attempt.outcome == HEDGE_LOST:
            usage = next(used) or Usage(
                input_tokens=input_tokens_counted(
                    call.request, prior_tokens=call.request.prior_tokens
                )
            )
            nanos = 0 if price is None else cost(usage, price).upstream_nanos
        attempts.append(replace(attempt, upstream_nanos=nanos) if nanos else attempt)
        lost_nanos += nanos
    call.attempts = tuple(attempts)
    return lost_nanos
