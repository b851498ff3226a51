"""The queue of batch items: leases, two workers, and whatever order things happen in."""

from __future__ import annotations

import inspect
import io
import tempfile
from dataclasses import astuple, replace
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples

from merino.domain.batch import Batch, ItemRef, StoredFile
from merino.domain.errors import NotFound
from merino.sqlite.schema import MIGRATIONS
from merino.storage import Store, batches
from merino.storage.batches import COMPLETE

ITEMS = 12
LEASE_MS = 1000


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


async def queue_of(folder: Path, clock: Clock):
    store = Store.open(folder, now_ms=clock)
    account = await store.accounts.create("a")
    batch = Batch(
        id="batch_1",
        account_id=account.id,
        key_id="key_1",
        endpoint="/v1/embeddings",
        input_file_id="file-1",
        status="validating",
        created_at_ms=clock(),
        expires_at_ms=clock() + 10**9,
    )
    order = StoredFile("file-1", account.id, "f", "batch", 1, clock(), clock() + 10**9)
    assert await store.files.add(order, io.BytesIO(b"x"), 10)
    assert await store.batches.create(batch)
    await store.batches.add_items("batch_1", [(n, f"id-{n}", n * 10, 10) for n in range(ITEMS)])
    await store.batches.advance(batch, "in_progress", total=ITEMS)
    return store


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "fail", "release", "renew", "sleep"]),
        st.sampled_from(["w1", "w2"]),
        st.integers(0, 7),
    ),
    max_size=40,
)


@pytest.mark.anyio
@settings(max_examples=examples(25))
@given(steps=STEPS)
async def test_an_item_has_one_worker_at_a_time(steps) -> None:
    """Whatever two workers do, none gets an item that the other holds or that has ended."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        store = await queue_of(Path(folder), clock)
        queue = store.batches
        held: dict[int, tuple[str, int]] = {}
        ended: set[int] = set()
        for what, worker, number in steps:
            mine = sorted(n for n, (who, _) in held.items() if who == worker)
            live = {n for n, (_, until) in held.items() if until > clock()}
            if what == "claim":
                got = await queue.claim("batch_1", worker, limit=number, lease_ms=LEASE_MS)
                numbers = [item.ref.number for item in got]
                assert set() == set(numbers) & (live | ended)
                assert min(number, ITEMS - len(live | ended)) == len(numbers)
                held |= {n: (worker, clock() + LEASE_MS) for n in numbers}
            elif what == "renew":
                await queue.renew(worker, lease_ms=LEASE_MS)
                held |= {n: (worker, clock() + LEASE_MS) for n in mine}
            elif what == "sleep":
                clock.ms += number * 200
            elif mine and what == "fail":
                await queue.fail(ItemRef("batch_1", mine[0]), None, 400, b"{}")
                ended.add(mine[0])
                del held[mine[0]]
            elif mine and what == "release":
                await queue.release(ItemRef("batch_1", mine[0]))
                del held[mine[0]]
        batch = await queue.find("batch_1")
        assert batch is not None
        assert (ITEMS, 0, len(ended)) == (
            batch.counts.total,
            batch.counts.completed,
            batch.counts.failed,
        )
        assert (len(ended) < ITEMS) == await queue.has_open("batch_1")
        await store.close()


@pytest.mark.anyio
async def test_a_released_item_waits_and_a_put_off_try_does_not_count(tmp_path) -> None:
    """`after_ms` is kept, and only a real try is counted."""
    clock = Clock()
    store = await queue_of(tmp_path, clock)
    (first,) = await store.batches.claim("batch_1", "w", limit=1, lease_ms=LEASE_MS)
    await store.batches.release(first.ref, after_ms=500)
    (second,) = await store.batches.claim("batch_1", "w", limit=1, lease_ms=LEASE_MS)
    await store.batches.release(second.ref, counts=False)
    assert (0, 1, 1, 1) == (first.ref.number, first.tries, second.ref.number, second.tries)
    clock.ms += 500
    again = await store.batches.claim("batch_1", "w", limit=2, lease_ms=LEASE_MS)
    assert [(0, 2), (1, 1)] == [(item.ref.number, item.tries) for item in again]
    await store.close()


@pytest.mark.anyio
async def test_a_status_that_changed_meanwhile_is_not_overwritten(tmp_path) -> None:
    """Cancelling wins over a worker that still believes in the old status."""
    clock = Clock()
    store = await queue_of(tmp_path, clock)
    (batch,) = await store.batches.unfinished()
    assert await store.batches.advance(batch, "cancelling")
    assert not await store.batches.advance(batch, "finalizing")
    (now,) = await store.batches.unfinished()
    assert "cancelling" == now.status
    await store.close()


@pytest.mark.anyio
async def test_files_without_a_row_are_swept(tmp_path) -> None:
    """What a dead process left half written is gone after the next start."""
    store = Store.open(tmp_path)
    await store.close()
    (tmp_path / "files").mkdir(exist_ok=True)
    (tmp_path / "files" / "file-x.part").write_bytes(b"half")
    store = Store.open(tmp_path)
    assert [] == list((tmp_path / "files").iterdir())
    with pytest.raises(NotFound):
        await store.files.get("file-x", "acc")
    await store.close()


async def found(store: Store, batch_id: str = "batch_1") -> Batch:
    batch = await store.batches.find(batch_id)
    assert batch is not None
    return batch


async def a_large_batch(
    folder: Path, clock: Clock, batch_id: str, waiting: int, ended: int, put_off: int
):
    """A store with one batch of items that wait, that have ended with answers of a page each, and
    that are not to be tried yet."""
    store = await queue_of(folder, clock)
    await store.batches.forget_items("batch_1", ITEMS)
    batch = replace(await found(store), id=batch_id, status="validating")
    await store.batches.create(batch)
    items = [(n, f"id-{n}", n * 10, 10) for n in range(waiting + ended + put_off)]
    await store.batches.add_items(batch_id, items)
    await store.batches.advance(batch, "in_progress", total=len(items))
    connection = store._database
    connection.execute_many(
        COMPLETE, [(f"c{n}", 200, b"x" * 4000, batch_id, n) for n in range(ended)]
    )
    connection.execute(
        "UPDATE batch_items SET not_before_ms = ? WHERE number >= ? AND number < ?",
        (clock() + 10**6, ended, ended + put_off),
    )
    return store


async def steps_of(store, work) -> int:
    """How many steps SQLite's machine takes for it: what is walked over shows, however fast."""
    steps = 0
    connections = [each._connection for each in (store._database, *store.points._databases)]

    def counted() -> bool:
        nonlocal steps
        steps += 1
        return False

    for connection in connections:
        connection.set_progress_handler(counted, 1)
    try:
        done = work()
        if inspect.isawaitable(done):
            await done
    finally:
        for connection in connections:
            connection.set_progress_handler(None, 1)
    return steps


