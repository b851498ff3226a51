"""`merino people`."""

from __future__ import annotations

from typing import Any

import click

from merino.cli.output import Column, moment, print_fields, write
from merino.cli.resource import add, table
from merino.operations import people

_COLUMNS = (
    Column("ID", "id", whole=True),
    Column("EMAIL", lambda row: row["email"] or "-"),
    Column("SUBJECT", lambda row: row["subject"] or "-", spare=3),
    Column("STATE", "state", whole=True),
    Column("LANGUAGE", "language", whole=True, spare=2),
    Column("CREATED", lambda row: moment(row["created_at"]), whole=True, spare=1),
)


@click.group("people")
def command() -> None:
    """Customers of the portal: who waits for approval, who is let in, who is not."""


def _show(person: dict[str, Any]) -> None:
    print_fields(
        [
            ("id", person["id"]),
            ("email", person["email"] or "-"),
            ("subject", person["subject"] or "-"),
            ("state", person["state"]),
            ("language", person["language"]),
            ("created", moment(person["created_at"])),
        ]
    )


add(
    command,
    "list",
    people.list_people,
    table(_COLUMNS, "no customers"),
    "List customers of the portal, the newest first.",
    options={
        "state": "Only who is in this state.",
        "email": "Only whose address has this in it.",
    },
)
add(command, "show", people.show_person, _show, "Show one by their id.")
add(
    command,
    "approve",
    people.approve_person,
    lambda done: write(
        f"{done['person']['email'] or done['person']['id']} is let in; their account starts with "
        f"{done['credited']}"
    ),
    "Let in a customer who waits. Their account is opened, with its start credit.",
)
add(
    command,
    "refuse",
    people.refuse_person,
    lambda person: write(f"{person['email'] or person['id']} is refused"),
    "Refuse a customer who waits.",
)
add(
    command,
    "block",
    people.block_person,
    lambda person: write(f"{person['email'] or person['id']} is blocked and signed out"),
    "Sign a customer out and let them in no more. Their keys go on until they are disabled.",
)
add(
    command,
    "unblock",
    people.unblock_person,
    lambda person: write(f"{person['email'] or person['id']} may come in again"),
    "Let a blocked customer in again.",
)


def _show_forgotten(done: dict[str, Any]) -> None:
    closed = ", ".join(done["closed_accounts"]) or "none"
    write(f"{done['id']} is deleted; accounts closed: {closed}")


add(
    command,
    "delete",
    people.forget_person,
    _show_forgotten,
    "Delete a customer for good, by their id. Accounts that nobody else owns are closed.",
)
