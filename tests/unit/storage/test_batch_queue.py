"""The queue of batch items: leases, two workers, and whatever order things happen in."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merino.domain.batch import Batch, ItemRef
from merino.domain.errors import NotFound
from merino.storage import Store

ITEMS = 12
LEASE_MS = 1000


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


def queue_of(folder: Path, clock: Clock):
    store = Store.open(folder, now_ms=clock)
    account = store.accounts.create("a")
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
    store.batches.create(batch)
    store.batches.add_items("batch_1", [(n, f"id-{n}", n * 10, 10) for n in range(ITEMS)])
    store.batches.advance(batch, "in_progress", total=ITEMS)
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
@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
async def test_an_item_has_one_worker_at_a_time(steps) -> None:
    """Whatever two workers do, none gets an item that the other holds or that has ended."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        store = queue_of(Path(folder), clock)
        queue = store.batches
        held: dict[int, tuple[str, int]] = {}
        ended: set[int] = set()
        for what, worker, number in steps:
            mine = sorted(n for n, (who, _) in held.items() if who == worker)
            live = {n for n, (_, until) in held.items() if until > clock()}
            if what == "claim":
                got = queue.claim("batch_1", worker, limit=number, lease_ms=LEASE_MS)
                numbers = [item.ref.number for item in got]
                assert set() == set(numbers) & (live | ended)
                assert min(number, ITEMS - len(live | ended)) == len(numbers)
                held |= {n: (worker, clock() + LEASE_MS) for n in numbers}
            elif what == "renew":
                queue.renew(worker, lease_ms=LEASE_MS)
                held |= {n: (worker, clock() + LEASE_MS) for n in mine}
            elif what == "sleep":
                clock.ms += number * 200
            elif mine and what == "fail":
                queue.fail(ItemRef("batch_1", mine[0]), None, 400, b"{}")
                ended.add(mine[0])
                del held[mine[0]]
            elif mine and what == "release":
                queue.release(ItemRef("batch_1", mine[0]))
                del held[mine[0]]
        batch = queue.find("batch_1")
        assert batch is not None
        assert (ITEMS, 0, len(ended)) == (
            batch.counts.total,
            batch.counts.completed,
            batch.counts.failed,
        )
        assert (len(ended) < ITEMS) == queue.has_open("batch_1")
        await store.close()


@pytest.mark.anyio
async def test_a_released_item_waits_and_a_put_off_try_does_not_count(tmp_path) -> None:
    """`after_ms` is kept, and only a real try is counted."""
    clock = Clock()
    store = queue_of(tmp_path, clock)
    (first,) = store.batches.claim("batch_1", "w", limit=1, lease_ms=LEASE_MS)
    store.batches.release(first.ref, after_ms=500)
    (second,) = store.batches.claim("batch_1", "w", limit=1, lease_ms=LEASE_MS)
    store.batches.release(second.ref, counts=False)
    assert (0, 1, 1, 1) == (first.ref.number, first.tries, second.ref.number, second.tries)
    clock.ms += 500
    again = store.batches.claim("batch_1", "w", limit=2, lease_ms=LEASE_MS)
    assert [(0, 2), (1, 1)] == [(item.ref.number, item.tries) for item in again]
    await store.close()


@pytest.mark.anyio
async def test_a_status_that_changed_meanwhile_is_not_overwritten(tmp_path) -> None:
    """Cancelling wins over a worker that still believes in the old status."""
    clock = Clock()
    store = queue_of(tmp_path, clock)
    (batch,) = store.batches.unfinished()
    assert store.batches.advance(batch, "cancelling")
    assert not store.batches.advance(batch, "finalizing")
    (now,) = store.batches.unfinished()
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
        store.files.get("file-x", "acc")
    await store.close()
