"""`merino entries`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from merino.cli.connection import with_admin
from merino.cli.options import admin_options, page_options, period_options
from merino.cli.output import Column, moment, print_json, print_page_end, print_table
from merino.domain.ledger import EntryKind

_COLUMNS = (
    Column("ID", "id", is_number=True),
    Column("TIME", lambda row: moment(row["at"])),
    Column("KIND", "kind"),
    Column("FROM", "debit_account"),
    Column("TO", "credit_account"),
    Column("AMOUNT", "amount", is_number=True),
    Column("CALL", "call_id"),
    Column("MEMO", "memo"),
)


@click.group("entries")
def command() -> None:
    """Look at ledger entries."""


@command.command("list")
@click.option("--account", help="Only this account's: name or id.")
@click.option("--call", help="Only this call's.")
@click.option("--kind", type=click.Choice(get_args(EntryKind)), help="Only of this kind.")
@period_options
@page_options
@admin_options
def list_entries(
    limit: int, cursor: str | None, data: Path, as_json: bool, **wanted: str | None
) -> None:
    """List ledger entries, the newest first."""
    page = with_admin(
        data, lambda admin: admin.list("/entries", query=wanted, limit=limit, cursor=cursor)
    )
    if as_json:
        print_json(page)
        return
    print_table(page["data"], _COLUMNS, empty="no entries")
    print_page_end(page)