async def steps_on(queue, connection, base: int):
    """What is done to a queue again and again; from `base` on its items wait."""
    first = ItemRef("batch_2", base)
    account_id = (await queue.find("batch_2")).account_id
    return {
        "claim": lambda: queue.claim("batch_2", "w", limit=16, lease_ms=LEASE_MS),
        "renew": lambda: queue.renew("w", lease_ms=LEASE_MS),
        "release": lambda: queue.release(first, after_ms=1),
        "claim none": lambda: queue.claim("batch_2", "w", limit=0, lease_ms=LEASE_MS),
        "fail": lambda: queue.fail(ItemRef("batch_2", base + 1), None, 400, b"{}"),
        "answer": lambda: connection.execute(COMPLETE, ("c", 200, b"{}", "batch_2", base + 2)),
        "take back": lambda: queue.release_others("other"),
        "claim again": lambda: queue.claim("batch_2", "w", limit=30, lease_ms=LEASE_MS),
        "has open": lambda: queue.has_open("batch_2"),
        "find": lambda: queue.find("batch_2"),
        "list": lambda: queue.list(account_id, after=None, limit=5),
        "next page": lambda: queue.list(account_id, after="batch_2", limit=5),
        "unfinished": queue.unfinished,
        "leftovers": queue.leftovers,
        "forget": lambda: queue.forget_items("batch_2", 3),
    }


@pytest.mark.anyio
async def test_no_step_of_the_queue_costs_more_the_more_items_have_ended(tmp_path) -> None:
    """Nor the more are put off: each step takes as many instructions with a thousand of both."""
    clock = Clock()
    taken: dict[str, list[int]] = {}
    for name, ended, put_off in (("few", 3, 3), ("many", 1500, 500)):
        store = await a_large_batch(tmp_path / name, clock, "batch_2", 40, ended, put_off)
        queue, connection = store.batches, store._database
        for what, work in (await steps_on(queue, connection, ended + put_off)).items():
            taken.setdefault(what, []).append(await steps_of(store, work))
        await store.close()
    for what, (few, many) in taken.items():
        assert many <= few * 1.1 + 40, what


