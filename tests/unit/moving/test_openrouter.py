"""What OpenRouter's API answers about keys and credits becomes what it means here, or is told."""

from __future__ import annotations

import json

from merino.moving.dumps import read_tables
from merino.moving.move import Move
from merino.moving.openrouter import COLUMNS, take_tables

KEY = {
    "hash": "f01d",
    "name": "prod",
    "label": "sk-or-v1-abc...123",
    "disabled": False,
    "usage": 25.5,
}
KEYS = [
    {**KEY, "limit": 100, "limit_remaining": 74.5, "limit_reset": None},
    {**KEY, "limit": 100, "limit_remaining": 74.5, "limit_reset": "monthly"},
    {**KEY, "name": "week", "limit": 10, "limit_remaining": 0, "limit_reset": "weekly", "disabled": True},
    {**KEY, "name": "free", "limit": None, "limit_remaining": None, "expires_at": "2027-12-31T00:00:00Z"},
    {**KEY, "name": "spent", "limit": 5, "limit_remaining": -1},
]  # fmt: skip


def moved(tmp_path, **answers) -> Move:
    move, tables = Move(), {}
    for name, answer in answers.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"data": answer}))
        tables |= read_tables(path, COLUMNS)
    take_tables(tables, move)
    return move


def test_keys_keep_what_is_left_of_their_limits(tmp_path) -> None:
    """A limit that comes anew stays whole; one that does not is what is left; a week is not kept."""
    keys = moved(tmp_path, keys=KEYS).keys
    assert ["prod", "prod-2", "week", "free", "spent"] == [each.name for each in keys]
    assert [
        {"spend_cap": "74.5", "spend_period": "total"},
        {"spend_cap": "100", "spend_period": "month"},
        {"spend_cap": "40", "spend_period": "month"},
        {"expires_at": "2027-12-31T00:00:00Z"},
        {"spend_cap": "0.000000001", "spend_period": "total"},
    ] == [each.fields for each in keys]
    assert [False, False, True, False, False] == [each.is_blocked for each in keys]
    assert {"sk-or-v1-abc...123"} == {each.hint for each in keys}


def test_the_account_opens_with_the_credits_that_are_left(tmp_path) -> None:
    """And it is told that they are spent over there by the relay's own calls."""
    move = moved(tmp_path, keys=KEYS, credits={"total_credits": 50.5, "total_usage": 12.25})
    [account] = move.accounts
    assert ("openrouter", "38.25") == (account.name, account.opening)
    assert any("$38.25" in line for line in move.left)
    assert [None] == [each.opening for each in moved(tmp_path, keys=KEYS).accounts]


def test_every_model_is_told_about(tmp_path) -> None:
    """Models are no part of an account there."""
    assert any("OPENROUTER_API_KEY" in line for line in moved(tmp_path, keys=KEYS).left)
