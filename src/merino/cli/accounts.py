"""`merino accounts`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from merino.cli.connection import path_of, with_admin
from merino.cli.options import admin_options, given, page_options
from merino.cli.output import (
    Column,
    moment,
    print_fields,
    print_json,
    print_page_end,
    print_table,
    write,
)

_COLUMNS = (
    Column("NAME", "name"),
    Column("ID", "id"),
    Column("POSTED", lambda row: row["balance"]["posted"], is_number=True),
    Column("HELD", lambda row: row["balance"]["held"], is_number=True),
    Column("AVAILABLE", lambda row: row["balance"]["available"], is_number=True),
    Column("DISABLED", "disabled"),
    Column("CREATED", lambda row: moment(row["created_at"])),
)


@click.group("accounts")
def command() -> None:
    """Open accounts, move money to and from them."""


@command.command("create")
@click.option("--name", required=True, help="Unique.")
@click.option("--overdraft", help="How far below zero it may go, such as 5.00.")
@admin_options
def create(name: str, overdraft: str | None, data: Path, as_json: bool) -> None:
    """Open an account."""
    body = given({"name": name, "overdraft": overdraft})
    _show(with_admin(data, lambda admin: admin.ask("POST", "/accounts", body=body)), as_json)


@command.command("list")
@page_options
@admin_options
def list_accounts(limit: int, cursor: str | None, data: Path, as_json: bool) -> None:
    """List accounts, the oldest first."""
    page = with_admin(
        data, lambda admin: admin.list("/accounts", query={}, limit=limit, cursor=cursor)
    )
    if as_json:
        print_json(page)
        return
    print_table(page["data"], _COLUMNS, empty="no accounts")
    print_page_end(page)


@command.command("show")
@click.argument("account")
@admin_options
def show(account: str, data: Path, as_json: bool) -> None:
    """Show an account, by name or id."""
    path = path_of("accounts", account)
    _show(with_admin(data, lambda admin: admin.ask("GET", path)), as_json)


@command.command("update")
@click.argument("account")
@click.option("--name", help="A new name.")
@click.option("--overdraft", help="How far below zero it may go, such as 5.00.")
@click.option("--disable/--enable", "disabled", default=None, help="Refuse or take its calls.")
@admin_options
def update(
    account: str,
    *,
    name: str | None,
    overdraft: str | None,
    disabled: bool | None,
    data: Path,
    as_json: bool,
) -> None:
    """Change an account, by name or id."""
    body = given({"name": name, "overdraft": overdraft, "disabled": disabled})
    if not body:
        raise click.UsageError("Nothing to change was given.", click.get_current_context())
    path = path_of("accounts", account)
    _show(with_admin(data, lambda admin: admin.ask("PATCH", path, body=body)), as_json)


@command.command("credit")
@click.argument("account")
@click.argument("amount")
@click.option("--memo", help="Why; kept with the entry for good.")
@admin_options
def credit(account: str, amount: str, memo: str | None, data: Path, as_json: bool) -> None:
    """Put AMOUNT, such as 5.00, into an account."""
    _move("credit", account, given({"amount": amount, "memo": memo}), data, as_json=as_json)


@command.command("debit")
@click.argument("account")
@click.argument("amount")
@click.option("--memo", help="Why; kept with the entry for good.")
@admin_options
def debit(account: str, amount: str, memo: str | None, data: Path, as_json: bool) -> None:
    """Take AMOUNT, such as 5.00, out of an account."""
    _move("debit", account, given({"amount": amount, "memo": memo}), data, as_json=as_json)


def _move(direction: str, account: str, body: dict[str, Any], data: Path, *, as_json: bool) -> None:
    path = path_of("accounts", account, direction)
    moved = with_admin(data, lambda admin: admin.ask("POST", path, body=body))
    if as_json:
        print_json(moved)
        return
    after = moved["account"]
    write(
        f"{direction} of {moved['entry']['amount']} booked; account {after['name']} now has "
        f"{after['balance']['posted']}"
    )


def _show(account: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(account)
        return
    balance = account["balance"]
    print_fields(
        [
            ("name", account["name"]),
            ("id", account["id"]),
            ("posted", f"{balance['posted']} {account['currency']}"),
            ("held", balance["held"]),
            ("overdraft", balance["overdraft"]),
            ("available", balance["available"]),
            ("disabled", account["disabled"]),
            ("created", moment(account["created_at"])),
        ]
    )
