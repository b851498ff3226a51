"""Sums of calls by anything over any time, and searches with any filter, against the calls."""

from __future__ import annotations

import random

import pytest

from merino.control.call_search import CallQuery
from merino.control.overview import SPAN_MS, SumBy
from merino.control.usage import Cut, step_of
from merino.domain.call import CallRecord
from merino.ledger.lines import row_of
from merino.storage import Store
from merino.storage.call_search import CallSearcher

HOUR_MS = 3_600_000
DAY_MS = 86_400_000
NOW_MS = 1_795_000_000_000 // DAY_MS * DAY_MS + 7 * HOUR_MS
FIELD: dict[SumBy, str] = {
    "alias": "alias",
    "key": "key_id",
    "account": "account_id",
    "deployment": "deployment",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def calls(count: int, seed: int = 3) -> list[CallRecord]:
    chance = random.Random(seed)
    return [
        CallRecord(
            id=f"req_{chance.randrange(16**12):012x}",
            account_id=f"a{n % 2}",
            key_id=f"k{n % 5}",
            alias=chance.choice(["o3", "o4"]),
            endpoint="chat/completions",
            at_ms=NOW_MS - chance.randrange(6 * DAY_MS),
            status=chance.choice([200, 200, 200, 429, 404, 503]),
            deployment=chance.choice(["d0", "d1", ""]),
            streamed=chance.random() < 0.5,
            error_code=chance.choice(["rate_limit_exceeded", "x"]),
            error_message=f"message {n}",
            duration_ms=chance.uniform(1, 9000),
            ttft_ms=chance.choice([None, chance.uniform(0.2, 3000)]),
            input_tokens=n,
            output_tokens=2 * n,
            charged_nanos=chance.randrange(10**7),
        )
        for n in range(count)
    ]


async def filled(folder, records) -> Store:
    store = Store.open(folder, now_ms=lambda: NOW_MS)
    await store.start()
    rows = [(n, "call", each.at_ms, row_of(each), None) for n, each in enumerate(records, 1)]
    store._applier._booking.book(store._database, rows)
    return store


@pytest.mark.anyio
async def test_usage_is_that_of_the_calls(tmp_path) -> None:
    """By any dimensions, between any two moments, narrowed in any way, in slots or as a whole."""
    records = calls(300)
    store = await filled(tmp_path, records)
    chance = random.Random(5)
    for _ in range(40):
        by = chance.sample(list(FIELD), chance.randrange(3))
        since = (NOW_MS - chance.randrange(6 * DAY_MS)) // SPAN_MS * SPAN_MS
        until = since + chance.choice([1, 7, 12, 13, 288, 300, 900]) * SPAN_MS
        slot = chance.choice([None, SPAN_MS, 3 * SPAN_MS, 3 * HOUR_MS, DAY_MS])
        cut = Cut.of(
            chance.choice([{}, {"key": ["k1", "k2"]}, {"alias": ["o3"], "account": ["a1"]}])
        )
        if slot is not None:
            since, until = since // slot * slot, -(-until // slot) * slot
        wanted: dict[tuple, list[int]] = {}
        for each in records:
            inside = since <= each.at_ms < until
            if inside and all(getattr(each, FIELD[d]) in v for d, v in cut.values.items()):
                group = tuple(getattr(each, FIELD[d]) for d in by)
                sums = wanted.setdefault(
                    ((each.at_ms // slot * slot) if slot else 0, group), [0, 0, 0]
                )
                sums[0] += 1
                sums[1] += each.charged_nanos
                sums[2] += each.ttft_ms is not None and each.status < 400
        found = await store.usage.usage(by, since, until, cut, slot)
        assert wanted == {
            (row.at_ms, row.group): [
                row.sums.calls,
                row.sums.charged_nanos,
                row.sums.first_token_calls,
            ]
            for row in found
        }
        assert {"USD"} >= {row.currency for row in found}
    await store.close()


@pytest.mark.anyio
async def test_first_tokens_are_spread_as_the_calls_were(tmp_path) -> None:
    """By the hour, for each model and deployment; a call that was booked anew counts once."""
    records = calls(200)
    store = await filled(tmp_path, records)
    again = [(1, "late", each.at_ms, row_of(each), None) for each in records[:20]]
    store._applier._booking.book(store._database, again)
    since = NOW_MS - 6 * DAY_MS
    for by in ("alias", "deployment", None):
        wanted: dict[str, dict[int, int]] = {}
        for each in records:
            if each.ttft_ms is not None and each.status < 400:
                steps = wanted.setdefault("" if by is None else getattr(each, by), {})
                step = step_of(each.ttft_ms)
                steps[step] = steps.get(step, 0) + 1
        found = await store.first_tokens.spreads(by, since, NOW_MS + 1, Cut())
        assert wanted == {row.group: dict(row.spread.steps) for row in found}
    await store.close()


QUERIES = [
    {},
    {"classes": (4,)},
    {"classes": (4, 5)},
    {"statuses": (404, 503)},
    {"statuses": (200,)},
    {"error_codes": ("x",), "classes": (4,)},
    {"cut": Cut.of({"key": ["k1", "k3"]})},
    {"cut": Cut.of({"key": ["k1"], "deployment": ["d1"]}), "classes": (5,)},
    {"cut": Cut.of({"key": ["none"]})},
    {"cost_min_nanos": 9_000_000},
    {"duration_min_ms": 8_000.0, "streamed": True},
    {"first_token_min_ms": 2_500.0},
    {"id_part": "a1"},
    {"since_ms": NOW_MS - 2 * DAY_MS, "until_ms": NOW_MS - DAY_MS, "streamed": False},
]


def matches(query: CallQuery, each: CallRecord) -> bool:
    return (
        all(getattr(each, FIELD[by]) in given for by, given in query.cut.values.items())
        and (query.since_ms or 0) <= each.at_ms < (query.until_ms or NOW_MS * 2)
        and (
            not (query.statuses or query.classes)
            or each.status in query.statuses
            or each.status // 100 in query.classes
        )
        and (not query.error_codes or each.error_code in query.error_codes)
        and query.id_part in each.id
        and each.charged_nanos >= (query.cost_min_nanos or 0)
        and each.duration_ms >= (query.duration_min_ms or 0)
        and (each.ttft_ms or 0) >= (query.first_token_min_ms or 0)
        and query.streamed in (None, each.streamed)
    )


@pytest.mark.anyio
@pytest.mark.parametrize("is_slow", [False, True])
async def test_every_search_finds_all_that_match(tmp_path, is_slow) -> None:
    """Page by page, newest first, each once; also where a page may only look at one hour."""
    records = calls(250)
    store = await filled(tmp_path, records)
    ticks = iter(range(10**9))
    search = CallSearcher(store.read, (lambda: float(next(ticks))) if is_slow else (lambda: 0.0))
    for given in QUERIES:
        query = CallQuery(**given)
        found: list[str] = []
        cursor = None
        for _ in range(1000):
            page = await search.calls(query, limit=7, cursor=cursor)
            found += [each.id for each in page.items]
            cursor = page.next_cursor
            assert len(page.items) == 7 or cursor is None or page.looked_back_to_ms
            if cursor is None:
                break
        wanted = sorted(
            (each for each in records if matches(query, each)), key=lambda each: -each.at_ms
        )
        assert [each.id for each in wanted] == found, given
    await store.close()


@pytest.mark.anyio
async def test_a_count_is_told_where_the_sums_know_it(tmp_path) -> None:
    """By dimension and class of status; never a guess where only reading would tell."""
    records = calls(250)
    store = await filled(tmp_path, records)
    search = store.call_search
    since, until = NOW_MS - 5 * DAY_MS, NOW_MS
    for given in QUERIES:
        query = CallQuery(**({"since_ms": since, "until_ms": until} | given))
        count = await search.count(query)
        assert count is None or count == sum(matches(query, each) for each in records), given
        assert query.is_summed == (count is not None)
    await store.close()


@pytest.mark.anyio
async def test_failures_are_grouped_with_an_example(tmp_path) -> None:
    """Alike in status, code, key and model; the newest is the example, with its message."""
    records = calls(250)
    store = await filled(tmp_path, records)
    found = await store.call_search.failures(CallQuery(), limit=500)
    failed = [each for each in records if each.status >= 400]
    assert len(failed) == sum(each.calls for each in found)
    assert [each.calls for each in found] == sorted((each.calls for each in found), reverse=True)
    for group in found:
        alike = [
            each
            for each in failed
            if (each.status, each.error_code, each.key_id, each.alias)
            == (group.status, group.error_code, group.key_id, group.alias)
        ]
        newest = max(alike, key=lambda each: each.at_ms)
        assert (len(alike), newest.id, newest.error_message) == (
            group.calls,
            group.example_id,
            group.message,
        )
    await store.close()
