"""`merino deployments`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from merino.cli.columns import Column
from merino.cli.connection import with_admin
from merino.cli.options import LIMITS, data_option, json_option
from merino.cli.output import print_table, write
from merino.cli.resource import Options, add, table
from merino.operations import additions
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
    Column("NAME", "name", whole=True),
    Column("PROVIDER", "provider"),
    Column("BASE URL", lambda row: row["base_url"] or "built in", spare=2),
    Column("UPSTREAM MODEL", "upstream_model"),
    Column("CREDENTIAL", "has_credential", spare=1),
    Column("SOURCE", "source", spare=3),
    Column("STATE", _state),
    Column("IN FLIGHT", _in_flight, only="pipes"),
    Column("IN FLIGHT", _in_flight, is_number=True, only="terminals"),
)


@click.group("deployments")
def command() -> None:
    """Look at where calls go, add to it, and keep calls away from there."""


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


TERMS: Options = {
    "provider": "The dialect: openai for every OpenAI-compatible server, or anthropic.",
    "base_url": "Where it is, with the version: https://api.example.com/v1.",
    "credential": "Where the provider's API key is: env:NAME, never the key itself.",
    "upstream_model": "The provider's name of the model; as NAME if left out.",
    "price_model": "The name looked up in the price book; as --upstream-model if left out.",
    "price_input": "What it charges per million input tokens, in dollars.",
    "price_cached": "The same of input tokens read from its cache.",
    "price_output": "The same of output tokens.",
    "account_price_input": "What accounts pay per million input tokens, instead.",
    "account_price_cached": "The same of input tokens read from the cache.",
    "account_price_output": "The same of output tokens.",
    "headers": {"flags": "--header", "help": "A header to add, as 'Name: value'; repeatable."},
    "weight": "Its share of the calls under the policy weighted.",
    "endpoints": {"flags": "--endpoint", "help": "An API it has; repeatable. None: learned."},
    "output_limit_names": "Under which names it is sent the output limit.",
    "on_disconnect": "When the caller hangs up: cancel, or drain for the exact usage.",
    "first_token_timeout_s": "Longest wait for a stream's first content, in seconds.",
    "answer_timeout_s": "Longest wait for an answer that is not streamed, in seconds.",
    "idle_timeout_s": "Longest silence in mid-stream, in seconds.",
    "health_check_s": "Ask its model list this often, in seconds; 0: never.",
    "adaptive_concurrency": {
        "flags": "--adaptive-concurrency/--fixed-concurrency",
        "help": "Find the number of calls in flight that it bears.",
    },
    "image_tokens_max": "The most LLM tokens that it bills for one picture.",
    "file_tokens_max": "The most LLM tokens that it bills for one document.",
    **LIMITS,
}


def _show(found: dict[str, Any]) -> None:
    print_table([found], _COLUMNS)


def removed(found: dict[str, Any]) -> None:
    write(f"removed {found['name']}")


def _tried(found: dict[str, Any]) -> None:
    if found["error"] is not None:
        raise click.ClickException(
            f"{found['name']} did not answer (status {found['status']}): {found['error']}"
        )
    write(f"{found['name']} answered in {found['took_ms']:,.0f} ms")


add(
    command,
    "create",
    additions.create_deployment,
    _show,
    "Add a deployment beside those of the settings file: in force at once, and kept.",
    arguments=("name",),
    options=TERMS,
)
add(
    command,
    "update",
    additions.update_deployment,
    _show,
    "Change a deployment that was added. `none` takes the default; what is not named stays.",
    arguments=("name",),
    options=TERMS,
)
add(
    command,
    "remove",
    additions.remove_deployment,
    removed,
    "Remove a deployment that was added. Calls that run there go on.",
    arguments=("name",),
)
add(
    command,
    "test",
    additions.test_deployment,
    _tried,
    "Send a deployment a short call.",
    arguments=("name",),
    options={"key": {"required": True, "help": "Who pays for it: a key's name or id."}},
)


@command.command("export")
@click.option(
    "--format",
    "form",
    type=click.Choice(["toml", "json"]),
    default="toml",
    show_default=True,
    help="TOML is a part of a settings file.",
)
@data_option
@json_option
def export(form: str, data: Path, as_json: bool) -> None:
    """Write the deployments and aliases that were added, as a settings file would say them.

    `--json` is `--format json`."""
    query = {"format": "json" if as_json else form}
    stream = sys.stdout.buffer
    with_admin(data, lambda admin: admin.download("/additions/export", query, stream.write))
    stream.flush()
