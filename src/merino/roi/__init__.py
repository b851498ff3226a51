"""What a workload costs directly and through a relay, and when the relay pays for itself.

    from merino.roi import Scenario, calculate

    found = calculate(Scenario(model="o3", input_tokens=10_000_000, output_tokens=5_000_000))
    found.baseline.month_nanos, found.relay.saved_month_nanos, found.relay.saved_percent

Arithmetic over `merino.pricing`; nothing here reads files, the network or the clock by itself,
except the price book that comes with the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from merino.exports.numbers import parse_amount, parse_growth, parse_share, parse_tokens
from merino.pricing.book import PriceBook
from merino.roi.comparison import BreakEven, Comparison, Horizon, Line, Point, compare
from merino.roi.offers import Offer, OfferedPrice, provider_offer, quotes_of
from merino.roi.report import ReportFormat, as_object, render
from merino.roi.scenario import Scenario, UsageRow
from merino.roi.study import AS_CHARGED, study
from merino.roi.usage_export import ExportedUsage, read_usage_export

__all__ = [
    "AS_CHARGED",
    "BreakEven",
    "Comparison",
    "ExportedUsage",
    "Horizon",
    "Line",
    "Offer",
    "OfferedPrice",
    "Point",
    "ReportFormat",
    "Scenario",
    "UsageRow",
    "as_object",
    "calculate",
    "compare",
    "parse_amount",
    "parse_growth",
    "parse_share",
    "parse_tokens",
    "provider_offer",
    "quotes_of",
    "read_usage_export",
    "render",
    "study",
]


def calculate(
    scenario: Scenario,
    *,
    relay: str = "guide",
    against: Sequence[str] = (),
    months: int = 12,
    growth: Decimal = Decimal(0),
    book: PriceBook | None = None,
    at_ms: int | None = None,
) -> Comparison:
    """Compare direct calls with a relay for a planned month.

    `relay` is `guide` or `book`; `against` names providers of the price book (the packaged one
    unless `book` is given), or ``provider/model``. Prices are those valid at `at_ms`, by default
    now. Raises `InvalidCall` for impossible values, `NotFound` for what the book does not know.
    """
    return study(
        scenario.rows(),
        book or PriceBook.load(),
        relay=relay,
        against=against,
        horizon=Horizon(months=months, growth=growth),
        at_ms=at_ms,
    )
