"""A model bank whose every request PostgreSQL executes, too: both must answer the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.simulation.model_bank import ModelBank, Tables

from merino.ledger import teller
from merino.ledger.messages import Request
from merino.postgres.bank import PostgresBank
from merino.postgres.connection import Connection
from merino.postgres.schema import migrate

TABLES = ("spends", "places", "advances", "purses", "relays")


class BankInSimulatedTime(PostgresBank):
    """The clock is the world's, and so is the history."""

    clock: Callable[[], float]
    timeline = 1

    async def _now(self) -> tuple[float, int, int | None, float | None]:
        _, _, known, learning_until = await super()._now()
        return self.clock(), self.timeline, known, learning_until


class MirroredBank(ModelBank):
    """`url` and `loop` are set for a test."""

    url: str
    loop: asyncio.AbstractEventLoop

    def __init__(self, now, credit, caps, windows, longest_hold_s) -> None:
        super().__init__(now, credit, caps, windows, longest_hold_s)
        self.connection = self.run(Connection.open(self.url))
        self.bank = BankInSimulatedTime(self.connection)
        self.bank.clock = now
        self.run(self._prepare(windows))

    def run(self, work) -> Any:
        return self.loop.run_until_complete(work)

    async def _prepare(self, windows) -> None:
        await migrate(self.connection)
        await self.connection.script(
            f"TRUNCATE {', '.join(TABLES)}, caps; DELETE FROM meta WHERE name <> 'schema'"
        )
        for account_id, nanos in self.credits.items():
            await self.bank.open_account(account_id, nanos)
        for owner, (nanos, account_id) in self._caps.items():
            period = windows(owner, 0).split(":")[1]
            await self.bank.set_cap(owner, account_id, nanos, period)

    def execute(self, relay_id: str, request: Request):
        expected = super().execute(relay_id, request)
        answer = self.run(self.bank.execute(relay_id, request))
        assert expected == answer, f"{relay_id} {request}: {expected} {answer}"
        return expected

    def credit(self, account_id: str, nanos: int) -> None:
        super().credit(account_id, nanos)
        self.run(self.bank.credit(account_id, nanos))

    def debit(self, account_id: str, nanos: int, waited_s: float) -> bool:
        expected = super().debit(account_id, nanos, waited_s)
        assert expected == self.run(self.bank.debit(account_id, nanos, waited_s))
        return expected

    def bury_the_dead(self) -> list[tuple[str, str, int]]:
        before = {name for name, row in self.tables.relays.items() if row.is_buried}
        came = super().bury_the_dead()
        buried = {name for name, row in self.tables.relays.items() if row.is_buried} - before
        assert buried == set(self.run(self.bank.bury_the_dead(self._longest_hold_s)))
        return came

    def snapshot(self) -> Any:
        return super().snapshot(), {name: self.run(self._rows(name)) for name in TABLES}

    async def _rows(self, table: str) -> list[Any]:
        return await self.connection.rows(f"SELECT * FROM {table}")

    def fail_over(self, standby: Any) -> None:
        tables: Tables
        tables, rows = standby
        super().fail_over(tables)
        self.bank.timeline = self.timeline
        self.run(self._restore(rows))

    async def _restore(self, rows: dict[str, list[Any]]) -> None:
        await self.connection.script(f"TRUNCATE {', '.join(TABLES)}")
        for table in reversed(TABLES):
            for row in rows[table]:
                marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
                await self.connection.run(f"INSERT INTO {table} VALUES ({marks})", *row)
        # Who comes first finds it; here time stands still until somebody does.
        until = self._now() + teller.ALONE_S + teller.GRACE_S
        set_meta = "INSERT INTO meta VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2"
        await self.connection.run(set_meta, "timeline", str(self.timeline))
        await self.connection.run(set_meta, "learning_until", str(until))

    def check(self) -> None:
        super().check()
        free = self.run(self.connection.nanos("SELECT id, free_nanos FROM purses"))
        assert self.tables.free == free

    def close(self) -> None:
        self.run(self.connection.close())
