"""`merino entries`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from merino.cli.columns import Column
from merino.cli.naming import name_rows
from merino.cli.options import PERIOD
from merino.cli.output import moment, with_currency
from merino.cli.resource import add, table
from merino.operations import entries


def _amount(row: Mapping[str, Any]) -> str | None:
    return with_currency(row["amount"], row.get("currency"))


_COLUMNS = (
    Column("ID", "id", is_number=True, spare=2),
    Column("TIME", lambda row: moment(row["at"]), whole=True),
    Column("KIND", "kind", whole=True),
    Column("FROM", "debit_account"),
    Column("TO", "credit_account"),
    Column("AMOUNT", "amount", is_number=True, only="pipes"),
    Column("AMOUNT", _amount, is_number=True, only="terminals"),
    Column("CALL", "call_id", whole=True, spare=3),
    Column("MEMO", "memo", spare=1),
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
    adds=name_rows,
)
