"""What accounts pay beyond the book: margins of groups, currencies."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.account import Account
from merino.domain.currencies import RATE_MICROS, ExchangeRate
from merino.domain.deployment import Deployment
from merino.domain.errors import InvalidCall
from merino.domain.money import parse_nanos
from merino.domain.usage import NO_USAGE, Usage
from merino.pricing.cost import cost
from merino.pricing.margin import (
    NO_MARGIN,
    AccountTariff,
    Margin,
    RateBook,
    derived,
    exchanged,
    minor_units,
)
from merino.pricing.price import PPM, Price, Rates
from merino.pricing.tariff import FREE, own_price

AT_MS = 1_790_000_000_000
DAY = date(2026, 1, 1)
DEPLOYMENT = Deployment("d", "openai", "m", "https://example.org/v1")
SPARE = Usage(1000, 100)


def rates(rate_in: int, rate_out: int) -> Rates:
    return Rates(rate_in, rate_in, rate_in, rate_out, rate_in, rate_out, rate_in)


PRICE = own_price(
    "d", rates(parse_nanos("2"), parse_nanos("8")), rates(parse_nanos("2"), parse_nanos("8"))
)
PRICE_NANOS = 2_000_000 + 800_000


def rate(base: str, quote: str, text: str, day: date = DAY) -> ExchangeRate:
    return ExchangeRate(base, quote, day, int(Fraction(text) * RATE_MICROS), "test")


def tariff(account: Account, margins: dict[str, Margin], *known: ExchangeRate) -> AccountTariff:
    book = RateBook(known)
    return AccountTariff(lambda *asked: PRICE, margins, lambda account_id: account, lambda: book)


def priced(tariff: AccountTariff) -> Price:
    found = tariff(DEPLOYMENT, AT_MS, None, "a")
    assert found is not None
    return found


def test_an_account_without_margin_pays_the_book():
    """The very same price object: nothing is derived for the usual account."""
    found = tariff(Account("a", "a"), {})(DEPLOYMENT, AT_MS, None, "a")
    assert found is PRICE


def test_factor_fixed_and_minimum():
    """A group pays factor times the price plus a fixed amount, and at least the minimum."""
    margin = Margin(1_250_000, parse_nanos("0.001"), parse_nanos("0.01"))
    found = priced(tariff(Account("a", "a", group="resellers"), {"resellers": margin}))
    assert "deployment/d+resellers" == found.id
    assert parse_nanos("0.01") == cost(SPARE, found).account_nanos
    assert PRICE_NANOS == cost(SPARE, found).upstream_nanos
    ten = Usage(10_000, 1_000)
    assert 10 * PRICE_NANOS * 5 // 4 + parse_nanos("0.001") == cost(ten, found).account_nanos


def test_what_used_nothing_costs_nothing():
    """Neither the fixed amount nor the minimum is asked for an empty call."""
    found = derived(PRICE, "g", Margin(PPM, 5, 7), None)
    assert 0 == cost(NO_USAGE, found).account_nanos


def test_free_models_stay_free():
    """A margin asks nothing for a model that is free."""
    found = derived(own_price("d", FREE, FREE), "g", Margin(2 * PPM, 5, 7), None)
    assert 0 == cost(SPARE, found).account_nanos


def test_an_account_in_another_currency_pays_in_it():
    """The exchange rate is part of the price, and of the id that is kept with the entry."""
    account = Account("a", "a", currency="CNY")
    found = priced(tariff(account, {}, rate("USD", "CNY", "7.12")))
    assert "deployment/d USD/CNY=7.12@2026-01-01" == found.id
    assert PRICE_NANOS * 712 // 100 == cost(SPARE, found).account_nanos
    assert PRICE_NANOS == cost(SPARE, found).upstream_nanos


def test_the_guides_promotion_is_a_rate_of_one():
    """One yuan for a dollar is just what is configured."""
    account = Account("a", "a", currency="CNY")
    found = priced(tariff(account, {}, rate("USD", "CNY", "1")))
    assert PRICE_NANOS == cost(SPARE, found).account_nanos


def test_a_currency_without_a_rate_is_refused():
    """Nothing is guessed: the call is refused with what to do."""
    account = Account("a", "shop", currency="EUR")
    with pytest.raises(InvalidCall, match="merino rates set USD EUR"):
        tariff(account, {})(DEPLOYMENT, AT_MS, None, "a")


def test_rates_hold_from_their_day():
    """A later rate does not change an earlier call, and none holds before the first."""
    book = RateBook(
        [rate("USD", "EUR", "0.9"), rate("USD", "EUR", "0.8", date(2026, 6, 1))],
    )
    may, june, before = 1_780_000_000_000, 1_780_300_800_000, 1_700_000_000_000
    assert 900_000 == book.find("USD", "EUR", may).rate_micros
    assert 800_000 == book.find("USD", "EUR", june).rate_micros
    assert book.find("USD", "EUR", before) is None


def test_rates_backwards_and_through_dollars():
    """EUR to USD is the inverse; EUR to CNY goes through dollars."""
    book = RateBook([rate("USD", "EUR", "0.8"), rate("USD", "CNY", "7.2")])
    assert 1_250_000 == book.find("EUR", "USD", AT_MS).rate_micros
    assert 9_000_000 == book.find("EUR", "CNY", AT_MS).rate_micros
    assert book.find("EUR", "JPY", AT_MS) is None


@given(st.integers(1, 10**15), st.integers(1, 10**10))
def test_exchanging_is_exact_and_rounded_once(nanos, micros):
    """Half up of the exact product."""
    found = exchanged(nanos, ExchangeRate("A", "B", DAY, micros, ""))
    assert abs(Fraction(nanos * micros, RATE_MICROS) - found) <= Fraction(1, 2)


@given(st.integers(1, 10**18), st.sampled_from(["USD", "CNY", "JPY"]))
def test_a_payment_never_falls_short(nanos, currency):
    """Smallest units are rounded up, by less than one."""
    unit = 10**9 if currency == "JPY" else 10**7
    assert 0 <= minor_units(nanos, currency) * unit - nanos < unit


@given(
    tokens=st.tuples(*[st.integers(0, 10**7)] * 2),
    margin=st.builds(
        Margin,
        st.integers(0, 10 * PPM),
        st.integers(0, 10**9),
        st.integers(0, 10**9),
    ),
    micros=st.integers(1, 10**8),
)
def test_a_margins_cost_is_the_exact_rational_rounded_once(tokens, margin, micros):
    """Tokens times rates times the factor, rounded once; then the fixed amount, then the minimum."""
    usage = Usage(*tokens)
    found = derived(PRICE, "g", margin, ExchangeRate("USD", "CNY", DAY, micros, ""))
    exact = Fraction(
        (tokens[0] * PRICE.account.input + tokens[1] * PRICE.account.output) * found.account_ppm,
        10**6 * PPM,
    )
    whole = int(exact + Fraction(1, 2)) if any(tokens) else 0
    expected = max(whole + found.fixed_nanos, found.minimum_nanos) if any(tokens) else 0
    assert expected == cost(usage, found).account_nanos


def test_no_margin_is_one():
    """The default neither adds nor takes."""
    assert Margin(PPM, 0, 0) == NO_MARGIN
