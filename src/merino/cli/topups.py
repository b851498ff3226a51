"""`merino topups`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from merino.cli.connection import path_of, with_admin
from merino.cli.options import admin_options, given
from merino.cli.output import Column, in_own_currency, moment, print_fields, print_json, write
from merino.cli.resource import add, table
from merino.operations import topups

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


def _show(order: dict[str, Any]) -> None:
    print_fields((name, value) for name, value in order.items() if value is not None)


add(
    command,
    "list",
    topups.list_topups,
    table(_COLUMNS, "no top-ups"),
    "List top-ups, the newest first.",
    options={
        "account": "Only of this account.",
        "limit": {"default": 50, "show_default": True},
    },
)
add(command, "show", topups.show_topup, _show, "Show one.")
add(
    command,
    "confirm",
    topups.confirm_topup,
    _show,
    "Say that AMOUNT CURRENCY came for an invoice; it is compared with the order first.",
    arguments=("amount", "currency"),
    options={
        "reference": {"default": "", "help": "Where it is in the bank's statement."},
    },
)
add(
    command,
    "refund",
    topups.refund_topup,
    _show,
    "Give a top-up back. The account is debited when the provider says that it is done.",
    options={"amount": "A part of it; all that is left if not given."},
)


@command.command("card")
@click.argument("account")
@click.option("--forget", is_flag=True, help="Delete it, here and at the payment provider.")
@admin_options
def card(account: str, forget: bool, data: Path, as_json: bool) -> None:
    """Show the saved card that an account's top-up rule charges, or delete it."""
    path = path_of("accounts", account, "saved-card")
    method = "DELETE" if forget else "GET"
    found = with_admin(data, lambda admin: admin.ask(method, path))
    (print_json if as_json else _show)(found)
