"""Folders as dying processes leave them, and ways to die: for tests of starts after crashes."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from unittest import mock

from merino.domain.call import CallRecord
from merino.domain.key import VirtualKey
from merino.domain.ledger import Hold
from merino.ledger import applier
from merino.running.signal import Signal
from merino.storage import Store, sums

START_NANOS = 1_000_000
CHARGED_NANOS = 60
AT_MS = 1_795_000_000_000


class Died(BaseException):
    """Instead of the end of the process."""


def a_hold(key, name: str) -> Hold:
    return Hold(name, key.account_id, key.id, 100, AT_MS, 60.0)


def holding(store: Store, hold: Hold, key: VirtualKey) -> Signal:
    """What a hold that fits waits for."""
    written = store.ledger.hold(hold, key)
    assert written is not None
    return written


def a_record(hold: Hold) -> CallRecord:
    return CallRecord(
        id=hold.call_id,
        account_id=hold.account_id,
        key_id=hold.key_id,
        alias="a",
        endpoint="chat/completions",
        at_ms=hold.at_ms,
        status=200,
        charged_nanos=CHARGED_NANOS,
    )


async def prepared(folder: Path) -> tuple[Store, VirtualKey]:
    """A store with one account and one key."""
    store = Store.open(folder)
    if not store.accounts.list():
        account = await store.accounts.create("a")
        await store.accounts.credit(account.id, START_NANOS, "start")
        await store.keys.create(account_id=account.id, name="k")
    return store, store.keys.list()[0]


async def leave(folder: Path, *, settled: int, held: int) -> None:
    """Calls `s0`... that were settled and calls `h0`... that were held, none of it in SQLite."""
    store, key = await prepared(folder)
    holds = [a_hold(key, f"s{number}") for number in range(settled)]
    holds += [a_hold(key, f"h{number}") for number in range(held)]
    for hold in holds:
        await holding(store, hold, key)
    for hold in holds[:settled]:
        await store.ledger.settle(hold, key, a_record(hold))
    drop(store)


def drop(store: Store) -> None:
    """Let go of a store as a killed process does: nothing is flushed or applied."""
    store._applier.stop()
    store._readers.close()
    store.points.close()
    store.writer.stop()
    store._journal.close(delete=False)
    store._database.close()
    store._lock.release()


class DyingAt:
    """Dies at the nth step of a start: before and after each name that is made or taken away, each
    sync, each cut and each slice that is applied, and in the middle of its transaction."""

    def __init__(self, step: int, die=None) -> None:
        self.step = step
        self.steps = 0
        self._die = die or self._raise
        self._stack = ExitStack()

    @staticmethod
    def _raise() -> None:
        raise Died

    def __enter__(self) -> Self:
        for owner, name in (
            (os, "fsync"),
            (os, "ftruncate"),
            (Path, "unlink"),
            (Path, "rename"),
            (applier.Applier, "apply_slice"),
            (sums, "add_to_sums"),  # amid the transaction
        ):
            real = getattr(owner, name)
            patch = mock.patch.object(owner, name, self._around(real))
            self._stack.enter_context(patch)
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    def _around(self, real):
        def called(*args, **more):
            self._count()
            found = real(*args, **more)
            self._count()
            return found

        return called

    def _count(self) -> None:
        self.steps += 1
        if self.steps == self.step:
            self._die()


def killed() -> None:
    """A way to die that leaves nothing to chance, nor to `finally`."""
    os.kill(os.getpid(), signal.SIGKILL)


def start_dying_at(folder: Path, step: int, die=None) -> bool:
    """Start on the folder; whether that died. If not, it is let go of at once."""
    with DyingAt(step, die):
        try:
            store = Store.open(folder)
        except Died:
            return True
    drop(store)
    return False


async def outcomes(folder: Path) -> dict[str, list[str]]:
    """Every call's resolutions after a start, with books that balance and nothing held."""
    store = Store.open(folder)
    try:
        differences = [each.what for each in (await store.books.verify()).differences]
        assert [] == [what for what in differences if "damaged" not in what]
        found: dict[str, list[str]] = {}
        for call_id, resolution in await store.read(
            lambda c: list(c.execute("SELECT id, resolution FROM calls ORDER BY row"))
        ):
            found.setdefault(call_id, []).append(resolution)
        [account] = store.accounts.list()
        settled = sum(each == ["settled"] for each in found.values())
        balance = store.ledger.balance(account.id)
        assert (START_NANOS - settled * CHARGED_NANOS, 0) == (
            balance.posted_nanos,
            balance.held_nanos,
        )
        return found
    finally:
        await store.close()
