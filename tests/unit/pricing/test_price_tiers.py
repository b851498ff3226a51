"""Prices of service tiers, against the library that lists them too."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from genai_prices.data import providers
from genai_prices.types import TieredPrices
from tests.unit.pricing.test_packaged_prices import RATES, THEIRS

from merino.domain.errors import Misconfigured
from merino.pricing.book import PriceBook
from merino.pricing.genai import accepted_differences, disagreements

BOOK = PriceBook.load()
NOW = datetime.now(UTC)
AT_MS = int(NOW.timestamp() * 1000)
WHEN = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast"},
}
DIFFERENCES = {
    (each.model.partition("/")[2], each.tier, each.rate)
    for each in accepted_differences()
    if each.tier is not None
}


def listed() -> list[tuple[str, str, str, object]]:
    """Provider, model, tier and the library's rates of every tier that it lists of our models."""
    found: list[tuple[str, str, str, object]] = []
    for ours, theirs in THEIRS.items():
        [provider] = [each for each in providers if each.id == theirs]
        for model in provider.models:
            if (ours, model.id) not in BOOK.models:
                continue
            for tier, when in WHEN.items():
                current = [
                    variant
                    for variant in model.price_variants or ()
                    if variant.when == when and since(variant) <= NOW.date()
                ]
                if current:
                    found.append((ours, model.id, tier, max(current, key=since).prices))
    return found


def since(variant) -> date:
    return variant.constraint.start_date if variant.constraint else date.min


LISTED = listed()


@pytest.mark.parametrize(("provider", "model", "tier", "theirs"), LISTED, ids=str)
def test_tiers_cost_what_the_library_lists(provider, model, tier, theirs) -> None:
    """Every rate of every tier, also of long contexts, and what is not listed is never cheaper."""
    price = BOOK.find(provider, model, AT_MS, tier)
    assert price is not None
    for above, rates in ((0, price.upstream), *price.upstream.steps):
        for name, their_name in RATES.items():
            amount = getattr(theirs, their_name)
            if isinstance(amount, TieredPrices):
                steps = {each.start: each.price for each in amount.tiers}
                amount = steps.get(above, amount.base)
            actual = Decimal(getattr(rates, name)) / 10**9
            if amount is None:
                plain = rates.output if name in {"output", "audio_output"} else rates.input
                assert getattr(rates, name) >= plain
            elif not above and (model, tier, name) in DIFFERENCES:
                assert amount != actual
            else:
                assert amount == actual, name


def test_the_library_lists_tiers() -> None:
    """The comparison above has something to compare, of each vendor and each tier."""
    assert set(WHEN) == {tier for _, _, tier, _ in LISTED}
    assert {"openai", "anthropic", "gemini"} == {provider for provider, _, _, _ in LISTED}


def test_every_tier_that_is_priced_is_listed_by_somebody() -> None:
    """A dearer tier is priced only where the library knows it too."""
    known = {(provider, model) for provider, model, tier, _ in LISTED if tier == "priority"}
    ours = {(p.provider, p.model) for p in BOOK.prices() if p.tier == "priority"}
    assert ours <= known


def test_the_check_finds_what_is_not_accepted() -> None:
    """The packaged book has none left; a wrong rate, of a tier too, is told."""
    assert () == disagreements(BOOK, NOW.date())
    wrong = PriceBook.load(
        overrides=[
            {"provider": "openai", "model": "o3", "input": "2.5", "cached": "0.5", "output": 8},
            {"provider": "openai", "model": "gpt-5", "tier": "flex", "input": 1, "output": 5},
        ]
    )
    found = {
        (each.price_id.partition("@")[0], each.rate) for each in disagreements(wrong, NOW.date())
    }
    assert ("openai/o3", "input") in found
    assert ("openai/gpt-5:flex", "input") in found


def test_fast_is_another_name_of_priority() -> None:
    """OpenAI answers with either."""
    fast = BOOK.find("openai", "gpt-5.6-sol", AT_MS, "fast")
    assert fast == BOOK.find("openai", "gpt-5.6-sol", AT_MS, "priority") is not None


def test_a_snapshot_with_a_price_of_its_own_has_its_own_tiers() -> None:
    """It does not take the tier's price of its base, which may be below its own standard price."""
    book = PriceBook.load(
        packaged=False,
        overrides=[
            {"provider": "v", "model": "m", "input": 1, "output": 1},
            {"provider": "v", "model": "m", "tier": "priority", "input": 2, "output": 2},
            {"provider": "v", "model": "m-2024-05-13", "input": 5, "output": 5},
        ],
    )
    assert book.find("v", "m-2024-05-13", AT_MS, "priority") is None
    found = book.find("v", "m-2025-01-01", AT_MS, "priority")
    assert found is not None
    assert 2 * 10**9 == found.upstream.input


TIERED = """
provider = "v"
[[price]]
model = "m"
input = 4
cached = 1
output = 8
account = { input = 6, output = 10 }
steps = [{ above_input_tokens = 100, input = 8, output = 16 }]
[[price]]
model = "n"
input = 1
output = 1
[[price]]
model = "n"
tier = "batch"
input = 0.3
output = 0.3
[[tier]]
name = "batch"
factor = 0.5
caches = false
"""


def test_a_tier_may_be_a_factor(tmp_path) -> None:
    """Of all rates, steps and account prices; a row of the tier's own goes before it."""
    (tmp_path / "v.toml").write_text(TIERED)
    book = PriceBook.load([tmp_path / "v.toml"], packaged=False)
    price = book.find("v", "m", AT_MS, "batch")
    assert price is not None
    assert "v/m:batch@1970-01-01" == price.id
    rates = price.upstream
    assert (2, 2, 4) == tuple(each // 10**9 for each in (rates.input, rates.cached, rates.output))
    assert 4 * 10**9 == rates.at(101).input
    assert (3, 5) == (price.account.input // 10**9, price.account.output // 10**9)
    own = book.find("v", "n", AT_MS, "batch")
    assert own is not None
    assert 300_000_000 == own.upstream.input


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("factor = 0.5", "factor"),
        ('factor = "half"', "factor"),
        ("factor = -1", "factor"),
        ('name = "standard"', "name"),
        ('name = "fast"', "name"),
        ('models = ["x"]', "models"),
        ("models = 3", "models"),
        ("caches = 1", "caches"),
        ("of = 1", "of"),
    ],
)
def test_a_wrong_tier_is_refused_by_name(tmp_path, wrong, said) -> None:
    """File, tier, key and value are told."""
    text = TIERED.partition("[[tier]]")[0] + "[[tier]]\n"
    kept = {"name": 'name = "flex"', "factor": "factor = 0.5"}
    kept.pop(wrong.partition(" ")[0], None)
    if wrong == "factor = 0.5":  # without any
        kept, wrong = {"name": 'name = "flex"'}, ""
    (tmp_path / "v.toml").write_text(text + "\n".join([*kept.values(), wrong]))
    with pytest.raises(Misconfigured, match=rf"v\.toml: tier 1: {said}"):
        PriceBook.load([tmp_path / "v.toml"], packaged=False)
