"""The rows of service tiers, against the library that lists them too."""

from __future__ import annotations

from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price

from merino.pricing.book import PriceBook

MILLION = 1_000_000
TIERED = [price for price in PriceBook.load().prices() if price.tier is not None]


@pytest.mark.parametrize("price", TIERED, ids=[price.id for price in TIERED])
def test_tier_rows_are_what_the_library_lists(price) -> None:
    """Input, cached and output rates of every tier equal the library's for the same tier."""
    usages = {
        price.upstream.input: Usage(input_tokens=MILLION),
        price.upstream.cached: Usage(input_tokens=MILLION, cache_read_tokens=MILLION),
        price.upstream.output: Usage(output_tokens=MILLION),
    }
    for nanos, usage in usages.items():
        listed = calc_price(
            usage,
            price.model,
            provider_id=price.provider,
            price_context={"service_tier": price.tier},
        )
        assert Decimal(nanos) / 10**9 == listed.total_price
