"""Names and currencies beside ids: who reads a terminal knows accounts and keys by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from merino.cli.connection import Admin

_KNOWN_MAX = 5000
"""Of so many accounts and keys the names are looked up; of more, ids stay ids."""


async def name_rows(admin: Admin, found: Mapping[str, Any]) -> None:
    """Adds to each row `account`, `key` and `currency`, as far as it has their ids."""
    rows: list[dict[str, Any]] = found["data"]
    if not rows:
        return
    accounts = await admin.list("/accounts", query={}, limit=_KNOWN_MAX)
    by_id: dict[str, dict[str, Any]] = {each["id"]: each for each in accounts["data"]}
    names = {id_: each["name"] for id_, each in by_id.items()}
    if any("key_id" in row for row in rows):
        keys = await admin.list("/keys", query={}, limit=_KNOWN_MAX)
        names |= {each["id"]: each["name"] for each in keys["data"]}
    for row in rows:
        account = row.get("account_id") or _own_side(row, by_id)
        for field in ("account", "key", "debit_account", "credit_account"):
            held = row.get(f"{field}_id", row.get(field))
            if held is not None:
                row[field] = names.get(held, held)
        known = by_id.get(account) or _by_name(by_id, row.get("account"))
        if known is not None:
            row.setdefault("currency", known["currency"])


async def name_one(admin: Admin, found: dict[str, Any]) -> None:
    """The same, of an answer that is one row."""
    await name_rows(admin, {"data": [found]})


def _own_side(row: Mapping[str, Any], by_id: Mapping[str, Any]) -> Any:
    """Of a ledger entry, the customer's account: the other one is the house's."""
    for field in ("debit_account", "credit_account"):
        if row.get(field) in by_id:
            return row[field]
    return None


def _by_name(by_id: Mapping[str, dict[str, Any]], name: Any) -> dict[str, Any] | None:
    return next((each for each in by_id.values() if each["name"] == name), None)
