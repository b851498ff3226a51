"""`merino report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
from click.shell_completion import CompletionItem

from merino.cli.columns import Column
from merino.cli.connection import with_admin
from merino.cli.options import (
    MOMENT,
    PERIOD,
    admin_options,
    given,
    month_option,
    within_month,
)
from merino.cli.output import in_dollars, in_own_currency, print_json, print_table
from merino.cli.sorting import By, sort_rows
from merino.control.ports import ReportBy

GROUPS: tuple[str, ...] = get_args(ReportBy)
_SUMS = (
    Column("CALLS", "calls", is_number=True, total="calls"),
    Column("FAILED", "failed", is_number=True, total="failed"),
    Column("INPUT", "input_tokens", is_number=True, total="input_tokens", spare=2),
    Column("OUTPUT", "output_tokens", is_number=True, total="output_tokens", spare=2),
    Column("REASONING", "reasoning_tokens", is_number=True, total="reasoning_tokens", spare=4),
    Column("CHARGED", in_own_currency("charged"), is_number=True, total="charged_nanos"),
    Column("OVERRUN", in_own_currency("overrun"), is_number=True, total="overrun_nanos", spare=3),
    Column("CURRENCY", "currency", only="pipes"),
    Column(
        "UPSTREAM",
        in_dollars("upstream"),
        is_number=True,
        total="upstream_nanos",
        currency="USD",
        spare=1,
    ),
)
_NAMED = (*(Column(each.upper(), "name") for each in GROUPS), *_SUMS)


class Groups(click.ParamType[list[str]]):
    """One of them, or two by a comma: the second within the first."""

    name = "|".join(GROUPS)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        groups = [each.strip() for each in str(value).split(",")]
        for each in groups:
            if each not in GROUPS:
                self.fail(f"{each!r} is not one of {', '.join(GROUPS)}", param, ctx)
        if not 0 < len(groups) <= 2 or len(set(groups)) < len(groups):
            self.fail(f"{value!r}: give one, or two different ones such as key,alias", param, ctx)
        return groups

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(each) for each in GROUPS]


@click.command("report")
@click.option(
    "--by",
    type=Groups(),
    default="day",
    show_default=True,
    help="What to sum up by; two by a comma, such as key,alias: the second within the first.",
)
@month_option
@click.option("--since", type=MOMENT, help=PERIOD["since"])
@click.option("--until", type=MOMENT, help=PERIOD["until"])
@click.option("--currency", help="Only of accounts in this currency: USD, EUR or CNY.")
@click.option(
    "--sort",
    type=By(_NAMED),
    help=f"Sort by a column, numbers the largest first: {', '.join(By(_NAMED).names)}.",
)
@admin_options
def command(
    *,
    by: list[str],
    month: tuple[str, str] | None,
    since: str | None,
    until: str | None,
    currency: str | None,
    sort: tuple[Column, bool] | None,
    data: Path,
    as_json: bool,
) -> None:
    """Sum calls up by day (UTC), alias, key or account, by end user, tag or pair of metadata, or by
    two of them.

    Charged is what accounts paid, upstream what providers charge (in dollars); an overrun is what
    a call cost above what was held for it. Sums of different currencies are never added up.
    """
    since, until = within_month(month, since, until)
    query = given(
        {"by": by[0], "then_by": by[1] if len(by) == 2 else None, "since": since, "until": until}
    )
    found = with_admin(data, lambda admin: admin.ask("GET", "/reports", query=query))
    if currency is not None:
        wanted = currency.upper()
        found["data"] = [row for row in found["data"] if row["currency"] == wanted]
    if sort is not None:
        _sort(found["data"], sort, by)
    if as_json:
        print_json(found)
        return
    groups = [
        Column(by[0].upper(), "name"),
        *(Column(each.upper(), "then_name") for each in by[1:]),
    ]
    print_table(found["data"], (*groups, *_SUMS), empty="no calls")


def _sort(rows: list[dict[str, Any]], sort: tuple[Column, bool], by: list[str]) -> None:
    column, is_falling = sort
    group = column.title.lower()
    if group in GROUPS:
        if group not in by:
            raise click.UsageError(
                f"--sort {group}: this report is by {' and '.join(by)}.",
                click.get_current_context(),
            )
        column = Column(column.title, "name" if group == by[0] else "then_name")
    sort_rows(rows, (column, is_falling))
