"""What a crash, a full disk or a locked database leaves behind."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import LiteralString

import pytest
from tests.lengths import TIMES
from tests.locker import locked
from tests.unit.ledger.folder_at_death import holding

from merino.domain.call import CallRecord
from merino.domain.errors import Misconfigured, StoreUnavailable
from merino.domain.key import VirtualKey
from merino.domain.ledger import Hold
from merino.storage import Store


async def opened(folder: Path, **options) -> tuple[Store, VirtualKey]:
    store = Store.open(folder, **options)
    if not store.accounts.list():
        account = await store.accounts.create("a")
        await store.accounts.credit(account.id, 1_000_000, "start")
        await store.keys.create(account_id=account.id, name="k")
    return store, store.keys.list()[0]


def a_hold(key, number: int, nanos: int = 100) -> Hold:
    return Hold(f"c{number}", key.account_id, key.id, nanos, 1_795_000_000_000, 60.0)


def a_record(hold: Hold, charged: int) -> CallRecord:
    return CallRecord(
        id=hold.call_id,
        account_id=hold.account_id,
        key_id=hold.key_id,
        alias="a",
        endpoint="chat/completions",
        at_ms=hold.at_ms,
        status=200,
        charged_nanos=charged,
    )


def drop(store: Store) -> None:
    """Let go of a store as a killed process does: nothing is flushed or applied."""
    store._applier.stop()
    store._readers.close()
    store.points.close()
    store.writer.stop()
    store._journal.close(delete=False)
    store._database.close()
    store._lock.release()


async def one_call(store: Store, key, number: int, charged: int = 60) -> None:
    hold = a_hold(key, number)
    await holding(store, hold, key)
    await store.ledger.settle(hold, key, a_record(hold, charged))


def test_journal_cut_at_any_byte(tmp_path: Path) -> None:
    """A crash may cut the last write at any byte: what came before is kept, once, and the books
    balance."""

    async def write() -> int:
        store, key = await opened(tmp_path / "whole")
        for number in range(3):
            await one_call(store, key, number)
        segment = next((tmp_path / "whole" / "journal").glob("*.log"))
        drop(store)
        return segment.stat().st_size

    size = asyncio.run(write())

    async def reopen(folder: Path) -> int:
        store, key = await opened(folder)
        assert [] == list((await store.books.verify()).differences)
        balance = store.ledger.balance(key.account_id)
        assert 0 == balance.held_nanos
        await store.close()
        return 1_000_000 - balance.posted_nanos

    import shutil

    spent = []
    for cut in range(0, size + 1, max(1, 19 // TIMES)):
        folder = tmp_path / f"cut{cut}"
        shutil.copytree(tmp_path / "whole", folder)
        segment = next((folder / "journal").glob("*.log"))
        os.truncate(segment, cut)
        spent.append(asyncio.run(reopen(folder)))
    assert sorted(spent) == spent
    assert {0, 60, 120, 180} >= set(spent)
    assert spent[0] == 0


def test_damage_in_the_middle_is_an_error_with_its_place(tmp_path: Path) -> None:
    """A line that was damaged later is not mistaken for a crash: file and byte are named."""

    async def write() -> Path:
        store, key = await opened(tmp_path)
        for number in range(3):
            await one_call(store, key, number)
        segment = next((tmp_path / "journal").glob("*.log"))
        drop(store)
        return segment

    segment = asyncio.run(write())
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    with pytest.raises(Misconfigured, match="damaged at byte"):
        Store.open(tmp_path)


def test_full_disk_refuses_holds_and_recovers(tmp_path: Path, monkeypatch) -> None:
    """While the journal cannot be written, holds fail and are undone; afterwards all goes on."""
    real_write = os.write
    is_full = False

    def write(fd: int, data: bytes) -> int:
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(fd, data)

    async def scenario() -> None:
        nonlocal is_full
        store, key = await opened(tmp_path)
        await one_call(store, key, 0)
        monkeypatch.setattr(os, "write", write)
        is_full = True
        hold = a_hold(key, 1)
        with pytest.raises(StoreUnavailable):
            await holding(store, hold, key)
        assert hold.is_undone
        assert 0 == store.ledger.balance(key.account_id).held_nanos
        is_full = False
        await one_call(store, key, 2)
        assert [] == list((await store.books.verify()).differences)
        await store.close()

    asyncio.run(scenario())


def test_settlement_survives_a_full_disk(tmp_path: Path, monkeypatch) -> None:
    """A settlement that cannot be written is tried again until it is durable, never lost."""
    real_write = os.write
    is_full = False

    def write(fd: int, data: bytes) -> int:
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(fd, data)

    async def scenario() -> None:
        nonlocal is_full
        store, key = await opened(tmp_path)
        hold = a_hold(key, 1)
        await holding(store, hold, key)
        monkeypatch.setattr(os, "write", write)
        is_full = True
        durable = store.ledger.settle(hold, key, a_record(hold, 60))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not durable.done()
        assert store.ledger.why_unavailable
        is_full = False
        async with asyncio.timeout(5):
            await durable
        assert 999_940 == store.ledger.balance(key.account_id).posted_nanos
        drop(store)
        again, key = await opened(tmp_path)
        assert 999_940 == again.ledger.balance(key.account_id).posted_nanos
        await again.close()

    asyncio.run(scenario())


def test_locked_database_delays_only_the_database(tmp_path: Path) -> None:
    """While another program locks the database calls go on; what they did is applied later."""

    async def scenario() -> None:
        store, key = await opened(tmp_path)
        with locked(tmp_path):
            for number in range(5):
                await one_call(store, key, number)
            assert not await store.ledger.settled_down()
        assert await store.ledger.settled_down()
        assert 60 == (await store.calls.get("c4")).charged_nanos
        assert [] == list((await store.books.verify()).differences)
        await store.close()

    asyncio.run(scenario())


def test_verify_finds_what_was_tampered_with(tmp_path: Path) -> None:
    """A changed balance, a deleted record and a second settlement are each reported."""

    async def differences(sql: LiteralString) -> list[str]:
        store, key = await opened(tmp_path / str(abs(hash(sql))))
        for number in range(3):
            await one_call(store, key, number)
        await store.ledger.settled_down()
        store._database.execute(sql)
        found = [each.what for each in (await store.books.verify()).differences]
        await store.close()
        return found

    tampering: dict[LiteralString, str] = {
        "UPDATE balances SET posted_nanos = posted_nanos + 1 WHERE account_id = '@revenue'": "@revenue",
        "DELETE FROM calls WHERE id = 'c1'": "no call record",
        "INSERT INTO entries (at_ms, kind, debit_account, credit_account, amount_nanos, call_id)"
        " SELECT at_ms, kind, debit_account, credit_account, amount_nanos, call_id FROM entries"
        " WHERE call_id = 'c1'": "settled more than once",
        "UPDATE calls SET charged_nanos = 1 WHERE id = 'c2'": "other than its entries",
    }
    for sql, words in tampering.items():
        assert any(words in what for what in asyncio.run(differences(sql))), sql


@pytest.mark.parametrize("durability", ["process", "power"])
def test_pages_reach_every_call_once(tmp_path: Path, durability) -> None:
    """Pages by cursor list every call exactly once, the newest first, under either durability."""
    from merino.control.ports import CallFilter

    async def scenario() -> None:
        store, key = await opened(tmp_path, durability=durability)
        for number in range(25):
            await one_call(store, key, number)
        seen: list[str] = []
        cursor = None
        while True:
            page = await store.calls.list(CallFilter(key_id=key.id), limit=10, cursor=cursor)
            seen += [call.id for call in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert [f"c{number}" for number in reversed(range(25))] == seen
        await store.close()

    asyncio.run(scenario())


def test_spend_cap_counts_across_restarts(tmp_path: Path) -> None:
    """What a key has spent today is known after a restart, and is forgotten at midnight UTC."""
    day_ms = 86_400_000
    now_ms = 1_800_000_000_000

    async def scenario() -> None:
        nonlocal now_ms
        store, key = await opened(tmp_path, now_ms=lambda: now_ms)
        key = await store.keys.update(key.id, {"spend_cap_nanos": 100, "spend_period": "day"})
        await one_call(store, key, 0, charged=60)
        drop(store)
        store, key = await opened(tmp_path, now_ms=lambda: now_ms)
        assert (40, "key_cap") == (
            store.ledger.headroom(key).available_nanos,
            store.ledger.headroom(key).bound_by,
        )
        now_ms += day_ms
        assert 100 == store.ledger.headroom(key).available_nanos
        await store.close()

    asyncio.run(scenario())
