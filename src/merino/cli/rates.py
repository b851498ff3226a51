"""`merino rates`."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import click

from merino.billing.operations.exchange_rates import list_exchange_rates
from merino.cli.columns import Column
from merino.cli.connection import with_admin
from merino.cli.options import admin_options
from merino.cli.output import print_json, write
from merino.cli.resource import add, table
from merino.domain.currencies import CURRENCY_DECIMALS
from merino.domain.errors import InvalidCall

_COLUMNS = (
    Column("BASE", "base"),
    Column("QUOTE", "quote"),
    Column("RATE", "rate", is_number=True),
    Column("SINCE", "valid_from"),
    Column("SOURCE", "source"),
)
_AT_ONCE = 500


@click.group("rates")
def command() -> None:
    """Exchange rates, for accounts and payments in other currencies than dollars."""


add(command, "list", list_exchange_rates, table(_COLUMNS, "no exchange rates"), "List all rates.")


@command.command("set")
@click.argument("base")
@click.argument("quote")
@click.argument("rate")
@click.option("--on", "valid_from", help="From this day on, such as 2026-11-24; today if left out.")
@click.option("--source", default="an operator", show_default=True, help="Who says so.")
@admin_options
def set_rate(
    base: str,
    quote: str,
    rate: str,
    valid_from: str | None,
    source: str,
    data: Path,
    as_json: bool,
) -> None:
    """Say that one BASE is RATE QUOTE: merino rates set USD CNY 7.12. What is booked keeps the rate
    it was booked with."""
    given = {
        "base": base.upper(),
        "quote": quote.upper(),
        "rate": rate,
        "valid_from": valid_from,
        "source": source,
    }
    _set(data, [given], as_json)


@command.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--base", default="EUR", show_default=True, help="What the file's rates are for one of."
)
@admin_options
def import_rates(file: Path, base: str, data: Path, as_json: bool) -> None:
    """Read rates from a CSV file with a column Date and one for each currency, as the European
    Central Bank publishes them."""
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidCall(f"{file.name} is not UTF-8 text") from None
    rates = read_rates(text, base.upper(), file.name)
    _set(data, rates, as_json)


def read_rates(text: str, base: str, name: str) -> list[dict[str, Any]]:
    """Rows of the currencies that are known. Raises `InvalidCall` if there are none."""
    try:
        [names, *rows] = csv.reader(io.StringIO(text), skipinitialspace=True)
    except (csv.Error, ValueError) as error:
        why = "it is empty" if isinstance(error, ValueError) else str(error)
        raise InvalidCall(f"{name} is not CSV: {why}") from None
    rates: list[dict[str, Any]] = []
    for row in rows:
        if not row:
            continue
        # What is beyond the names has no meaning; a row that ends early lacks the rest.
        cells = dict(
            zip((each.strip() for each in names), (each.strip() for each in row), strict=False)
        )
        day = _day(cells.get("Date", ""), name)
        rates += [
            {
                "base": base,
                "quote": quote,
                "rate": _shortened(cells[quote]),
                "valid_from": day,
                "source": name[:100],
            }
            for quote in CURRENCY_DECIMALS
            if quote != base and cells.get(quote, "N/A") not in {"", "N/A"}
        ]
    if not rates:
        raise InvalidCall(
            f"{name} has no rates of {', '.join(CURRENCY_DECIMALS)}; it needs a column Date and "
            "one for each currency"
        )
    return rates


def _shortened(rate: str) -> str:
    whole, _, decimals = rate.partition(".")
    return f"{whole}.{decimals[:6]}" if decimals else whole


def _day(text: str, name: str) -> str:
    from datetime import UTC, datetime

    for form in ("%Y-%m-%d", "%d %B %Y"):
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).date().isoformat()
        except ValueError:
            continue
    raise InvalidCall(f"{name}: {text[:40]!r} is not a day such as 2026-11-24")


def _set(data: Path, rates: list[dict[str, Any]], as_json: bool) -> None:
    found: dict[str, Any] = {}
    for start in range(0, len(rates), _AT_ONCE):
        body = {"rates": rates[start : start + _AT_ONCE]}
        found = with_admin(
            data,
            lambda admin, body=body: admin.ask("POST", "/exchange-rates", body=body),
        )
    if as_json:
        print_json(found)
        return
    write(f"{len(rates)} exchange rate{'' if len(rates) == 1 else 's'} set")
