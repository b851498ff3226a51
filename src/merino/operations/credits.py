"""Transfers, exchange rates, spending and statements in the admin API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.control.terms import nanos_of
from merino.domain.errors import InvalidCall
from merino.domain.ledger import Entry as LedgerEntry
from merino.domain.money import format_nanos
from merino.operations.entries import Entry, entry_shape
from merino.operations.fields import (
    Currency,
    In,
    Memo,
    PositiveAmount,
    Reference,
    Short,
    amount_or_none,
    given,
)
from merino.operations.statement_files import statement_csv, statement_html, statement_json
from merino.operations.table import Asked, Operation, money_of

Month = Annotated[
    str,
    Meta(
        description="Such as 2026-11, in UTC.",
        extra_json_schema={"pattern": r"^20[0-9]{2}-(0[1-9]|1[0-2])$"},
    ),
]
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


class NewTransfer(In):
    source: Reference
    target: Reference
    amount: PositiveAmount
    memo: Memo | None = None


class NewRate(In):
    base: Currency
    quote: Currency
    rate: Rate
    valid_from: Day | None = None
    source: Short = "an operator"


class NewRates(In):
    rates: Annotated[list[NewRate], Meta(min_length=1, max_length=500)]


class StatementQuery(In):
    month: Month | UnsetType = UNSET
    format: Literal["html", "csv", "json"] = "html"


_STATEMENTS = {"html": statement_html, "csv": statement_csv, "json": statement_json}


class Transferred(Struct):
    left: Entry
    came: Entry


class RateShape(Struct):
    base: str
    quote: str
    rate: str
    valid_from: str
    source: str


class Rates(Struct):
    data: list[RateShape]


class SpendingShape(Struct):
    """`forecast` is for the period's end, if it goes on as on the last days."""

    account_id: str
    period: str
    spent: str
    spent_nanos: int
    cap: str | None
    cap_nanos: int | None
    forecast: str | None
    forecast_nanos: int | None
    reaches_cap_on: str | None


async def _transfer(asked: Asked) -> Transferred:
    body: NewTransfer = asked.body
    left, came = money_of(asked).credits.transfer(
        body.source, body.target, nanos_of(body.amount, "amount"), body.memo, asked.once
    )
    return _transferred(asked, (left, came))


def _transferred(asked: Asked, entries: Sequence[LedgerEntry]) -> Transferred:  # noqa: ARG001 - as of other repeats
    left, came = entries
    return Transferred(entry_shape(left), entry_shape(came))


async def _list_rates(asked: Asked) -> Rates:
    return _rates(asked)


async def _set_rates(asked: Asked) -> Rates:
    from merino.control.credits import parse_rate

    body: NewRates = asked.body
    today = datetime.now(UTC).date()
    money_of(asked).credits.set_rates(
        [
            parse_rate(
                each.base, each.quote, each.rate, _day_of(each.valid_from) or today, each.source
            )
            for each in body.rates
        ]
    )
    return _rates(asked)


async def _spending(asked: Asked) -> SpendingShape:
    account = asked.control.accounts.find(asked.path["account"])
    found = await money_of(asked).credits.spending(account.id)
    return SpendingShape(
        account_id=account.id,
        period=found.period,
        spent=format_nanos(found.spent_nanos),
        spent_nanos=found.spent_nanos,
        cap=amount_or_none(found.cap_nanos),
        cap_nanos=found.cap_nanos,
        forecast=amount_or_none(found.forecast_nanos),
        forecast_nanos=found.forecast_nanos,
        reaches_cap_on=None if found.reaches_cap_on is None else found.reaches_cap_on.isoformat(),
    )


async def _statement(asked: Asked) -> AsyncIterator[bytes]:
    query: StatementQuery = asked.query
    made = await money_of(asked).statements.make(asked.path["account"], given(query.month))
    text = _STATEMENTS[query.format](made)

    async def pieces() -> AsyncIterator[bytes]:
        yield text.encode()

    return pieces()


def _day_of(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidCall(
            "valid_from must be a day such as 2026-11-24", param="valid_from", code="invalid_day"
        ) from None


def _rates(asked: Asked) -> Rates:
    return Rates(
        [
            RateShape(
                each.base,
                each.quote,
                format_nanos(each.rate_micros * 1000),
                each.valid_from.isoformat(),
                each.source,
            )
            for each in money_of(asked).credits.list_rates()
        ]
    )


CREDIT_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST",
        "/transfers",
        "transfer",
        "Move money from account to account",
        _transfer,
        Transferred,
        body=NewTransfer,
        again=_transferred,
    ),
    Operation(
        "GET", "/exchange-rates", "list_exchange_rates", "List exchange rates", _list_rates, Rates
    ),
    Operation(
        "POST",
        "/exchange-rates",
        "set_exchange_rates",
        "Set exchange rates from a day on",
        _set_rates,
        Rates,
        body=NewRates,
    ),
    Operation(
        "GET",
        "/accounts/{account}/spending",
        "account_spending",
        "What an account spends in its period, and will have spent at its end",
        _spending,
        SpendingShape,
    ),
    Operation(
        "GET",
        "/accounts/{account}/statement",
        "account_statement",
        "An account's statement of a month, from its entries",
        _statement,
        None,
        query=StatementQuery,
        filename="merino-statement",
    ),
)
