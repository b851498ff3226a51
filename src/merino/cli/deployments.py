"""`merino deployments`."""

from __future__ import annotations

from pathlib import Path

import click

from merino.cli.connection import with_admin
from merino.cli.options import admin_options
from merino.cli.output import Column, print_json, print_table

_COLUMNS = (
    Column("NAME", "name"),
    Column("PROVIDER", "provider"),
    Column("BASE URL", lambda row: row["base_url"] or "built in"),
    Column("UPSTREAM MODEL", "upstream_model"),
    Column("CREDENTIAL", "has_credential"),
)


@click.group("deployments")
def command() -> None:
    """Look at where calls go."""


@command.command("list")
@admin_options
def list_deployments(data: Path, as_json: bool) -> None:
    """List deployments; of a running relay its own, else those of this environment."""
    found = with_admin(data, lambda admin: admin.ask("GET", "/deployments"))
    if as_json:
        print_json(found)
        return
    print_table(found["data"], _COLUMNS, empty="no deployments")
