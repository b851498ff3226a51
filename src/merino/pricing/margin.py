"""What an account pays, beyond the price book: its group's margin and its currency."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from merino.domain.account import STANDARD_GROUP, Account
from merino.domain.currencies import CURRENCY_DECIMALS, RATE_MICROS, ExchangeRate
from merino.domain.deployment import Deployment
from merino.domain.errors import InvalidCall
from merino.domain.money import NANOS_PER_UNIT
from merino.pricing.price import PPM, Price, Rates
from merino.pricing.tariff import SIMULATED

_DERIVED_MAX = 10_000
PRICED_IN = "USD"
"""The currency of the price book."""


@dataclass(frozen=True, slots=True)
class Margin:
    """What accounts of a group pay of the book's account price: `factor_ppm` millionths of it, and
    `fixed_nanos` a call; never less than `minimum_nanos` a call. Nano-dollars.

    What is free stays free, and so does a call that used nothing.
    """

    factor_ppm: int = PPM
    fixed_nanos: int = 0
    minimum_nanos: int = 0


NO_MARGIN = Margin()
_STANDARD = Account("", "", PRICED_IN)
"""Whoever pays what the price list says."""


class RateBook:
    """Dated exchange rates. A pair that is not listed is read backwards, or through dollars."""

    def __init__(self, rates: Iterable[ExchangeRate] = ()) -> None:
        self._rates: dict[tuple[str, str], list[ExchangeRate]] = {}
        for rate in rates:
            self._rates.setdefault((rate.base, rate.quote), []).append(rate)
        for listed in self._rates.values():
            listed.sort(key=lambda rate: rate.valid_from, reverse=True)

    def find(self, base: str, quote: str, at_ms: int) -> ExchangeRate | None:
        """The rate at a time; `None` if none is known for it."""
        day = datetime.fromtimestamp(at_ms / 1000, UTC).date()
        direct = self._either_way(base, quote, day)
        if direct is not None or PRICED_IN in (base, quote):
            return direct
        first, second = (
            self._either_way(base, PRICED_IN, day),
            self._either_way(PRICED_IN, quote, day),
        )
        if first is None or second is None:
            return None
        micros = _rounded(first.rate_micros * second.rate_micros, RATE_MICROS)
        since = max(first.valid_from, second.valid_from)
        return ExchangeRate(base, quote, since, micros, f"{first.source}, {second.source}")

    def _either_way(self, base: str, quote: str, day: date) -> ExchangeRate | None:
        if base == quote:
            return ExchangeRate(base, quote, date(1970, 1, 1), RATE_MICROS, "the same currency")
        for rate in self._rates.get((base, quote), ()):
            if rate.valid_from <= day:
                return rate
        for rate in self._rates.get((quote, base), ()):
            if rate.valid_from <= day:
                micros = _rounded(RATE_MICROS * RATE_MICROS, rate.rate_micros)
                return ExchangeRate(base, quote, rate.valid_from, max(1, micros), rate.source)
        return None


def exchanged(nanos: int, rate: ExchangeRate) -> int:
    """An amount in the other currency, rounded half up to a nano-unit."""
    return _rounded(nanos * rate.rate_micros, RATE_MICROS)


def minor_units(nanos: int, currency: str) -> int:
    """An amount in a currency's smallest unit, rounded up: a payment never falls short."""
    return -(-nanos * 10 ** CURRENCY_DECIMALS[currency] // NANOS_PER_UNIT)


class AccountTariff:
    """The price of a deployment for one account. Callable by the gateway.

    `tariff` gives the book's price, `account_of` an account, `rates` the exchange rates as they
    are now. Derived prices are kept: there are as many as prices times groups times currencies.
    """

    def __init__(
        self,
        tariff: Callable[[Deployment, int, str | None], Price | None],
        margins: Mapping[str, Margin],
        account_of: Callable[[str], Account],
        rates: Callable[[], RateBook],
    ) -> None:
        self._account_of = account_of
        self._rates = rates
        self.configure(tariff, margins)

    def configure(
        self,
        tariff: Callable[[Deployment, int, str | None], Price | None],
        margins: Mapping[str, Margin],
    ) -> None:
        """Other prices and margins for whoever asks from now on."""
        self._tariff = tariff
        self._margins = margins
        self._derived: dict[tuple[str, str, str], tuple[Price, Price]] = {}

    def __call__(
        self, deployment: Deployment, at_ms: int, tier: str | None, account_id: str
    ) -> Price | None:
        """Raises `InvalidCall` if the account's currency has no exchange rate."""
        if deployment.is_free:
            return SIMULATED
        price = self._tariff(deployment, at_ms, tier)
        if price is None:
            return None
        account = self._account_of(account_id)
        if account.currency == PRICED_IN and account.group not in self._margins:
            return price  # nearly always: what the list says
        return self._for(price, account, at_ms)

    def listed(self, deployment: Deployment, at_ms: int) -> Price | None:
        """What accounts of the standard group that are kept in dollars pay: the list price."""
        price = self._tariff(deployment, at_ms, None)
        return None if price is None else self._for(price, _STANDARD, at_ms)

    def _for(self, price: Price, account: Account, at_ms: int) -> Price:
        margin = self._margins.get(account.group, NO_MARGIN)
        if margin is NO_MARGIN and account.currency == PRICED_IN:
            return price
        rate: ExchangeRate | None = None
        if account.currency != PRICED_IN:
            rate = self._rates().find(PRICED_IN, account.currency, at_ms)
            if rate is None:
                raise InvalidCall(
                    f"Account '{account.name}' is kept in {account.currency}, and there is no "
                    f"exchange rate from {PRICED_IN}. The relay's operator can set one: merino "
                    f"rates set {PRICED_IN} {account.currency} RATE",
                    code="no_exchange_rate",
                )
        key = (price.id, account.group, "" if rate is None else rate.id)
        known = self._derived.get(key)
        if known is None or known[0] is not price:
            if len(self._derived) >= _DERIVED_MAX:
                self._derived.clear()
            known = self._derived[key] = (price, derived(price, account.group, margin, rate))
        return known[1]


def derived(price: Price, group: str, margin: Margin, rate: ExchangeRate | None) -> Price:
    """The price with a margin and an exchange rate in it; its id says both.

    The product of the book's factor, the margin's and the rate is rounded to a millionth once,
    here; costs are exact multiples of what comes out.
    """
    micros = RATE_MICROS if rate is None else rate.rate_micros
    ppm = _rounded(price.account_ppm * margin.factor_ppm * micros, PPM * RATE_MICROS)
    price_id = price.id
    if margin is not NO_MARGIN and group != STANDARD_GROUP:
        price_id += f"+{group}"
    elif margin is not NO_MARGIN:
        price_id += "+margin"
    if rate is not None:
        price_id += f" {rate.id}"
    is_free = price.account_ppm == 0 or not _costs(price.account)
    return replace(
        price,
        id=price_id,
        account_ppm=ppm,
        fixed_nanos=0 if is_free else _rounded(margin.fixed_nanos * micros, RATE_MICROS),
        minimum_nanos=0 if is_free else _rounded(margin.minimum_nanos * micros, RATE_MICROS),
    )


def rate_in(price_id: str) -> str | None:
    """The exchange rate that a derived price's id names, ``USD/CNY=7.12@2026-11-24``."""
    return price_id.rpartition(" ")[2] if " " in price_id and "=" in price_id else None


def _costs(rates: Rates) -> bool:
    return any(
        (
            rates.input,
            rates.cached,
            rates.cache_write,
            rates.output,
            rates.audio_input,
            rates.audio_output,
            rates.image_input,
            rates.per_call_nanos,
        )
    ) or any(_costs(step) for _, step in rates.steps)


def _rounded(product: int, whole: int) -> int:
    return (product + whole // 2) // whole
