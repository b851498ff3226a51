"""`merino deployments`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from merino.cli.connection import with_admin
from merino.cli.options import admin_options
from merino.cli.output import Column, print_json, print_table


def _state(row: Mapping[str, Any]) -> str:
    state = row["state"]
    if state is None:
        return "no relay is running"
    if state["drained"]:
        return "drained"
    if state["breaker"] != "closed":
        return f"breaker {state['breaker'].replace('_', ' ')}: {state['reason']}"
    return "in use" if state["usable_in_s"] == 0 else f"usable in {state['usable_in_s']:g} s"


_COLUMNS = (
    Column("NAME", "name"),
    Column("PROVIDER", "provider"),
    Column("BASE URL", lambda row: row["base_url"] or "built in"),
    Column("UPSTREAM MODEL", "upstream_model"),
    Column("CREDENTIAL", "has_credential"),
    Column("STATE", _state),
    Column("IN FLIGHT", lambda row: row["state"]["in_flight"] if row["state"] else ""),
)


@click.group("deployments")
def command() -> None:
    """Look at where calls go, and keep them away from there."""


@command.command("list")
@admin_options
def list_deployments(data: Path, as_json: bool) -> None:
    """List deployments; of a running relay its own, else those of this environment."""
    found = with_admin(data, lambda admin: admin.ask("GET", "/deployments"))
    if as_json:
        print_json(found)
        return
    print_table(found["data"], _COLUMNS, empty="no deployments")


@command.command("drain")
@click.argument("name")
@admin_options
def drain(name: str, data: Path, as_json: bool) -> None:
    """Send a deployment no new calls; those that run finish. Lasts until the relay stops."""
    _drain(name, data, as_json, is_drained=True)


@command.command("undrain")
@click.argument("name")
@admin_options
def undrain(name: str, data: Path, as_json: bool) -> None:
    """Send a drained deployment calls again."""
    _drain(name, data, as_json, is_drained=False)


def _drain(name: str, data: Path, as_json: bool, *, is_drained: bool) -> None:
    body = {"name": name, "drained": is_drained}
    found = with_admin(data, lambda admin: admin.ask("POST", "/deployments/drain", body=body))
    if as_json:
        print_json(found)
        return
    print_table([found], _COLUMNS, empty="")
