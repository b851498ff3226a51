"""What a response reports beside tokens is read, kept within its whole, and priced."""

from __future__ import annotations

import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.usage import CACHE_WRITE_UNITS, UNITS, Usage
from merino.pricing.cost import cost
from merino.pricing.price import Price, Rates
from merino.wire.reported_units import units_of, with_units
from merino.wire.response_events import ResponseReader
from merino.wire.response_object import read_response

SAID = {
    "input_tokens": 900,
    "input_tokens_details": {
        "cached_tokens": 100,
        "cache_write_tokens": 500,
        "cache_write_tokens_details": {"ttl_30m_tokens": 300, "ttl_12h_tokens": 200},
    },
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 950,
}
RATES = Rates(
    1_000_000, 100_000, 1_250_000, 4_000_000, 1_000_000, 4_000_000, 1_000_000,
    units=(("cache_write_12h", 2_000_000), ("web_search", 10_000_000_000)),
)  # fmt: skip


def price(rates: Rates) -> Price:
    return Price("p", "own", "m", date(2026, 1, 1), None, rates, rates)


def test_both_lives_of_cache_writes_and_searches_are_read() -> None:
    """The parts of the cache writes come with the usage, the searches from beside it."""
    body = {
        "object": "response", "status": "completed", "usage": SAID, "output": [],
        "tool_usage": {"web_search": {"num_requests": 3}},
    }  # fmt: skip
    usage = read_response(json.dumps(body).encode()).usage
    assert (
        ("cache_write_12h", 200),
        ("cache_write_30m", 300),
        ("web_search", 3),
    ) == usage.units
    assert usage.is_consistent()


def test_each_unit_costs_its_own_rate_once() -> None:
    """A write costs its life's rate instead of the plain one, a search its fee on top."""
    plain = Usage(900, 50, 100, 500, 20)
    units = (("cache_write_12h", 200), ("cache_write_30m", 300), ("web_search", 3))
    dearer = 200 * (2_000_000 - 1_250_000) // 10**6 + 3 * 10_000_000_000 // 10**6
    with_both = with_units(plain, units)
    assert with_both is not None
    both = cost(with_both, price(RATES)).account_nanos
    assert cost(plain, price(RATES)).account_nanos + dearer == both


@pytest.mark.parametrize("said", [None, 5, "x", {"input_tokens_details": 5}, {"web_search": -1}])
def test_what_is_no_report_counts_nothing(said) -> None:
    """Values of another shape are left out."""
    assert () == units_of(said, said)


@given(
    written=st.integers(0, 1000),
    units=st.dictionaries(st.sampled_from(sorted(UNITS)), st.integers(0, 2000)),
)
def test_parts_are_never_more_than_their_whole(written, units) -> None:
    """Whatever is reported, cache writes by life add up to no more than all of them."""
    usage = with_units(Usage(1000, 5, 0, written), tuple(sorted(units.items())))
    assert sum(count for unit, count in usage.units if unit in CACHE_WRITE_UNITS) <= written
    assert usage.is_consistent()


CALLS = [
    {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "x"}},
    {"type": "web_search_call", "id": "ws_2", "action": {"type": "open_page", "url": "x"}},
    {"type": "file_search_call", "id": "fs_1", "queries": ["x"]},
    {"type": "file_search_call", "id": "fs_2", "queries": ["y"]},
    {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"},
    {"type": "code_interpreter_call", "id": "ci_2", "container_id": "cntr_1"},
    {"type": "image_generation_call", "id": "ig_1", "result": "aGk="},
    {"type": "message", "content": [{"type": "output_text", "text": '"web_search_call"'}]},
]
BY_ITEMS = (("code_interpreter", 1), ("file_search", 2), ("image", 1), ("web_search", 1))


def streamed(tool_usage: object, *, is_cut: bool = False) -> ResponseReader:
    """The items in a stream, each told as it is added and as it is done."""
    reader = ResponseReader()
    events = [
        {"type": f"response.output_item.{what}", "output_index": at, "item": item}
        for at, item in enumerate(CALLS)
        for what in ("added", "done")
    ]
    if not is_cut:
        whole = {"status": "completed", "output": CALLS, "usage": SAID, "tool_usage": tool_usage}
        events.append({"type": "response.completed", "response": whole})
    for each in events:
        reader.feed(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode())
    return reader


def test_what_tools_did_is_counted_by_items_where_nothing_tells() -> None:
    """Searches but no opened pages, file searches, containers once, pictures; the same in a stream,
    also in one that was cut; words that a model wrote count nothing."""
    body = {"status": "completed", "usage": SAID, "output": CALLS}
    plain = read_response(json.dumps({**body, "output": []}).encode()).usage.units
    found = read_response(json.dumps(body).encode()).usage.units
    assert dict(found) == {**dict(plain), **dict(BY_ITEMS)}
    assert BY_ITEMS == streamed(None).units == streamed(None, is_cut=True).units


def test_what_is_told_of_tools_is_not_counted_as_well() -> None:
    """The vendor's own count of searches holds, and of pictures the tokens."""
    told = {
        "web_search": {"num_requests": 0},
        "image_gen": {
            "input_tokens": 30,
            "input_tokens_details": {"text_tokens": 10, "image_tokens": 20},
            "output_tokens": 4000,
        },
    }
    body = {"status": "completed", "usage": SAID, "output": CALLS, "tool_usage": told}
    found = dict(read_response(json.dumps(body).encode()).usage.units)
    assert {"image_gen_text": 10, "image_gen_image": 20, "image_gen_output": 4000} == {
        unit: count for unit, count in found.items() if unit.startswith("image")
    }
    assert "web_search" not in found
    assert 2 == found["file_search"]
    assert (("code_interpreter", 1), ("file_search", 2)) == streamed(told).units
