"""Balances, holds and key spend: authoritative in this process's memory, durable in its journal.

Everything here runs on the event loop's thread, so between two awaits nothing changes. `applier.py`
fills SQLite behind it. Balances are read from SQLite only when a folder is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from dataclasses import dataclass

from merino.domain.account import Balance, SpendPeriod
from merino.domain.call import CallRecord
from merino.domain.clock import epoch_ms
from merino.domain.errors import BudgetExhausted, NotFound, StoreUnavailable
from merino.domain.key import VirtualKey
from merino.domain.ledger import Hold, Resolution
from merino.domain.money import format_nanos
from merino.gateway.ports import Bound, Headroom, Replay
from merino.ledger.applier import BACKLOG_CALLS_MAX, Applier
from merino.ledger.journal import Journal, Line
from merino.ledger.key_spend import KeySpend, KeySpends
from merino.ledger.lines import Record, encode_hold, encode_record, row_of
from merino.ledger.replays import Replays
from merino.ledger.segments import frame
from merino.running.signal import Signal
from merino.sqlite.database import UNBINDABLE, SqliteError

EXPIRED_STATUS = 504
EXPIRED_CODE = "hold_expired"


@dataclass(slots=True)
class AccountCap:
    """The most an account may spend in a period; `spend` is what it has spent."""

    nanos: int
    period: SpendPeriod
    spend: KeySpend

    def left(self, now_ms: int) -> int:
        return self.nanos - self.spend.spent(self.period, now_ms)


@dataclass(slots=True)
class Funds:
    """The state of an account's money. Held amounts count against its cap, too."""

    posted: int
    held: int
    overdraft: int
    cap: AccountCap | None = None


def headroom_of(
    funds: Funds, spend: KeySpend, key: VirtualKey, now_ms: Callable[[], int]
) -> Headroom:
    """The rule of money: a key may reserve the least of what its account has, what its account may
    still spend and what the key may still spend, each minus what is held of it."""
    ceiling = funds.posted + funds.overdraft
    bound_by: Bound = "balance"
    if funds.cap is not None and (left := funds.cap.left(now_ms())) < ceiling:
        ceiling, bound_by = left, "account_cap"
    available = ceiling - funds.held
    if key.spend_cap_nanos is not None:
        left = key.spend_cap_nanos - spend.spent(key.spend_period, now_ms())
        available = min(available, left - spend.held)
        if left < ceiling:
            ceiling, bound_by = left, "key_cap"
    # Never negative: a call that costs nothing is affordable with any balance.
    return Headroom(max(available, 0), max(ceiling, 0), bound_by)


def fits(
    amount: int, funds: Funds, spend: KeySpend, key: VirtualKey, now_ms: Callable[[], int]
) -> bool:
    """Whether `headroom_of` leaves this much. Without caps, as for most calls, that is one sum."""
    if funds.cap is None and key.spend_cap_nanos is None:
        return not amount or amount <= funds.posted - funds.held + funds.overdraft
    return amount <= headroom_of(funds, spend, key, now_ms).available_nanos


