"""`merino report`."""

from __future__ import annotations

from typing import Any

from merino.cli.options import PERIOD
from merino.cli.output import Column, in_dollars, in_own_currency, print_table
from merino.cli.resource import made
from merino.operations.entries import report

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


def _show(found: dict[str, Any]) -> None:
    columns = (Column(found["by"].upper(), "name"), *_SUMS)
    print_table(found["data"], columns, empty="no calls")


command = made(
    "report",
    report,
    _show,
    "Sum calls up by day (UTC), alias, key or account.",
    options={
        "by": {"default": "day", "show_default": True, "help": "What to sum up by."},
        **PERIOD,
    },
)
