"""A database that another program keeps locked, or that refuses what is written to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import pytest
from tests.locker import locked
from tests.unit.ledger.folder_at_death import holding
from tests.unit.ledger.test_journal_faults import (
    a_hold,
    a_record,
    drop,
    one_call,
    opened,
)

from merino.domain.errors import StoreUnavailable
from merino.ledger import applier
from merino.ledger.outage import Outage

WAIT_S = 0.2


@pytest.fixture(autouse=True)
def apply_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applier, "APPLY_AFTER_S", 0.01)


async def until(is_so, timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not is_so():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.01)


def test_an_outage_is_long_after_its_time_and_over_with_one_write() -> None:
    """It is told with how long it lasts; what went wrong last is named."""
    now = [100.0]
    outage = Outage(5.0, lambda: now[0])
    assert (0.0, False) == (outage.lasts_s, outage.is_long)
    outage.go_on(apsw.BusyError("locked"))
    now[0] += 4.9
    outage.go_on(apsw.BusyError("locked"))
    assert not outage.is_long
    now[0] += 0.1
    outage.go_on(apsw.FullError("full"))
    assert outage.is_long
    refusal = outage.refusal(3)
    assert ("store_unavailable", 5.0) == (refusal.code, refusal.retry_after_s)
    assert "for 5 s (full)" in refusal.message
    now[0] += 3600
    assert 10.0 == outage.refusal(3).retry_after_s
    outage.end()
    assert (0.0, False, None) == (outage.lasts_s, outage.is_long, outage.error)
    outage.go_on(apsw.BusyError("locked"))
    assert not outage.is_long
    assert 1.0 == outage.refusal(3).retry_after_s


def test_a_long_lock_refuses_holds_until_it_is_gone(tmp_path: Path) -> None:
    """What runs is settled meanwhile; no call is needed to find out that it is over."""

    async def scenario() -> None:
        store, key = await opened(tmp_path, database_wait_s=WAIT_S)
        running = a_hold(key, 0)
        await holding(store, running, key)
        with locked(tmp_path):
            await one_call(store, key, 1)
            assert store.ledger.why_unavailable is None
            await until(lambda: store.ledger.why_unavailable)
            assert "database is locked" in (store.ledger.why_unavailable or "")
            with pytest.raises(StoreUnavailable, match="has not taken a write") as refused:
                await holding(store, a_hold(key, 2), key)
            assert ("store_unavailable", 1.0) == (
                refused.value.code,
                refused.value.retry_after_s,
            )
            await store.ledger.settle(running, key, a_record(running, 60))
            assert 0 == store.ledger.balance(key.account_id).held_nanos
        await until(lambda: not store.ledger.why_unavailable)
        assert 0 == store.ledger.backlog_calls
        await one_call(store, key, 2)
        assert 60 == (await store.calls.get("c0")).charged_nanos
        assert [] == list((await store.books.verify()).differences)
        await store.close()

    asyncio.run(scenario())


def test_an_idle_relay_does_not_mind_a_lock(tmp_path: Path) -> None:
    """With nothing to write nothing fails; a lock that is gone when something is does not count."""

    async def scenario() -> None:
        store, key = await opened(tmp_path, database_wait_s=WAIT_S)
        with locked(tmp_path):
            await asyncio.sleep(2 * WAIT_S)
            assert await store.ledger.settled_down()
            assert store.ledger.why_unavailable is None
        await one_call(store, key, 1)
        await until(lambda: not store.ledger.backlog_calls)
        with locked(tmp_path):
            await one_call(store, key, 2)
        await asyncio.sleep(2 * WAIT_S)
        assert store.ledger.why_unavailable is None
        await store.close()

    asyncio.run(scenario())


def test_a_killed_process_loses_nothing_it_could_not_apply(tmp_path: Path) -> None:
    """Opening is refused while the lock lasts, by name of the file; afterwards all is there."""

    async def scenario() -> None:
        store, key = await opened(tmp_path, database_wait_s=WAIT_S)
        with locked(tmp_path):
            for number in range(5):
                await one_call(store, key, number)
            drop(store)
            with pytest.raises(StoreUnavailable, match=r"merino\.db cannot be written"):
                await opened(tmp_path)
        store, key = await opened(tmp_path)
        assert 1_000_000 - 5 * 60 == store.ledger.balance(key.account_id).posted_nanos
        assert [] == list((await store.books.verify()).differences)
        await store.close()

    asyncio.run(scenario())


def test_any_error_of_the_database_counts(tmp_path: Path) -> None:
    """Not only a lock: what cannot be written is told, tried again, and never raised into the loop."""

    async def scenario() -> None:
        store, key = await opened(tmp_path, database_wait_s=WAIT_S)
        store.writer.database.execute("PRAGMA query_only = ON")
        await one_call(store, key, 1)
        await until(lambda: store.ledger.why_unavailable)
        assert "readonly" in (store.ledger.why_unavailable or "")
        store.writer.database.execute("PRAGMA query_only = OFF")
        await until(lambda: not store.ledger.why_unavailable)
        await store.close()

    asyncio.run(scenario())


def test_refusals_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long an outage lasts, records of refused calls take a bounded part of memory."""
    monkeypatch.setattr("merino.ledger.memory.BACKLOG_CALLS_MAX", 10)

    async def scenario() -> None:
        store, key = await opened(tmp_path, database_wait_s=WAIT_S)
        with locked(tmp_path):
            for number in range(100):
                refused = a_record(a_hold(key, number), 0)
                store.ledger.record(refused)
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)
            assert 10 <= store.ledger.backlog_calls <= 12
        await store.close()

    asyncio.run(scenario())


def test_an_item_answered_during_a_lock_is_not_claimed_again(tmp_path: Path) -> None:
    """Its lease runs out while it cannot be renewed: what is known of it is written first."""

    async def scenario() -> None:
        store, key = await opened(tmp_path, database_wait_s=WAIT_S)
        with locked(tmp_path):
            await one_call(store, key, 1)
            await until(lambda: store._applier.outage.error)
            with pytest.raises(StoreUnavailable, match="wait for the database"):
                await store.batches.claim("batch_1", "worker", limit=1, lease_ms=1000)
        store._applier.stop()  # the claim comes before the next try
        assert 1 == store.ledger.backlog_calls
        claimed = await store.batches.claim("batch_1", "worker", limit=1, lease_ms=1000)
        assert ([], 0) == (list(claimed), store.ledger.backlog_calls)
        await store.close()

    asyncio.run(scenario())
