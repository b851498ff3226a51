"""Request and token limits of keys, accounts and aliases: all that apply, taken together or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, NamedTuple

from merino.domain.account import Account, AccountLimit
from merino.domain.deployment import Alias, Deployment
from merino.domain.errors import LimitExceeded
from merino.domain.key import VirtualKey
from merino.domain.limits import LIMIT_WORDS, NO_LIMITS, TOKENS, Demand, LimitKind, Limits
from merino.gateway.call import Call
from merino.gateway.ports import Headers, Permit
from merino.resilience.buckets import (
    LimitSet,
    Refusal,
    refusal_of,
    take_all,
    take_request,
    tightest,
)
from merino.resilience.fair_queue import FairQueue

Owner = Literal["key", "account", "alias"]

EVERYONE_ELSE = "*"
_NO_LIMIT = AccountLimit()


def account_limit(account: Account, configured: Mapping[str, AccountLimit]) -> AccountLimit:
    """The limit of an account: each value of its own, otherwise the settings' value (by its name or
    id, otherwise by ``*``). Own values win: the operator who sets them is told at once that they
    hold."""
    given = configured.get(account.name) or configured.get(account.id)
    given = given or configured.get(EVERYONE_ELSE) or _NO_LIMIT
    weight = given.weight if account.weight is None else account.weight
    return AccountLimit(account.limits.over(given.limits), weight, account.name)


@dataclass(frozen=True, slots=True)
class LimitPolicy:
    """`account_limit` of an account's id; asked again only after `account_changed`. `wait_s` is how
    long a call may wait for its turn; with 0 it is refused at once."""

    account_limit: Callable[[str], AccountLimit] = lambda account_id: _NO_LIMIT
    wait_s: float = 0.0
    waiting_max: int = 1000


class _Subject(NamedTuple):
    owner: Owner
    name: str
    limits: LimitSet


@dataclass(slots=True)
class _Applying:
    """The limits of one key and alias, as long as neither changes."""

    key: VirtualKey
    alias: Alias | None
    subjects: list[_Subject]
    limits: list[LimitSet]
    weight: float

    @property
    def lane(self) -> tuple[str, str]:
        return self.key.id, _name_of(self.alias)


@dataclass(slots=True, eq=False)
class _Waiting:
    """`until` is when it gives up."""

    applying: _Applying
    demand: Demand
    turn: asyncio.Future[Permit]
    until: float
    is_less: bool = False


class _FreePermit:
    __slots__ = ()

    tokens_max = None

    def release(self, used: Demand) -> None:
        pass

    def undo(self) -> None:
        pass


_FREE = _FreePermit()
_UNITS = tuple(enumerate(name.encode() for name in Demand._fields))
_NO_HEADERS: Headers = []


class _Permit:
    __slots__ = ("_applying", "_demand", "_limits", "tokens_max")

    def __init__(
        self, limits: RateLimiter, applying: _Applying, demand: Demand, *, is_less: bool = False
    ) -> None:
        self._limits: RateLimiter | None = limits
        self._applying = applying
        self._demand = demand
        self.tokens_max = demand.tokens if is_less else None

    def release(self, used: Demand) -> None:
        limits, self._limits = self._limits, None
        if limits is not None:
            limits.end(self._applying, self._demand.less(used))

    def undo(self) -> None:
        limits, self._limits = self._limits, None
        if limits is not None:
            limits.end(self._applying, self._demand)


class LimitUse(NamedTuple):
    """A limit as it is now: how much of it is used. `subject_id` is a key's or account's id, or an
    alias's name."""

    owner: Owner
    subject_id: str
    kind: LimitKind
    limit: int
    used: float

    @property
    def share(self) -> float:
        return self.used / self.limit


