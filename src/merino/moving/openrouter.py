"""From OpenRouter: the answers of its API to `GET /api/v1/keys` and `GET /api/v1/credits`."""

from __future__ import annotations

from decimal import Decimal

from merino.moving.dumps import Row, Tables
from merino.moving.move import Move, MovedAccount, MovedKey, free_name, usable_name
from merino.moving.values import decimal, plain

KEYS, CREDITS = "keys", "credits"
COLUMNS = {
    KEYS: frozenset(("hash", "limit", "usage")),
    CREDITS: frozenset(("total_credits", "total_usage")),
}
ACCOUNT = "openrouter"
"""There is one account there; keys share its credits."""
_PERIODS = {"daily": "day", "monthly": "month", "weekly": "month"}


def take_tables(tables: Tables, move: Move) -> None:
    account = MovedAccount(ACCOUNT, "account")
    for row in tables.get(CREDITS, []):
        bought, used = (decimal(row.get(name)) or Decimal(0) for name in sorted(COLUMNS[CREDITS]))
        account.opening = plain(max(Decimal(0), bought - used))
        account.memo = f"from OpenRouter: bought {plain(bought)}, used {plain(used)}"
        move.left.append(
            f"${account.opening} of credits are still at OpenRouter; the relay's calls there use "
            "them up"
        )
    if account.opening is None:
        move.left.append(
            f"account {ACCOUNT}: no credits in these files; give it credit: "
            f"merino accounts credit {ACCOUNT} AMOUNT"
        )
    move.accounts.append(account)
    for row in tables.get(KEYS, []):
        _take_key(row, move)
    move.left.append(
        "models: set OPENROUTER_API_KEY to a key of OpenRouter, and those that the price book has "
        "are offered; others need a deployment with a price"
    )


def _take_key(row: Row, move: Move) -> None:
    label = str(row.get("name") or row.get("label") or "key")
    name = free_name(usable_name(label, "key"), [each.name for each in move.keys])
    made = MovedKey(name, ACCOUNT, f"key:{row['hash']}", str(row.get("label") or ""))
    made.is_blocked = row.get("disabled") is True
    limit = decimal(row.get("limit"))
    reset = row.get("limit_reset")
    if limit is not None:
        left = decimal(row.get("limit_remaining"))
        # What comes anew stays whole; what does not is what is left of it.
        cap = limit if reset or left is None else left
        made.fields["spend_cap"] = plain(max(Decimal("0.000000001"), cap))
        made.fields["spend_period"] = _PERIODS.get(str(reset), "total")
    if reset == "weekly":
        made.fields["spend_cap"] = plain((limit or Decimal(0)) * 4)
        move.left.append(
            f"key {name}: its limit is by the week there; here four of it by the month"
        )
    if row.get("expires_at"):
        made.fields["expires_at"] = str(row["expires_at"])
    move.keys.append(made)
