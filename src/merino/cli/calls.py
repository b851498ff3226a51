"""`merino calls`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from merino.cli.columns import Column
from merino.cli.naming import name_one, name_rows
from merino.cli.options import PERIOD
from merino.cli.output import moment, print_fields, print_table, with_currency
from merino.cli.resource import add, table
from merino.operations import calls


def _charged(row: Mapping[str, Any]) -> str | None:
    return with_currency(row["charged"], row.get("currency"))


_COLUMNS = (
    Column("TIME", lambda row: moment(row["at"]), whole=True),
    Column("ID", "id", whole=True, spare=2),
    Column("KEY", lambda row: row.get("key", row["key_id"]), spare=1, only="terminals"),
    Column("ACCOUNT", lambda row: row.get("account", row["account_id"]), spare=3, only="terminals"),
    Column("ALIAS", "alias"),
    Column("STATUS", "status", is_number=True),
    Column("ERROR", "error_code"),
    Column("INPUT", "input_tokens", is_number=True, total="input_tokens", spare=4),
    Column("OUTPUT", "output_tokens", is_number=True, total="output_tokens", spare=4),
    Column("CHARGED", "charged", is_number=True, only="pipes"),
    Column("CHARGED", _charged, is_number=True, total="charged_nanos", only="terminals"),
    Column("MS", "duration_ms", is_number=True),
    Column("DEPLOYMENT", "deployment", spare=2),
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


def _show_running(found: dict[str, Any]) -> None:
    print_table(found["data"], _RUNNING_COLUMNS, empty="no calls run now")
    if found["running"] > len(found["data"]):
        click.echo(f"{found['running']} run now; --limit shows more of them")


_IN_CURRENCY = frozenset(("charged", "overrun", "held"))


def _signed(name: str, value: Any, currency: str | None) -> Any:
    """With the account's currency, where it was looked up: at a terminal."""
    if currency is None:
        return value
    return with_currency(value, currency) if name in _IN_CURRENCY else value


def _show(record: dict[str, Any]) -> None:
    attempts: list[dict[str, Any]] = record["attempts"]
    doubled = {name for name in record if name.endswith("_nanos")} | {"attempts"}
    print_fields(
        (name.replace("_", " "), _signed(name, value, record.get("currency")))
        for name, value in record.items()
        if name not in doubled
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


add(
    command,
    "list",
    calls.list_calls,
    table(_COLUMNS, "no calls"),
    "List calls, the newest first.",
    options={
        "account": "Only this account's: name or id.",
        "key": "Only this key's: name or id.",
        "alias": "Only of this model.",
        "status": "Only with this HTTP status.",
        "resolution": "Only whose hold ended so.",
        "user": "Only of this end user, as the call's body said.",
        "tag": "Only with this tag of x-merino-tags.",
        "metadata": "Only with this pair of metadata: NAME=VALUE.",
        **PERIOD,
    },
    adds=name_rows,
)
add(
    command,
    "running",
    calls.list_running_calls,
    _show_running,
    "List the calls that run now, the oldest first.",
    options={
        "account": "Only this account's: name or id.",
        "limit": {"default": 50, "show_default": True, "help": "How many to show at most."},
    },
)
add(
    command,
    "show",
    calls.show_call,
    _show,
    "Show a call, by its id: the answer's x-request-id.",
    adds=name_one,
)
