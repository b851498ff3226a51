"""`merino prices`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merino.cli.columns import Column
from merino.cli.options import config_option, config_path, json_option, unread_data_option
from merino.cli.output import in_dollars, print_fields, print_json, print_table, write
from merino.cli.terminal import is_shown
from merino.domain.errors import NotFound

if TYPE_CHECKING:
    from merino.pricing.book import PriceBook
    from merino.pricing.changes import Change
    from merino.pricing.price import Price

DIFFERENCES_EXIT = 1


_CLAIMED = {"guide": "guide's relay", "guide-direct": "guide's direct"}
"""No provider's price list: what the packaged guide says that a relay takes, and that direct calls
cost. People get it last, under its name."""


def _provider(row: Mapping[str, Any]) -> str:
    return _CLAIMED.get(row["provider"]) or str(row["provider"])


def _since(row: Mapping[str, Any]) -> str | None:
    """The book's first prices have no beginning."""
    return None if row["valid_from"] == "1970-01-01" else row["valid_from"]


def _factor(row: Mapping[str, Any]) -> str | None:
    return None if row["account_factor"] == "1.0" else f"x{row['account_factor']}"


_COLUMNS = (
    Column("PROVIDER", "provider", only="pipes"),
    Column("PROVIDER", _provider, only="terminals"),
    Column("MODEL", "model"),
    Column("SINCE", "valid_from", only="pipes"),
    Column("SINCE", _since, whole=True, only="terminals"),
    Column("TIER", "tier"),
    Column("INPUT/M", in_dollars("input"), is_number=True),
    Column("CACHED/M", in_dollars("cached"), is_number=True),
    Column("OUTPUT/M", in_dollars("output"), is_number=True),
    Column("FACTOR", "account_factor", is_number=True, only="pipes"),
    Column("YOUR FACTOR", _factor, is_number=True, spare=1, only="terminals"),
    Column("HOURS UTC", "hours_utc", spare=2, only="terminals"),
)
_CHANGES = (
    Column("CHANGE", "change"),
    Column("PRICE", "price"),
    Column("RATE", "rate"),
    Column("BEFORE", "before", is_number=True),
    Column("AFTER", "after", is_number=True),
)


class Day(click.ParamType[date]):
    """A date in UTC."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        try:
            return value if isinstance(value, date) else date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a date such as 2026-11-24", param, ctx)


@click.group("prices")
def command() -> None:
    """Look at the price book, and check what would change it."""


@command.command("list")
@click.option("--provider", help="Only of this provider.")
@click.option("--model", help="Only models whose name has this in it.")
@config_option
@unread_data_option
@json_option
def list_prices(
    provider: str | None,
    model: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """List what upstreams charge per million tokens, and the factor accounts pay of it."""
    from merino.domain.money import format_nanos
    from merino.pricing.price import PPM

    book = _book(config)
    hours = {price.id: _hours(price) for price in book.prices()}
    rows = [
        {
            "id": price.id,
            "provider": price.provider,
            "model": price.model,
            "valid_from": price.valid_from.isoformat(),
            "tier": price.tier,
            "input": format_nanos(price.upstream.input),
            "cached": format_nanos(price.upstream.cached),
            "cache_write": format_nanos(price.upstream.cache_write),
            "output": format_nanos(price.upstream.output),
            "account_input": format_nanos(price.account.input * price.account_ppm // PPM),
            "account_output": format_nanos(price.account.output * price.account_ppm // PPM),
            "account_factor": str(price.account_ppm / PPM),
        }
        for price in book.prices()
        if provider in (None, price.provider) and (model or "") in price.model
    ]
    rows.sort(key=lambda row: (row["provider"] or "", row["model"] or "", row["valid_from"] or ""))
    if as_json:
        print_json({"data": rows})
        return
    shown = [{**row, "hours_utc": hours.get(str(row["id"]))} for row in rows]
    if is_shown():
        shown.sort(key=lambda row: row["provider"] in _CLAIMED)
    print_table(shown, _COLUMNS, empty="no prices")


@command.command("show")
@click.argument("model")
@click.option("--on", type=Day(), help="As it is on this day, instead of every row.")
@config_option
@unread_data_option
@json_option
def show(
    model: str,
    on: date | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Show every rate of MODEL, such as o3 or openai/o3, with its history."""
    book = _book(config)
    provider, _, name = model.rpartition("/")
    if on is not None:
        at_ms = _noon_ms(on)
        owners = sorted({owner for owner, _ in book.models if provider in ("", owner)})
        found = [each for owner in owners if (each := book.find(owner, name, at_ms))]
    else:
        found = [
            each for each in book.prices() if each.model == name and provider in ("", each.provider)
        ]
    if not found:
        raise NotFound(f"The price book has no {model[:100]!r}; merino prices list shows all")
    found.sort(key=lambda each: (each.provider, each.tier or "", each.valid_from))
    if is_shown():
        found.sort(key=lambda each: each.provider in _CLAIMED)
    if as_json:
        print_json({"data": [_price_object(each) for each in found]})
        return
    for number, each in enumerate(found):
        if number:
            write("")
        print_fields((name, value) for name, value in _price_object(each).items() if value)


