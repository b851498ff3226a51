"""`merino admin-keys`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from merino.cli.connection import path_of, with_admin
from merino.cli.options import admin_options
from merino.cli.output import Column, moment, print_fields, print_json, print_table, write

_COLUMNS = (
    Column("NAME", "name"),
    Column("ID", "id"),
    Column("HINT", "hint"),
    Column("STATE", lambda row: "revoked" if row["revoked"] else "in use"),
    Column("CREATED", lambda row: moment(row["created_at"])),
)


@click.group("admin-keys")
def command() -> None:
    """Issue and revoke the keys of operators: for the dashboard and the admin API.

    No admin key is needed for this: who can write to the data folder may. So one that is lost is
    replaced with `merino admin-keys create`.
    """


@command.command("list")
@admin_options
def list_keys(data: Path, as_json: bool) -> None:
    """List admin keys, the oldest first."""
    page = with_admin(data, lambda admin: admin.ask("GET", "/admin-keys"))
    if as_json:
        print_json(page)
        return
    print_table(page["data"], _COLUMNS, empty="no admin keys")


@command.command("create")
@click.option("--name", required=True, help="Unique; the audit log names it.")
@admin_options
def create(name: str, data: Path, as_json: bool) -> None:
    """Issue an admin key. Its secret is shown this once."""
    body = {"name": name}
    _issued(with_admin(data, lambda admin: admin.ask("POST", "/admin-keys", body=body)), as_json)


@command.command("rotate")
@click.argument("admin_key")
@admin_options
def rotate(admin_key: str, data: Path, as_json: bool) -> None:
    """Give an admin key a new secret, shown this once. The old one is void at once."""
    path = path_of("admin-keys", admin_key, "rotate")
    _issued(with_admin(data, lambda admin: admin.ask("POST", path)), as_json)


@command.command("revoke")
@click.argument("admin_key")
@admin_options
def revoke(admin_key: str, data: Path, as_json: bool) -> None:
    """Revoke an admin key for good, and end what was signed in with it. The last one is kept."""
    path = path_of("admin-keys", admin_key, "revoke")
    _show(with_admin(data, lambda admin: admin.ask("POST", path)), as_json)


def _issued(key: dict[str, Any], as_json: bool) -> None:
    _show(key, as_json)
    if not as_json:
        write("")
        write(f"secret, shown this once: {key['key']}")


def _show(key: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(key)
        return
    print_fields(
        [
            ("name", key["name"]),
            ("id", key["id"]),
            ("hint", key["hint"]),
            ("revoked", key["revoked"]),
            ("created", moment(key["created_at"])),
        ]
    )
