"""`merino invitations`."""

from __future__ import annotations

from typing import Any

import click

from merino.cli.naming import name_rows
from merino.cli.output import Column, moment, write
from merino.cli.resource import add, table
from merino.operations import people

_COLUMNS = (
    Column("ID", "id", whole=True),
    Column("CODE", lambda row: f"{row['hint']}...", whole=True, spare=4),
    Column("FOR", lambda row: row["email"] or "anybody"),
    Column("ACCOUNT", lambda row: row.get("account") or row["account_id"] or "their own"),
    Column("ROLE", "role", whole=True, spare=3),
    Column("CREDIT", lambda row: row["credit"] or "-", spare=2),
    Column("STATE", "state", whole=True),
    Column("EXPIRES", lambda row: moment(row["expires_at"]), whole=True, spare=1),
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
    adds=name_rows,
)
add(
    command,
    "void",
    people.void_invitation,
    lambda found: write(f"invitation {found['id']} is void"),
    "Withdraw an invitation by its id, if nobody has used it.",
)
