"""`merino accounts`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from merino.billing.operations.statements import account_spending
from merino.cli.columns import Column
from merino.cli.connection import path_of, with_admin
from merino.cli.figures import shortened
from merino.cli.naming import name_one
from merino.cli.options import LIMITS, admin_options, given, once_option
from merino.cli.output import moment, print_fields, print_json, with_currency, write
from merino.cli.resource import Options, add, table
from merino.domain.limits import LIMIT_KINDS
from merino.operations import accounts
from merino.operations.accounts import AccountChange


def _part(name: str) -> Callable[[Mapping[str, Any]], str | None]:
    return lambda row: with_currency(row["balance"][name], row["currency"])


_COLUMNS = (
    Column("NAME", "name"),
    Column("ID", "id", whole=True, spare=1),
    Column("POSTED", _part("posted"), is_number=True),
    Column("HELD", _part("held"), is_number=True, spare=3),
    Column("AVAILABLE", _part("available"), is_number=True),
    Column("DISABLED", "disabled"),
    Column("CREATED", lambda row: moment(row["created_at"]), whole=True, spare=2),
)
_OWN_LIMITS: Options = {
    **LIMITS,
    "weight": "Its share of the turns when calls of several accounts wait.",
}
"""What all its keys together may send. Its own stand above those of the settings."""


@click.group("accounts")
def command() -> None:
    """Open accounts, move money to and from them."""


_LIMIT_NAMES = (*LIMIT_KINDS, "weight")


def _limit(account: dict[str, Any], name: str) -> str | None:
    """What holds, and where it comes from."""
    value = account["limits_in_force"][name]
    if value is None:
        return None
    return f"{value:,}" if account[name] is not None else f"{value:,} (of the settings)"


def _show(account: dict[str, Any]) -> None:
    balance, currency = account["balance"], account["currency"]
    print_fields(
        [
            ("name", account["name"]),
            ("id", account["id"]),
            ("currency", currency),
            ("posted", with_currency(balance["posted"], currency)),
            ("held", with_currency(balance["held"], currency)),
            ("overdraft", with_currency(balance["overdraft"], currency)),
            ("available", with_currency(balance["available"], currency)),
            ("group", account["group"]),
            ("spend cap", with_currency(account["spend_cap"], currency)),
            ("spend period", account["spend_period"]),
            ("notice below", with_currency(account["notice_below"], currency)),
            ("top-up below", with_currency(account["topup_below"], currency)),
            ("top-up amount", with_currency(account["topup_amount"], currency)),
            *((name, _limit(account, name)) for name in _LIMIT_NAMES),
            ("disabled", account["disabled"]),
            ("created", moment(account["created_at"])),
        ]
    )


def _show_spending(found: dict[str, Any]) -> None:
    def amount(name: str) -> str | None:
        currency = found.get("currency")  # looked up at a terminal
        told = with_currency(found[name], currency)
        return told if told is None or currency is None else shortened(told)

    print_fields(
        [
            *([("account", found["account"])] if "account" in found else []),
            ("period", found["period"]),
            ("spent", amount("spent")),
            ("cap", amount("cap")),
            ("forecast", amount("forecast")),
            ("reaches cap on", found["reaches_cap_on"]),
        ]
    )


def _show_moved(moved: dict[str, Any]) -> None:
    after, entry = moved["account"], moved["entry"]
    booked = "was booked before, under this key" if "replayed" in moved else "booked"
    sum_moved = with_currency(entry["amount"], after["currency"])
    left = with_currency(after["balance"]["posted"], after["currency"])
    write(f"{entry['kind']} of {sum_moved} {booked}; account {after['name']} now has {left}")


add(
    command,
    "create",
    accounts.create_account,
    _show,
    "Open an account.",
    options={
        "name": {"required": True, "help": "Unique."},
        "overdraft": "How far below zero it may go, such as 5.00.",
        "currency": "What its balance is in: USD (the default), EUR or CNY.",
        "group": "Its pricing group.",
        **_OWN_LIMITS,
    },
    like=AccountChange,
)
add(
    command,
    "list",
    accounts.list_accounts,
    table(_COLUMNS, "no accounts"),
    "List accounts, the oldest first.",
)
add(command, "show", accounts.show_account, _show, "Show an account, by name or id.")
add(
    command,
    "update",
    accounts.update_account,
    _show,
    "Change an account, by name or id. Limits hold at once; `none` leaves one to the settings.",
    options={
        "name": "A new name.",
        "overdraft": "How far below zero it may go, such as 5.00.",
        "disabled": {"flags": "--disable/--enable", "help": "Refuse or take its calls."},
        "group": "Its pricing group, which chooses the margin.",
        "spend_cap": "Most all its keys spend in a period; none: no cap.",
        "spend_period": "The cap's.",
        "notice_below": "Tell its owner when it has less; none: never.",
        "topup_below": "Order a top-up when it has less; none: never.",
        "topup_amount": "How much that orders.",
        "notice_email": "Where notices are mailed; none: nowhere.",
        **_OWN_LIMITS,
    },
)


@command.command("transfer")
@click.argument("source")
@click.argument("target")
@click.argument("amount")
@click.option("--memo", help="Why; kept with both entries for good.")
@once_option
@admin_options
def transfer(
    source: str,
    target: str,
    amount: str,
    memo: str | None,
    idempotency_key: str | None,
    data: Path,
    as_json: bool,
) -> None:
    """Move AMOUNT of SOURCE's currency from SOURCE to TARGET."""
    body = given({"source": source, "target": target, "amount": amount, "memo": memo})
    moved = with_admin(
        data, lambda admin: admin.ask("POST", "/transfers", body=body, once=idempotency_key)
    )
    if as_json:
        print_json(moved)
        return
    write(f"{moved['left']['amount']} left {source}, {moved['came']['amount']} came to {target}")


add(
    command,
    "spending",
    account_spending,
    _show_spending,
    "What an account spends in its cap's period, and will have spent at its end.",
    adds=name_one,
)


@command.command("statement")
@click.argument("account")
@click.option("--month", help="Such as 2026-11 (UTC); the current one if left out.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "csv", "json"]),
    default="csv",
    show_default=True,
    help="html prints on A4.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="A file to write, instead of standard output.",
)
@admin_options
def statement(
    account: str, month: str | None, form: str, output: Path | None, data: Path, as_json: bool
) -> None:
    """An account's statement of a month, from its entries alone. `--json` is `--format json`."""
    query = given({"month": month, "format": "json" if as_json else form})
    path = path_of("accounts", account, "statement")
    if output is None:
        stream = sys.stdout.buffer
        with_admin(data, lambda admin: admin.download(path, query, stream.write))
        stream.flush()
        return
    with output.open("wb") as file:
        with_admin(data, lambda admin: admin.download(path, query, file.write))
    write(f"written to {output}")


_MEMO: Options = {"memo": "Why; kept with the entry for good."}
add(
    command,
    "credit",
    accounts.credit_account,
    _show_moved,
    "Put AMOUNT, such as 5.00, into an account.",
    arguments=("amount",),
    options=_MEMO,
)
add(
    command,
    "debit",
    accounts.debit_account,
    _show_moved,
    "Take AMOUNT, such as 5.00, out of an account.",
    arguments=("amount",),
    options=_MEMO,
)
