"""`merino topups`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from merino.cli.connection import path_of, with_admin
from merino.cli.options import admin_options, given
from merino.cli.output import (
    Column,
    in_own_currency,
    moment,
    print_fields,
    print_json,
    print_table,
    write,
)

_COLUMNS = (
    Column("ID", "id"),
    Column("ACCOUNT", "account_id"),
    Column("PROVIDER", "provider"),
    Column("STATUS", "status"),
    Column("AMOUNT", in_own_currency("amount"), is_number=True),
    Column("CURRENCY", "currency"),
    Column("TAKEN BACK", in_own_currency("taken_back"), is_number=True),
    Column("CREATED", lambda row: moment(row["created_at"])),
)


@click.group("topups")
def command() -> None:
    """Credit that is paid for."""


@command.command("create")
@click.argument("account")
@click.argument("amount")
@click.option("--provider", help="stripe or invoice; the first that is configured if left out.")
@click.option("--currency", help="What it is paid in; the account's own if left out.")
@click.option("--memo", help="Kept with the entry.")
@click.option(
    "--save-card",
    is_flag=True,
    help="Let the account's own top-up rule charge the card that pays this.",
)
@admin_options
def create(
    account: str,
    amount: str,
    provider: str | None,
    currency: str | None,
    memo: str | None,
    save_card: bool,
    data: Path,
    as_json: bool,
) -> None:
    """Order credit of AMOUNT for ACCOUNT, and say where to pay."""
    body = given(
        {
            "account": account,
            "amount": amount,
            "provider": provider,
            "currency": currency,
            "memo": memo,
            "save_card": save_card or None,
        }
    )
    order = with_admin(data, lambda admin: admin.ask("POST", "/topups", body=body))
    if as_json:
        print_json(order)
        return
    write(f"{order['id']}: {order['amount']} {order['currency']} for {account}")
    for where in ("url", "instructions"):
        if order[where]:
            write(order[where])


@command.command("list")
@click.option("--account", help="Only of this account.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@admin_options
def list_topups(account: str | None, limit: int, data: Path, as_json: bool) -> None:
    """List top-ups, the newest first."""
    query = {"account": account, "limit": limit}
    page = with_admin(data, lambda admin: admin.ask("GET", "/topups", query=query))
    if as_json:
        print_json(page)
        return
    print_table(page["data"], _COLUMNS, empty="no top-ups")


@command.command("show")
@click.argument("topup")
@admin_options
def show(topup: str, data: Path, as_json: bool) -> None:
    """Show one."""
    path = path_of("topups", topup)
    _show(with_admin(data, lambda admin: admin.ask("GET", path)), as_json)


@command.command("confirm")
@click.argument("topup")
@click.argument("amount")
@click.argument("currency")
@click.option("--reference", default="", help="Where it is in the bank's statement.")
@admin_options
def confirm(
    topup: str, amount: str, currency: str, reference: str, data: Path, as_json: bool
) -> None:
    """Say that AMOUNT CURRENCY came for an invoice; it is compared with the order first."""
    body = {"amount": amount, "currency": currency, "reference": reference}
    path = path_of("topups", topup, "confirm")
    _show(with_admin(data, lambda admin: admin.ask("POST", path, body=body)), as_json)


@command.command("refund")
@click.argument("topup")
@click.option("--amount", help="A part of it; all that is left if not given.")
@admin_options
def refund(topup: str, amount: str | None, data: Path, as_json: bool) -> None:
    """Give a top-up back. The account is debited when the provider says that it is done."""
    path = path_of("topups", topup, "refund")
    body = given({"amount": amount})
    _show(with_admin(data, lambda admin: admin.ask("POST", path, body=body)), as_json)


@command.command("card")
@click.argument("account")
@click.option("--forget", is_flag=True, help="Delete it, here and at the payment provider.")
@admin_options
def card(account: str, forget: bool, data: Path, as_json: bool) -> None:
    """Show the saved card that an account's top-up rule charges, or delete it."""
    path = path_of("accounts", account, "saved-card")
    method = "DELETE" if forget else "GET"
    _show(with_admin(data, lambda admin: admin.ask(method, path)), as_json)


def _show(order: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(order)
        return
    print_fields((name, value) for name, value in order.items() if value is not None)
