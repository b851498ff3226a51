"""`merino admin-keys`."""

from __future__ import annotations

from typing import Any

import click

from merino.cli.columns import Column
from merino.cli.output import moment, print_fields, write_secret
from merino.cli.resource import add, table
from merino.operations import admin_keys

_COLUMNS = (
    Column("NAME", "name"),
    Column("ID", "id", whole=True, spare=1),
    Column("HINT", "hint", whole=True),
    Column("STATE", lambda row: "revoked" if row["revoked"] else "in use"),
    Column("CREATED", lambda row: moment(row["created_at"]), whole=True, spare=2),
    Column("LAST USED", lambda row: moment(row["last_used"]), whole=True, spare=3),
)


@click.group("admin-keys")
def command() -> None:
    """Issue and revoke the keys of operators: for the dashboard and the admin API.

    No admin key is needed for this: who can write to the data folder may. So one that is lost is
    replaced with `merino admin-keys create`.
    """


def _show(key: dict[str, Any]) -> None:
    print_fields(
        [
            ("name", key["name"]),
            ("id", key["id"]),
            ("hint", key["hint"]),
            ("revoked", key["revoked"]),
            ("created", moment(key["created_at"])),
            ("last used", moment(key["last_used"])),
        ]
    )
    write_secret(key)


add(
    command,
    "list",
    admin_keys.list_admin_keys,
    table(_COLUMNS, "no admin keys"),
    "List admin keys, the oldest first.",
)
add(
    command,
    "create",
    admin_keys.create_admin_key,
    _show,
    "Issue an admin key. Its secret is shown this once.",
    options={"name": {"required": True, "help": "Unique; the audit log names it."}},
)
add(
    command,
    "rotate",
    admin_keys.rotate_admin_key,
    _show,
    "Give an admin key a new secret, shown this once. The old one is void at once.",
)
add(
    command,
    "revoke",
    admin_keys.revoke_admin_key,
    _show,
    "Revoke an admin key for good, and end what was signed in with it. The last one is kept.",
)
