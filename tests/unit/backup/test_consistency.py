"""A backup beside a busy relay has all that was acknowledged before its moment, once."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from tests.unit.ledger.folder_at_death import (
    AT_MS,
    CHARGED_NANOS,
    a_hold,
    a_record,
    drop,
    holding,
)

from merino.backup.repository import Repository
from merino.backup.restoring import restore
from merino.backup.taking import open_folder, take, verify
from merino.domain.errors import Misconfigured
from merino.storage import Store, folder_copy
from merino.storage.roll_forward import JournalGap

START_NANOS = 10**9
PLACES = ("moment", "held", "database", "lines")


class Busy:
    """A store in which calls end and operators change things, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_ms = AT_MS
        self.done: list[str] = []

    async def open(self) -> None:
        self.store = Store.open(self.folder, now_ms=self._now)
        self.store._journal._segment_bytes_max = 900  # segments come and go
        if not self.store.accounts.list():
            account = await self.store.accounts.create("a")
            await self.store.accounts.credit(account.id, START_NANOS, "start")
            await self.store.keys.create(account_id=account.id, name="k")
        self.key = self.store.keys.list()[0]

    def _now(self) -> int:
        self.now_ms += 1
        return self.now_ms

    async def call(self, name: str) -> None:
        hold = a_hold(self.key, name)
        await holding(self.store, hold, self.key)
        await self.store.ledger.settle(hold, self.key, a_record(hold))
        self.done.append(name)

    async def work(self, name: str) -> None:
        """Some calls, one of which is still running; all that is due goes into the database, and
        segments that it has are deleted; an operator makes an account and a key, which calls."""
        for number in range(4):
            await self.call(f"{name}{number}")
        await holding(self.store, a_hold(self.key, f"{name}-running"), self.key)
        await self.store.ledger.caught_up()
        journal = self.store._journal
        if journal._pool is not None:
            await asyncio.wrap_future(journal._pool.submit(lambda: None))  # after the deletions
        account = await self.store.accounts.create(f"account-{name}")
        await self.store.accounts.credit(account.id, START_NANOS, "start")
        key, _ = await self.store.keys.create(account_id=account.id, name=f"key-{name}")
        hold = a_hold(key, f"{name}-new")
        await holding(self.store, hold, key)
        await self.store.ledger.settle(hold, key, a_record(hold))
        self.done.append(f"{name}-new")
        await self.call(f"{name}-late")


async def found_in(folder: Path) -> dict[str, tuple[str, ...]]:
    """How each call ended; twice, if it is there twice."""
    store = Store.open(folder)
    try:
        assert [] == [*(await store.books.verify()).differences]
        found: dict[str, tuple[str, ...]] = {}
        for call_id, resolution in await store.read(
            lambda database: list(database.execute("SELECT id, resolution FROM calls"))
        ):
            found[call_id] = (*found.get(call_id, ()), resolution)
        return found
    finally:
        await store.close()


@pytest.mark.anyio
@pytest.mark.parametrize("places", [(place,) for place in PLACES] + [PLACES], ids="-".join)
async def test_whatever_happens_between_the_steps(
    tmp_path, monkeypatch, places, anyio_backend
) -> None:
    """The relay works between any two steps of a copy: what ended before the moment is settled
    once, what ended later is so or is not there, and the books balance."""
    busy = Busy(tmp_path / "data")
    await busy.open()
    await busy.work("before")
    before = list(busy.done)
    loop = asyncio.get_running_loop()

    def at(place: str) -> None:
        if place in places:
            asyncio.run_coroutine_threadsafe(busy.work(place), loop).result(30)

    real_database, real_lines = folder_copy._copy_database, folder_copy._copy_lines

    def database(path, target):
        at("held")
        found = real_database(path, target)
        at("database")
        return found

    seen: set[str] = set()

    def lines(fd, size, target):
        real_lines(fd, size, target)
        if "lines" not in seen:
            seen.add("lines")
            at("lines")

    monkeypatch.setattr(folder_copy, "_copy_database", database)
    monkeypatch.setattr(folder_copy, "_copy_lines", lines)

    def now_ms() -> int:
        moment = busy._now()
        at("moment")
        return moment

    repository = Repository.make_or_open(tmp_path / "backups", None)
    snapshot = await asyncio.to_thread(take, busy.folder, repository, now_ms, with_pepper=True)
    assert await asyncio.to_thread(verify, repository, snapshot)
    drop(busy.store)
    shutil.rmtree(busy.folder)
    restored = await asyncio.to_thread(restore, repository, snapshot, tmp_path / "restored")
    assert [] == restored.opened.problems
    found = await found_in(tmp_path / "restored")
    assert dict.fromkeys(before, ("settled",)) == {name: found.get(name) for name in before}
    later = {name: each for name, each in found.items() if name not in before}
    assert {("settled",), ("expired",)} >= set(later.values())