@command.command("diff")
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--from", "before", type=Day(), help="Compare the prices of this day ...")
@click.option("--to", "after", type=Day(), help="... with those of this one; today if left out.")
@config_option
@unread_data_option
@json_option
def diff(
    files: tuple[Path, ...],
    before: date | None,
    after: date | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """What FILES would change in the price book, or what changed between two days."""
    from merino.pricing.changes import moment_changes, row_changes

    book = _book(config)
    if before is not None:
        today = datetime.now(UTC).date()
        changes = moment_changes(
            book, _noon_ms(before), _book(config, files), _noon_ms(after or today)
        )
    elif files and after is None:
        changes = row_changes(book, _book(config, files))
    else:
        raise click.UsageError("Give price files, or --from.", click.get_current_context())
    _print_changes(changes, as_json)


@command.command("import")
@click.argument("source", type=click.Choice(["genai-prices"]))
@click.option("--provider", "providers", multiple=True, help="Of this provider; may be repeated.")
@click.option("--on", type=Day(), help="Prices of this day; today if left out.")
@click.option("--known-only", is_flag=True, help="Leave out models the price book does not have.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the proposed rows to this price file.",
)
@config_option
@unread_data_option
@json_option
def import_prices(
    source: str,  # noqa: ARG001 - there is one so far
    providers: tuple[str, ...],
    on: date | None,
    known_only: bool,
    output: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Compare the price book with a library's data and propose what differs.

    Nothing is changed: --output writes a file to review, and to name in [prices] files.
    """
    from merino.pricing.genai import propose

    proposal = propose(
        _book(config),
        providers or ("anthropic", "deepseek", "gemini", "openai"),
        on or datetime.now(UTC).date(),
        with_new=not known_only,
    )
    if output is not None:
        output.write_text(proposal.toml(), encoding="utf-8")
    _print_changes(proposal.changes, as_json)
    if output is not None and not as_json:
        write(f"{len(proposal.entries)} rows written to {output}")


@command.command("check")
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--strict", is_flag=True, help="Exit code 1 if anything is worth a look.")
@config_option
@unread_data_option
@json_option
def check(
    files: tuple[Path, ...],
    strict: bool,
    config: Path | None,
    as_json: bool,
) -> int:
    """Read the price book, and FILES, as a relay would; name what is rarely meant.

    Where genai-prices is installed, the packaged prices of today are compared with its own;
    differences that are meant are listed in pricing/accepted.toml. Exit code 2 if something cannot
    be read, with file, line, key and value.
    """
    from merino.domain.errors import Misconfigured
    from merino.pricing.book import PriceBook
    from merino.pricing.changes import doubts
    from merino.pricing.genai import disagreements

    book = _book(config, files)
    own = _book(config, files, packaged=False) if files else book
    found = list(doubts(own))
    rows = sum(1 for _ in book.prices())
    differ: tuple[Change, ...] = ()
    not_compared = ""
    try:
        # What an operator has set differs on purpose.
        differ = disagreements(PriceBook.load(), datetime.now(UTC).date())
    except Misconfigured as error:
        not_compared = error.message
    if as_json:
        print_json(
            {
                "rows": rows,
                "doubts": [{"price": each.price_id, "why": each.why} for each in found],
                "differences": None if not_compared else [str(each) for each in differ],
            }
        )
    else:
        for each in found:
            write(f"{each.price_id}: {each.why}")
        for each in differ:
            write(f"genai-prices says otherwise: {each}")
        write(f"{rows} prices of {len(book.models)} models can be read; {len(found)} worth a look")
        if not_compared:
            write(f"not compared with genai-prices: {not_compared}")
        else:
            write(f"{len(differ)} differences from genai-prices beyond those that are meant")
    return DIFFERENCES_EXIT if strict and (found or differ) else 0


def _book(config: Path | None, files: tuple[Path, ...] = (), *, packaged: bool = True) -> PriceBook:
    from merino.pricing.book import PriceBook
    from merino.settings import load

    prices = load(config_path(config), os.environ, needs_secrets=False).prices
    configured = prices.files if packaged else ()
    return PriceBook.load(
        (*configured, *files), account_factor=prices.markup.factor, packaged=packaged
    )


def _noon_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp() * 1000)


def _price_object(price: Price) -> dict[str, Any]:
    from merino.domain.money import format_nanos
    from merino.pricing.changes import RATE_NAMES
    from merino.pricing.price import PPM

    shown: dict[str, Any] = {
        "id": price.id,
        "provider": price.provider,
        "model": price.model,
        "valid_from": price.valid_from.isoformat(),
        "tier": price.tier,
        "source": price.source,
        "account_factor": f"{price.account_ppm / PPM:g}",
    }
    sides = [("", price.upstream)]
    if price.account is not price.upstream:
        sides.append(("account_", price.account))
    for prefix, rates in sides:
        for name in RATE_NAMES:
            shown[prefix + name] = format_nanos(getattr(rates, name))
        if rates.per_call_nanos:
            shown[f"{prefix}per_call"] = format_nanos(rates.per_call_nanos)
        for unit, rate in rates.units:
            shown[f"{prefix}{unit}"] = format_nanos(rate)
        for above, step in rates.steps:
            shown[f"{prefix}above_{above}"] = (
                f"input {format_nanos(step.input)}, cached {format_nanos(step.cached)}, "
                f"output {format_nanos(step.output)}"
            )
    if (hours := _hours(price)) is not None:
        shown["hours_utc"] = hours
    return shown


def _hours(price: Price) -> str | None:
    """When it is the price, if not always."""
    if price.hours_utc is None:
        return None
    start, end = (f"{minute // 60:02d}:{minute % 60:02d}" for minute in price.hours_utc)
    return f"{start}-{end}" + (" on weekdays" if price.weekdays_only else "")


def _print_changes(changes: list[Change] | tuple[Change, ...], as_json: bool) -> None:
    from merino.domain.money import format_nanos

    def amount(nanos: int | None) -> str | None:
        return None if nanos is None else format_nanos(nanos)

    rows = [
        {
            "change": each.kind,
            "price": each.price_id,
            "rate": each.rate or None,
            "before": amount(each.before_nanos),
            "after": amount(each.after_nanos),
        }
        for each in changes
    ]
    if as_json:
        print_json({"data": rows})
        return
    print_table(rows, _CHANGES, empty="no differences")
