"""A read sees what finished before it was asked for, without everybody waiting for that."""

from __future__ import annotations

import asyncio

import pytest
from tests.locker import locked
from tests.unit.ledger.folder_at_death import CHARGED_NANOS, a_hold, a_record, prepared

from merino.domain.errors import StoreUnavailable
from merino.ledger.applier import SLICE_CALLS_MAX
from merino.storage import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def settled(store: Store, key, count: int, name: str = "c") -> None:
    """Calls that wait to be applied."""
    durable = None
    for number in range(count):
        hold = a_hold(key, f"{name}{number}")
        store.ledger.hold(hold, key)
        durable = store.ledger.settle(hold, key, a_record(hold))
    assert durable is not None
    await durable


def counted(connection) -> int:
    return next(connection.execute("SELECT count(*) FROM calls"))[0]


async def test_what_waits_is_applied_slice_by_slice_with_other_work_in_between(tmp_path) -> None:
    """However many ask at once: together they get one slice a turn of the loop, and all see all."""
    store, key = await prepared(tmp_path)
    calls = 5 * SLICE_CALLS_MAX + 7
    await settled(store, key, calls)
    reads = [asyncio.ensure_future(store.read(counted)) for _ in range(9)]
    steps: list[int] = []
    while store.ledger.backlog_calls:
        before = store.ledger.backlog_calls
        await asyncio.sleep(0)
        steps.append(before - store.ledger.backlog_calls)
    assert max(steps) <= SLICE_CALLS_MAX
    assert calls == sum(steps)
    assert [calls] * 9 == await asyncio.gather(*reads)
    await store.close()


async def test_a_read_does_not_wait_for_what_finishes_after_it(tmp_path) -> None:
    """Else it would never end while calls go on."""
    store, key = await prepared(tmp_path)
    await settled(store, key, 3 * SLICE_CALLS_MAX)
    read = asyncio.ensure_future(store.ledger.caught_up())
    turns = 0
    while not read.done():
        await settled(store, key, SLICE_CALLS_MAX, name=f"more{turns}.")
        turns += 1
        assert turns < 500
    assert store.ledger.backlog_calls
    await store.close()


async def test_a_read_that_is_given_up_keeps_no_other_waiting(tmp_path) -> None:
    """And nothing breaks when what it waited for comes."""
    store, key = await prepared(tmp_path)
    await settled(store, key, 3 * SLICE_CALLS_MAX)
    given_up, other = (asyncio.ensure_future(store.read(counted)) for _ in range(2))
    await asyncio.sleep(0)
    given_up.cancel()
    assert 3 * SLICE_CALLS_MAX == await other
    with pytest.raises(asyncio.CancelledError):
        await given_up
    await store.close()


async def test_all_reads_hear_of_a_database_that_cannot_be_written(tmp_path) -> None:
    """At once; and it is caught up with afterwards, before items of batches are claimed."""
    store, key = await prepared(tmp_path)
    with locked(tmp_path):
        await settled(store, key, 4 * SLICE_CALLS_MAX)
        found = await asyncio.gather(
            *(store.read(counted) for _ in range(3)), return_exceptions=True
        )
        assert [StoreUnavailable] * 3 == [type(each) for each in found]
        with pytest.raises(StoreUnavailable):
            await store.batches.claim("b", "w", limit=1, lease_ms=1)
    assert [] == await store.batches.claim("b", "w", limit=1, lease_ms=1)
    assert 0 == store.ledger.backlog_calls
    assert 4 * SLICE_CALLS_MAX == await store.read(counted)
    await store.close()


async def test_a_cap_that_is_set_counts_what_waits_to_be_applied(tmp_path) -> None:
    """As much as what is in the database, without having it applied first."""
    now_ms = 1_800_000_000_000
    store = Store.open(tmp_path, now_ms=lambda: now_ms)
    account = await store.accounts.create("a")
    await store.accounts.credit(account.id, 1_000_000, "start")
    key, _ = await store.keys.create(account_id=account.id, name="k")
    await settled(store, key, 3, name="earlier")
    assert await store.ledger.settled_down()
    now_ms += 86_400_000
    await settled(store, key, 2)
    await store.accounts.update(account.id, {"spend_cap_nanos": 10**6, "spend_period": "day"})
    assert 2 == store.ledger.backlog_calls
    assert 2 * CHARGED_NANOS == store.ledger.spent(account.id, "day")
    assert 5 * CHARGED_NANOS == store.ledger.spent(account.id, "total")
    await store.close()
