"""What a call cost, exactly: integers throughout, and one rounding at the very end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec

from merino.domain.usage import CACHE_WRITE_UNITS, Units, Usage
from merino.pricing.price import PPM, Price, Rates

TOKENS_PER_RATE = 1_000_000
"""Rates are per so many LLM tokens."""


class Cost(msgspec.Struct, frozen=True, gc=False):
    """What the account pays, and what the upstream charges us."""

    account_nanos: int
    upstream_nanos: int


def cost(usage: Usage, price: Price) -> Cost:
    """The cost of `usage` at `price`.

    Every class of tokens is multiplied by its rate, the products are summed exactly, and the sum is
    rounded once, half up, to whole nano-dollars. A markup is applied before that rounding.
    """
    upstream = price.upstream
    products = token_products(usage, upstream)
    upstream_nanos = (products + TOKENS_PER_RATE // 2) // TOKENS_PER_RATE + upstream.per_call_nanos
    account = price.account
    ppm = price.account_ppm
    if price.fixed_nanos or price.minimum_nanos:
        if account is not upstream:
            products = token_products(usage, account)
        nanos = account_nanos(products, account.per_call_nanos, ppm)
        if usage.input_tokens or usage.output_tokens:
            nanos = max(nanos + price.fixed_nanos, price.minimum_nanos)
        return Cost(nanos, upstream_nanos)
    if account is upstream and ppm == PPM:
        return Cost(upstream_nanos, upstream_nanos)
    if account is not upstream:
        products = token_products(usage, account)
    return Cost(account_nanos(products, account.per_call_nanos, ppm), upstream_nanos)


def cost_of_all(usage: Usage, price: Price, price_of: Callable[[str], Price | None]) -> Cost:
    """The same with what other models used, at their own prices; one that has none is paid for like
    the model that was asked. What a call costs beside its tokens, it costs once."""
    spent = cost(usage, price)
    for model, used in usage.elsewhere:
        more = cost(used, replace(price_of(model) or price, fixed_nanos=0, minimum_nanos=0))
        spent = Cost(
            spent.account_nanos + more.account_nanos, spent.upstream_nanos + more.upstream_nanos
        )
    return spent


def has_cost(price: Price) -> bool:
    """Whether a call that uses something costs its account anything."""
    rates = price.account
    return price.account_ppm > 0 and any(
        (rates.input, rates.output, rates.per_call_nanos, price.fixed_nanos, price.minimum_nanos)
    )


def account_nanos(products: int, per_call_nanos: int, account_ppm: int) -> int:
    """Round the sum of tokens times rates, with the call's own fee and the markup."""
    whole = TOKENS_PER_RATE * PPM
    return ((products + per_call_nanos * TOKENS_PER_RATE) * account_ppm + whole // 2) // whole


def token_products(usage: Usage, rates: Rates) -> int:
    """Sum of tokens times rates, unrounded.

    Cached, cache-write, audio and image tokens lie inside the input. Where they add up to more than
    it, some tokens are two of these at once; they are charged as cached, images first.
    """
    input_tokens = usage.input_tokens
    if rates.steps:
        rates = rates.at(input_tokens)
    cached = usage.cached_tokens
    cache_write = usage.cache_write_tokens
    audio = usage.audio_input_tokens
    image = usage.image_input_tokens
    audio_output = usage.audio_output_tokens
    products = usage.output_tokens * rates.output
    if audio_output:
        products += audio_output * (rates.audio_output - rates.output)
    if usage.units:
        products += _unit_products(usage.units, rates)
    if not (cached or cache_write or audio or image):
        return products + input_tokens * rates.input
    plain = input_tokens - cached - cache_write - audio - image
    if plain < 0:
        image += plain
        if image < 0:
            audio += image
            image = 0
        plain = 0
    return (
        products
        + plain * rates.input
        + cached * rates.cached
        + cache_write * rates.cache_write
        + audio * rates.audio_input
        + image * rates.image_input
    )


def _unit_products(units: Units, rates: Rates) -> int:
    """What units cost beyond what their tokens cost as cache writes of no particular life."""
    known = dict(rates.units)
    products = 0
    for unit, count in units:
        plain = rates.cache_write if unit in CACHE_WRITE_UNITS else 0
        products += count * (known.get(unit, plain) - plain)
    return products
