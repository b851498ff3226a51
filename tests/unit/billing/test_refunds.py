"""Refunds by an operator: taken first, asked for once, given back if the bank refuses."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merino.billing.credits import CreditDesk
from merino.billing.nouns import PaymentEvent, TopUp
from merino.billing.payment_rules import decide
from merino.billing.stores.stores import BillingStores
from merino.billing.topups import TopUpDesk
from merino.control.accounts import AccountDesk
from merino.domain.clock import DAY_MS
from merino.domain.errors import Conflict, MerinoError, PaymentFailed, PaymentUncertain
from merino.settings.sections.payments import PaymentsSettings
from merino.storage import Store

DOLLAR = 10**9
PAID = 10 * DOLLAR
MINUTE_MS = 60_000


class Died(BaseException):
    """The process ends here."""


class Bank:
    """Makes a refund once for its key. `mood` is how it takes the next question: it does it,
    refuses, or is not heard: before it has done it, after, or because we die."""

    name = "bank"
    is_confirmed_by_hand = False
    can_charge = False

    def __init__(self) -> None:
        self.made: dict[str, int] = {}
        self.asked: list[str] = []
        self.mood = "does"
        self.watch = lambda: None

    async def refund(
        self, order: TopUp, charge_minor: int, key: str, *, again: bool = False
    ) -> PaymentEvent | None:
        mood, self.mood = self.mood, "does"
        self.asked.append(key)
        self.watch()
        await asyncio.sleep(0)
        if mood == "dies before":
            raise Died
        if mood == "is lost before":
            raise PaymentUncertain("no answer")
        if mood == "refuses" and key not in self.made:
            raise PaymentFailed("no")
        self.made[key] = charge_minor
        if mood == "dies after":
            raise Died
        if mood == "is lost after":
            raise PaymentUncertain("no answer")
        return None if mood == "will tell" else self.told(key, "answer")

    def told(self, key: str, event_id: str) -> PaymentEvent:
        return PaymentEvent(
            f"{event_id}:{key}",
            "refund",
            payment_ref="pay_1",
            amount_minor=self.made[key],
            currency="USD",
            ref=f"re_{list(self.made).index(key)}",
            refund_key=key,
        )

    def sum_told(self, event_id: str) -> PaymentEvent:
        return PaymentEvent(
            event_id,
            "refunds",
            payment_ref="pay_1",
            amount_minor=sum(self.made.values()),
            currency="USD",
            ref="ch_1",
        )


class World:
    """A paid order of ten dollars, and its bank."""

    def __init__(self, store: Store, clock: list[int] | None = None) -> None:
        self.clock = clock or [0]
        self.store = store
        self.bank = Bank()
        self.tables = BillingStores(store)
        self.numbers = iter(range(10**6))
        self.start()

    def start(self) -> None:
        """As a process does: nothing is remembered but what is written."""
        accounts = AccountDesk(self.store.accounts)
        tables = self.tables
        self.desk = TopUpDesk(
            accounts,
            CreditDesk(
                accounts, tables.vouchers, tables.transfers, self.store.exchange, tables.statements
            ),
            tables.topups,
            tables.cards,
            on_refused=lambda what, **details: None,
            on_booked=cast("Any", lambda order, booking: asyncio.sleep(0)),
            now_ms=self.store.now_ms,
        )
        self.desk.configure(PaymentsSettings(), {"bank": cast("Any", self.bank)})

    async def begin(self) -> None:
        account = await self.store.accounts.create("a")
        self.account_id = account.id
        self.order = TopUp("top_1", account.id, "bank", PAID, "USD", 1000, "USD", None, "open", 0)
        await self.tables.topups.create(self.order)
        paid = PaymentEvent(
            "paid", "paid", "top_1", None, "pay_1", 1000, "USD", account_id=account.id
        )
        await self.hear(paid)

    async def hear(self, event: PaymentEvent) -> None:
        """An event that the bank has signed."""
        await self.tables.topups.receive("bank", event.id, b"{}")
        await self.tables.topups.apply("bank", event, decide)

    @property
    def balance(self) -> int:
        return self.store.accounts.balance(self.account_id).posted_nanos

    async def refund(self, nanos: int | None = None) -> str:
        try:
            return (await self.desk.refund("top_1", nanos)).status
        except Died:
            self.start()
            return "died"
        except MerinoError as error:
            return type(error).__name__

    async def later(self) -> int:
        self.clock[0] += MINUTE_MS
        return await self.desk.ask_again()

    async def entries(self) -> list[tuple[str, int]]:
        lines = await self.tables.statements.lines(self.account_id, 0, 30_000 * DAY_MS)
        return [
            (each.kind, each.amount_nanos * (1 if each.credit_account == self.account_id else -1))
            for each in lines.movements
        ]

    async def is_sound(self) -> bool:
        return not (await self.store.books.verify()).differences


@asynccontextmanager
async def a_world(folder: Path) -> AsyncIterator[World]:
    clock = [1_790_000_000_000]
    store = Store.open(folder, now_ms=lambda: clock[0])
    await store.start()
    try:
        world = World(store, clock)
        await world.begin()
        yield world
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("mood", "outcome", "left", "after", "asked"),
    [
        ("does", "refunded", 7, 7, 1),
        ("refuses", "PaymentFailed", 10, 10, 1),
        ("will tell", "paid", 7, 7, 2),
        ("is lost before", "PaymentUncertain", 7, 7, 2),
        ("is lost after", "PaymentUncertain", 7, 7, 2),
        ("dies before", "died", 7, 7, 2),
        ("dies after", "died", 7, 7, 2),
    ],
)
def test_what_a_refund_takes(tmp_path, mood, outcome, left, after, asked) -> None:
    """It is gone before the bank is asked, comes back if the bank refuses, and stays taken where
    nobody knows; then the bank is asked again, and does it once."""

    async def scenario() -> None:
        async with a_world(tmp_path) as world:
            seen: list[int] = []
            world.bank.watch = lambda: seen.append(world.balance)
            world.bank.mood = mood
            assert outcome == await world.refund(3 * DOLLAR)
            assert left * DOLLAR == world.balance
            await world.later()
            assert 0 == await world.later()
            assert after * DOLLAR == world.balance
            assert [7 * DOLLAR] * asked == seen
            assert 1 == len(set(world.bank.asked))
            assert [300] * (after == 7) == list(world.bank.made.values())
            order = await world.desk.get("top_1")
            assert ("refunded" if after == 7 else "paid") == order.status
            assert PAID - after * DOLLAR == order.taken_back_nanos
            back = [("refund", 3 * DOLLAR)] if after == 10 else []
            assert [("topup", PAID), ("refund", -3 * DOLLAR), *back] == await world.entries()
            assert await world.is_sound()

    asyncio.run(scenario())


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("is_summed", [True, False])
def test_the_banks_event_is_an_answer(tmp_path, is_first, is_summed) -> None:
    """Before we ask again or after it, by itself or in a sum: it is booked once."""

    async def scenario() -> None:
        async with a_world(tmp_path) as world:
            world.bank.mood = "is lost after"
            await world.refund(3 * DOLLAR)
            [key] = world.bank.made
            event = world.bank.sum_told("evt") if is_summed else world.bank.told(key, "evt")
            if is_first:
                await world.hear(event)
                assert int(is_summed) == await world.later()  # a sum does not say whose it is
            else:
                assert 1 == await world.later()
                await world.hear(event)
            assert 7 * DOLLAR == world.balance
            assert [("topup", PAID), ("refund", -3 * DOLLAR)] == await world.entries()
            assert 0 == await world.later()

    asyncio.run(scenario())


def test_the_same_refund_asked_for_once_more_is_the_same_one(tmp_path) -> None:
    """Who got no answer may ask again, for the same or for all; for another one they wait."""

    async def scenario() -> None:
        async with a_world(tmp_path) as world:
            world.bank.mood = "is lost before"
            assert "PaymentUncertain" == await world.refund(3 * DOLLAR)
            with pytest.raises(Conflict, match="under way"):
                await world.desk.refund("top_1", 2 * DOLLAR)
            assert "refunded" == await world.refund(3 * DOLLAR)
            assert 1 == len(world.bank.made)
            assert "refunded" == await world.refund(3 * DOLLAR)
            assert [300, 300] == list(world.bank.made.values())
            assert 4 * DOLLAR == world.balance

    asyncio.run(scenario())


def test_a_refund_that_was_refused_is_asked_for_under_another_key(tmp_path) -> None:
    """Else the bank would answer it as it answered the first one."""

    async def scenario() -> None:
        async with a_world(tmp_path) as world:
            world.bank.mood = "refuses"
            assert "PaymentFailed" == await world.refund(3 * DOLLAR)
            assert "refunded" == await world.refund(3 * DOLLAR)
            assert 2 == len(set(world.bank.asked))
            assert 7 * DOLLAR == world.balance

    asyncio.run(scenario())


def test_what_the_bank_gave_back_by_itself_hides_no_refund_of_ours(tmp_path) -> None:
    """Where others are only known by their sum, ours still takes its own."""

    async def scenario() -> None:
        async with a_world(tmp_path) as world:
            world.bank.made["by hand"] = 300
            await world.hear(world.bank.sum_told("evt_1"))
            assert 7 * DOLLAR == world.balance
            world.bank.mood = "is lost after"
            await world.refund(2 * DOLLAR)
            assert 5 * DOLLAR == world.balance
            await world.hear(world.bank.sum_told("evt_2"))
            assert 5 * DOLLAR == world.balance
            await world.later()
            assert 5 * DOLLAR == world.balance
            assert (await world.desk.get("top_1")).taken_back_nanos == 5 * DOLLAR

    asyncio.run(scenario())


def test_a_call_cannot_hold_what_is_being_refunded(tmp_path) -> None:
    """Nor can anything else take it, while the bank thinks."""

    async def scenario() -> None:
        async with a_world(tmp_path) as world:
            taken: list[str] = []

            def watch() -> None:
                try:
                    world.store.ledger.take(world.account_id, 8 * DOLLAR)
                except MerinoError as error:
                    taken.append(type(error).__name__)

            world.bank.watch = watch
            await world.refund(3 * DOLLAR)
            assert ["BudgetExhausted"] == taken

    asyncio.run(scenario())


MOODS = ("does", "refuses", "will tell", "is lost before", "is lost after", "dies before")
STEPS = st.one_of(
    st.tuples(st.just("refund"), st.sampled_from([*MOODS, "dies after"]), st.integers(1, 500)),
    st.tuples(st.just("told"), st.booleans(), st.integers(0, 9)),
    st.tuples(st.just("later"), st.sampled_from(MOODS), st.just(0)),
    st.tuples(st.just("restart"), st.none(), st.just(0)),
)


@given(steps=st.lists(STEPS, max_size=8))
@settings(max_examples=25)
def test_in_the_end_the_account_has_paid_what_the_bank_gave_back(steps) -> None:
    """Whatever is lost, refused, told late or twice, and wherever we die; meanwhile the account has
    never paid less."""

    async def scenario(folder: Path) -> None:
        async with a_world(folder) as world:
            bank = world.bank
            for what, how, number in steps:
                if what == "refund":
                    bank.mood = how
                    await world.refund(number * DOLLAR // 100)
                elif what == "told" and bank.made:
                    key = list(bank.made)[number % len(bank.made)]
                    event_id = f"evt_{next(world.numbers)}"
                    event = bank.sum_told(event_id) if how else bank.told(key, event_id)
                    await world.hear(event)
                elif what == "later":
                    bank.mood = how
                    try:
                        await world.later()
                    except Died:
                        world.start()
                elif what == "restart":
                    world.start()
                assert PAID - world.balance >= sum(bank.made.values()) * DOLLAR // 100
                bank.mood = "does"
            await world.later()
            assert 0 == await world.later()
            assert PAID - world.balance == sum(bank.made.values()) * DOLLAR // 100
            order = await world.desk.get("top_1")
            assert PAID - world.balance == order.taken_back_nanos
            assert ("refunded" if bank.made else "paid") == order.status
            assert await world.is_sound()

    with TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.unit.billing.test_refunds import DOLLAR, World
from merino.storage import Store

def die(*args, **more):
    os.kill(os.getpid(), signal.SIGKILL)

async def main(folder, step):
    store = Store.open(Path(folder))
    await store.start()
    world = World(store)
    await world.begin()
    if step == "before it is taken":
        world.tables.topups._apply = die
    elif step == "before the bank is asked":
        world.bank.refund = die
    elif step == "before the answer is booked":
        world.desk._book_own = die
    await world.desk.refund("top_1", 3 * DOLLAR)
    die()

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("step", "left", "asked"),
    [
        ("before it is taken", 10, 0),
        ("before the bank is asked", 7, 1),
        ("before the answer is booked", 7, 1),
        ("after it is booked", 7, 0),
    ],
)
def test_killed_while_refunding(tmp_path, step, left, asked) -> None:
    """The next start asks for what was taken and has no answer, under the same key."""
    folder = tmp_path / "killed"
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), step, root], check=False, timeout=60
    )
    assert -signal.SIGKILL == done.returncode

    async def scenario() -> None:
        store = Store.open(folder)
        await store.start()
        try:
            world = World(store)
            [account] = store.accounts.list()
            world.account_id = account.id
            assert left * DOLLAR == world.balance
            assert [asked, 0] == [await world.later(), await world.later()]
            assert ["top_1:refund:0:300"] * asked == world.bank.asked
            assert left * DOLLAR == world.balance
            assert await world.is_sound()
        finally:
            await store.close()

    asyncio.run(scenario())


def test_a_refund_without_an_answer_is_asked_for_more_seldom(tmp_path) -> None:
    """After a minute at first, later after a tenth of its age."""

    async def scenario() -> None:
        async with a_world(tmp_path) as world:
            world.bank.mood = "is lost before"
            await world.refund(3 * DOLLAR)
            assert 0 == await world.desk.ask_again()
            asked: list[int] = []
            for minute in range(1, 60):
                world.bank.mood = "is lost before"
                before = len(world.bank.asked)
                await world.later()
                if len(world.bank.asked) > before:
                    asked.append(minute)
            assert list(range(1, 11)) == asked[:10]
            assert 6 == asked[-1] - asked[-2]

    asyncio.run(scenario())


def test_a_refund_names_what_was_asked(tmp_path) -> None:
    """An answer about another refund leaves ours open."""

    async def scenario() -> None:
        async with a_world(tmp_path) as world:
            world.bank.mood = "is lost before"
            await world.refund(3 * DOLLAR)
            world.bank.made["by hand"] = 100
            await world.hear(replace(world.bank.told("by hand", "evt"), refund_key=None))
            assert 6 * DOLLAR == world.balance
            assert 1 == len(await world.tables.topups.asked_refunds(10))
            assert 1 == await world.later()
            assert 6 * DOLLAR == world.balance

    asyncio.run(scenario())
