"""Pages of calls and entries: whatever is asked for, all that match, once, in order."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest

from merino.control.ports import CallFilter, EntryFilter
from merino.domain.call import CallRecord
from merino.domain.ledger import Hold
from merino.storage import Store, spans

NOW_MS = 1_795_000_000_000
HOUR_MS = 3_600_000
SPAN_ENTRIES = 256
"""Of these tests: what holds for spans of any size needs no thousands of entries."""
STATUSES = (200, 200, 200, 200, 429, 500, 503)


class Clock:
    """Goes as it is told, backwards as well."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    size = str(spans.SPAN_ENTRIES)
    assert spans._EXTEND.count(size) == 3
    monkeypatch.setattr(spans, "_EXTEND", spans._EXTEND.replace(size, str(SPAN_ENTRIES)))
    monkeypatch.setattr(spans, "_SPAN", str(SPAN_ENTRIES))
    monkeypatch.setattr(spans, "SPAN_ENTRIES", SPAN_ENTRIES)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path, clock):
    opened = Store.open(tmp_path / "data", now_ms=clock)
    await opened.start()
    yield opened
    await opened.close()


pytestmark = pytest.mark.anyio


def record(key, number: int, at_ms: int, alias: str, status: int) -> CallRecord:
    return CallRecord(
        id=f"c{number}",
        account_id=key.account_id,
        key_id=key.id,
        alias=alias,
        endpoint="chat/completions",
        at_ms=at_ms,
        status=status,
        charged_nanos=1 if status == 200 else 0,
    )


def end(store: Store, key, found: CallRecord) -> None:
    hold = Hold(found.id, key.account_id, key.id, 1, found.at_ms, 60.0)
    assert store.ledger.hold(hold, key) is not None
    resolve = store.ledger.settle if found.status == 200 else store.ledger.void
    resolve(hold, key, found)


async def all_pages(read, wanted, limit: int) -> list[Any]:
    items: list[Any] = []
    cursor = None
    while True:
        page = await read(wanted, limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        items += page.items
        cursor = page.next_cursor
        if cursor is None:
            return items


def matches(found: CallRecord, wanted: CallFilter) -> bool:
    return all(
        (
            wanted.account_id in (None, found.account_id),
            wanted.key_id in (None, found.key_id),
            wanted.alias in (None, found.alias),
            wanted.status in (None, found.status),
            wanted.resolution in (None, found.resolution),
            wanted.since_ms is None or found.at_ms >= wanted.since_ms,
            wanted.until_ms is None or found.at_ms < wanted.until_ms,
        )
    )


async def test_every_combination_finds_what_matches(store: Store, clock: Clock) -> None:
    """Account, key, model, status, outcome and time in all combinations, over pages of any size,
    against a plain look at every call; also for calls whose sums were forgotten."""
    chance = random.Random(20261125)
    accounts = [await store.accounts.create(name) for name in "ab"]
    keys = []
    for account, name in itertools.product(accounts, ("1", "2")):
        await store.accounts.credit(account.id, 10**9)
        keys.append(
            (await store.keys.create(account_id=account.id, name=f"{account.name}{name}"))[0]
        )
    calls: list[CallRecord] = []
    for number in range(600):
        key = chance.choice(keys)
        alias = chance.choice(("x", "y") if key is keys[0] else ("x", "z"))
        at_ms = NOW_MS - chance.randrange(40) * HOUR_MS - chance.randrange(3)
        calls.append(record(key, number, at_ms, alias, chance.choice(STATUSES)))
        end(store, key, calls[-1])
    assert await store.ledger.settled_down()
    await store.sums.forget(NOW_MS - 30 * HOUR_MS)

    times = ((None, None), (NOW_MS - 9 * HOUR_MS, NOW_MS - 2 * HOUR_MS), (NOW_MS - 1, None))
    asked = itertools.product(
        (None, accounts[0].id),
        (None, keys[0].id, keys[3].id),
        (None, "x", "y", "nobody's"),
        (None, 200, 429, 500, 404),
        (None, "voided"),
        times,
    )
    for account_id, key_id, alias, status, resolution, (since_ms, until_ms) in asked:
        wanted = CallFilter(account_id, key_id, alias, status, resolution, since_ms, until_ms)
        expected = sorted(
            (each for each in calls if matches(each, wanted)), key=lambda each: -each.at_ms
        )
        found = await all_pages(store.calls.list, wanted, chance.choice((1, 7, 50)) + 20)
        assert [each.at_ms for each in expected] == [each.at_ms for each in found], wanted
        assert {each.id for each in expected} == {each.id for each in found}, wanted


async def test_entries_are_found_by_time_whatever_the_clock_did(store: Store, clock: Clock) -> None:
    """Spans of entries say where to look; a clock that was set back hides nothing, and what came
    since the last span is looked at all the same."""
    chance = random.Random(20261125)
    account = await store.accounts.create("a")
    key, _ = await store.keys.create(account_id=account.id, name="k")
    await store.accounts.credit(account.id, 10**9, "first")
    number = 0
    for hour in (0, 1, 2, -50, 3, 4):
        clock.ms = NOW_MS + hour * HOUR_MS
        for _ in range(SPAN_ENTRIES // 3):
            clock.ms += chance.randrange(3)
            number += 1
            end(store, key, record(key, number, clock.ms, "x", 200))
        assert await store.ledger.settled_down()
    every = await all_pages(store.books.entries, EntryFilter(), 500)
    assert number + 1 == len(every)

    for noted in (False, True):
        if noted:
            await store.note_times()
        for since, until in ((None, 0), (0, None), (1, 2), (-50, -49), (-60, -51), (4, 5)):
            wanted = EntryFilter(
                since_ms=None if since is None else NOW_MS + since * HOUR_MS,
                until_ms=None if until is None else NOW_MS + until * HOUR_MS,
            )
            expected = [
                each.id
                for each in every
                if (wanted.since_ms is None or each.at_ms >= wanted.since_ms)
                and (wanted.until_ms is None or each.at_ms < wanted.until_ms)
            ]
            for more in ({}, {"account_id": account.id}, {"kind": "settle"}):
                found = await all_pages(store.books.entries, replace(wanted, **more), 300)
                settled = [each.id for each in every if each.kind == "settle"]
                right = [each for each in expected if "kind" not in more or each in set(settled)]
                assert right == [each.id for each in found], (noted, wanted)


async def test_spans_are_noted_once_and_only_when_they_are_whole(
    store: Store, clock: Clock
) -> None:
    """The last entries wait until their span is full; a span's times are those of its entries."""
    account = await store.accounts.create("a")
    key, _ = await store.keys.create(account_id=account.id, name="k")
    await store.accounts.credit(account.id, 10**9, "first")
    for number in range(2 * SPAN_ENTRIES):
        clock.ms += 1
        end(store, key, record(key, number, clock.ms, "x", 200))
    assert await store.ledger.settled_down()
    for _ in range(2):
        await store.note_times()
    rows = list(store._database.execute("SELECT span, first_ms, last_ms FROM entry_spans"))

    assert [0, 1] == [span for span, _, _ in rows]
    assert rows[0][2] < rows[1][1] <= rows[1][2] < clock.ms
