"""How much of an account's credit a call may reserve: decide, wait for its turn, reserve.

One pure function decides: `decide`. Keeping balances and making a hold durable is the ledger's
work.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, Protocol

from merino.domain.errors import BudgetExhausted, LimitExceeded
from merino.domain.ledger import Hold
from merino.domain.money import format_nanos
from merino.gateway.call import Call
from merino.gateway.ports import Bound, Headroom, Ledger
from merino.gateway.turns import Turns
from merino.settings.sections.credit import HoldSettings

Clamp = Literal["balance", "spend cap", "x-merino-max-cost"]
"""Why an output limit was lowered, as `x-merino-adjusted` reports it."""

BUSY_RETRY_AFTER_S = 2.0
"""The retry delay given to a call that waited in vain for headroom: about the length of a short
answer."""


class Quote(Protocol):
    """What a call costs as a function of its output tokens. `worst_nanos` and `affordable_tokens`
    are each other's inverse."""

    @property
    def output_tokens(self) -> int:
        """How many it may have."""
        ...

    @property
    def caller_limited(self) -> bool:
        """Whether that is the caller's own limit."""
        ...

    @property
    def has_output(self) -> bool: ...

    @property
    def max_cost_nanos(self) -> int | None: ...

    @property
    def expected_tokens(self) -> int | None:
        """The learned p99, when known."""
        ...

    def worst_nanos(self, tokens: int, /) -> int: ...

    def affordable_tokens(self, nanos: int, /) -> int: ...


@dataclass(slots=True)
class Grant:
    """`amount_nanos` pays for `held_tokens` of output: all that are allowed, if `None`."""

    amount_nanos: int
    output_tokens: int
    is_clamped: bool = False
    held_tokens: int | None = None
    clamped_by: Clamp = "balance"