@pytest.mark.anyio
async def test_nothing_of_the_folder_is_changed(tmp_path, anyio_backend) -> None:
    """Neither of a stopped relay's nor of a killed one's: a backup only reads."""
    busy = Busy(tmp_path / "data")
    await busy.open()
    await busy.work("a")
    drop(busy.store)
    before = {
        path.name: path.read_bytes()
        for path in busy.folder.rglob("*")
        if path.is_file() and path.suffix not in {".db-shm", ".db-wal"}
    }
    repository = Repository.make_or_open(tmp_path / "backups", None)
    snapshot = await asyncio.to_thread(take, busy.folder, repository, busy._now, with_pepper=True)
    after = {
        path.name: path.read_bytes()
        for path in busy.folder.rglob("*")
        if path.is_file() and path.suffix not in {".db-shm", ".db-wal"}
    }
    assert before == after
    await asyncio.to_thread(restore, repository, snapshot, tmp_path / "restored")
    found = await found_in(tmp_path / "restored")
    assert dict.fromkeys(busy.done, ("settled",)) | {"a-running": ("expired",)} == found


async def lost(tmp_path: Path) -> tuple[Repository, Busy, list[str], list[tuple[str, int]]]:
    """A backup, then calls whose ends are noted, then the loss of the database."""
    busy = Busy(tmp_path / "data")
    await busy.open()
    busy.store._journal._segment_bytes_max = 10**6
    for number in range(3):
        await busy.call(f"a{number}")
    await busy.store.ledger.caught_up()
    repository = Repository.make_or_open(tmp_path / "backups", None)
    await asyncio.to_thread(take, busy.folder, repository, busy._now, with_pepper=True)
    early = list(busy.done)
    ends = []
    for number in range(5):
        await busy.call(f"b{number}")
        ends.append((f"b{number}", busy.now_ms))
    return repository, busy, early, ends


@pytest.mark.anyio
async def test_the_calls_after_a_backup_are_in_the_journal_that_is_left(
    tmp_path, anyio_backend
) -> None:
    """With the journal of the lost folder, every call that was acknowledged is there."""
    repository, busy, early, ends = await lost(tmp_path)
    drop(busy.store)
    (busy.folder / "merino.db").unlink()
    restored = await asyncio.to_thread(
        restore,
        repository,
        repository.find(None, None),
        tmp_path / "restored",
        journals=[busy.folder / "journal"],
    )
    assert (5, []) == (restored.rolled.calls, restored.opened.problems)
    found = await found_in(tmp_path / "restored")
    assert dict.fromkeys([*early, *dict(ends)], ("settled",)) == found
    store = Store.open(tmp_path / "restored")
    spent = START_NANOS - store.ledger.balance(busy.key.account_id).posted_nanos
    await store.close()
    assert 8 * CHARGED_NANOS == spent


@pytest.mark.anyio
@pytest.mark.parametrize("last", range(5))
async def test_a_moment_is_the_last_call_before_it(tmp_path, last, anyio_backend) -> None:
    """Between two backups, the later one's journal has the calls up to any moment; those that ran
    then were not answered."""
    repository, busy, early, ends = await lost(tmp_path)
    await asyncio.to_thread(take, busy.folder, repository, busy._now, with_pepper=True)
    await busy.store.close()
    moment = ends[last][1]
    base = repository.find(None, moment)
    await asyncio.to_thread(restore, repository, base, tmp_path / "restored", until_ms=moment)
    found = await found_in(tmp_path / "restored")
    ended = {name for name, outcome in found.items() if outcome == ("settled",)}
    assert {*early, *[name for name, _ in ends[: last + 1]]} == ended
    assert {("settled",), ("expired",)} >= set(found.values())


@pytest.mark.anyio
async def test_calls_of_keys_made_later_are_left_out_and_told(tmp_path, anyio_backend) -> None:
    """The journal does not have what operators changed; what cannot be booked stands in a file."""
    repository, busy, _, ends = await lost(tmp_path)
    account = await busy.store.accounts.create("later")
    await busy.store.accounts.credit(account.id, START_NANOS, "start")
    key, _ = await busy.store.keys.create(account_id=account.id, name="later")
    hold = a_hold(key, "of-a-later-key")
    await holding(busy.store, hold, key)
    await busy.store.ledger.settle(hold, key, a_record(hold))
    drop(busy.store)
    restored = await asyncio.to_thread(
        restore,
        repository,
        repository.find(None, None),
        tmp_path / "restored",
        journals=[busy.folder / "journal"],
    )
    assert (len(ends), 1) == (restored.rolled.calls, len(restored.rolled.left_out))
    assert '"id": "of-a-later-key"' in restored.left_out.read_text()
    assert "of-a-later-key" not in await found_in(tmp_path / "restored")


