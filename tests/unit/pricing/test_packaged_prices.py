"""The packaged prices against an independent list."""

from datetime import UTC, datetime
from datetime import date as Date  # noqa: N812 - a type beside values named date
from decimal import Decimal

import pytest
from genai_prices.data import providers
from genai_prices.types import StartDateConstraint, TieredPrices, TimeOfDateConstraint

from merino.pricing.book import PriceBook
from merino.pricing.genai import accepted_differences
from merino.pricing.price import Price, Rates

THEIRS = {"openai": "openai", "deepseek": "deepseek", "anthropic": "anthropic", "gemini": "google"}

RATES = {
    "input": "input_mtok",
    "cached": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "output": "output_mtok",
    "audio_input": "input_audio_mtok",
    "audio_output": "output_audio_mtok",
    "image_input": "input_image_mtok",
}

DIFFERENCES = {
    (f"{each.model}@{each.since}", each.rate) for each in accepted_differences() if each.since
}
"""Where the packaged price of a date is meant to differ."""

PRICES = [
    price for price in PriceBook.load().prices() if price.provider in THEIRS and price.tier is None
]


def their_price(price: Price):
    """Their price of the same model at the time from which ours holds."""
    [provider] = [p for p in providers if p.id == THEIRS[price.provider]]
    [model] = [m for m in provider.models if m.id == price.model]
    if not isinstance(model.prices, list):
        return model.prices
    found = None
    for conditional in model.prices:
        constraint = conditional.constraint
        if isinstance(constraint, TimeOfDateConstraint):
            # Their hours have no first date; ours are the peak rows.
            if price.hours_utc is None:
                continue
            start = constraint.start_time
            if start.hour * 60 + start.minute != price.hours_utc[0]:
                continue
        elif (
            isinstance(constraint, StartDateConstraint) and constraint.start_date > price.valid_from
        ):
            continue
        found = conditional.prices
    return found


def nanos(amount: Decimal | TieredPrices | None, fallback: int, above: int | None) -> int:
    if amount is None:
        return fallback
    if isinstance(amount, TieredPrices):
        steps = {tier.start: tier.price for tier in amount.tiers}
        amount = steps[above] if above is not None and above in steps else amount.base
    return int(amount * 10**9)


def differences(price: Price, rates: Rates, above: int | None) -> dict[str, tuple[int, int]]:
    theirs = their_price(price)
    found: dict[str, tuple[int, int]] = {}
    for name, their_name in RATES.items():
        fallback = rates.output if name in {"output", "audio_output"} else rates.input
        if name == "output":
            fallback = 0
        amount = getattr(theirs, their_name)
        expected = nanos(amount, fallback, above)
        actual = getattr(rates, name)
        if expected != actual:
            found[name] = (expected, actual)
    return found


@pytest.mark.parametrize("price", PRICES, ids=lambda price: price.id)
def test_packaged_prices_equal_an_independent_list(price):
    """Every packaged rate equals genai-prices' for its date, except where a reason is listed."""
    found = differences(price, price.upstream, None)
    listed = {rate for price_id, rate in DIFFERENCES if price_id == price.id}
    assert listed == set(found), found
    for above, rates in price.upstream.steps:
        assert {} == differences(price, rates, above)


def test_their_steps_are_ours():
    """A model with dearer long contexts there has the same thresholds here."""
    for price in PRICES:
        theirs = their_price(price)
        amount = theirs.input_mtok
        starts = [tier.start for tier in amount.tiers] if isinstance(amount, TieredPrices) else []
        assert starts == [above for above, _ in price.upstream.steps], price.id


def test_no_later_price_is_missing():
    """Where genai-prices knows that a price changed by now, the book has a row of that date."""
    today = datetime.now(UTC).date()
    ours = {(price.provider, price.model, price.valid_from) for price in PRICES}
    for provider, theirs in THEIRS.items():
        [listed] = [p for p in providers if p.id == theirs]
        for model in listed.models:
            if not isinstance(model.prices, list) or not any(
                (provider, model.id) == (p.provider, p.model) for p in PRICES
            ):
                continue
            dates: list[Date] = [
                conditional.constraint.start_date
                for conditional in model.prices
                if isinstance(conditional.constraint, StartDateConstraint)
            ]
            # Dates that changed nothing but tools' fees are left out of the book.
            for start in dates:
                if start <= today and model.id not in {
                    "gemini-3-pro-preview",
                    "gemini-3-flash-preview",
                }:
                    assert (provider, model.id, start) in ours
