"""`merino vouchers`."""

from __future__ import annotations

from pathlib import Path

import click

from merino.cli.connection import path_of, with_admin
from merino.cli.options import MOMENT, admin_options, given, once_option, page_options
from merino.cli.output import (
    Column,
    in_own_currency,
    moment,
    print_json,
    print_page_end,
    print_table,
    write,
)

_COLUMNS = (
    Column("ID", "id"),
    Column("CODE", lambda row: row.get("code") or f"{row['hint']}..."),
    Column("VALUE", in_own_currency("value"), is_number=True),
    Column("CURRENCY", "currency"),
    Column("BATCH", "batch"),
    Column("STATE", "state"),
    Column("EXPIRES", lambda row: moment(row["expires_at"])),
    Column("ACCOUNT", "account_id"),
)


@click.group("vouchers")
def command() -> None:
    """Codes that credit an account, once."""


@command.command("create")
@click.option("--value", required=True, help="What each credits, such as 10.")
@click.option("--count", type=click.IntRange(1, 10_000), default=1, show_default=True)
@click.option("--currency", default="USD", show_default=True, help="What the value is in.")
@click.option("--expires-at", type=MOMENT, help="A date or time after which they are useless.")
@click.option("--batch", help="A name for these together; made up if left out.")
@click.option("--memo", help="Kept with the entry that a voucher makes.")
@admin_options
def create(
    value: str,
    count: int,
    currency: str,
    expires_at: str | None,
    batch: str | None,
    memo: str | None,
    data: Path,
    as_json: bool,
) -> None:
    """Create vouchers and print their codes, which are shown this once."""
    body = given(
        {
            "value": value,
            "count": count,
            "currency": currency,
            "expires_at": expires_at,
            "batch": batch,
            "memo": memo,
        }
    )
    made = with_admin(data, lambda admin: admin.ask("POST", "/vouchers", body=body))
    if as_json:
        print_json(made)
        return
    for each in made["data"]:
        write(each["code"])


@command.command("list")
@click.option("--batch", help="Only of this batch.")
@page_options
@admin_options
def list_vouchers(
    batch: str | None, limit: int, cursor: str | None, data: Path, as_json: bool
) -> None:
    """List vouchers; of a code, only how it begins is kept."""
    query = {"batch": batch}
    page = with_admin(
        data, lambda admin: admin.list("/vouchers", query=query, limit=limit, cursor=cursor)
    )
    if as_json:
        print_json(page)
        return
    print_table(page["data"], _COLUMNS, empty="no vouchers")
    print_page_end(page)


@command.command("redeem")
@click.argument("code")
@click.argument("account")
@once_option
@admin_options
def redeem(code: str, account: str, idempotency_key: str | None, data: Path, as_json: bool) -> None:
    """Credit ACCOUNT with the voucher of this CODE."""
    body = {"code": code, "account": account}
    moved = with_admin(
        data, lambda admin: admin.ask("POST", "/vouchers/redeem", body=body, once=idempotency_key)
    )
    if as_json:
        print_json(moved)
        return
    after = moved["account"]
    write(
        f"voucher of {moved['entry']['amount']} credited; account {after['name']} now has "
        f"{after['balance']['posted']}"
    )


@command.command("void")
@click.argument("voucher")
@admin_options
def void(voucher: str, data: Path, as_json: bool) -> None:
    """Withdraw a voucher by its id, if nobody has used it."""
    path = path_of("vouchers", voucher, "void")
    found = with_admin(data, lambda admin: admin.ask("POST", path))
    if as_json:
        print_json(found)
        return
    write(f"voucher {found['hint']}... is void")
