"""`merino ledger`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from merino.cli.columns import Column
from merino.cli.connection import with_admin
from merino.cli.options import admin_options, data_option, json_option
from merino.cli.output import print_json, print_table, write

DIFFERENCES_EXIT = 1


@click.group("ledger")
def command() -> None:
    """Verify and export the books."""


@command.command("verify")
@admin_options
def verify(data: Path, as_json: bool) -> int:
    """Recompute every balance from the entries; exit code 1 if anything differs."""
    result = with_admin(data, lambda admin: admin.ask("GET", "/ledger/verify"))
    if as_json:
        print_json(result)
    else:
        if result["differences"]:
            columns = (
                Column("WHAT", "what"),
                Column("EXPECTED", "expected", is_number=True),
                Column("ACTUAL", "actual", is_number=True),
            )
            print_table(result["differences"], columns)
        verdict = "the books balance" if result["ok"] else "the books do not balance"
        write(f"{result['entries']} entries of {result['accounts']} accounts: {verdict}")
    return 0 if result["ok"] else DIFFERENCES_EXIT


@command.command("export")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl"]),
    default="jsonl",
    show_default=True,
    help="One entry a line, either way.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="A file to write, instead of standard output.",
)
@data_option
@json_option
def export(form: str, output: Path | None, data: Path, as_json: bool) -> None:
    """Write every ledger entry, the oldest first. `--json` is `--format jsonl`."""
    query = {"format": "jsonl" if as_json else form}
    if output is None:
        stream = sys.stdout.buffer
        with_admin(data, lambda admin: admin.download("/ledger/export", query, stream.write))
        stream.flush()
        return
    with output.open("wb") as file:
        with_admin(data, lambda admin: admin.download("/ledger/export", query, file.write))