class RateLimiter:
    """`gateway.ports.Limiter`, in this process's memory. Keys and aliases bring their limits with
    them, so a changed one applies to its next call."""

    def __init__(
        self, policy: LimitPolicy | None = None, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._policy = policy or LimitPolicy()
        self._clock = clock
        self._sets: dict[tuple[Owner, str], LimitSet] = {}
        self._applying: dict[tuple[str, str], _Applying] = {}
        self._queue: FairQueue[_Waiting] = FairQueue()
        self._awaited: dict[LimitSet, float] = {}
        """Limits that calls in the queue wait for, and when there may be room. Calls that need one
        of these limits queue behind; the others overtake nobody."""
        self._timer: asyncio.TimerHandle | None = None

    def configure(self, policy: LimitPolicy) -> None:
        """Use another policy from now on, also for waiting calls."""
        self._policy = policy
        self._applying.clear()
        for owner, account_id in self._sets:
            if owner == "account":
                self._limit_account(account_id)
        self._serve_waiting()

    def account_changed(self, account_id: str) -> None:
        """Ask the policy for the account's limit again: it holds from now on, also for waiting
        calls."""
        for name, applying in list(self._applying.items()):
            if applying.key.account_id == account_id:
                del self._applying[name]
        if ("account", account_id) in self._sets:
            self._limit_account(account_id)
        self._serve_waiting()

    def uses(self) -> list[LimitUse]:
        """Every limit that somebody has, of those who called since the start; the fullest first."""
        now = self._clock()
        found = [
            LimitUse(owner, subject_id, kind, limit, used)
            for (owner, subject_id), limits in self._sets.items()
            for kind, limit, used in limits.uses(now)
        ]
        return sorted(found, key=lambda each: (-each.share, each.owner, each.subject_id))

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return len(self._queue)

    def take(
        self, key: VirtualKey, alias: Alias, demand: Demand, asked_tokens: int | None = None
    ) -> Permit:
        applying = self._applying.get((key.id, alias.name))
        if applying is None or applying.key is not key or applying.alias is not alias:
            applying = self._apply(key, alias)
        if not applying.limits:
            return _FREE
        now = self._clock()
        granted = demand
        if asked_tokens is not None:
            granted = fitting(applying.limits, demand, asked_tokens, now)
        if self._awaited and not self._awaited.keys().isdisjoint(applying.limits):
            raise self._turned_away(applying, granted)
        refused = take_all(applying.limits, granted, now)
        if refused is None:
            return _Permit(self, applying, granted, is_less=granted is not demand)
        raise self._refusal(applying, granted, *refused)

    def take_request(self, key: VirtualKey) -> None:
        applying = self._applying.get((key.id, ""))
        if applying is None or applying.key is not key:
            applying = self._apply(key, None)
        if not applying.limits:
            return
        refused = take_request(applying.limits, self._clock())
        if refused is not None:
            raise self._refusal(applying, Demand(), *refused)

    async def wait(
        self,
        key: VirtualKey,
        alias: Alias,
        demand: Demand,
        refusal: LimitExceeded,
        within_s: float,
        asked_tokens: int | None = None,
    ) -> Permit:
        """Wait for a turn, at most `wait_s` and `within_s`. First come, first served within an
        account; accounts share by their weights."""
        policy = self._policy
        can_wait = refusal.retry_after_s is not None and len(self._queue) < policy.waiting_max
        wait_s = min(policy.wait_s, within_s)
        if wait_s <= 0 or not can_wait:
            raise refusal
        applying = self._applying.get((key.id, alias.name)) or self._apply(key, alias)
        turn: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        now = self._clock()
        wanted = demand
        if asked_tokens is not None:
            demand = fitting(applying.limits, demand, asked_tokens, now)
        waiting = _Waiting(applying, demand, turn, now + wait_s, is_less=demand is not wanted)
        self._queue.push(key.account_id, applying.lane, waiting, weight=applying.weight)
        refused = refusal_of(applying.limits, demand, now)
        if refused is not None:
            self._await(waiting, *refused, now)
            self._arm(refused[1].retry_after_s)
        elif self._awaited.keys().isdisjoint(applying.limits):
            self._serve_waiting()  # there is room now
        try:
            await asyncio.wait((turn,), timeout=wait_s)
            if not turn.done() and refusal_of(applying.limits, demand, self._clock()) is None:
                self._serve_waiting()
            if turn.done():
                return turn.result()
            raise self._turned_away(applying, demand)
        except asyncio.CancelledError:
            if turn.done():
                turn.result().undo()
            raise
        finally:
            if self._queue.remove(key.account_id, applying.lane, waiting):
                self._arm(0.0)  # once for all that leave now: calls behind them may have a turn

    def headers(self, key: VirtualKey, alias: Alias | None) -> Headers:
        applying = self._applying.get((key.id, _name_of(alias)))
        if applying is None or (alias is None and applying.key is not key):
            applying = self._apply(key, alias)
        if not applying.limits:
            return _NO_HEADERS
        now = self._clock()
        headers: Headers = []
        for name, quota in (
            (name, tightest([each.quota(unit, now) for each in applying.limits]))
            for unit, name in _UNITS
        ):
            if quota is not None:
                headers += (
                    (b"x-ratelimit-limit-" + name, b"%d" % quota.limit),
                    (b"x-ratelimit-remaining-" + name, b"%d" % quota.remaining),
                    (b"x-ratelimit-reset-" + name, format_reset(quota.reset_s).encode()),
                )
        return headers

    def end(self, applying: _Applying, unused: Demand) -> None:
        """A call ended; a waiting call may have a turn now."""
        now = self._clock()
        for limits in applying.limits:
            limits.end(unused, now)
        if len(self._queue):
            self._serve_waiting()

    # What applies

    def _apply(self, key: VirtualKey, alias: Alias | None) -> _Applying:
        account = self._policy.account_limit(key.account_id)
        wanted: list[tuple[Owner, str, str, Limits]] = [
            ("key", key.id, key.name, key.limits),
            ("account", key.account_id, account.name or key.account_id, account.limits),
        ]
        if alias is not None:
            wanted.append(("alias", alias.name, alias.name, alias.limits))
        now = self._clock()
        subjects: list[_Subject] = []
        for owner, subject_id, name, limits in wanted:
            known = self._sets.get((owner, subject_id))
            if known is None:
                if limits == NO_LIMITS:
                    continue
                known = self._sets[owner, subject_id] = LimitSet()
            known.set(limits, now)
            if limits != NO_LIMITS:
                subjects.append(_Subject(owner, name, known))
        applying = _Applying(
            key, alias, subjects, [each.limits for each in subjects], account.weight
        )
        self._applying[key.id, _name_of(alias)] = applying
        return applying

    def _limit_account(self, account_id: str) -> None:
        limits = self._sets["account", account_id]
        limits.set(self._policy.account_limit(account_id).limits, self._clock())

    def _turned_away(self, applying: _Applying, demand: Demand) -> LimitExceeded:
        """Why a call behind others has no turn now: its limits, or the others before it."""
        refused = refusal_of(applying.limits, demand, self._clock())
        if refused is not None:
            return self._refusal(applying, demand, *refused)
        now = self._clock()
        subject, at = next(
            (
                (each, self._awaited[each.limits])
                for each in applying.subjects
                if each.limits in self._awaited
            ),
            (applying.subjects[0], now),  # there is room since a moment ago
        )
        retry_after_s = max(0.05, at - now)
        return LimitExceeded(
            f"Other calls wait for their turn, as {subject.owner} '{subject.name}' is at its limit."
            f" Try again in {format_reset(retry_after_s)}.",
            code="rate_limit_exceeded",
            retry_after_s=retry_after_s,
        )

    def _refusal(
        self, applying: _Applying, demand: Demand, index: int, refusal: Refusal
    ) -> LimitExceeded:
        subject = applying.subjects[index]
        limit = f"{refusal.limit:,} {LIMIT_WORDS[refusal.kind]} of {subject.owner} '{subject.name}'"
        if refusal.retry_after_s == float("inf"):
            return LimitExceeded(
                f"This call may need {demand.tokens:,} LLM tokens, more than the limit of {limit} "
                "ever allows. Set max_completion_tokens, or a lower one, or have the limit raised.",
                code="call_exceeds_limit",
            )
        return LimitExceeded(
            f"Limit reached: {limit}. Try again in {format_reset(refusal.retry_after_s)}.",
            code="rate_limit_exceeded",
            retry_after_s=refusal.retry_after_s,
        )

    # Waiting for a turn

    def _serve_waiting(self) -> None:
        """Give a turn to every call that can have one, without overtaking: what the first in turn
        waits for is not given to those behind."""
        soonest_s = 0.0
        while (soonest_s := self._serve_next()) == 0.0:
            pass
        if len(self._queue):
            self._arm(soonest_s)

    def _serve_next(self) -> float:
        """Serve one call and return 0; if none can be served, return when to look again."""
        now = self._clock()
        soonest_s = float("inf")
        self._awaited = awaited = {}
        for account_id, lane, waiting in self._queue.heads():
            if waiting.turn.done():
                self._queue.remove(account_id, lane, waiting)
                return 0.0
            limits = waiting.applying.limits
            if not awaited.keys().isdisjoint(limits):
                continue
            refused = take_all(limits, waiting.demand, now)
            if refused is None:
                self._queue.serve(account_id, lane)
                permit = _Permit(self, waiting.applying, waiting.demand, is_less=waiting.is_less)
                waiting.turn.set_result(permit)
                return 0.0
            index, refusal = refused
            soonest_s = min(soonest_s, refusal.retry_after_s)
            self._await(waiting, index, refusal, now)
        return max(soonest_s, 0.001)

    def _await(self, waiting: _Waiting, index: int, refusal: Refusal, now: float) -> None:
        """No call may overtake this one at the limit it waits for. But it holds up nobody if it
        will give up before there is room."""
        at = now + refusal.retry_after_s
        if refusal.kind == "concurrency" or at <= waiting.until:
            self._awaited.setdefault(waiting.applying.limits[index], at)

    def _arm(self, in_s: float) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + min(in_s, 1.0) + 0.001
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._serve_waiting()


def fitting(subjects: Sequence[LimitSet], demand: Demand, asked_tokens: int, now: float) -> Demand:
    """What to take of `demand`. Of its tokens, the call asks for `asked_tokens`; the rest is an
    assumption.

    All of it, if the limits ever hold that much. Otherwise what is there now, but at least half of
    what they hold and what is asked for: with less, an answer may not be worth having, and the
    whole is hardly ever there.
    """
    holds = demand.tokens
    left = float(holds)
    for subject in subjects:
        for bucket in subject.buckets_of(TOKENS):
            holds = min(holds, int(bucket.capacity))
            left = min(left, bucket.fill(now))
    if holds >= demand.tokens:
        return demand
    granted = max(asked_tokens, min(holds, max(holds // 2, int(left))))
    return demand if granted == demand.tokens else demand._replace(tokens=granted)


def demand_of(call: Call, candidates: Sequence[Deployment]) -> Demand:
    """What the call takes of a deployment's limits. Beyond what it asks for itself, no more than
    they ever hold: a mere assumption must not exclude it from every deployment."""
    tokens = call.input_tokens + call.output_tokens * call.request.n
    for deployment in candidates:
        tpm = deployment.limits.tpm
        if tpm is not None and tpm < tokens:
            tokens = max(tpm, call.asked_tokens)
    return Demand(tokens=tokens)


def _name_of(alias: Alias | None) -> str:
    return "" if alias is None else alias.name


def format_reset(seconds: float) -> str:
    """A duration as OpenAI writes it: ``20ms``, ``1.5s``, ``6m0s``. Rounded up, never early."""
    ms = -int(-seconds * 1000 // 1)
    if ms < 1000:
        return f"{ms}ms"
    if ms < 60_000:
        return f"{ms / 1000:g}s"
    whole_s = -(-ms // 1000)
    hours, rest = divmod(whole_s, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}h{minutes}m{left}s" if hours else f"{minutes}m{left}s"
