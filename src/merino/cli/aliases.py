"""`merino aliases`."""

from __future__ import annotations

from typing import Any

import click

from merino.cli.columns import Column
from merino.cli.deployments import removed
from merino.cli.options import LIMITS
from merino.cli.output import print_table
from merino.cli.resource import Options, add, table
from merino.operations import additions

_COLUMNS = (
    Column("NAME", "name"),
    Column("DEPLOYMENTS", lambda row: ", ".join(row["deployments"])),
    Column("OUTPUT MAX", "output_tokens_max", is_number=True, spare=2),
    Column("CONTEXT MAX", "context_tokens_max", is_number=True, spare=3),
    Column("POLICY", "selection_policy", spare=4),
    Column("SOURCE", "source", spare=1),
)
_TERMS: Options = {
    "deployments": {
        "flags": "--deployment",
        "help": "A deployment, the first choice first; repeatable.",
    },
    "output_tokens_max": "Most output tokens of one answer.",
    "context_tokens_max": "Most input and output tokens together.",
    "reasoning": {"flags": "--reasoning/--no-reasoning", "help": "It thinks before it answers."},
    "timeout_s": "How long one call may take in all, in seconds.",
    "selection_policy": "In which order its deployments are tried.",
    "fallbacks": {
        "flags": "--fallback",
        "help": "An alias whose deployments are tried when its own fail; repeatable.",
    },
    "hedging": {
        "flags": "--hedging/--no-hedging",
        "help": "Start a second attempt elsewhere when the first token is late.",
    },
    "session_affinity": {
        "flags": "--session-affinity/--no-session-affinity",
        "help": "Keep calls of one conversation at one deployment.",
    },
    **LIMITS,
}


@click.group("aliases")
def command() -> None:
    """Look at the names that callers send as the model, and add to them."""


def _show(found: dict[str, Any]) -> None:
    print_table([found], _COLUMNS)


add(
    command,
    "list",
    additions.list_aliases,
    table(_COLUMNS, "no aliases"),
    "List aliases with their deployments.",
)
add(
    command,
    "create",
    additions.create_alias,
    _show,
    "Add an alias beside those of the settings file: in force at once, and kept.",
    arguments=("name",),
    options=_TERMS,
)
add(
    command,
    "update",
    additions.update_alias,
    _show,
    "Change an alias that was added. `none` takes the default; what is not named stays.",
    arguments=("name",),
    options=_TERMS,
)
add(
    command,
    "remove",
    additions.remove_alias,
    removed,
    "Remove an alias that was added.",
    arguments=("name",),
)
