"""What new-api's tables say becomes what it means here, or is told."""

from __future__ import annotations

import sqlite3

import pytest

from merino.moving.dumps import read_tables
from merino.moving.move import Move
from merino.moving.new_api import COLUMNS, take_tables
from merino.moving.settings_file import settings_text
from merino.settings import load

USERS = [
    {"id": 1, "username": "ada", "quota": 1_250_000, "group": "vip", "status": 1, "email": "a@example.org"},
    {"id": 2, "username": "bob", "quota": -5, "group": "default", "status": 2, "email": ""},
]  # fmt: skip
TOKENS = [
    {"id": 1, "user_id": 1, "key": "k" * 44 + "wxyz", "name": "ci", "status": 1, "remain_quota": 250_000,
     "unlimited_quota": 0, "model_limits_enabled": 1, "model_limits": "gpt-4o,o3", "expired_time": 1_800_000_000,
     "allow_ips": "10.0.0.1"},
    {"id": 2, "user_id": 1, "key": "a" * 48, "name": "all", "status": 3, "unlimited_quota": 1, "expired_time": -1},
    {"id": 3, "user_id": 2, "key": "b" * 48, "name": "spent", "status": 4, "remain_quota": 0, "unlimited_quota": 0},
    {"id": 4, "user_id": 9, "key": "c" * 48, "name": "lost", "status": 1, "remain_quota": 0, "unlimited_quota": 0},
    {"id": 5, "user_id": 1, "key": "d" * 48, "name": "gone", "status": 1, "deleted_at": "2026-01-01",
     "remain_quota": 0, "unlimited_quota": 0},
]  # fmt: skip


def moved(**tables) -> Move:
    move = Move()
    take_tables(tables, move)
    return move


def channel(kind: int, **fields) -> dict:
    return {
        "id": 1,
        "type": kind,
        "name": "one",
        "key": "sk-secret",
        "status": 1,
        "models": "m",
        **fields,
    }


def settings_of(move: Move, tmp_path):
    path = tmp_path / "imported.toml"
    path.write_text(settings_text(move, "one-api.db"), encoding="utf-8")
    return load(path, dict.fromkeys(move.variables, "sk-x"))


def test_quota_becomes_money() -> None:
    """500,000 of it are a dollar; less than nothing is nothing."""
    ada, bob = moved(users=USERS).accounts
    assert ("ada", "2.5", {"group": "vip", "notice_email": "a@example.org"}) == (
        ada.name,
        ada.opening,
        ada.fields,
    )
    assert ("bob", "0", {"disabled": True}) == (bob.name, bob.opening, bob.fields)


def test_tokens_become_keys() -> None:
    """What is left of a token's own quota is its cap; a spent one is capped at next to nothing, not
    switched off, so that a new cap lets it go on."""
    move = moved(users=USERS, tokens=TOKENS)
    ci, free, spent = move.keys
    assert {"spend_cap": "0.5", "spend_period": "total", "aliases": ["gpt-4o", "o3"],
            "expires_at": "2027-01-15T08:00:00Z"} == ci.fields  # fmt: skip
    assert ("ada ci", "ada", "sk-...wxyz", False) == (ci.name, ci.account, ci.hint, ci.is_blocked)
    assert ({}, True) == (free.fields, free.is_blocked)
    assert ("0.000000001", False) == (spent.fields["spend_cap"], spent.is_blocked)
    told = "\n".join(move.left)
    assert "token lost: its user 9" in told
    assert "addresses" in told
    assert "gone" not in told


@pytest.mark.parametrize(
    ("kind", "given", "base_url"),
    [
        (1, "", "https://api.openai.com/v1"),
        (1, "https://mirror.example.org/", "https://mirror.example.org/v1"),
        (3, "https://me.openai.azure.com", "https://me.openai.azure.com/openai/v1"),
        (4, "http://10.0.0.3:11434", "http://10.0.0.3:11434/v1"),
        (8, "https://own.example.org/v1/chat/completions", "https://own.example.org/v1"),
        (14, "", "https://api.anthropic.com/v1"),
        (17, "", "https://dashscope.aliyuncs.com/compatible-mode/v1"),
        (20, "", "https://openrouter.ai/api/v1"),
        (43, "https://api.deepseek.com", "https://api.deepseek.com/v1"),
        (45, "", "https://ark.cn-beijing.volces.com/api/v3"),
        (47, "http://10.0.0.4:9997", "http://10.0.0.4:9997/v1"),
    ],
)
def test_a_channels_address_is_where_it_speaks_the_api(kind, given, base_url, tmp_path) -> None:
    """Of each kind, with and without an address of its own; its key is in no file."""
    move = moved(channels=[channel(kind, base_url=given)])
    [found] = settings_of(move, tmp_path).deployments
    assert base_url == found.base_url
    assert "sk-secret" not in settings_text(move, "x")
    assert ("anthropic" if kind == 14 else "openai") == found.provider
    assert ("api-key" in found.headers) is (kind == 3)


@pytest.mark.parametrize("kind", [2, 15, 33, 41, 50])
def test_other_kinds_are_told(kind) -> None:
    """What does not speak the API is left out by name."""
    move = moved(channels=[channel(kind)])
    assert [] == move.deployments
    assert any(f"kind {kind}" in line for line in move.left)


def test_priority_weight_and_names_hold(tmp_path) -> None:
    """The first priority is listed first; among equals it goes by weight; a model that is called
    otherwise there is."""
    channels = [
        channel(43, name="late", priority=1, models="a,b", weight=3),
        channel(1, name="early", priority=9, models="a", model_mapping='{"a": "gpt-4o"}'),
        channel(1, name="off", status=2, models="a"),
    ]
    settings = settings_of(moved(channels=channels), tmp_path)
    assert ("early-a", "late-a") == settings.aliases["a"].deployments
    assert "priority" == settings.aliases["a"].selection_policy
    by_name = {each.name: each for each in settings.deployments}
    assert ("gpt-4o", 3) == (by_name["early-a"].upstream_model, by_name["late-b"].weight)
    equal = [channel(1, name="x", models="a"), channel(43, name="y", models="a")]
    assert "weighted" == settings_of(moved(channels=equal), tmp_path).aliases["a"].selection_policy


def test_its_own_file_is_read(tmp_path) -> None:
    """SQLite, with whatever else is in it; nothing of it is changed."""
    path = tmp_path / "one-api.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE users (id, username, quota, status)")
    database.execute("CREATE TABLE options (key, value)")
    database.execute("INSERT INTO users VALUES (1, 'ada', 500000, 1)")
    database.commit()
    database.close()
    before = path.read_bytes()
    assert {"users": [{"id": 1, "username": "ada", "quota": 500000, "status": 1}]} == read_tables(
        path, COLUMNS
    )
    assert before == path.read_bytes()
