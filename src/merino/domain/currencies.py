"""Currencies, and what one is worth in another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

RATE_MICROS = 1_000_000
"""An exchange rate of one."""

CURRENCY_DECIMALS = {"USD": 2, "EUR": 2, "CNY": 2, "GBP": 2, "HKD": 2, "JPY": 0}
"""Currencies a payment may be in, and how many decimals their smallest unit has."""


def charge_text(minor: int, currency: str) -> str:
    """Smallest units as people write them: 1234 is 12.34 dollars, and 1234 yen."""
    decimals = CURRENCY_DECIMALS[currency]
    return f"{minor / 10**decimals:.{decimals}f}"


@dataclass(frozen=True, slots=True)
class ExchangeRate:
    """One `base` is `rate_micros` millionths of `quote` from `valid_from` (UTC) on."""

    base: str
    quote: str
    valid_from: date
    rate_micros: int
    source: str

    @property
    def id(self) -> str:
        """As it is stored with entries: ``USD/CNY=7.12@2026-11-24``."""
        whole, rest = divmod(self.rate_micros, RATE_MICROS)
        decimals = f"{rest:06d}".rstrip("0") or "0"
        return f"{self.base}/{self.quote}={whole}.{decimals}@{self.valid_from.isoformat()}"
