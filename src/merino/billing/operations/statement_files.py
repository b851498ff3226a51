"""A statement as HTML to read and print, and as CSV or JSON to reckon with."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from markupsafe import Markup, escape

from merino.billing.statements import Statement, day_of
from merino.domain.clock import DAY_MS
from merino.domain.money import format_nanos
from merino.domain.spreadsheet import csv_text
from merino.pages.shell import standing_alone
from merino.pages.table import Row, table

_COLUMNS: tuple[str, ...] = (
    *("date", "kind", "calls", "amount", "amount_nanos", "currency"),
    *("price_id", "exchange", "reference", "memo"),
)
_MINUS = "\N{MINUS SIGN}"
_KINDS = {
    "credit": "Credit",
    "debit": "Debit",
    "voucher": "Voucher",
    "topup": "Top-up",
    "refund": "Refund",
    "dispute": "Dispute",
    "transfer": "Transfer",
    "settle": "Call",
    "overrun": "Call",
}


def statement_html(statement: Statement) -> str:
    """One page that needs nothing else; it prints on A4."""
    currency = statement.account.currency
    return standing_alone(
        "merino.billing",
        "statement.html",
        statement=statement,
        last=min(statement.until, statement.made_at),
        minus=_MINUS,
        summary=_summary(statement),
        tables={
            "Movements": table(
                ("Day", "Kind", "What for", f"Amount, {currency}"), _movements(statement), "ddtn"
            ),
            "Calls by price": table(
                ("Price", "Calls", f"Cost, {currency}"),
                _used(
                    (_price(price), calls, nanos) for price, calls, nanos in statement.by_price()
                ),
                "tnn",
            ),
            "Calls by day": table(
                ("Day", "Calls", f"Cost, {currency}"),
                _used((day.isoformat(), calls, nanos) for day, calls, nanos in statement.by_day()),
                "dnn",
            ),
        },
    )


def _summary(statement: Statement) -> Markup:
    summary = [
        ("Balance before", statement.opening_nanos),
        ("Came in", statement.came_nanos),
        ("Went out", -statement.went_nanos),
        (f"Calls ({statement.calls:,})", -statement.used_nanos),
        ("Balance after", statement.closing_nanos),
    ]
    money = _aligned(nanos for _, nanos in summary)
    rows = (
        Row((name, money(nanos)), "sum" if name.startswith("Balance") else "")
        for name, nanos in summary
    )
    return table((), rows, "tn")


def _movements(statement: Statement) -> Iterator[tuple[str | Markup, ...]]:
    money = _aligned(statement.signed(entry) for entry in statement.movements)
    for entry in statement.movements:
        reason = escape(entry.memo or "") + _beside(entry.exchange, entry.reference)
        yield _day(entry.at_ms), _KINDS[entry.kind], reason, money(statement.signed(entry))


def _used(
    lines: Iterable[tuple[str | Markup, int, int]],
) -> list[tuple[str | Markup, ...]]:
    found = list(lines)
    money = _aligned(nanos for _, _, nanos in found)
    return [(name, f"{calls:,}", money(nanos)) for name, calls, nanos in found]


def statement_csv(statement: Statement) -> str:
    """Every line with a signed amount: the opening balance and all others add up to the closing
    balance, which comes last."""
    lines = ([line.get(name, "") for name in _COLUMNS] for line in _lines(statement))
    return csv_text(itertools.chain([_COLUMNS], lines))


def statement_json(statement: Statement) -> str:
    """The lines of the CSV as one object; what a line does not have is null."""
    account = statement.account
    lines = [dict.fromkeys(_COLUMNS) | line for line in _lines(statement)]
    return (
        json.dumps({"account": account.id, "name": account.name, "lines": lines}, indent=2) + "\n"
    )


def statement_file(statement: Statement, form: Literal["html", "csv", "json"]) -> str:
    makers = {"html": statement_html, "csv": statement_csv, "json": statement_json}
    return makers[form](statement)


def _lines(statement: Statement) -> Iterator[dict[str, Any]]:
    def line(day: str, kind: str, nanos: int, **more: Any) -> dict[str, Any]:
        return {
            "date": day,
            "kind": kind,
            "amount": format_nanos(nanos),
            "amount_nanos": nanos,
            "currency": statement.account.currency,
            **more,
        }

    yield line(statement.since.date().isoformat(), "opening", statement.opening_nanos)
    for entry in statement.movements:
        yield line(
            _day(entry.at_ms),
            entry.kind,
            statement.signed(entry),
            price_id=entry.price_id,
            exchange=entry.exchange,
            reference=entry.reference,
            memo=entry.memo,
        )
    for used in statement.usage:
        day = day_of(used.day).isoformat()
        yield line(day, "calls", -used.nanos, calls=used.calls, price_id=used.price_id)
    closing_day = min(statement.until, statement.made_at).date().isoformat()
    yield line(closing_day, "closing", statement.closing_nanos)


def _aligned(column: Iterable[int]) -> Callable[[int], str]:
    """How the amounts of a column are written: exactly, and all with as many decimals, so that
    their points stand below each other."""
    decimals = max((len(format_nanos(nanos).partition(".")[2]) for nanos in column), default=2)

    def written(nanos: int) -> str:
        units, _, rest = format_nanos(abs(nanos)).partition(".")
        return f"{_MINUS if nanos < 0 else ''}{int(units):,}.{rest:0<{decimals}}"

    return written


def _price(price_id: str) -> Markup:
    """A price's id, with its exchange rate beside it."""
    price, _, rate = price_id.partition(" ")
    return escape(price) + _beside(rate)


def _beside(*parts: str | None) -> Markup:
    told = " · ".join(part for part in parts if part)
    return Markup('<span class="beside">{}</span>').format(told) if told else Markup("")


def _day(at_ms: int) -> str:
    return day_of(at_ms // DAY_MS).isoformat()
