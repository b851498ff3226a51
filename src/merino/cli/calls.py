"""`merino calls`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from merino.cli.connection import path_of, with_admin
from merino.cli.options import admin_options, page_options, period_options
from merino.cli.output import (
    Column,
    moment,
    print_fields,
    print_json,
    print_page_end,
    print_table,
)
from merino.domain.ledger import Resolution

_COLUMNS = (
    Column("TIME", lambda row: moment(row["at"])),
    Column("ID", "id"),
    Column("ALIAS", "alias"),
    Column("STATUS", "status", is_number=True),
    Column("ERROR", "error_code"),
    Column("INPUT", "input_tokens", is_number=True),
    Column("OUTPUT", "output_tokens", is_number=True),
    Column("CHARGED", "charged", is_number=True),
    Column("MS", "duration_ms", is_number=True),
    Column("DEPLOYMENT", "deployment"),
)


_RUNNING_COLUMNS = (
    Column("TIME", lambda row: moment(row["at"])),
    Column("ID", "id"),
    Column("ALIAS", "alias"),
    Column("STAGE", lambda row: row["stage"].replace("_", " ")),
    Column("MS", "duration_ms", is_number=True),
    Column("FAILED ATTEMPTS", "attempts", is_number=True),
    Column("DEPLOYMENT", "deployment"),
)


@click.group("calls")
def command() -> None:
    """Look at calls."""


@command.command("list")
@click.option("--account", help="Only this account's: name or id.")
@click.option("--key", help="Only this key's: name or id.")
@click.option("--alias", help="Only of this model.")
@click.option("--status", type=click.IntRange(100, 599), help="Only with this HTTP status.")
@click.option(
    "--resolution",
    type=click.Choice(get_args(Resolution)),
    help="Only whose hold ended so.",
)
@period_options
@page_options
@admin_options
def list_calls(
    limit: int, cursor: str | None, data: Path, as_json: bool, **wanted: str | int | None
) -> None:
    """List calls, the newest first."""
    page = with_admin(
        data, lambda admin: admin.list("/calls", query=wanted, limit=limit, cursor=cursor)
    )
    if as_json:
        print_json(page)
        return
    print_table(page["data"], _COLUMNS, empty="no calls")
    print_page_end(page)


@command.command("running")
@click.option("--account", help="Only this account's: name or id.")
@click.option(
    "--limit",
    type=click.IntRange(1, 500),
    default=50,
    show_default=True,
    help="How many to show at most.",
)
@admin_options
def running(account: str | None, limit: int, data: Path, as_json: bool) -> None:
    """List the calls that run now, the oldest first."""
    query = {"account": account, "limit": limit}
    found = with_admin(data, lambda admin: admin.ask("GET", "/calls/running", query=query))
    if as_json:
        print_json(found)
        return
    print_table(found["data"], _RUNNING_COLUMNS, empty="no calls run now")
    if found["running"] > len(found["data"]):
        click.echo(f"{found['running']} run now; --limit shows more of them")


@command.command("show")
@click.argument("call")
@admin_options
def show(call: str, data: Path, as_json: bool) -> None:
    """Show a call, by its id: the answer's x-request-id."""
    path = path_of("calls", call)
    record = with_admin(data, lambda admin: admin.ask("GET", path))
    if as_json:
        print_json(record)
        return
    attempts: list[dict[str, Any]] = record["attempts"]
    doubled = {name for name in record if name.endswith("_nanos")} | {"attempts"}
    print_fields(
        (name.replace("_", " "), value) for name, value in record.items() if name not in doubled
    )
    columns = (
        Column("ATTEMPT", "deployment"),
        Column("OUTCOME", "outcome"),
        Column("STATUS", "status", is_number=True),
        Column("BEGAN MS", "started_ms", is_number=True),
        Column("MS", "duration_ms", is_number=True),
        Column("SAID", "message"),
        Column("NEXT", "reason_for_next"),
        Column("UPSTREAM", "upstream", is_number=True),
    )
    print_table(attempts, columns, empty="no attempts")
