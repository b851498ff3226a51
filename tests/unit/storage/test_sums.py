"""The dashboard's sums are those of the calls, whatever becomes of the calls."""

from __future__ import annotations

import random
from collections import Counter
from typing import LiteralString, cast

import pytest

from merino.control.overview import SPAN_MS
from merino.control.usage import Cut
from merino.domain.call import CallRecord
from merino.domain.clock import HOUR_MS
from merino.ledger.lines import row_of
from merino.sqlite.schema import MIGRATIONS
from merino.storage import Store

DAY_MS = 86_400_000
NOW_MS = 1_795_000_000_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def call(number: int, at_ms: int, **changes) -> CallRecord:
    fields = {
        "id": f"c{number}",
        "account_id": f"a{number % 2}",
        "key_id": f"k{number % 3}",
        "alias": f"m{number % 2}",
        "endpoint": "chat/completions",
        "at_ms": at_ms,
        "status": (200, 429, 500)[number % 3],
        "deployment": f"d{number % 2}",
        "input_tokens": number,
        "output_tokens": 2 * number,
        "charged_nanos": 10 * number,
    }
    return CallRecord(**(fields | changes))


def apply(store: Store, records: list[CallRecord], kind: str = "call") -> None:
    store._applier._booking.book(
        store._database, [(1, kind, each.at_ms, row_of(each), None) for each in records]
    )


@pytest.mark.anyio
async def test_sums_are_those_of_the_calls(tmp_path) -> None:
    """By every group and over any window."""
    chance = random.Random(7)
    store = Store.open(tmp_path, now_ms=lambda: NOW_MS)
    calls = [call(n, NOW_MS - chance.randrange(3 * DAY_MS)) for n in range(120)]
    apply(store, calls[:50])
    apply(store, calls[50:])
    for length_ms in (HOUR_MS, DAY_MS, 4 * DAY_MS):
        since = (NOW_MS - length_ms) // SPAN_MS * SPAN_MS
        inside = [each for each in calls if each.at_ms >= since]
        for by in ("alias", "key", "account", "deployment"):
            found = await store.sums.sums(by, since)
            field = by if by in ("alias", "deployment") else f"{by}_id"
            assert Counter(getattr(each, field) for each in inside) == {
                row.group: row.calls for row in found
            }
            assert sum(each.charged_nanos for each in inside) == sum(
                row.charged_nanos for row in found
            )
        assert sum(each.status == 429 for each in inside) == sum(row.refused for row in found)
        assert sum(each.status == 500 for each in inside) == sum(row.failed for row in found)
        own = [each for each in inside if each.account_id == "a1"]
        assert len(own) == sum(row.calls for row in await store.sums.sums("key", since, "a1"))
    await store.close()


@pytest.mark.anyio
@pytest.mark.parametrize("late", [0, 4])
async def test_a_call_that_settles_late_counts_once(tmp_path, late) -> None:
    """Its first row is taken out of the sums, and its second is in them, also of the last call."""
    store = Store.open(tmp_path, now_ms=lambda: NOW_MS)
    apply(store, [call(n, NOW_MS - 1000, status=503, charged_nanos=0) for n in range(5)])
    apply(store, [call(late, NOW_MS - 1000, status=200, charged_nanos=77)], "late")
    rows = await store.sums.sums("account", NOW_MS - DAY_MS)
    assert (5, 4, 77) == (
        sum(row.calls for row in rows),
        sum(row.failed for row in rows),
        sum(row.charged_nanos for row in rows),
    )
    hours = await store.usage.usage((), NOW_MS - DAY_MS, NOW_MS, Cut(), HOUR_MS)
    assert [(5, 77)] == [(row.sums.calls, row.sums.charged_nanos) for row in hours]
    await store.close()


@pytest.mark.anyio
async def test_calls_after_all_were_forgotten_count(tmp_path) -> None:
    """The sums of calls that are deleted stay."""
    store = Store.open(tmp_path, now_ms=lambda: NOW_MS)
    apply(store, [call(n, NOW_MS - 10 * DAY_MS) for n in range(5)])
    assert 5 == await store.forget_old(keep_days=5)
    apply(store, [call(n, NOW_MS) for n in range(10, 13)])
    found = await store.sums.sums("account", NOW_MS - 20 * DAY_MS)
    assert 8 == sum(row.calls for row in found)
    await store.close()


@pytest.mark.anyio
async def test_calls_that_an_older_folder_had_not_summed_up(tmp_path) -> None:
    """They are summed up when the folder is opened, once."""
    store = Store.open(tmp_path, now_ms=lambda: NOW_MS)
    apply(store, [call(n, NOW_MS - n * DAY_MS // 4) for n in range(10)])
    for name in ("first_token_calls", "first_token_ms", "generated_tokens", "generating_ms"):
        store._database.execute(f"ALTER TABLE call_sums DROP COLUMN {name}")  # as it was then
    expected = {level: await counted(store, level) for level in range(4)}
    store._database.execute("DELETE FROM call_sums")
    store._database.execute("INSERT INTO meta VALUES ('summed_row', 0)")
    script = cast("LiteralString", (MIGRATIONS / "0006_sums.sql").read_text())
    store._database.execute(script)
    assert expected == {level: await counted(store, level) for level in range(4)}
    await store.close()


async def counted(store: Store, level: int) -> list[tuple[object, ...]]:
    rows = store._database.execute(
        "SELECT * FROM call_sums WHERE level = ? ORDER BY 1, 2, 3, 4, 5, 6", (level,)
    )
    return list(rows)
