"""`merino sla`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from merino.cli.naming import name_one, name_rows
from merino.cli.output import Column, with_currency, write
from merino.cli.resource import add, table
from merino.operations import sla


def _amount(name: str) -> Callable[[Mapping[str, Any]], str | None]:
    return lambda row: with_currency(row[name], row.get("currency"))


_COLUMNS = (
    Column("ACCOUNT", lambda row: row.get("account", row["account_id"])),
    Column("MONTH", "month", whole=True),
    Column("CALLS", "calls", is_number=True),
    Column("FAILED", "failed", is_number=True, spare=1),
    Column(
        "ANSWERED",
        lambda row: (
            "-" if row["answered_share"] is None else f"{row['answered_share'] * 100:.3f} %"
        ),
        is_number=True,
    ),
    Column("SPENT", _amount("spent"), is_number=True),
    Column("DUE", _amount("due"), is_number=True),
    Column("CREDITED", _amount("credited"), is_number=True),
)


@click.group("sla")
def command() -> None:
    """The service level of a month, and what a missed one gives back."""


add(
    command,
    "show",
    sla.show_sla,
    table(_COLUMNS, "no calls in this month"),
    "Show what each account got of a month, the worst first.",
    options={"month": "Such as 2026-11; left out: this month."},
    adds=name_rows,
)
add(
    command,
    "confirm",
    sla.confirm_sla,
    lambda level: write(
        f"{_amount('credited')(level)} given back to {level.get('account', level['account_id'])}"
    ),
    "Give ACCOUNT back what MONTH is worth, once, after it has ended.",
    arguments=("account", "month"),
    adds=name_one,
)