@pytest.mark.anyio
async def test_every_statement_of_the_queue_uses_its_index(tmp_path) -> None:
    """None of them walks over a table, or sorts what it finds."""
    store = await queue_of(tmp_path, Clock())
    bound = {"batch": "b", "worker": "w", "until": 1, "now": 1, "limit": 1}
    for sql in (batches._CLAIM, batches._HAS_OPEN, batches._RENEW, batches._TAKE_BACK, COMPLETE):
        values = bound if ":batch" in sql else (1,) * sql.count("?")
        plan = [row[3] for row in store._database.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
        for step in plan:
            assert "TEMP B-TREE" not in step, (sql, plan)
            if step.startswith("SCAN") and "batch_items" in step:
                assert "INDEX batch_items_leased" in step, (sql, plan)
    await store.close()


@pytest.mark.anyio
async def test_counts_are_those_of_the_items(tmp_path) -> None:
    """Whatever ends them, and however often that is said; and after the items are gone."""
    clock = Clock()
    store = await queue_of(tmp_path, clock)
    queue = store.batches
    for number in (0, 1, 1):
        await queue.fail(ItemRef("batch_1", number), None, 400, b"{}")
    for number in (1, 2, 3, 4, 4):
        store._database.execute(COMPLETE, ("c", 200, b"{}", "batch_1", number))
    batch = await found(store)
    assert (ITEMS, 3, 2) == astuple(batch.counts)
    assert await queue.advance(batch, "finalizing")
    await queue.finish(await found(store), "completed", batch.counts, {})
    assert ["batch_1"] == await queue.leftovers()
    assert [5, 5, 2, 0] == [await queue.forget_items("batch_1", 5) for _ in range(4)]
    assert [] == await queue.leftovers()
    assert (ITEMS, 3, 2) == astuple((await queue.find("batch_1")).counts)
    await store.close()


@pytest.mark.anyio
async def test_what_was_tried_before_is_claimed_first_once_it_is_due(tmp_path) -> None:
    """Then what another worker left behind, then what was never tried, in the order of the file."""
    clock = Clock()
    store = await queue_of(tmp_path, clock)
    queue = store.batches
    claimed = [
        item.ref for item in await queue.claim("batch_1", "dead", limit=4, lease_ms=LEASE_MS)
    ]
    await queue.release(claimed[1], after_ms=10_000)
    await queue.release(claimed[3], after_ms=100)
    assert [4] == [i.ref.number for i in await queue.claim("batch_1", "w", limit=1, lease_ms=10**6)]
    clock.ms += LEASE_MS
    for expected in ([3], [0], [2], [5]):
        found = await queue.claim("batch_1", "w", limit=1, lease_ms=10**6)
        assert expected == [item.ref.number for item in found]
    clock.ms += 10_000
    assert [1, 6] == [
        i.ref.number for i in await queue.claim("batch_1", "w", limit=2, lease_ms=10**6)
    ]
    await store.close()


def test_batches_that_were_begun_before_counts_were_kept_are_counted(tmp_path) -> None:
    """The migration counts what has ended in those that are not done."""
    scripts = sorted(MIGRATIONS.glob("*.sql"))
    connection = apsw.Connection(str(tmp_path / "merino.db"))
    for script in scripts:
        if script.name == "0010_batch_queue.sql":
            break
        connection.execute(script.read_text())
    connection.execute(
        "INSERT INTO batches (id, account_id, key_id, endpoint, input_file_id, status,"
        " created_at_ms, expires_at_ms, metadata, moments_ms, problems)"
        " VALUES ('b', 'a', 'k', '/v1/embeddings', 'f', 'in_progress', 0, 0, '{}', '{}', '[]')"
    )
    connection.executemany(
        "INSERT INTO batch_items (batch_id, number, custom_id, offset, size_bytes, state)"
        " VALUES ('b', ?, '', 0, 0, ?)",
        enumerate([0, 1, 2, 2, 2, 3]),
    )
    connection.execute((MIGRATIONS / "0010_batch_queue.sql").read_text())
    found = connection.execute("SELECT completed, failed FROM batches").fetchall()
    assert [(3, 1)] == found
    connection.close()


def test_migrations_have_numbers_of_their_own() -> None:
    """A second one with a number that was applied already would be left out in silence."""
    numbers = [path.name[:4] for path in MIGRATIONS.glob("*.sql")]
    assert sorted(set(numbers)) == sorted(numbers)
