"""Carries what a relay has to say to the bank, one request at a time, and the answers back."""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog

from merino.domain.errors import MerinoError
from merino.ledger.shared_bank import SharedBank
from merino.postgres.bank import Book, PostgresBank
from merino.postgres.connection import LOST, Connection, PostgresError

ANSWER_S = 10.0
"""After this the answer is missing. What is still on its way is void once another request came."""
_RECALL_S = 0.1
_LISTEN_AGAIN_S = 2.0
_SHORT = "merino_short"
"""The channel on which an account is named that a relay waits for."""

log = structlog.get_logger("merino.postgres")


def boot_time() -> float:
    """Seconds that go on while the machine sleeps, where there is such a clock: what was advanced
    before a laptop was closed is not valid when it is opened again."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Courier:
    """Two connections: one to speak, one on which others say that they are short of money."""

    def __init__(self, relay_id: str, url: str, bank: SharedBank, book: Book | None = None) -> None:
        self._relay_id = relay_id
        self._url = url
        self._bank = bank
        self._book = book
        self._due = asyncio.Event()
        self._connection: Connection | None = None
        self._recalled_at: dict[str, float] = {}
        self.is_away = False

    def due(self) -> None:
        """There may be something to say."""
        self._due.set()

    async def run(self) -> None:
        """Until cancelled."""
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                await self._speak()
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
            await self._drop()

    async def _speak(self) -> None:
        self._due.clear()
        request = self._bank.next()
        if request is None:
            wait_s = self._bank.due_at - boot_time()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), max(0.0, wait_s))
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                if self._connection is None:
                    self._connection = await Connection.open(self._url)
                bank = PostgresBank(self._connection, self._book)
                answer = await bank.execute(self._relay_id, request)
        except (MerinoError, PostgresError, *LOST) as error:
            if not self.is_away:
                self.is_away = True
                log.warning("the bank does not answer", reason=str(error))
            await self._drop()
            self._bank.lost()
            return
        if self.is_away:
            self.is_away = False
            log.info("the bank answers again")
        self._bank.answered(answer)
        await self._recall()

    async def _recall(self) -> None:
        """Tell the others what is waited for here. In a statement of its own: notifying takes a
        lock of the whole database, and the others hear of it at their next beat anyway."""
        now = boot_time()
        for account_id in self._bank.short:
            if now - self._recalled_at.get(account_id, 0.0) < _RECALL_S:
                continue
            self._recalled_at[account_id] = now
            if self._connection is not None:
                payload = f"{self._relay_id} {account_id}"
                try:
                    await self._connection.run("SELECT pg_notify($1, $2)", _SHORT, payload)
                except (PostgresError, *LOST):
                    await self._drop()
        if len(self._recalled_at) > 1_000:
            self._recalled_at.clear()

    async def _listen(self) -> None:
        """Behind a pooler that cannot listen, the beat says the same, later."""

        def heard(payload: str) -> None:
            relay_id, _, account_id = payload.partition(" ")
            if relay_id != self._relay_id:
                self._bank.recalled(account_id)

        while True:
            with contextlib.suppress(MerinoError, PostgresError, *LOST):
                connection = await Connection.open(self._url)
                try:
                    await connection.listen(_SHORT, heard)
                finally:
                    await connection.drop()
            await asyncio.sleep(_LISTEN_AGAIN_S)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.drop()
