"""Statements, entries and balances say the same, whatever happens."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples

from merino.billing.credits import CreditDesk
from merino.billing.statements import StatementDesk
from merino.billing.stores.stores import BillingStores
from merino.control.accounts import AccountDesk
from merino.domain.call import CallRecord
from merino.domain.errors import MerinoError
from merino.domain.ledger import Hold
from merino.storage import Store

DAY_MS = 86_400_000
START_MS = int(datetime(2026, 9, 20, tzinfo=UTC).timestamp() * 1000)
NAMES = ("a", "b", "yuan")

amounts = st.integers(1, 50 * 10**9)
names = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("credit"), names, amounts),
    st.tuples(st.just("debit"), names, amounts),
    st.tuples(st.just("transfer"), names, names, amounts),
    st.tuples(st.just("voucher"), names, amounts),
    st.tuples(st.just("call"), names, amounts, st.integers(0, 2)),
    st.tuples(st.just("days"), st.integers(1, 20)),
    st.tuples(st.just("sum_up"), st.integers(1, 5)),
    st.tuples(st.just("late_call"), names, amounts),
)


class World:
    def __init__(self, folder: Path) -> None:
        self.now_ms = START_MS
        self.store = Store.open(folder, now_ms=lambda: self.now_ms)
        self.accounts = AccountDesk(self.store.accounts)
        self.tables = tables = BillingStores(self.store)
        self.desk = CreditDesk(
            self.accounts,
            tables.vouchers,
            tables.transfers,
            self.store.exchange,
            tables.statements,
            lambda: self.now_ms,
        )
        self.keys = {}
        self.calls = self.late_calls = 0

    async def begin(self) -> None:
        await self.store.start()
        await self.desk.set_rate("USD", "CNY", "7.12", date(2026, 1, 1), "test")
        for name in NAMES:
            currency = "CNY" if name == "yuan" else "USD"
            account_id = (await self.accounts.create(name, currency=currency)).account.id
            self.keys[name], _ = await self.store.keys.create(account_id=account_id, name=name)

    async def do(self, what: str, *given: object) -> None:
        done = getattr(self, what)(*given)
        if done is not None:
            await done

    async def credit(self, name, nanos):
        await self.accounts.credit(name, nanos)

    async def debit(self, name, nanos):
        await self.accounts.debit(name, nanos)

    async def transfer(self, source, target, nanos):
        await self.desk.transfer(source, target, nanos)

    async def voucher(self, name, nanos):
        [(_, code)] = await self.desk.create_vouchers(nanos, 1)
        await self.desk.redeem(code, name)

    def call(self, name, nanos, price):
        key = self.keys[name]
        self.calls += 1
        hold = Hold(f"call_{self.calls}", key.account_id, key.id, nanos, self.now_ms, 60.0)
        if self.store.ledger.hold(hold, key) is None:
            return
        record = CallRecord(
            hold.call_id, key.account_id, key.id, "m", "chat/completions", self.now_ms, 200,
            charged_nanos=nanos + price, held_nanos=nanos, price_id=f"p{price}",
        )  # fmt: skip
        self.store.ledger.settle(hold, key, record)

    def late_call(self, name, nanos):
        """Its hold expires, and then it settles all the same."""
        key = self.keys[name]
        self.calls += 1
        hold = Hold(f"call_{self.calls}", key.account_id, key.id, nanos, self.now_ms, 60.0)
        if self.store.ledger.hold(hold, key) is None:
            return
        self.now_ms += 61_000
        self.store.ledger.expire_overdue()
        record = CallRecord(
            hold.call_id, key.account_id, key.id, "m", "chat/completions", hold.at_ms, 200,
            charged_nanos=nanos, held_nanos=nanos, price_id="late",
        )  # fmt: skip
        self.store.ledger.settle(hold, key, record)
        self.late_calls += 1

    def days(self, count):
        self.now_ms += count * DAY_MS

    async def sum_up(self, rows):
        await self.tables.statements.sum_up(rows)

    async def from_entries(self, name, since_ms, until_ms):
        """What the entries say, one by one: opening, and calls and cost by day and price."""
        await self.store.ledger.settled_down()
        account = self.accounts.find(name).id
        opening, calls, cost = 0, Counter(), Counter()
        settled = set()
        rows = list(
            self.store._database.execute(
                "SELECT at_ms, kind, debit_account, amount_nanos, call_id, price_id FROM entries"
                " WHERE account_id = ? ORDER BY id",
                (account,),
            )
        )
        for at_ms, kind, debit, nanos, call_id, price_id in rows:
            if at_ms < since_ms:
                opening += -nanos if debit == account else nanos
            elif at_ms < until_ms and kind in ("settle", "overrun"):
                calls[at_ms // DAY_MS, price_id] += call_id not in settled
                cost[at_ms // DAY_MS, price_id] += nanos
                settled.add(call_id)
        return opening, calls, cost


async def _run(folder: Path, script: list[tuple]) -> None:
    world = World(folder)
    await world.begin()
    try:
        for what, *given_ in script:
            try:
                await world.do(what, *given_)
            except MerinoError:
                continue
        statements = StatementDesk(world.accounts, world.tables.statements, lambda: world.now_ms)
        for name in NAMES:
            posted = world.accounts.show(name).balance.posted_nanos
            before = 0
            for month in ("2026-09", "2026-10", "2026-11", "2026-12"):
                made = await statements.make(name, month)
                assert before == made.opening_nanos
                since_ms, until_ms = (int(at.timestamp()) * 1000 for at in (made.since, made.until))
                opening, calls, cost = await world.from_entries(name, since_ms, until_ms)
                assert opening == made.opening_nanos
                assert calls == {(line.day, line.price_id): line.calls for line in made.usage}
                assert cost == {(line.day, line.price_id): line.nanos for line in made.usage}
                before = made.closing_nanos
            if world.now_ms < datetime(2027, 1, 1, tzinfo=UTC).timestamp() * 1000:
                assert posted == before
        entries = world.store._database.execute(
            "SELECT count(*) FROM entries WHERE price_id = 'late'"
        )
        await world.store.ledger.settled_down()
        assert [(world.late_calls,)] == list(entries)
        assert [] == list((await world.store.books.verify()).differences)
    finally:
        await world.store.close()


@given(st.lists(steps, max_size=25))
@settings(max_examples=examples(15))
def test_statements_are_the_entries_are_the_balances(script):
    """Each month opens where the one before closed, the last closes at the balance, and the books
    balance; in dollars and in yuan, with calls (late ones, too), vouchers, transfers and all, and
    however much of it was summed up when."""
    with TemporaryDirectory() as folder:
        asyncio.run(_run(Path(folder) / "data", script))
