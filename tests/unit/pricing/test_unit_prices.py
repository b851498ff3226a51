"""What vendors' own tools cost: packaged, compared with an independent list, held for, and never
given away in silence."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from genai_prices.data import providers
from tests.unit.gateway.test_both_roads import Stream, Upstream, called, responses_events
from tests.unit.gateway.test_pipeline import World

from merino.domain.errors import Misconfigured
from merino.domain.usage import TOOL_UNITS, Usage
from merino.pricing.book import PriceBook
from merino.pricing.changes import doubts, row_changes
from merino.pricing.cost import cost
from merino.pricing.estimate import worst_case
from merino.pricing.price import Rates
from merino.pricing.tariff import own_price
from merino.wire.reported_units import with_units
from merino.wire.responses import parse_responses

THEIRS = {
    "openai": (
        "openai",
        {"web_search": "web_searches_kcount", "file_search": "storage_searches_kcount"},
    ),
    "anthropic": ("anthropic", {"web_search": "web_searches_kcount"}),
    "gemini": ("google", {"web_search": "web_searches_kcount"}),
}
NOW = datetime.now(UTC)
BOOK = PriceBook.load()


@pytest.mark.parametrize("provider", THEIRS)
def test_packaged_units_equal_an_independent_list(provider: str) -> None:
    """Per thousand there, per million here, for every model that both know."""
    theirs, units = THEIRS[provider]
    found = next(each for each in providers if each.id == theirs)
    compared = 0
    for model in found.models:
        ours = BOOK.find(provider, model.id, int(NOW.timestamp() * 1000))
        if ours is None:
            continue
        prices = model.get_prices(NOW)
        for unit, name in units.items():
            amount = getattr(prices, name, None)
            if amount is not None:
                assert int(amount * 1000 * 10**9) == dict(ours.upstream.units)[unit], model.id
                compared += 1
    assert compared > 3


def test_every_row_of_a_vendor_has_its_tools() -> None:
    """A file's `[units]` hold for all its models and tiers; a thousand searches cost ten dollars, and
    a tier at half the price halves no tool."""
    rows = [each for each in BOOK.prices() if each.provider == "openai"]
    assert all(set(TOOL_UNITS) - {"image"} == set(dict(each.account.units)) for each in rows)
    for each in rows:
        plain = Usage(input_tokens=100, output_tokens=10)
        searched = with_units(plain, (("web_search", 1000),))
        assert searched is not None
        more = cost(searched, each).upstream_nanos - cost(plain, each).upstream_nanos
        assert 10 * 10**9 == more
    assert {"flex", "batch"} <= {each.tier for each in rows}


def test_a_row_may_have_its_own_and_accounts_pay_them(tmp_path: Path) -> None:
    """A row's units win over the file's; an account's own rates take over the tools of the file; what
    is no unit is refused; the difference shows."""
    text = """
provider = "own"
[units]
web_search = 10_000.00
file_search = 2_500.00
[[price]]
model = "a"
input = 1.00
output = 2.00
units = { web_search = 5_000.00 }
account = { input = 2.00, output = 4.00 }
"""
    path = tmp_path / "own.toml"
    path.write_text(text)
    (row,) = PriceBook.load([path], packaged=False).prices()
    assert {"file_search": 2500 * 10**9, "web_search": 5000 * 10**9} == dict(row.upstream.units)
    assert {"file_search": 2500 * 10**9, "web_search": 10**13} == dict(row.account.units)
    other = tmp_path / "other.toml"
    other.write_text(text.replace("5_000.00", "6_000.00"))
    changes = row_changes(
        PriceBook.load([path], packaged=False), PriceBook.load([other], packaged=False)
    )
    assert ["units.web_search"] == [each.rate for each in changes]
    other.write_text(text.replace("file_search =", "fie_search ="))
    with pytest.raises(Misconfigured, match=r"units\.fie_search.*unknown"):
        PriceBook.load([other], packaged=False)


def test_a_review_tells_of_tools_that_nobody_pays(tmp_path: Path) -> None:
    """An account price without a tool that the upstream charges is worth a look."""
    path = tmp_path / "own.toml"
    path.write_text(
        'provider = "own"\n[[price]]\nmodel = "a"\ninput = 1.00\noutput = 2.00\n'
        "units = { web_search = 5_000.00 }\naccount = { input = 2.00, output = 4.00 }\n"
    )
    (doubt,) = doubts(PriceBook.load([path], packaged=False))
    assert "web_search" in doubt.why


RATES = Rates(10**6, 10**6, 10**6, 2 * 10**6, 10**6, 2 * 10**6, 10**6,
              units=(("file_search", 2_500 * 10**9), ("image_gen_output", 30 * 10**9),
                     ("web_search", 10**13)))  # fmt: skip


@pytest.mark.parametrize(
    ("tool", "calls", "each"),
    [
        ("web_search", 3, 10**7),
        ("web_search_preview", 3, 10**7),
        ("file_search", 3, 2_500_000),
        ("image_generation", 3, 6_500 * 30_000),
    ],
)
def test_what_a_tool_may_cost_is_held(tool: str, calls: int, each: int) -> None:
    """`max_tool_calls` times its price, on top of the tokens."""
    body = {"model": "m", "input": "x", "max_tool_calls": calls}
    plain = parse_responses(json.dumps(body).encode())
    with_tool = parse_responses(json.dumps({**body, "tools": [{"type": tool}]}).encode())
    price = own_price("d", RATES, RATES)
    more = worst_case(with_tool, price, 10, 10) - worst_case(plain, price, 10, 10)
    assert calls * each == more


@pytest.mark.parametrize(
    ("units", "is_alarm"),
    [((), True), ((("web_search", 0),), False), ((("web_search", 10**13),), False)],
)
def test_what_has_no_price_is_an_alarm(units: tuple, is_alarm: bool, monkeypatch) -> None:
    """A search under a price without searches is told to the operator, with what was used; one whose
    price is nothing is not."""
    search = {"type": "web_search_call", "id": "ws", "action": {"type": "search"}}
    done = {"type": "response.output_item.done", "output_index": 0, "item": search}
    event = f"event: {done['type']}\ndata: {json.dumps(done)}\n\n".encode()
    spent = {"input": 30, "output": 9, "cached": 5, "written": 2, "reasoning": 3}
    events = responses_events(spent, ["Hi"])
    upstream = Upstream({"responses": Stream(events[0], event, *events[1:], ends=True)})
    price = own_price("d", replace(RATES, units=units), replace(RATES, units=units))
    monkeypatch.setattr(
        "tests.unit.gateway.test_both_roads.World", lambda *models: World(*models, price=price)
    )
    _, _, world, _ = called(upstream, "responses", stream=True, max_output_tokens=50)
    record = world.ledger.records[-1]
    assert {"web_search": 1} == json.loads(record.units)
    odd = [each.oddity for each in world.pipeline.oddities.alarming()]
    assert (["unpriced_unit"] if is_alarm else []) == odd
    assert ("web_search" in (record.reported_usage or "")) is False or is_alarm
