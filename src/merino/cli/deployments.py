"""`merino deployments`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import click

from merino.cli.columns import Column
from merino.cli.output import print_table
from merino.cli.resource import add, table
from merino.operations.deployments import drain_deployment, list_deployments


def _state(row: Mapping[str, Any]) -> str:
    state = row["state"]
    if state is None:
        return "no relay is running"
    if state["drained"]:
        return "drained"
    if state["breaker"] != "closed":
        return f"breaker {state['breaker'].replace('_', ' ')}: {state['reason']}"
    return "in use" if state["usable_in_s"] == 0 else f"usable in {state['usable_in_s']:g} s"


def _in_flight(row: Mapping[str, Any]) -> Any:
    return row["state"]["in_flight"] if row["state"] else ""


_COLUMNS = (
    Column("NAME", "name"),
    Column("PROVIDER", "provider"),
    Column("BASE URL", lambda row: row["base_url"] or "built in", spare=2),
    Column("UPSTREAM MODEL", "upstream_model"),
    Column("CREDENTIAL", "has_credential", spare=1),
    Column("STATE", _state),
    Column("IN FLIGHT", _in_flight, only="pipes"),
    Column("IN FLIGHT", _in_flight, is_number=True, only="terminals"),
)


@click.group("deployments")
def command() -> None:
    """Look at where calls go, and keep them away from there."""


def _with(said: dict[str, Any], *, drained: bool) -> dict[str, Any]:
    return {**said, "drained": drained}


add(
    command,
    "list",
    list_deployments,
    table(_COLUMNS, "no deployments"),
    "List deployments; of a running relay its own, else those of this environment.",
)
for _name, _drained, _doc in (
    (
        "drain",
        True,
        "Send a deployment no new calls; those that run finish. Lasts until the relay stops.",
    ),
    ("undrain", False, "Send a drained deployment calls again."),
):
    add(
        command,
        _name,
        drain_deployment,
        lambda found: print_table([found], _COLUMNS),
        _doc,
        arguments=("name",),
        adapt=partial(_with, drained=_drained),
    )
