"""Exchange rates, for accounts and payments in other currencies than dollars."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

from msgspec import Meta, Struct

from merino.billing.operations.asked import billing
from merino.domain.currencies import ExchangeRate
from merino.domain.errors import InvalidCall
from merino.domain.money import format_nanos
from merino.operations.fields import Currency, In, Short
from merino.operations.shape import shown, shows
from merino.operations.table import Asked, Operations

Day = Annotated[
    str,
    Meta(
        description="Such as 2026-11-24, in UTC.",
        extra_json_schema={"pattern": r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])$"},
    ),
]
Rate = Annotated[
    str,
    Meta(
        description='How much of the quote one of the base is: decimal text such as "7.12".',
        extra_json_schema={"pattern": r"^[1-9][0-9]{0,4}(\.[0-9]{1,6})?$"},
    ),
]


class NewRate(In):
    base: Currency
    quote: Currency
    rate: Rate
    valid_from: Day | None = None
    source: Short = "an operator"


class NewRates(In):
    rates: Annotated[list[NewRate], Meta(min_length=1, max_length=500)]


@shows(ExchangeRate, rate="rate_micros")
class RateShape(Struct):
    base: str
    quote: str
    rate: str
    valid_from: str
    source: str


class Rates(Struct):
    data: list[RateShape]


def _shown_rates(asked: Asked) -> Rates:
    return Rates(
        [
            shown(RateShape, each, rate=format_nanos(each.rate_micros * 1000))
            for each in billing(asked).credits.list_rates()
        ]
    )


OPERATIONS = Operations()


@OPERATIONS.get("/exchange-rates", "List exchange rates")
async def list_exchange_rates(asked: Asked) -> Rates:
    return _shown_rates(asked)


@OPERATIONS.post("/exchange-rates", "Set exchange rates from a day on")
async def set_exchange_rates(asked: Asked, body: NewRates) -> Rates:
    from merino.billing.credits import parse_rate

    today = datetime.now(UTC).date()
    rates = [
        parse_rate(each.base, each.quote, each.rate, _day_of(each.valid_from) or today, each.source)
        for each in body.rates
    ]
    await billing(asked).credits.set_rates(rates)
    return _shown_rates(asked)


def _day_of(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidCall(
            "valid_from must be a day such as 2026-11-24", param="valid_from", code="invalid_day"
        ) from None
