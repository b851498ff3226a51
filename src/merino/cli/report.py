"""`merino report`."""

from __future__ import annotations

from pathlib import Path

import click

from merino.cli.connection import with_admin
from merino.cli.options import admin_options, period_options
from merino.cli.output import Column, in_dollars, in_own_currency, print_json, print_table

_SUMS = (
    Column("CALLS", "calls", is_number=True),
    Column("FAILED", "failed", is_number=True),
    Column("INPUT", "input_tokens", is_number=True),
    Column("OUTPUT", "output_tokens", is_number=True),
    Column("REASONING", "reasoning_tokens", is_number=True),
    Column("CHARGED", in_own_currency("charged"), is_number=True),
    Column("OVERRUN", in_own_currency("overrun"), is_number=True),
    Column("CURRENCY", "currency"),
    Column("UPSTREAM", in_dollars("upstream"), is_number=True),
)


@click.command("report")
@click.option(
    "--by",
    type=click.Choice(["day", "alias", "key", "account"]),
    default="day",
    show_default=True,
    help="What to sum up by.",
)
@period_options
@admin_options
def command(by: str, since: str | None, until: str | None, data: Path, as_json: bool) -> None:
    """Sum calls up by day (UTC), alias, key or account."""
    query = {"by": by, "since": since, "until": until}
    report = with_admin(data, lambda admin: admin.ask("GET", "/reports", query=query))
    if as_json:
        print_json(report)
        return
    print_table(report["data"], (Column(by.upper(), "name"), *_SUMS), empty="no calls")
