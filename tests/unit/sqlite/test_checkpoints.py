"""SQLite's write-ahead log stays short while the relay runs, and what a deleted journal segment said
is on the disk in SQLite's own files."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest
from tests.unit.ledger.folder_at_death import a_hold, a_record, drop, holding, outcomes, prepared

from merino.billing.stores.stores import BillingStores
from merino.ledger import journal
from merino.sqlite import database
from merino.sqlite.database import LOG_BYTES, sync_database
from merino.storage import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def calls(store: Store, key, names) -> None:
    for name in names:
        hold = a_hold(key, name)
        await holding(store, hold, key)
        await store.ledger.settle(hold, key, a_record(hold))


def log_bytes(folder: Path) -> int:
    return (folder / "merino.db-wal").stat().st_size


async def test_the_log_is_moved_into_the_database_and_begun_anew(tmp_path) -> None:
    """As often as it has grown; its file is cut to what it is allowed then."""
    store, key = await prepared(tmp_path)
    sizes = []
    for turn in range(4):
        before = (tmp_path / "merino.db").stat().st_size
        while log_bytes(tmp_path) <= LOG_BYTES:
            store._database.execute(
                "INSERT INTO audit (at_ms, actor, action, target, details) VALUES (0, '', '', '', ?)",
                ("x" * 200_000,),
            )
        await store._checkpoints.look()
        assert (tmp_path / "merino.db").stat().st_size > before + LOG_BYTES // 2
        await calls(store, key, [f"c{turn}"])
        assert await store.ledger.settled_down()
        sizes.append(log_bytes(tmp_path))
    assert max(sizes) <= LOG_BYTES
    assert [] == list((await store.books.verify()).differences)
    await store.close()


async def test_a_log_that_is_written_to_all_the_time_is_bounded_too(tmp_path) -> None:
    """What operators and calls write comes before and after a checkpoint, never amid it; so it
    leaves nothing behind, and the log begins anew."""
    store, _ = await prepared(tmp_path)
    is_over = False

    async def write() -> None:
        while not is_over:
            await store.audit.note("a", "b", "c", "x" * 100_000)

    writing = [asyncio.create_task(write()) for _ in range(3)]
    for _ in range(100):
        await store.audit.note("a", "b", "c", "x" * 200_000)
        await store._checkpoints.look()
        assert log_bytes(tmp_path) <= 2 * LOG_BYTES
    is_over = True
    await asyncio.gather(*writing)
    await store.close()


async def test_a_reader_that_takes_its_time_is_not_disturbed(tmp_path) -> None:
    """It sees its moment to the end; the log waits for it, and is begun anew afterwards."""
    store, key = await prepared(tmp_path)
    reader = database.Database.to_read(tmp_path / "merino.db")
    reader.execute("BEGIN")
    assert 0 == next(reader.execute("SELECT count(*) FROM audit"))[0]
    while log_bytes(tmp_path) <= LOG_BYTES:
        store._database.execute(
            "INSERT INTO audit (at_ms, actor, action, target, details) VALUES (0, '', '', '', ?)",
            ("x" * 500_000,),
        )
    await store._checkpoints.look()
    assert 0 == next(reader.execute("SELECT count(*) FROM audit"))[0]
    reader.execute("ROLLBACK")
    reader.close()
    await store._checkpoints.look()
    await calls(store, key, ["c"])
    assert await store.ledger.settled_down()
    assert log_bytes(tmp_path) <= LOG_BYTES
    await store.close()


class Disk:
    """Notes which files and folders were synced, and which were deleted, in order."""

    def __init__(self, monkeypatch) -> None:
        self.did: list[tuple[str, str]] = []
        self.fails = False
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._noting(getattr(os, name)))
        real = Path.unlink

        def unlink(path: Path, **more) -> None:
            real(path, **more)
            self.did.append(("unlink", path.name))

        monkeypatch.setattr(Path, "unlink", unlink)

    def _noting(self, real):
        def sync(fd: int) -> None:
            name = Path(f"/proc/self/fd/{fd}").readlink().name
            if self.fails and name == "merino.db-wal":
                raise OSError(5, "Input/output error")
            real(fd)
            self.did.append(("sync", name))

        return sync


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_a_segment_is_deleted_after_what_it_says_is_on_the_disk(
    tmp_path, monkeypatch, durability
) -> None:
    """The log that has it, the folder that has the log's name, and the new segment that has what
    was still open; the oldest segment goes first. And where that fails, it waits for the next."""
    monkeypatch.setitem(journal.Journal.__init__.__kwdefaults__, "segment_bytes_max", 2_000)
    store = Store.open(tmp_path, durability=durability)
    account = await store.accounts.create("a")
    await store.accounts.credit(account.id, 1_000_000, "start")
    key, _ = await store.keys.create(account_id=account.id, name="k")
    disk = Disk(monkeypatch)
    for turn in range(4):
        disk.fails = turn == 1
        await calls(store, key, [f"c{turn}.{number}" for number in range(20)])
        assert await store.ledger.settled_down()
        store._journal._executor().submit(int).result()
    deleted = [name for what, name in disk.did if what == "unlink"]
    assert deleted == sorted(deleted)
    assert len(deleted) > 8
    synced: set[str] = set()
    for what, name in disk.did:
        if what == "sync":
            synced.add(name)
        else:
            assert {"merino.db-wal", tmp_path.name, "journal"} <= synced
            assert any(each.endswith(".log") and each > name for each in synced)
    left = sorted(path.name for path in (tmp_path / "journal").glob("*.log"))
    assert 1 == len(left)
    await store.close()


async def test_a_new_journal_is_on_the_disk_with_all_names_above_it(tmp_path, monkeypatch) -> None:
    """`durability = "power"`: also the name of its folder, before the first hold is told as durable."""
    store = Store.open(tmp_path, durability="power")
    account = await store.accounts.create("a")
    await store.accounts.credit(account.id, 1_000_000, "start")
    key, _ = await store.keys.create(account_id=account.id, name="k")
    disk = Disk(monkeypatch)
    await holding(store, a_hold(key, "h"), key)
    synced = {name for _, name in disk.did}
    assert {"00000001.log", "journal", tmp_path.name} <= synced
    await store.close()


async def test_syncing_leaves_sqlites_locks_alone(tmp_path) -> None:
    """Closing a file drops all locks that a process has on it: it may be none that SQLite locks."""
    store, _ = await prepared(tmp_path)
    store._database.execute("BEGIN IMMEDIATE")
    sync_database(tmp_path / "merino.db")
    probe = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=0);"
        "c.execute('PRAGMA journal_mode'); c.execute('BEGIN IMMEDIATE')"
    )
    import subprocess
    import sys

    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs on this loop
        [sys.executable, "-c", probe, str(tmp_path / "merino.db")],
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert b"database is locked" in done.stderr
    store._database.execute("ROLLBACK")
    drop(store)
    assert {} == await outcomes(tmp_path)


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_what_an_operator_did_is_on_the_disk_against_power_cuts(tmp_path, durability) -> None:
    """Before it is told as done; what the journal has, or what is made anew when it is lost, is
    not, and does not wait for the disk."""
    store = Store.open(tmp_path, durability=durability)
    account = await store.accounts.create("a")
    levels: list[int] = []
    connections = [store._database._connection]
    level = {each: each.pragma("synchronous") for each in connections}

    def traced(cursor, sql: str, bindings) -> bool:
        if found := re.search(r"pragma\W+synchronous\D+(\d)", sql, re.IGNORECASE):
            level[cursor.connection] = int(found[1])
        elif sql == "COMMIT":
            levels.append(level[cursor.connection])
        return True

    for connection in connections:
        connection.exec_trace = traced
    await store.accounts.credit(account.id, 1_000_000, "start")
    key, _ = await store.keys.create(account_id=account.id, name="k")
    await store.admin_keys.create("admin")
    await store.keys.rotate(key.id)
    lasting, levels = levels, []
    assert [2 if durability == "power" else 1] * 4 == lasting
    await calls(store, key, ["c"])
    assert await store.ledger.settled_down()
    await store.batches.claim("b", "w", limit=1, lease_ms=1)
    await store.batches.renew("w", lease_ms=1)
    assert 1 == await BillingStores(store).statements.sum_up(1)
    assert [1] * 4 == levels
    for connection in connections:
        connection.exec_trace = None
    await store.close()
