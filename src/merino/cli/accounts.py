"""`merino accounts`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from merino.cli.connection import path_of, with_admin
from merino.cli.options import (
    OrNone,
    admin_options,
    given,
    limit_options,
    once_option,
    page_options,
)
from merino.cli.output import (
    Column,
    moment,
    print_fields,
    print_json,
    print_page_end,
    print_table,
    with_currency,
    write,
)

F = TypeVar("F", bound=Callable[..., Any])


def _part(name: str) -> Callable[[Mapping[str, Any]], str | None]:
    return lambda row: with_currency(row["balance"][name], row["currency"])


_COLUMNS = (
    Column("NAME", "name"),
    Column("ID", "id"),
    Column("POSTED", _part("posted"), is_number=True),
    Column("HELD", _part("held"), is_number=True),
    Column("AVAILABLE", _part("available"), is_number=True),
    Column("DISABLED", "disabled"),
    Column("CREATED", lambda row: moment(row["created_at"])),
)


def _limits(function: F) -> F:
    """What all its keys together may send. Its own stand above those of the settings."""
    weight = click.option(
        "--weight",
        type=OrNone(click.FloatRange(0, 1000, min_open=True)),
        help="Its share of the turns when calls of several accounts wait.",
    )
    return limit_options(weight(function))


@click.group("accounts")
def command() -> None:
    """Open accounts, move money to and from them."""


@command.command("create")
@click.option("--name", required=True, help="Unique.")
@click.option("--overdraft", help="How far below zero it may go, such as 5.00.")
@click.option("--currency", help="What its balance is in: USD (the default), EUR or CNY.")
@click.option("--group", help="Its pricing group.")
@_limits
@admin_options
def create(
    name: str,
    overdraft: str | None,
    currency: str | None,
    group: str | None,
    data: Path,
    as_json: bool,
    **limits: Any,
) -> None:
    """Open an account."""
    body = given(
        {"name": name, "overdraft": overdraft, "currency": currency, "group": group, **limits}
    )
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
@click.option("--group", help="Its pricing group, which chooses the margin.")
@click.option(
    "--spend-cap",
    type=OrNone(click.STRING),
    help="Most all its keys spend in a period; none: no cap.",
)
@click.option("--spend-period", type=click.Choice(["day", "month", "total"]), help="The cap's.")
@click.option(
    "--notice-below",
    type=OrNone(click.STRING),
    help="Tell its owner when it has less; none: never.",
)
@click.option(
    "--topup-below", type=OrNone(click.STRING), help="Order a top-up when it has less; none: never."
)
@click.option("--topup-amount", type=OrNone(click.STRING), help="How much that orders.")
@click.option(
    "--notice-email", type=OrNone(click.STRING), help="Where notices are mailed; none: nowhere."
)
@_limits
@admin_options
def update(
    account: str,
    *,
    data: Path,
    as_json: bool,
    **terms: Any,
) -> None:
    """Change an account, by name or id. Limits hold at once; `none` leaves one to the settings."""
    body = given(terms)
    if not body:
        raise click.UsageError("Nothing to change was given.", click.get_current_context())
    path = path_of("accounts", account)
    _show(with_admin(data, lambda admin: admin.ask("PATCH", path, body=body)), as_json)


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


@command.command("spending")
@click.argument("account")
@admin_options
def spending(account: str, data: Path, as_json: bool) -> None:
    """What an account spends in its cap's period, and will have spent at its end."""
    path = path_of("accounts", account, "spending")
    found = with_admin(data, lambda admin: admin.ask("GET", path))
    if as_json:
        print_json(found)
        return
    print_fields(
        [
            ("period", found["period"]),
            ("spent", found["spent"]),
            ("cap", found["cap"]),
            ("forecast", found["forecast"]),
            ("reaches cap on", found["reaches_cap_on"]),
        ]
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


@command.command("credit")
@click.argument("account")
@click.argument("amount")
@click.option("--memo", help="Why; kept with the entry for good.")
@once_option
@admin_options
def credit(
    account: str,
    amount: str,
    memo: str | None,
    idempotency_key: str | None,
    data: Path,
    as_json: bool,
) -> None:
    """Put AMOUNT, such as 5.00, into an account."""
    body = given({"amount": amount, "memo": memo})
    _move("credit", account, body, data, once=idempotency_key, as_json=as_json)


@command.command("debit")
@click.argument("account")
@click.argument("amount")
@click.option("--memo", help="Why; kept with the entry for good.")
@once_option
@admin_options
def debit(
    account: str,
    amount: str,
    memo: str | None,
    idempotency_key: str | None,
    data: Path,
    as_json: bool,
) -> None:
    """Take AMOUNT, such as 5.00, out of an account."""
    body = given({"amount": amount, "memo": memo})
    _move("debit", account, body, data, once=idempotency_key, as_json=as_json)


def _move(
    direction: str,
    account: str,
    body: dict[str, Any],
    data: Path,
    *,
    once: str | None,
    as_json: bool,
) -> None:
    path = path_of("accounts", account, direction)
    moved = with_admin(data, lambda admin: admin.ask("POST", path, body=body, once=once))
    if as_json:
        print_json(moved)
        return
    after = moved["account"]
    booked = "was booked before, under this key" if "replayed" in moved else "booked"
    sum_moved = with_currency(moved["entry"]["amount"], after["currency"])
    left = with_currency(after["balance"]["posted"], after["currency"])
    write(f"{direction} of {sum_moved} {booked}; account {after['name']} now has {left}")


_LIMIT_NAMES = ("rps", "rpm", "tpm", "concurrency", "weight")


def _limit(account: dict[str, Any], name: str) -> str | None:
    """What holds, and where it comes from."""
    value = account["limits_in_force"][name]
    if value is None:
        return None
    return f"{value:,}" if account[name] is not None else f"{value:,} (of the settings)"


def _show(account: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(account)
        return
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
