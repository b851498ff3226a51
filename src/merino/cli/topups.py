"""`merino topups`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from merino.billing.operations import topups
from merino.cli.columns import Column
from merino.cli.connection import path_of, with_admin
from merino.cli.naming import name_one, name_rows
from merino.cli.options import admin_options, given
from merino.cli.output import (
    in_own_currency,
    moment,
    print_fields,
    print_json,
    with_currency,
    write,
)
from merino.cli.resource import add, table
from merino.cli.terminal import is_shown

_COLUMNS = (
    Column("ID", "id", whole=True),
    Column("ACCOUNT", lambda row: row.get("account", row["account_id"])),
    Column("PROVIDER", "provider"),
    Column("STATUS", "status"),
    Column("AMOUNT", in_own_currency("amount"), is_number=True, total="amount_nanos"),
    Column("CURRENCY", "currency", only="pipes"),
    Column("TAKEN BACK", in_own_currency("taken_back"), is_number=True, total="taken_back_nanos"),
    Column("CREATED", lambda row: moment(row["created_at"]), whole=True, spare=1),
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
    if not is_shown():
        print_fields((name, value) for name, value in order.items() if value is not None)
        return
    print_fields(
        [
            ("id", order["id"]),
            ("account", order.get("account", order["account_id"])),
            ("provider", order["provider"]),
            ("status", order["status"]),
            ("credit", with_currency(order["amount"], order["currency"])),
            ("to pay", with_currency(order["charge"], order["charge_currency"])),
            ("taken back", with_currency(order["taken_back"], order["currency"])),
            ("ordered", moment(order["created_at"])),
            ("paid", moment(order["paid_at"])),
            ("why not", order["failure"]),
            ("pay at", order["url"]),
            ("memo", order["memo"]),
        ]
    )


def _show_confirmed(order: dict[str, Any]) -> None:
    if not is_shown():
        _show(order)
        return
    came = with_currency(order["charge"], order["charge_currency"])
    credited = with_currency(order["amount"], order["currency"])
    account = order.get("account", order["account_id"])
    write(f"{came} came for top-up {order['id']}; {credited} is credited to account {account}")


def _show_refunded(order: dict[str, Any]) -> None:
    if not is_shown():
        _show(order)
        return
    back = with_currency(order["taken_back"], order["currency"])
    whole = with_currency(order["amount"], order["currency"])
    write(f"{back} of the {whole} of top-up {order['id']} is given back; it is {order['status']}")


def _show_card(card: dict[str, Any]) -> None:
    print_fields((name, value) for name, value in card.items() if value is not None)


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
    adds=name_rows,
)
add(command, "show", topups.show_topup, _show, "Show one.", adds=name_one)
add(
    command,
    "confirm",
    topups.confirm_topup,
    _show_confirmed,
    "Say that AMOUNT of CURRENCY, such as 20.00 EUR, came for an invoice. Nothing is credited "
    "unless that is what the order asks for.",
    arguments=("amount", "currency"),
    options={
        "reference": {"default": "", "help": "Where it is in the bank's statement."},
    },
    adds=name_one,
)
add(
    command,
    "refund",
    topups.refund_topup,
    _show_refunded,
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
    (print_json if as_json else _show_card)(found)
