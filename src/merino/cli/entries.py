"""`merino entries`."""

from __future__ import annotations

import click

from merino.cli.options import PERIOD
from merino.cli.output import Column, moment
from merino.cli.resource import add, table
from merino.operations import entries

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


add(
    command,
    "list",
    entries.list_entries,
    table(_COLUMNS, "no entries"),
    "List ledger entries, the newest first.",
    options={
        "account": "Only this account's: name or id.",
        "call": "Only this call's.",
        "kind": "Only of this kind.",
        **PERIOD,
    },
)
