"""The ledger against a dictionary: any sequence of calls, credits and crashes keeps the books."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from tests.lengths import examples

from merino.domain.call import CallRecord
from merino.domain.clock import DAY_MS
from merino.domain.errors import BudgetExhausted
from merino.domain.ledger import Hold
from merino.storage import Store

NANOS = st.integers(0, 1_000)
CAPS = st.none() | st.integers(0, 5_000)
PERIODS = st.sampled_from(["day", "total"])


def record(hold: Hold, charged: int = 0) -> CallRecord:
    return CallRecord(
        id=hold.call_id,
        account_id=hold.account_id,
        key_id=hold.key_id,
        alias="a",
        endpoint="chat/completions",
        at_ms=hold.at_ms,
        status=200,
        held_nanos=hold.amount_nanos,
        charged_nanos=charged,
        upstream_nanos=charged // 2,
    )


class LedgerMachine(RuleBasedStateMachine):
    holds = Bundle("holds")

    @initialize(overdraft=st.integers(0, 500), cap=CAPS, period=PERIODS, other=CAPS)
    def open(self, overdraft: int, cap: int | None, period: str, other: int | None) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.now_ms = 1_800_000_000_000
        self.numbers = count()
        self.store = Store.open(self.folder, now_ms=lambda: self.now_ms)
        run = self.loop.run_until_complete
        self.account = run(self.store.accounts.create("a", overdraft_nanos=overdraft)).id
        terms = {"name": "k", "spend_cap_nanos": cap, "spend_period": period}
        self.key, _ = run(self.store.keys.create(account_id=self.account, **terms))
        self.posted = 0
        self.spent = {"day": 0, "total": 0}
        self.overdraft = overdraft
        self.caps = {"key": (cap, period), "account": (None, "total")}
        self.cap_account(other, "day")
        self.open_holds: dict[str, int] = {}
        self.outcomes: dict[str, tuple[str, int]] = {}

    def available(self) -> int:
        held = sum(self.open_holds.values())
        available = self.posted - held + self.overdraft
        for cap, period in self.caps.values():
            if cap is not None:
                available = min(available, cap - self.spent[period] - held)
        return available

    def in_loop(self, action):
        async def run():
            return action()

        return self.loop.run_until_complete(run())

    @rule(target=holds, nanos=NANOS)
    def hold(self, nanos: int):
        """A hold is granted exactly if it fits, and is durable when its future completes."""
        hold = Hold(f"c{next(self.numbers)}", self.account, self.key.id, nanos, self.now_ms, 60.0)

        async def take() -> bool:
            durable = self.store.ledger.hold(hold, self.key)
            if durable is None:
                return False
            await durable
            return True

        fits = nanos == 0 or nanos <= self.available()
        assert fits == self.loop.run_until_complete(take())
        if not fits:
            return multiple()
        self.open_holds[hold.call_id] = nanos
        return hold

    @rule(hold=holds, nanos=NANOS)
    def grow(self, hold: Hold, nanos: int) -> None:
        """A hold grows exactly if there is room."""
        if hold.call_id not in self.open_holds:
            return
        fits = nanos == 0 or nanos <= self.available()
        assert fits == self.in_loop(lambda: self.store.ledger.grow(hold, nanos, self.key))
        if fits:
            self.open_holds[hold.call_id] += nanos

    @rule(hold=consumes(holds), charged=st.integers(0, 1_500))
    def settle(self, hold: Hold, charged: int) -> None:
        """Settling posts what was charged, above the hold too, and releases the rest."""
        if hold.call_id not in self.open_holds:
            return
        ended = record(hold, charged)
        held = self.open_holds.pop(hold.call_id)

        async def post() -> None:
            await self.store.ledger.settle(hold, self.key, ended)

        self.loop.run_until_complete(post())
        self.posted -= charged
        for period in self.spent:
            self.spent[period] += charged
        self.outcomes[hold.call_id] = ("settled", charged)
        assert max(0, charged - held) == ended.overrun_nanos

    @rule(hold=consumes(holds))
    def void(self, hold: Hold) -> None:
        """Voiding releases everything."""
        if hold.call_id not in self.open_holds:
            return
        del self.open_holds[hold.call_id]

        async def release() -> None:
            await self.store.ledger.void(hold, self.key, record(hold))

        self.loop.run_until_complete(release())
        self.outcomes[hold.call_id] = ("voided", 0)

    @rule(nanos=CAPS, period=PERIODS)
    def cap_account(self, nanos: int | None, period: str) -> None:
        """A cap counts what was spent before it was set, and what is held."""
        terms: Any = {"spend_cap_nanos": nanos, "spend_period": period}
        self.loop.run_until_complete(self.store.accounts.update(self.account, terms))
        self.caps["account"] = nanos, period

    @rule(nanos=CAPS, period=PERIODS)
    def cap_key(self, nanos: int | None, period: str) -> None:
        """So does a key's."""
        terms: Any = {"spend_cap_nanos": nanos, "spend_period": period}
        self.key = self.loop.run_until_complete(self.store.keys.update(self.key.id, terms))
        self.caps["key"] = nanos, period

    @rule()
    def next_day(self) -> None:
        """A cap of the day counts from nothing again; what is held goes on, and counts."""
        self.now_ms += DAY_MS
        self.spent["day"] = 0

    @rule(nanos=st.integers(1, 3_000))
    def credit(self, nanos: int) -> None:
        self.loop.run_until_complete(self.store.accounts.credit(self.account, nanos, "top-up"))
        self.posted += nanos

    @rule(nanos=st.integers(1, 3_000))
    def debit(self, nanos: int) -> None:
        """An operator cannot take what calls hold."""
        held = sum(self.open_holds.values())
        if nanos > self.posted - held + self.overdraft:
            try:
                self.loop.run_until_complete(self.store.accounts.debit(self.account, nanos))
            except BudgetExhausted:
                return
            raise AssertionError("debited more than was available")
        self.loop.run_until_complete(self.store.accounts.debit(self.account, nanos))
        self.posted -= nanos

    @rule()
    def expire(self) -> None:
        """Holds that nobody resolved in their time are released."""
        day = self.now_ms // DAY_MS
        self.now_ms += 61_000
        if self.now_ms // DAY_MS > day:
            self.spent["day"] = 0
        expired = self.in_loop(self.store.ledger.expire_overdue)
        assert len(self.open_holds) == expired
        self.forget_open_holds()

    @rule()
    def crash(self) -> None:
        """After the process died, what was durable is there and its open holds are expired."""
        self.store._applier.stop()
        self.store.points.close()
        self.store.writer.stop()
        self.store._journal.close(delete=False)
        self.store._database.close()
        self.store._readers.close()
        self.store._lock.release()
        self.store = Store.open(self.folder, now_ms=lambda: self.now_ms)
        self.key = self.store.keys.get(self.key.id)
        self.forget_open_holds()

    def forget_open_holds(self) -> None:
        for call_id in self.open_holds:
            self.outcomes[call_id] = ("expired", 0)
        self.open_holds.clear()

    @invariant()
    def balances_agree(self) -> None:
        """Posted and held are what the model says; available never falls below zero by holds."""
        if not hasattr(self, "store"):
            return
        balance = self.store.ledger.balance(self.account)
        assert (self.posted, sum(self.open_holds.values())) == (
            balance.posted_nanos,
            balance.held_nanos,
        )
        assert max(0, self.available()) == self.store.ledger.headroom(self.key).available_nanos
        cap, period = self.caps["account"]
        spent = 0 if cap is None else self.spent[period]
        assert spent == self.store.ledger.spent(self.account, period)

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return

        async def check() -> None:
            verification = await self.store.books.verify()
            assert [] == list(verification.differences)
            for call_id, outcome in self.outcomes.items():
                call = await self.store.calls.get(call_id)
                assert outcome == (call.resolution, call.charged_nanos)
            await self.store.close()

        self.loop.run_until_complete(check())
        self.loop.close()
        shutil.rmtree(self.folder)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.__doc__ = "Every invariant of the ledger holds after any sequence of actions."
TestLedgerMachine.settings = settings(
    max_examples=examples(15),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