@dataclass(frozen=True, slots=True)
class Wait:
    """Money exists, but other calls hold it. `needed_nanos` is the least that will do."""

    needed_nanos: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Waiting will not help. `needed_nanos` is the least this call could be held for."""

    needed_nanos: int
    because: Bound | Literal["max_cost"]


def decide(room: Headroom, quote: Quote, policy: HoldSettings) -> Grant | Wait | Refuse:
    """Whether this call may be held now, later or never.

    A call without an output limit of its own is not clamped below `clamp_floor_tokens` while others
    hold the rest, and no call below `clamp_output_tokens_min`.
    """
    tokens = quote.output_tokens
    clamp = policy.when_short == "clamp" and quote.has_output
    is_clamped = False
    clamped_by: Clamp = "balance"
    worst = quote.worst_nanos(tokens)

    if quote.max_cost_nanos is not None and worst > quote.max_cost_nanos:
        tokens = quote.affordable_tokens(quote.max_cost_nanos) if clamp else 0
        if tokens < policy.clamp_output_tokens_min:
            return Refuse(worst, "max_cost")
        is_clamped, worst = True, quote.worst_nanos(tokens)
        clamped_by = "x-merino-max-cost"

    if worst <= room.available_nanos:
        return Grant(worst, tokens, is_clamped, None, clamped_by)

    if policy.mode == "expected" and quote.expected_tokens is not None:
        held = min(tokens, quote.expected_tokens)
        usual = quote.worst_nanos(held)
        if usual <= room.available_nanos:
            # The limit sent upstream stays the caller's: the hold grows if the answer does.
            return Grant(usual, tokens, is_clamped, held, clamped_by)

    if not clamp:
        return Wait(worst) if worst <= room.ceiling_nanos else Refuse(worst, room.bound_by)

    if quote.caller_limited and worst <= room.ceiling_nanos:
        # It asked for this many, and can pay for them once the other calls are done.
        return Wait(worst)
    most = quote.affordable_tokens(room.ceiling_nanos)
    least = policy.clamp_output_tokens_min
    if most < min(least, tokens):
        return Refuse(quote.worst_nanos(min(least, tokens)), room.bound_by)
    enough = most if quote.caller_limited else min(most, policy.clamp_floor_tokens)
    now = min(quote.affordable_tokens(room.available_nanos), tokens)
    if now >= min(enough, tokens):
        clamped_by = "balance" if room.bound_by == "balance" else "spend cap"
        return Grant(quote.worst_nanos(now), now, is_clamped=True, clamped_by=clamped_by)
    return Wait(quote.worst_nanos(min(enough, tokens)))


class Holds:
    """Reserves what `decide` grants, first come, first served within an account."""

    def __init__(self, ledger: Ledger, policy: HoldSettings | None = None) -> None:
        self._ledger = ledger
        self._policy = policy or HoldSettings()
        self._turns = Turns()
        ledger.subscribe(self._turns.wake, self._turns.queues)

    def configure(self, policy: HoldSettings) -> None:
        self._policy = policy

    def take_now(self, call: Call, quote: Quote) -> Awaitable[None] | None:
        """Reserve the worst case, as nearly every call can. `None` if `take` has to decide. The
        result is `durable`."""
        if quote.max_cost_nanos is not None or call.key.account_id in self._turns.queues:
            return None
        hold = self._hold(call, quote.worst_nanos(quote.output_tokens))
        durable = self._ledger.hold(hold, call.key)
        if durable is not None:
            # Set before waiting: a call cancelled now must still resolve what it reserved.
            call.hold = hold
        return durable

    async def take(self, call: Call, quote: Quote) -> Grant:
        """Reserve for `call`, set `call.hold`, and return once that is durable.

        Raises `BudgetExhausted` when it can never be paid, `LimitExceeded` when other calls held
        the money for all of `wait_s`, `StoreUnavailable` when the hold cannot be recorded.
        """
        if call.key.account_id not in self._turns.queues:
            reserved = self._try(call, quote, self._policy)
            if reserved is not None:
                grant, durable = reserved
                await durable
                return grant
        return await self._take_in_turn(call, quote)

    def _try(
        self, call: Call, quote: Quote, policy: HoldSettings
    ) -> tuple[Grant, Awaitable[None]] | None:
        """Decide, and reserve at once; `None` if others hold the money, or may have more."""
        grant = decide(self._ledger.headroom(call.key), quote, policy)
        if not isinstance(grant, Grant):
            is_refused = isinstance(grant, Refuse)
            if is_refused and grant.because == "max_cost":
                raise _refusal(call, grant, self._ledger)
            waited_s = perf_counter() - call.received_at
            is_asked = self._ledger.ask(call.key, grant.needed_nanos, call.id, waited_s)
            if is_refused and not is_asked:
                raise _refusal(call, grant, self._ledger)
            return None
        hold = self._hold(call, grant.amount_nanos)
        durable = self._ledger.hold(hold, call.key)
        if durable is None:
            raise AssertionError("headroom changed between deciding and reserving")
        # Set before waiting: a call cancelled now must still resolve what it reserved.
        call.hold = hold
        return grant, durable

    async def _take_in_turn(self, call: Call, quote: Quote) -> Grant:
        began = perf_counter()
        policy = self._policy  # a call keeps the policy it began to wait with
        within_s = min(policy.wait_s, call.patience_s())

        def look(is_first: bool) -> tuple[Grant, Awaitable[None]]:
            reserved = self._try(call, quote, policy) if is_first else None
            if reserved is None:
                raise _held(call, self._ledger.headroom(call.key).bound_by, within_s)
            return reserved

        try:
            account_id = call.key.account_id
            grant, durable = await self._turns.wait(account_id, account_id, within_s, look)
            await durable
        finally:
            self._ledger.unask(call.key.account_id, call.id)
            call.waited_s += perf_counter() - began
        return grant

    def _hold(self, call: Call, nanos: int) -> Hold:
        # A hold may not expire under a call that still runs.
        expires_after_s = max(self._policy.expires_after_s, call.timeout_s + 60)
        key = call.key
        return Hold(call.id, key.account_id, key.id, nanos, call.at_ms, expires_after_s)


def _held(call: Call, bound_by: Bound, waited_s: float) -> LimitExceeded:
    return LimitExceeded(
        f"{_all_of(call, bound_by)} is held by calls in flight; this one waited "
        f"{max(0.0, waited_s):.3g} s. Try again, send fewer at once, or set "
        "max_completion_tokens so that each holds less.",
        code="balance_held",
        retry_after_s=BUSY_RETRY_AFTER_S,
    )


def _all_of(call: Call, bound_by: Bound) -> str:
    if bound_by == "key_cap":
        return f"All that key '{call.key.name}' may still spend"
    if bound_by == "account_cap":
        return f"All that account '{call.key.account_id}' may still spend"
    return f"All credit of account '{call.key.account_id}'"


def _refusal(call: Call, refuse: Refuse, ledger: Ledger) -> BudgetExhausted:
    needed = format_nanos(refuse.needed_nanos)
    has_output = call.request.endpoint.has_output
    less = "lower max_completion_tokens, send less" if has_output else "send less"
    if refuse.because == "max_cost":
        allowed = format_nanos(call.max_cost_nanos or 0)
        return BudgetExhausted(
            f"This call may cost up to {needed}, more than its x-merino-max-cost of {allowed}. "
            f"{less.capitalize()} or raise the maximum.",
            code="max_cost_exceeded",
            param="x-merino-max-cost",
        )
    if refuse.because == "key_cap":
        key = call.key
        is_for_life = key.spend_period == "total"
        return BudgetExhausted(
            f"Key '{key.name}' has reached its spend cap of "
            f"{format_nanos(key.spend_cap_nanos or 0)} "
            f"{'in all' if is_for_life else f'per {key.spend_period}'}; this call needs {needed}. "
            "Raise the cap (`merino keys update --spend-cap`)"
            f"{'' if is_for_life else f', or wait for the next {key.spend_period}'}.",
            code="insufficient_quota",
        )
    if refuse.because == "account_cap":
        return BudgetExhausted(
            f"Account '{call.key.account_id}' has reached its spend cap; this call needs {needed}. "
            "Raise the cap (`merino accounts update --spend-cap`), or wait for the next period.",
            code="insufficient_quota",
        )
    posted = format_nanos(ledger.balance(call.key.account_id).posted_nanos)
    return BudgetExhausted(
        f"Account '{call.key.account_id}' has {posted}; this call needs at least {needed}. "
        f"{less.capitalize()} or add credit (`merino accounts credit`).",
        code="insufficient_quota",
    )
