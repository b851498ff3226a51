"""`merino sla`."""

from __future__ import annotations

import click

from merino.cli.output import Column, write
from merino.cli.resource import add, table
from merino.operations import sla

_COLUMNS = (
    Column("ACCOUNT", "account_id"),
    Column("MONTH", "month"),
    Column("CALLS", "calls", is_number=True),
    Column("FAILED", "failed", is_number=True),
    Column(
        "ANSWERED",
        lambda row: (
            "-" if row["answered_share"] is None else f"{row['answered_share'] * 100:.3f} %"
        ),
        is_number=True,
    ),
    Column("SPENT", "spent", is_number=True),
    Column("DUE", "due", is_number=True),
    Column("CREDITED", "credited", is_number=True),
)


@click.group("sla")
def command() -> None:
    """The service level of a month, and what a missed one gives back."""


def _show(found: dict[str, object]) -> None:
    table(_COLUMNS, "no calls in this month")({**found, "next_cursor": None})


add(
    command,
    "show",
    sla.show_sla,
    _show,
    "Show what each account got of a month, the worst first.",
    options={"month": "Such as 2026-11; left out: this month."},
)
add(
    command,
    "confirm",
    sla.confirm_sla,
    lambda level: write(f"{level['credited']} given back to {level['account_id']}"),
    "Give ACCOUNT back what MONTH is worth, once, after it has ended.",
    arguments=("account", "month"),
)
