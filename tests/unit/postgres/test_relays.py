"""Several relays over one bank in PostgreSQL: the real ledgers, journals, queues and connections."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import asynccontextmanager
from time import perf_counter

import pytest
from tests.postgres_server import database, server

from merino.domain.call import CallRecord
from merino.domain.deployment import Alias
from merino.domain.errors import BudgetExhausted, LimitExceeded, StoreUnavailable
from merino.domain.key import VirtualKey
from merino.gateway.call import Call, new_call_id
from merino.gateway.holds import Holds
from merino.ledger.journal import Journal
from merino.ledger.memory import MemoryLedger
from merino.ledger.pace import Pace
from merino.ledger.shared_bank import SharedBank
from merino.postgres.bank import PostgresBank
from merino.postgres.connection import Connection
from merino.postgres.courier import Courier, boot_time
from merino.postgres.schema import migrate
from merino.settings import HoldSettings
from merino.wire.chat import parse_chat

KEY = VirtualKey("key_1", "acct_1", "k", "", b"")
REQUEST = parse_chat(b'{"model":"m","messages":[{"role":"user","content":"x"}]}')
COST = 1_000


class Quoted:
    """A call that costs the same, whatever it says."""

    output_tokens = 10
    caller_limited = True
    has_output = True
    max_cost_nanos = None
    expected_tokens = None

    def worst_nanos(self, tokens: int) -> int:
        return COST

    def affordable_tokens(self, nanos: int) -> int:
        return 10 if nanos >= COST else 0


class Relay:
    def __init__(self, relay_id: str, url: str, folder, credit: int) -> None:
        pace = Pace(gather_s=0.005, beat_s=0.2, retry_s=0.05, idle_s=0.5)
        self.bank = SharedBank(boot_time, pace, on_due=lambda: self.courier.due())  # noqa: PLW0108 - made below
        self.courier = Courier(relay_id, url, self.bank)
        self.ledger = MemoryLedger(self.bank, None)
        self.bank.attach(self.ledger)
        self.journal = Journal(folder / relay_id, self.ledger)
        self.ledger.attach(self.journal)
        self.ledger.open_account(KEY.account_id, credit, 0)
        self.holds = Holds(self.ledger, HoldSettings(wait_s=20.0))

    async def call(self, lasts_s: float = 0.0) -> str:
        call = Call(new_call_id(), KEY, REQUEST, Alias("m", ()), perf_counter())
        try:
            await self.holds.take(call, Quoted())
        except (BudgetExhausted, LimitExceeded, StoreUnavailable) as refused:
            return refused.code
        assert call.hold is not None
        await asyncio.sleep(lasts_s)
        record = CallRecord(
            call.id, KEY.account_id, KEY.id, "m", "chat/completions", call.hold.at_ms, 200,
            charged_nanos=COST,
        )  # fmt: skip
        await self.ledger.settle(call.hold, KEY, record)
        return "answered"


@asynccontextmanager
async def relays(url, folder, credit, count=3):
    operator = await Connection.open(url)
    await migrate(operator)
    await PostgresBank(operator).open_account(KEY.account_id, credit)
    started = [Relay(f"r{number}", url, folder, credit) for number in range(count)]
    running = [asyncio.create_task(relay.courier.run()) for relay in started]

    async def are_open() -> bool:
        return not any(relay.bank.is_closed for relay in started)

    await until(are_open)
    try:
        yield operator, started
        again = await Connection.open(url)  # whatever became of the first one
        await at_home(again, started)
        await again.close()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for relay in started:
            relay.journal.close(delete=True)
        await operator.close()


async def at_home(operator, relays) -> None:
    """All is told, and no relay has any money."""
    await asyncio.wait_for(asyncio.gather(*(each.ledger.caught_up() for each in relays)), 30)
    await until(lambda: operator.only("SELECT coalesce(sum(out_nanos), 0) = 0 FROM advances"))


async def until(is_so) -> None:
    while not await is_so():  # noqa: ASYNC110 - another process changes it
        await asyncio.sleep(0.02)


async def money(operator) -> tuple[int, int]:
    """What is there, and what was charged."""
    free = await operator.only("SELECT free_nanos FROM purses WHERE id = $1", KEY.account_id)
    spent = "SELECT coalesce(sum(nanos), 0) FROM spends WHERE owner = $1"
    return free, await operator.only(spent, KEY.account_id)


@pytest.fixture(scope="module")
def running():
    with server() as url:
        yield url


@pytest.fixture
def url(running):
    with database(running) as url:
        yield url


def test_500_calls_on_credit_for_37_over_three_relays(url, tmp_path) -> None:
    """Exactly 37 are answered; to all others it is said that there is not enough."""

    async def scenario() -> None:
        async with relays(url, tmp_path, 37 * COST + 10) as (_, three):
            calls = [three[number % 3].call(0.01) for number in range(500)]
            said = await asyncio.gather(*calls)
        assert {"answered": 37, "insufficient_quota": 463} == {
            each: said.count(each) for each in set(said)
        }

    asyncio.run(scenario())


def test_what_one_relay_has_another_gets_when_it_needs_it(url, tmp_path) -> None:
    """No call is refused while there is enough in all, wherever it lies."""

    async def scenario() -> None:
        async with relays(url, tmp_path, 40 * COST) as (operator, three):
            for number in range(40):
                assert "answered" == await three[number % 3].call()
            assert "insufficient_quota" == await three[0].call()
            await asyncio.gather(*(each.ledger.caught_up() for each in three))
            assert (0, 40 * COST) == await money(operator)
            await PostgresBank(operator).credit(KEY.account_id, COST)
            assert "answered" == await three[1].call()

    asyncio.run(scenario())


@pytest.mark.skipif("MERINO_TEST_POSTGRES" in os.environ, reason="the server is not ours to kill")
def test_a_bank_that_is_killed_has_all_that_it_said_when_it_is_back(url, tmp_path) -> None:
    """`kill -9` of one of its processes makes PostgreSQL start anew from its own journal; relays go
    on with what they have, then tell it."""

    async def kill() -> None:
        for _ in range(3):
            await asyncio.sleep(0.3)
            await until(is_back)
            victim = await Connection.open(url)
            os.kill(await victim.only("SELECT pg_backend_pid()"), signal.SIGKILL)
            await victim.drop()
        await asyncio.sleep(0.3)
        await until(is_back)

    async def is_back() -> bool:
        try:
            await (await Connection.open(url)).drop()
        except StoreUnavailable:
            return False
        return True

    async def scenario() -> None:
        credit = 500 * COST
        async with relays(url, tmp_path, credit) as (_, three):
            killing = asyncio.create_task(kill())

            async def caller(number: int) -> list[str]:
                said: list[str] = []
                while not killing.done():
                    said.append(await three[number % 3].call(0.02))
                return said

            found = await asyncio.gather(*(caller(number) for number in range(6)))
            await killing
            said = [each for mine in found for each in mine]
            operator = await Connection.open(url)
            await at_home(operator, three)
            answered = said.count("answered")
            assert answered > 0
            assert (credit - answered * COST, answered * COST) == await money(operator)
            assert {"answered", "insufficient_quota"} >= set(said)
            await operator.close()

    asyncio.run(scenario())


def test_connections_that_are_cut_lose_nothing_and_charge_nothing_twice(url, tmp_path) -> None:
    """Also amid a transaction, and when only its answer is lost."""
    chance = random.Random(7)

    async def cut(operator) -> None:
        while True:
            await asyncio.sleep(chance.uniform(0.01, 0.05))
            await operator.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND random() < 0.3"
            )

    async def scenario() -> None:
        credit = 300 * COST
        async with relays(url, tmp_path, credit) as (operator, three):
            cutting = asyncio.create_task(cut(operator))

            async def caller(number: int) -> list[str]:
                return [await three[number % 3].call(0.005) for _ in range(25)]

            found = await asyncio.gather(*(caller(number) for number in range(9)))
            said = [each for mine in found for each in mine]
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
            await at_home(operator, three)
            answered = said.count("answered")
            assert (credit - answered * COST, answered * COST) == await money(operator)
            assert ["answered"] * 225 == said

    asyncio.run(scenario())