@pytest.mark.anyio
async def test_a_gap_is_refused_unless_it_is_wanted(tmp_path, anyio_backend) -> None:
    """A relay that was restarted has begun a new journal: what the old one had is in neither."""
    repository, busy, early, _ = await lost(tmp_path)
    await busy.store.close()
    await busy.open()
    await busy.call("after the restart")
    drop(busy.store)
    base, journals = repository.find(None, None), [busy.folder / "journal"]
    with pytest.raises(JournalGap, match="--despite-gap"):
        await asyncio.to_thread(restore, repository, base, tmp_path / "no", journals=journals)
    await asyncio.to_thread(
        restore, repository, base, tmp_path / "yes", journals=journals, despite_gap=True
    )
    assert {*early, "after the restart"} == set(await found_in(tmp_path / "yes"))


@pytest.mark.anyio
async def test_without_its_pepper_a_backup_needs_it_again(tmp_path, anyio_backend) -> None:
    """It verifies without; restored, the pepper that is named is the folder's."""
    busy = Busy(tmp_path / "data")
    await busy.open()
    await busy.call("a")
    pepper = (busy.folder / "pepper").read_bytes()
    repository = Repository.make_or_open(tmp_path / "backups", None)
    snapshot = await asyncio.to_thread(take, busy.folder, repository, busy._now, with_pepper=False)
    await busy.store.close()
    assert [] == (await asyncio.to_thread(verify, repository, snapshot)).problems
    assert not [path for path in repository.folder.rglob("*.pack") if pepper in path.read_bytes()]
    with pytest.raises(Misconfigured, match="name it with --pepper"):
        await asyncio.to_thread(restore, repository, snapshot, tmp_path / "restored")
    await asyncio.to_thread(restore, repository, snapshot, tmp_path / "restored", pepper=pepper)
    assert pepper == (tmp_path / "restored" / "pepper").read_bytes()


@pytest.mark.anyio
async def test_files_of_customers_are_in_it(tmp_path, anyio_backend) -> None:
    """Content beside the database is restored with the row that names it."""
    folder = tmp_path / "data"
    store = Store.open(folder)
    account = await store.accounts.create("a")
    (folder / "files").mkdir()
    (folder / "files" / "file-1").write_bytes(b"wool" * 50_000)
    (folder / "files" / "file-2.part").write_bytes(b"half")
    await store.writer.write(
        "a test",
        lambda database: database.execute(
            "INSERT INTO files (id, account_id, filename, purpose, size_bytes, created_at_ms,"
            " expires_at_ms) VALUES ('file-1', ?, 'x', 'batch', 200000, 1, 9e15)",
            (account.id,),
        ),
    )
    repository = Repository.make_or_open(tmp_path / "backups", None)
    snapshot = await asyncio.to_thread(take, folder, repository, lambda: AT_MS, with_pepper=True)
    await store.close()
    await asyncio.to_thread(restore, repository, snapshot, tmp_path / "restored")
    files = [path.name for path in (tmp_path / "restored" / "files").iterdir()]
    assert ["file-1"] == files
    assert b"wool" * 50_000 == (tmp_path / "restored" / "files" / "file-1").read_bytes()


def test_a_folder_that_is_broken_is_told(tmp_path) -> None:
    """A database that is damaged inside is found when it is opened, and named."""

    async def made() -> None:
        busy = Busy(tmp_path / "data")
        await busy.open()
        for number in range(60):
            await busy.call(f"c{number}")
        await busy.store.close()

    asyncio.run(made())
    path = tmp_path / "data" / "merino.db"
    content = bytearray(path.read_bytes())
    content[8192:40960] = bytes(32768)
    path.write_bytes(content)
    repository = Repository.make_or_open(tmp_path / "backups", None)
    try:
        snapshot = take(tmp_path / "data", repository, lambda: AT_MS, with_pepper=True)
    except Misconfigured as refused:
        assert "cannot be read" in refused.message
    else:
        assert verify(repository, snapshot).problems


def test_what_is_no_data_folder_is_told(tmp_path) -> None:
    """And a target within the folder, or the folder within it, is refused."""
    repository = Repository.make_or_open(tmp_path / "backups", None)
    with pytest.raises(Misconfigured, match="is no data folder"):
        take(tmp_path / "nothing", repository, lambda: AT_MS, with_pepper=True)
    inner = Repository.make_or_open(tmp_path / "data" / "backups", None)
    with pytest.raises(Misconfigured, match="lie within each other"):
        take(tmp_path / "data", inner, lambda: AT_MS, with_pepper=True)


def test_an_opened_folder_tells_what_does_not_balance(tmp_path) -> None:
    """Verifying is more than reading: an entry that was taken away is found."""

    async def made() -> None:
        busy = Busy(tmp_path / "data")
        await busy.open()
        await busy.call("a")
        await busy.store.ledger.caught_up()
        await busy.store.writer.write(
            "a test", lambda database: database.execute("DELETE FROM entries WHERE call_id = 'a'")
        )
        await busy.store.close()

    asyncio.run(made())
    assert any("balance of account" in each for each in open_folder(tmp_path / "data").problems)
