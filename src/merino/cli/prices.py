"""`merino prices`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from merino.cli.options import config_option, config_path, data_option, json_option
from merino.cli.output import Column, print_json, print_table

_COLUMNS = (
    Column("PROVIDER", "provider"),
    Column("MODEL", "model"),
    Column("SINCE", "valid_from"),
    Column("TIER", "tier"),
    Column("INPUT", "input", is_number=True),
    Column("CACHED", "cached", is_number=True),
    Column("OUTPUT", "output", is_number=True),
    Column("FACTOR", "account_factor", is_number=True),
)


@click.group("prices")
def command() -> None:
    """Look at the price book."""


@command.command("list")
@click.option("--provider", help="Only of this provider.")
@click.option("--model", help="Only models whose name has this in it.")
@config_option
@data_option
@json_option
def list_prices(
    provider: str | None,
    model: str | None,
    config: Path | None,
    data: Path,  # noqa: ARG001 - every command takes --data
    as_json: bool,
) -> None:
    """List what upstreams charge per million tokens, and the factor accounts pay of it."""
    from merino.domain.money import format_nanos
    from merino.pricing.book import PPM, PriceBook
    from merino.settings import load

    settings = load(config_path(config), os.environ)
    book = PriceBook.load(settings.prices.files, account_factor=settings.prices.markup.factor)
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
    print_table(rows, _COLUMNS, empty="no prices")
