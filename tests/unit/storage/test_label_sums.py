"""Sums by what callers say are those of their calls, and bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merino.control.call_search import CallQuery
from merino.control.ports import CallFilter
from merino.control.usage import Cut
from merino.domain.call import CallRecord
from merino.domain.clock import DAY_MS, HOUR_MS
from merino.domain.errors import InvalidCall
from merino.ledger.lines import row_of
from merino.storage import Store, labels
from merino.storage.labels import OTHERS, count_labels

pytestmark = pytest.mark.anyio
BEGAN_MS = 1_795_000_000_000 // DAY_MS * DAY_MS


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def store(tmp_path):
    opened = Store.open(tmp_path / "data", now_ms=lambda: BEGAN_MS)
    await opened.start()
    yield opened
    await opened.close()


def call(number: int, hour: int = 0, **said: object) -> CallRecord:
    record = CallRecord(
        f"req_{number:04}",
        "acct_1",
        "key_1",
        "o3",
        "chat/completions",
        BEGAN_MS + hour * HOUR_MS,
        200,
    )
    record.charged_nanos, record.deployment = 100 + number, "d"
    record.end_user = str(said["user"]) if "user" in said else None
    record.tags = json.dumps(said["tags"]) if "tags" in said else None
    record.metadata = json.dumps(said["metadata"]) if "metadata" in said else None
    return record


async def booked(store: Store, *calls: CallRecord) -> None:
    for each in calls:
        store.ledger.record(each)
    await store.ledger.caught_up()


async def by(store: Store, name, cut: Cut | None = None, slot_ms: int | None = None):
    rows = await store.usage.usage((name,), BEGAN_MS, BEGAN_MS + DAY_MS, cut or Cut(), slot_ms)
    return {
        (*row.group, *([] if slot_ms is None else [row.at_ms])): (
            row.sums.calls,
            row.sums.charged_nanos,
        )
        for row in rows
    }


async def test_each_user_tag_and_pair_has_its_sums(store):
    """A call with two tags counts for both; one that says nothing for none."""
    await booked(
        store,
        call(1, user="ada", tags=["a", "b"], metadata={"team": "x"}),
        call(2, hour=3, user="ada", tags=["b"]),
        call(3),
    )
    assert {("ada",): (2, 203)} == await by(store, "user")
    assert {("a",): (1, 101), ("b",): (2, 203)} == await by(store, "tag")
    assert {("team=x",): (1, 101)} == await by(store, "metadata")
    ada = Cut.of({"user": ["ada"]})
    assert {("o3",): (2, 203)} == await by(store, "alias", ada)
    expected = {("d", BEGAN_MS): (1, 101), ("d", BEGAN_MS + 3 * HOUR_MS): (1, 102)}
    assert expected == await by(store, "deployment", ada, HOUR_MS)
    with pytest.raises(InvalidCall, match="one of end user"):
        await by(store, "tag", ada)


async def test_calls_are_found_by_what_they_say(store):
    """Any mix of it, by the pages' search and by the admin API's list."""
    await booked(
        store,
        call(1, user="ada", tags=["a", "b"], metadata={"team": "x"}),
        call(2, user="bob", tags=["b"]),
        call(3, user="ada"),
    )

    async def found(**said: Any) -> tuple[list[str], list[str]]:
        values: dict[Any, list[str]] = {name: [value] for name, value in said.items()}
        searched = await store.call_search.calls(CallQuery(Cut.of(values)), limit=9)
        listed = await store.calls.list(CallFilter(**said), limit=9)
        return [each.id[-1] for each in searched.items], [each.id[-1] for each in listed.items]

    assert (["3", "1"], ["3", "1"]) == await found(user="ada")
    assert (["1"], ["1"]) == await found(user="ada", tag="b")
    assert (["1"], ["1"]) == await found(metadata="team=x")
    assert ([], []) == await found(user="nobody")


async def test_reports_group_by_what_calls_say(store):
    """Those that say nothing are a group of their own."""
    await booked(store, call(1, user="ada", tags=["a", "b"]), call(2, tags=["b"]))
    rows = await store.reports.by("tag", "user")
    assert [("a", "ada", 1), ("b", "", 1), ("b", "ada", 1)] == [
        (row.group, row.then_group, row.calls) for row in rows
    ]
    assert [("", 1), ("ada", 1)] == [
        (row.group, row.calls) for row in await store.reports.by("user")
    ]


async def test_a_day_has_a_limited_number_of_values(store, monkeypatch):
    """Those beyond count as others, and their calls are still found by their own value."""
    monkeypatch.setattr(labels, "VALUES_MAX", 3)
    await booked(store, *(call(number, user=f"u{number}") for number in range(5)))
    sums = await by(store, "user")
    assert {("u0",), ("u1",), ("u2",), (OTHERS,)} == set(sums)
    assert 2 == sums[(OTHERS,)][0]
    found = await store.call_search.calls(CallQuery(Cut.of({"user": ["u4"]})), limit=9)
    assert ["req_0004"] == [each.id for each in found.items]


_CALLS = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from([{}, {"user": "a"}, {"user": "b", "tags": ["x"]}, {"tags": ["x", "y"]}]),
    ),
    max_size=20,
)


@settings(deadline=None)
@given(first=_CALLS, then=_CALLS)
async def test_what_is_taken_out_again_leaves_nothing(tmp_path_factory, first, then):
    """Sums after calls, and those calls again replaced by others, are those of the others."""
    made = [
        [call(n, hour, **said) for n, (hour, said) in enumerate(each)] for each in (first, then)
    ]
    records, others = ([(0, "call", 0, row_of(each), None) for each in calls] for calls in made)
    folder = tmp_path_factory.mktemp("labels")
    store = Store.open(folder, now_ms=lambda: BEGAN_MS)
    database = store.writer.database
    count_labels(database, records, [])
    count_labels(database, others, [each[3] for each in records])
    kept = set(database.execute("SELECT * FROM label_sums WHERE calls <> 0"))
    database.execute("DELETE FROM label_sums")
    count_labels(database, others, [])
    assert set(database.execute("SELECT * FROM label_sums")) == kept
    await store.close()
