"""`merino vouchers`."""

from __future__ import annotations

from typing import Any

import click

from merino.billing.operations import vouchers
from merino.cli.columns import Column
from merino.cli.naming import name_rows
from merino.cli.output import in_own_currency, moment, write
from merino.cli.resource import add, table

_COLUMNS = (
    Column("ID", "id", whole=True, spare=1),
    Column("CODE", lambda row: row.get("code") or f"{row['hint']}...", whole=True),
    Column("VALUE", in_own_currency("value"), is_number=True),
    Column("CURRENCY", "currency", only="pipes"),
    Column("BATCH", "batch"),
    Column("STATE", "state"),
    Column("EXPIRES", lambda row: moment(row["expires_at"]), whole=True, spare=2),
    Column("ACCOUNT", lambda row: row.get("account", row["account_id"])),
)


@click.group("vouchers")
def command() -> None:
    """Codes that credit an account, once."""


def _show_codes(made: dict[str, Any]) -> None:
    for each in made["data"]:
        write(each["code"])


def _show_redeemed(moved: dict[str, Any]) -> None:
    after = moved["account"]
    write(
        f"voucher of {moved['entry']['amount']} credited; account {after['name']} now has "
        f"{after['balance']['posted']}"
    )


add(
    command,
    "create",
    vouchers.create_vouchers,
    _show_codes,
    "Create vouchers and print their codes, which are shown this once.",
    options={
        "value": {"required": True, "help": "What each credits, such as 10."},
        "count": {"default": 1, "show_default": True},
        "currency": {"default": "USD", "show_default": True, "help": "What the value is in."},
        "expires_at": "A date or time after which they are useless.",
        "batch": "A name for these together; made up if left out.",
        "memo": "Kept with the entry that a voucher makes.",
    },
)
add(
    command,
    "list",
    vouchers.list_vouchers,
    table(_COLUMNS, "no vouchers"),
    "List vouchers; of a code, only how it begins is kept.",
    options={"batch": "Only of this batch."},
    adds=name_rows,
)
add(
    command,
    "redeem",
    vouchers.redeem_voucher,
    _show_redeemed,
    "Credit ACCOUNT with the voucher of this CODE.",
    arguments=("code", "account"),
)
add(
    command,
    "void",
    vouchers.void_voucher,
    lambda found: write(f"voucher {found['hint']}... is void"),
    "Withdraw a voucher by its id, if nobody has used it.",
)