class SqliteLedger:
    """The gateway's `Ledger` port over a journal and SQLite."""

    def __init__(
        self,
        applier: Applier,
        key_spends: KeySpends,
        replays: Replays,
        now_ms: Callable[[], int] = epoch_ms,
    ) -> None:
        self._applier = applier
        self._key_spends = key_spends
        self._replays = replays
        self._now_ms = now_ms
        self._log: Journal  # set by `attach`, before its first use
        self._funds: dict[str, Funds] = {}
        self._open: dict[str, Hold] = {}
        self._subscribers: list[tuple[Callable[[str], None], Container[str]]] = []

    def attach(self, journal: Journal) -> None:
        """The journal to append to; it in turn needs this ledger as its owner."""
        self._log = journal

    # State

    def balance(self, account_id: str) -> Balance:
        funds = self._of(account_id)
        return Balance(funds.posted, funds.held, funds.overdraft)

    def headroom(self, key: VirtualKey) -> Headroom:
        funds, spend = self._of(key.account_id), self._key_spends.of(key.id, key.account_id)
        return headroom_of(funds, spend, key, self._now_ms)

    @property
    def open_holds(self) -> int:
        return len(self._open)

    def holds_by_account(self) -> list[tuple[str, int, int]]:
        """Each account, the sum of its open holds, and its recorded held amount: always equal."""
        sums: dict[str, int] = {}
        for hold in self._open.values():
            sums[hold.account_id] = sums.get(hold.account_id, 0) + hold.amount_nanos
        return [(name, sums.get(name, 0), funds.held) for name, funds in self._funds.items()]

    @property
    def backlog_calls(self) -> int:
        """Calls that are in the journal and not yet in SQLite."""
        return self._applier.backlog_calls

    @property
    def why_unavailable(self) -> str | None:
        """Why a hold could not be recorded now, if known."""
        if self._log.is_failing:
            return "the ledger's journal cannot be written"
        if self._applier.is_overfull:
            return self._applier.outage.refusal(self.backlog_calls).message
        return None

    async def replay(self, replay_id: bytes) -> Replay | None:
        waiting = self._applier.replay(replay_id)
        return waiting or await self._replays.find(replay_id, self._now_ms())

    def subscribe(self, on_headroom: Callable[[str], None], waiting: Container[str]) -> None:
        self._subscribers.append((on_headroom, waiting))

    # Holds

    def hold(self, hold: Hold, key: VirtualKey) -> Signal | None:
        assert hold.call_id not in self._open, f"call {hold.call_id} is held already"
        amount = hold.amount_nanos
        funds = self._of(hold.account_id)
        spend = self._key_spends.of(hold.key_id, hold.account_id)
        if not fits(amount, funds, spend, key, self._now_ms):
            return None
        if self._applier.is_overfull:
            hold.is_undone = True
            return _refused(self._applier.outage.refusal(self.backlog_calls))
        funds.held += amount
        spend.held += amount
        self._open[hold.call_id] = hold
        log = self._log
        log.last_seq = seq = log.last_seq + 1
        return log.offer(encode_hold(seq, hold), hold)

    def grow(self, hold: Hold, by_nanos: int, key: VirtualKey) -> bool:
        assert by_nanos >= 0
        if hold.call_id not in self._open:
            return False
        funds = self._of(hold.account_id)
        spend = self._key_spends.of(hold.key_id, hold.account_id)
        if not fits(by_nanos, funds, spend, key, self._now_ms):
            return False
        funds.held += by_nanos
        spend.held += by_nanos
        hold.amount_nanos += by_nanos
        return True

    # Resolutions

    def settle(
        self, hold: Hold, key: VirtualKey, record: CallRecord, replay: Replay | None = None
    ) -> Signal:
        """Also accepts a hold that has expired meanwhile. The call's cost is still booked, as
        overrun, since nothing was held for it any more; its call record is replaced."""
        assert key.id == hold.key_id
        return self._resolve(hold, "settled", record, replay)

    def void(
        self, hold: Hold, key: VirtualKey, record: CallRecord, replay: Replay | None = None
    ) -> Signal:
        assert key.id == hold.key_id
        record.charged_nanos = record.overrun_nanos = 0
        return self._resolve(hold, "voided", record, replay)

    def reopen(self, hold: Hold) -> None:
        """Hold again what an earlier process held for a call that goes on. There is room for it:
        until now it was held."""
        self._of(hold.account_id).held += hold.amount_nanos
        self._key_spends.of(hold.key_id, hold.account_id).held += hold.amount_nanos
        self._open[hold.call_id] = hold

    def hold_of(self, call_id: str) -> Hold | None:
        """The open hold of a call."""
        return self._open.get(call_id)

    def expire_overdue(self, now_ms: int | None = None) -> int:
        """Release every hold that was not resolved in time; returns how many."""
        now_ms = self._now_ms() if now_ms is None else now_ms
        overdue = [
            hold
            for hold in self._open.values()
            if hold.at_ms + hold.expires_after_s * 1000 <= now_ms
        ]
        for hold in overdue:
            record = expired_record(hold, EXPIRED_STATUS, EXPIRED_CODE)
            record.duration_ms = float(now_ms - hold.at_ms)
            self._resolve(hold, "expired", record, None)
        return len(overdue)

    def record(self, record: CallRecord) -> None:
        """Keep the record of a call that never had a hold. When the journal or the database cannot
        be written, such records are given up first, so that refusals do not pile up in an
        outage."""
        if self._applier.backlog_calls > BACKLOG_CALLS_MAX:
            return
        log = self._log
        log.last_seq = seq = log.last_seq + 1
        ended: Record = (seq, "call", self._now_ms(), row_of(record), None)
        log.offer(encode_record(ended), ended)

    def _resolve(
        self, hold: Hold, resolution: Resolution, record: CallRecord, replay: Replay | None
    ) -> Signal:
        is_late = hold.resolution == "expired"
        assert hold.resolution is None or is_late, f"call {hold.call_id} was {hold.resolution}"
        was_held = self._open.pop(hold.call_id, None) is not None
        if is_late and resolution == "voided":
            record.resolution = "expired"
        else:
            record.resolution = resolution
        hold.resolution = resolution

        charged = record.charged_nanos
        assert charged >= 0
        held = hold.amount_nanos if was_held else 0
        record.overrun_nanos = max(0, charged - held)
        funds = self._of(hold.account_id)
        spend = self._key_spends.of(hold.key_id, hold.account_id)
        now_ms = self._now_ms()
        funds.held -= held
        spend.held -= held
        if charged:
            funds.posted -= charged
            spend.add(charged, now_ms)
            if funds.cap is not None:
                funds.cap.spend.add(charged, now_ms)

        log = self._log
        log.last_seq = seq = log.last_seq + 1
        kind = "late" if is_late else "call"
        ended: Record = (seq, kind, now_ms, row_of(record), replay)
        durable = log.append(encode_record(ended), ended)
        if held > charged:
            self._wake(hold.account_id)
        return durable

    # What operators do to an account

    def open_account(self, account_id: str, posted_nanos: int, overdraft_nanos: int) -> None:
        self._funds[account_id] = Funds(posted_nanos, 0, overdraft_nanos)

    def post(self, account_id: str, nanos: int) -> None:
        """Add to what is posted; the entry for it is in SQLite already, or was not written after
        `take`."""
        self._of(account_id).posted += nanos
        if nanos > 0:
            self._wake(account_id)

    def take(self, account_id: str, nanos: int) -> None:
        """Take out of what is posted, before the entry for it is written. Raises `BudgetExhausted`
        if more is taken than is available."""
        funds = self._of(account_id)
        available = funds.posted - funds.held + funds.overdraft
        if nanos > available:
            raise BudgetExhausted(
                f"The account has {format_nanos(available)} available; {format_nanos(nanos)} "
                "cannot be taken out of it.",
                code="insufficient_balance",
                param="amount",
            )
        funds.posted -= nanos

    def set_overdraft(self, account_id: str, nanos: int) -> None:
        funds = self._of(account_id)
        grows = nanos > funds.overdraft
        funds.overdraft = nanos
        if grows:
            self._wake(account_id)

    def set_cap(self, account_id: str, nanos: int | None, period: SpendPeriod) -> None:
        """Cap what all keys of an account spend together, or remove the cap."""
        funds = self._of(account_id)
        if nanos is None:
            funds.cap = None
        elif funds.cap is not None:
            funds.cap.nanos, funds.cap.period = nanos, period
        else:
            spend = self._key_spends.of_account(account_id)
            funds.cap = AccountCap(nanos, period, spend)
        self._wake(account_id)

    def spent(self, account_id: str, period: SpendPeriod) -> int:
        """What a capped account has spent in the period; 0 for one without a cap."""
        cap = self._of(account_id).cap
        return 0 if cap is None else cap.spend.spent(period, self._now_ms())

    def wake(self, account_id: str) -> None:
        """A cap was raised: waiting calls may look again."""
        self._wake(account_id)

    # The journal's owner

    def on_written(self, lines: list[Line]) -> None:
        add = self._applier.add
        for _, owner, _ in lines:
            if owner.__class__ is tuple:
                add(owner)
        self._applier.schedule()

    def on_lost(self, lines: list[Line]) -> None:
        for _, owner, _ in lines:
            # A hold that was resolved before its line could be written has nothing left to undo.
            if isinstance(owner, Hold) and self._open.pop(owner.call_id, None) is not None:
                owner.is_undone = True
                self._of(owner.account_id).held -= owner.amount_nanos
                self._key_spends.of(owner.key_id, owner.account_id).held -= owner.amount_nanos
                self._wake(owner.account_id)

    def carried(self, pending: list[Line]) -> list[bytes]:
        about_to_follow = {owner.call_id for _, owner, _ in pending if isinstance(owner, Hold)}
        return [
            frame(encode_hold(self._log.last_seq, hold))
            for hold in self._open.values()
            if hold.call_id not in about_to_follow
        ]

    # Catching up

    async def caught_up(self) -> None:
        """Return once everything that finished before is in SQLite. Raises `StoreUnavailable`."""
        self._log.flush()
        try:
            await self._applier.caught_up()
        except (SqliteError, *UNBINDABLE):
            raise StoreUnavailable(
                "The database cannot write now, so it does not have the latest calls. Try again.",
                retry_after_s=1.0,
            ) from None

    async def catch_up(self) -> None:
        """After an outage, nothing may act on the database before it contains what ended meanwhile.
        Raises `StoreUnavailable` if it cannot."""
        applier = self._applier
        if applier.is_catching_up and not await applier.apply_all():
            raise applier.outage.refusal(self.backlog_calls)

    async def settled_down(self, tries: int = 1) -> bool:
        """Write and apply everything, durably. False if that is not possible."""
        return await self._log.drain(tries) and await self._applier.apply_all()

    # Internals

    def _of(self, account_id: str) -> Funds:
        funds = self._funds.get(account_id)
        if funds is None:
            raise NotFound(f"There is no account '{account_id}'.", code="account_not_found")
        return funds

    def _wake(self, account_id: str) -> None:
        for on_headroom, waiting in self._subscribers:
            if account_id in waiting:
                on_headroom(account_id)


def expired_record(hold: Hold, status: int, error_code: str) -> CallRecord:
    """The record of a call whose hold was never resolved. The account pays nothing, since there is
    no proof that it received an answer. The operator bears what the upstream bills."""
    return CallRecord(
        id=hold.call_id,
        account_id=hold.account_id,
        key_id=hold.key_id,
        alias="",
        endpoint="",
        at_ms=hold.at_ms,
        status=status,
        error_code=error_code,
        resolution="expired",
        held_nanos=hold.amount_nanos,
    )


def _refused(refusal: StoreUnavailable) -> Signal:
    refused = Signal(asyncio.get_running_loop())
    refused.fail(refusal)
    return refused
