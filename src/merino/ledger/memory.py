"""Holds and charges: authoritative in this process's memory, durable in its journal.

Everything here runs on the event loop's thread, so between two awaits nothing changes. The bank
behind it has the purses, and books what was charged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence

from merino.domain.account import Balance, SpendPeriod
from merino.domain.call import CallRecord
from merino.domain.clock import epoch_ms
from merino.domain.errors import BudgetExhausted, NotFound, StoreUnavailable
from merino.domain.key import VirtualKey
from merino.domain.ledger import Hold, Resolution
from merino.domain.money import format_nanos
from merino.gateway.ports import Headroom, Replay
from merino.ledger.applier import BACKLOG_CALLS_MAX
from merino.ledger.bank import Bank
from merino.ledger.journal import Journal, Line
from merino.ledger.lines import Record, encode_hold, encode_record, row_of
from merino.ledger.parts import CapPart, Funds, Part, headroom_of, window_of
from merino.ledger.replays import Replays
from merino.ledger.segments import frame
from merino.running.signal import Signal
from merino.sqlite.database import UNBINDABLE, SqliteError

EXPIRED_STATUS = 504
EXPIRED_CODE = "hold_expired"


class MemoryLedger:
    """The gateway's `Ledger` port over a journal and a bank."""

    def __init__(self, bank: Bank, replays: Replays, now_ms: Callable[[], int] = epoch_ms) -> None:
        self._bank = bank
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
        part = funds.balance
        posted = part.nanos + part.elsewhere - funds.overdraft
        return Balance(posted, part.held, funds.overdraft)

    def headroom(self, key: VirtualKey) -> Headroom:
        funds = self._of(key.account_id)
        key_cap = None
        if key.spend_cap_nanos is not None:
            key_cap = self._key_cap(funds, key, key.spend_cap_nanos)
        if funds.cap is not None:
            self._renew(funds)
        return headroom_of(funds, key_cap)

    def ask(self, key: VirtualKey, nanos: int, call_id: str, waited_s: float) -> bool:
        return self._bank.ask(key, nanos, call_id, waited_s)

    def unask(self, account_id: str, call_id: str) -> None:
        self._bank.unask(account_id, call_id)

    @property
    def open_holds(self) -> int:
        return len(self._open)

    def holds_by_account(self) -> list[tuple[str, int, int]]:
        """Each account, the sum of its open holds, and its recorded held amount: always equal."""
        sums: dict[str, int] = {}
        for hold in self._open.values():
            sums[hold.account_id] = sums.get(hold.account_id, 0) + hold.amount_nanos
        return [
            (name, sums.get(name, 0), funds.balance.held) for name, funds in self._funds.items()
        ]

    @property
    def backlog_calls(self) -> int:
        """Calls that are in the journal and not yet booked."""
        return self._bank.backlog_calls

    @property
    def why_unavailable(self) -> str | None:
        """Why a hold could not be recorded now, if known."""
        if self._log.is_failing:
            return "the ledger's journal cannot be written"
        if self._bank.is_closed:
            return self._bank.refusal().message
        return None

    async def replay(self, replay_id: bytes) -> Replay | None:
        waiting = self._bank.replay(replay_id)
        return waiting or await self._replays.find(replay_id, self._now_ms())

    def subscribe(self, on_headroom: Callable[[str], None], waiting: Container[str]) -> None:
        self._subscribers.append((on_headroom, waiting))

    # Holds

    def hold(self, hold: Hold, key: VirtualKey) -> Signal | None:
        assert hold.call_id not in self._open, f"call {hold.call_id} is held already"
        funds = self._of(hold.account_id)
        if not self._fits(hold.amount_nanos, funds, key):
            return None
        if self._bank.is_closed:
            hold.is_undone = True
            return _refused(self._bank.refusal())
        _reserve(funds, hold, hold.amount_nanos)
        self._open[hold.call_id] = hold
        log = self._log
        log.last_seq = seq = log.last_seq + 1
        return log.offer(encode_hold(seq, hold), hold)

    def grow(self, hold: Hold, by_nanos: int, key: VirtualKey) -> bool:
        assert by_nanos >= 0
        if hold.call_id not in self._open:
            return False
        funds = self._of(hold.account_id)
        if not self._fits(by_nanos, funds, key):
            return False
        _reserve(funds, hold, by_nanos)
        hold.amount_nanos += by_nanos
        return True

    def _fits(self, nanos: int, funds: Funds, key: VirtualKey) -> bool:
        """Whether `headroom` leaves this much. Without caps, as for most calls, that is one sum."""
        if funds.cap is None and key.spend_cap_nanos is None:
            return not nanos or nanos <= funds.balance.nanos - funds.balance.held
        return nanos <= self.headroom(key).available_nanos

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
        _reserve(self._of(hold.account_id), hold, hold.amount_nanos)
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
        self._expire(overdue, now_ms)
        return len(overdue)

    def expire_all(self) -> None:
        """The bank has given to others what is held here."""
        self._expire(list(self._open.values()), self._now_ms())

    def _expire(self, holds: Sequence[Hold], now_ms: int) -> None:
        for hold in holds:
            record = expired_record(hold, EXPIRED_STATUS, EXPIRED_CODE)
            record.duration_ms = float(now_ms - hold.at_ms)
            self._resolve(hold, "expired", record, None)

    def record(self, record: CallRecord) -> None:
        """Keep the record of a call that never had a hold. When the journal or the database cannot
        be written, such records are given up first, so that refusals do not pile up in an
        outage."""
        if self._bank.backlog_calls > BACKLOG_CALLS_MAX:
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
        now_ms = self._now_ms()
        log = self._log
        log.last_seq = seq = log.last_seq + 1
        if held:
            _reserve(funds, hold, -held)
        if charged:
            self._charge(funds, hold, charged, now_ms)
        self._bank.ended(hold.account_id, hold.key_id, charged, now_ms, seq)

        kind = "late" if is_late else "call"
        ended: Record = (seq, kind, now_ms, row_of(record), replay)
        durable = log.append(encode_record(ended), ended)
        if held > charged:
            self._wake(hold.account_id)
        return durable

    def _charge(self, funds: Funds, hold: Hold, nanos: int, now_ms: int) -> None:
        funds.balance.nanos -= nanos
        if funds.cap is not None:
            self._renew(funds)
            funds.cap.nanos -= nanos
        if funds.key_caps and (key_cap := funds.key_caps.get(hold.key_id)) is not None:
            if now_ms >= key_cap.ends_ms:
                key_cap = self._open_window(funds, key_cap, key_cap.cap_nanos, key_cap.period)
            key_cap.nanos -= nanos

    # Caps: each window of one is a purse of its own

    def _key_cap(self, funds: Funds, key: VirtualKey, nanos: int) -> CapPart:
        """The part of what a key may still spend, as its cap is now."""
        cap = funds.key_caps.get(key.id)
        if cap is None:
            held = sum(each.amount_nanos for each in self._open.values() if each.key_id == key.id)
            cap = CapPart(key.id, key.account_id, held=held)
        elif (
            cap.cap_nanos == nanos
            and cap.period == key.spend_period
            and self._now_ms() < cap.ends_ms
        ):
            return cap
        return self._open_window(funds, cap, nanos, key.spend_period)

    def _renew(self, funds: Funds) -> None:
        """A cap of an account counts from nothing when its window is over."""
        cap = funds.cap
        if cap is not None and self._now_ms() >= cap.ends_ms:
            self._open_window(funds, cap, cap.cap_nanos, cap.period)

    def _open_window(
        self, funds: Funds, before: CapPart, nanos: int, period: SpendPeriod
    ) -> CapPart:
        """What is held goes over to it; what was left does not."""
        begins_ms, ends_ms = window_of(period, self._now_ms())
        cap = CapPart(
            before.owner,
            before.account_id,
            held=before.held,
            begins_ms=begins_ms,
            ends_ms=ends_ms,
            cap_nanos=nanos,
            period=period,
        )
        before.held = 0
        self._bank.left(before)
        if cap.owner == cap.account_id:
            funds.cap = cap
        else:
            funds.key_caps[cap.owner] = cap
        self._bank.opened(cap)
        return cap

    # What operators do to an account

    def open_account(self, account_id: str, posted_nanos: int, overdraft_nanos: int) -> None:
        part = Part(account_id, account_id, posted_nanos + overdraft_nanos)
        self._funds[account_id] = Funds(part, overdraft_nanos)
        self._bank.opened(part)

    def post(self, account_id: str, nanos: int) -> None:
        """Add to what is posted; the entry for it is in the database already, or was not written
        after `take`."""
        self._of(account_id).balance.nanos += nanos
        if nanos > 0:
            self._wake(account_id)

    def take(self, account_id: str, nanos: int) -> None:
        """Take out of what is posted, before the entry for it is written. Raises `BudgetExhausted`
        if more is taken than is available."""
        part = self._of(account_id).balance
        available = part.nanos - part.held
        if nanos > available:
            raise BudgetExhausted(
                f"The account has {format_nanos(available)} available; {format_nanos(nanos)} "
                "cannot be taken out of it.",
                code="insufficient_balance",
                param="amount",
            )
        part.nanos -= nanos

    def set_overdraft(self, account_id: str, nanos: int) -> None:
        funds = self._of(account_id)
        more = nanos - funds.overdraft
        funds.overdraft = nanos
        funds.balance.nanos += more
        if more > 0:
            self._wake(account_id)

    def set_cap(self, account_id: str, nanos: int | None, period: SpendPeriod) -> None:
        """Cap what all keys of an account spend together, or remove the cap."""
        funds = self._of(account_id)
        if nanos is not None:
            cap = funds.cap or CapPart(account_id, account_id, held=funds.balance.held)
            self._open_window(funds, cap, nanos, period)
        elif funds.cap is not None:
            funds.cap.held = 0
            self._bank.left(funds.cap)
            funds.cap = None
        self._wake(account_id)

    def spent(self, account_id: str, period: SpendPeriod) -> int:
        """What a capped account has spent in the period; 0 for one without a cap."""
        funds = self._of(account_id)
        self._renew(funds)
        return 0 if funds.cap is None else self._bank.spent(funds.cap, period)

    def wake(self, account_id: str) -> None:
        """A cap was raised: waiting calls may look again."""
        self._wake(account_id)

    # The journal's owner

    def on_written(self, lines: list[Line]) -> None:
        add = self._bank.add
        for _, owner, _ in lines:
            if owner.__class__ is tuple:
                add(owner)
        self._bank.schedule()

    def on_lost(self, lines: list[Line]) -> None:
        for _, owner, _ in lines:
            # A hold that was resolved before its line could be written has nothing left to undo.
            if isinstance(owner, Hold) and self._open.pop(owner.call_id, None) is not None:
                owner.is_undone = True
                _reserve(self._of(owner.account_id), owner, -owner.amount_nanos)
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
        """Return once everything that finished before is booked. Raises `StoreUnavailable`."""
        self._log.flush()
        try:
            await self._bank.caught_up()
        except (SqliteError, *UNBINDABLE):
            raise StoreUnavailable(
                "The database cannot write now, so it does not have the latest calls. Try again.",
                retry_after_s=1.0,
            ) from None

    async def catch_up(self) -> None:
        """After an outage, nothing may act on the database before it contains what ended meanwhile.
        Raises `StoreUnavailable` if it cannot."""
        bank = self._bank
        if bank.is_catching_up and not await bank.apply_all():
            raise bank.refusal()

    async def settled_down(self, tries: int = 1) -> bool:
        """Write and apply everything, durably. False if that is not possible."""
        return await self._log.drain(tries) and await self._bank.apply_all()

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


def _reserve(funds: Funds, hold: Hold, nanos: int) -> None:
    """Hold this much more, or less, of every purse that applies."""
    funds.balance.held += nanos
    if funds.cap is not None:
        funds.cap.held += nanos
    if funds.key_caps and (key_cap := funds.key_caps.get(hold.key_id)) is not None:
        key_cap.held += nanos


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
