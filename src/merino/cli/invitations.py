"""`merino invitations`."""

from __future__ import annotations

from typing import Any

import click

from merino.cli.output import Column, moment, write
from merino.cli.resource import add, table
from merino.operations import people

_COLUMNS = (
    Column("ID", "id"),
    Column("CODE", lambda row: f"{row['hint']}..."),
    Column("FOR", lambda row: row["email"] or "anybody"),
    Column("ACCOUNT", lambda row: row["account_id"] or "their own"),
    Column("ROLE", "role"),
    Column("CREDIT", lambda row: row["credit"] or "-"),
    Column("STATE", "state"),
    Column("EXPIRES", lambda row: moment(row["expires_at"])),
)


@click.group("invitations")
def command() -> None:
    """Invite people to the portal: each invitation lets one person in, once."""


def _show_made(made: dict[str, Any]) -> None:
    write(made["code"])
    write(f"at the relay's address: {made['path']}")


add(
    command,
    "create",
    people.create_invitation,
    _show_made,
    "Invite somebody, and print the invitation's code, which is shown this once.",
    options={
        "email": "The only address it is for.",
        "account": "An account to join; left out: they open one of their own.",
        "role": {"default": "owner", "show_default": True, "help": "Their role in the account."},
        "credit": "What an account of their own starts with, instead of the settings' credit.",
        "days": {"default": 14, "show_default": True, "help": "How long it is good."},
    },
)
add(
    command,
    "list",
    people.list_invitations,
    table(_COLUMNS, "no invitations"),
    "List invitations; of a code, only how it begins is kept.",
    options={"account": "Only those to this account."},
)
add(
    command,
    "void",
    people.void_invitation,
    lambda found: write(f"invitation {found['id']} is void"),
    "Withdraw an invitation by its id, if nobody has used it.",
)
