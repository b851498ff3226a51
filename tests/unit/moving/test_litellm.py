"""What LiteLLM's files say becomes what it means here, or is told."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.errors import Misconfigured
from merino.moving.dumps import read_tables
from merino.moving.litellm import COLUMNS, KEYS, TEAMS, take_config, take_tables
from merino.moving.move import Move, free_name, usable_name
from merino.moving.settings_file import settings_text
from merino.settings import load

KNOWN = {
    "openai/gpt-4o": ("https://api.openai.com/v1", "gpt-4o", "OPENAI_API_KEY"),
    "gpt-4o": ("https://api.openai.com/v1", "gpt-4o", "OPENAI_API_KEY"),
    "deepseek/deepseek-chat": ("https://api.deepseek.com/v1", "deepseek-chat", "DEEPSEEK_API_KEY"),
    "openrouter/meta/llama": ("https://openrouter.ai/api/v1", "meta/llama", "OPENROUTER_API_KEY"),
    "groq/llama-3": ("https://api.groq.com/openai/v1", "llama-3", "GROQ_API_KEY"),
    "mistral/large": ("https://api.mistral.ai/v1", "large", "MISTRAL_API_KEY"),
    "xai/grok": ("https://api.x.ai/v1", "grok", "XAI_API_KEY"),
    "anthropic/claude": ("https://api.anthropic.com/v1", "claude", "ANTHROPIC_API_KEY"),
}


def moved(*models, **sections) -> Move:
    move = Move()
    entries = [{"model_name": name, "litellm_params": params} for name, params in models]
    take_config({"model_list": entries, **sections}, move)
    return move


def settings_of(move: Move, tmp_path):
    """As the relay reads them."""
    path = tmp_path / "imported.toml"
    path.write_text(settings_text(move, "config.yaml"), encoding="utf-8")
    return load(path, dict.fromkeys(move.variables, "sk-x"))


@pytest.mark.parametrize("model", KNOWN)
def test_a_provider_that_is_known_needs_no_address(model, tmp_path) -> None:
    """Base URL, model and the variable of its credential, as LiteLLM has them by itself."""
    base_url, upstream_model, variable = KNOWN[model]
    move = moved(("m", {"model": model}))
    [found] = settings_of(move, tmp_path).deployments
    assert (base_url, upstream_model) == (found.base_url, found.upstream_model)
    assert f"env:{variable}" == found.credential
    assert {variable} == set(move.variables)
    assert ("anthropic" if "anthropic" in model else "openai") == found.provider


@pytest.mark.parametrize(
    "base",
    [
        "https://me.openai.azure.com",
        "https://me.openai.azure.com/",
        "https://me.openai.azure.com/openai/v1/",
    ],
)
def test_azure_is_asked_at_its_newer_address(base, tmp_path) -> None:
    """With its own header, and the name of the deployment there as the model."""
    params = {"model": "azure/eu", "api_base": base, "api_key": "os.environ/AZ", "api_version": "x"}
    [found] = settings_of(moved(("gpt-4o", params)), tmp_path).deployments
    assert "https://me.openai.azure.com/openai/v1" == found.base_url
    assert ("eu", {"api-key": "env:AZ"}, "") == (
        found.upstream_model,
        dict(found.headers),
        found.credential,
    )


def test_a_key_in_clear_is_never_written(tmp_path) -> None:
    """Not into the settings, not into what is told."""
    move = moved(("m", {"model": "openai/gpt-4o", "api_key": "sk-very-secret"}))
    assert "very-secret" not in settings_text(move, "x") + repr(move.left)
    assert ["OPENAI_GPT_4O_API_KEY"] == list(move.variables)
    assert any("OPENAI_GPT_4O_API_KEY" in line for line in move.left)


def test_prices_are_by_the_million(tmp_path) -> None:
    """Whatever form the number per token has, the price is exact."""
    params = {
        "model": "ollama/l",
        "input_cost_per_token": 1.5e-7,
        "output_cost_per_token": "0.0000006",
    }
    [found] = settings_of(moved(("m", params)), tmp_path).deployments
    assert found.price is not None
    assert (150_000_000, 600_000_000) == (found.price.input_nanos, found.price.output_nanos)
    assert "http://localhost:11434/v1" == found.base_url


def test_models_of_one_name_are_one_alias(tmp_path) -> None:
    """With their limits and weights, and the way of choosing."""
    move = moved(
        ("m", {"model": "openai/a", "rpm": 60, "weight": 3, "timeout": 20}),
        ("m", {"model": "groq/b", "tpm": 1000, "max_parallel_requests": 2, "timeout": 40}),
        ("other", {"model": "openai/c"}),
        router_settings={
            "routing_strategy": "least-busy",
            "model_group_alias": {"old": "m"},
            "fallbacks": [{"m": ["other", "gone"]}],
        },
    )
    settings = settings_of(move, tmp_path)
    alias = settings.aliases["m"]
    assert ("openai-a", "groq-b") == alias.deployments
    assert ("least_busy", ("other",), 40) == (
        alias.selection_policy,
        alias.fallbacks,
        alias.timeout_s,
    )
    assert alias == settings.aliases["old"]
    assert [60, None] == [each.limits.rpm for each in settings.deployments[:2]]
    assert [3, 1] == [each.weight for each in settings.deployments[:2]]
    assert any("gone" in line for line in move.left)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (("m", {"model": "bedrock/titan"}), "bedrock is not spoken here"),
        (("m", {"model": "vertex_ai/gemini"}), "vertex_ai is not spoken here"),
        (("m", {"model": "x", "custom_llm_provider": "sagemaker"}), "sagemaker is not spoken here"),
        (("*", {"model": "openai/*"}), "patterns are not carried over"),
        (("", {"model": "openai/a"}), "without a name"),
        (("m", {"model": "openai/a", "temperature": 0.2}), "litellm_params.temperature"),
    ],
)
def test_what_is_not_carried_over_is_told(entry, said) -> None:
    """Nothing goes without a word."""
    assert [line for line in moved(entry).left if said in line]


def test_every_setting_is_answered_for() -> None:
    """Each of the file's other settings is used, or named as left."""
    move = moved(
        ("m", {"model": "openai/a"}),
        router_settings={"redis_host": "x", "num_retries": 2},
        litellm_settings={"success_callback": ["langfuse"], "drop_params": True},
        general_settings={"alerting": ["slack"], "master_key": "sk-1"},
    )
    told = "\n".join(move.left)
    for name in ("redis_host", "success_callback", "alerting", "master_key"):
        assert name in told
    assert "sk-1" not in told


ROWS = {
    TEAMS: [
        {"team_id": "t1", "team_alias": "R&D", "max_budget": "100", "spend": "37.5", "rpm_limit": "600"},
        {"team_id": "t2", "team_alias": "Ops", "max_budget": 50, "spend": 60, "budget_duration": "30d", "blocked": "t"},
    ],
    "LiteLLM_UserTable": [{"user_id": "u1", "user_email": "ada@example.org", "user_role": "x", "max_budget": 10}],
    "LiteLLM_BudgetTable": [{"budget_id": "b1", "max_budget": 7, "rpm_limit": 5}],
    KEYS: [
        {"token": "a" * 64, "key_name": "sk-...aa", "key_alias": "ci", "team_id": "t1", "models": '{gpt,"my model"}',
         "max_budget": "5", "budget_duration": "1d", "expires": "2027-01-01 00:00:00"},
        {"token": "b" * 64, "key_name": "sk-...bb", "user_id": "u1", "models": ["all-team-models"], "blocked": True},
        {"token": "c" * 64, "key_name": "sk-...cc", "key_alias": "ci", "budget_id": "b1"},
        {"token": "d" * 64, "key_name": "sk-...dd", "team_id": "gone", "max_budget": 20, "spend": 5},
    ],
    "LiteLLM_SpendLogs": [{"request_id": "1", "spend": "0.5"}, {"request_id": "2", "spend": 1.25}],
}  # fmt: skip


def test_teams_and_users_become_accounts_with_what_is_left() -> None:
    """A budget that comes anew becomes a cap, too; an overspent one opens with nothing."""
    move = Move()
    take_tables(ROWS, move)
    accounts = {each.name: each for each in move.accounts}
    assert ["R-D", "Ops", "ada@example.org", "litellm", "gone"] == list(accounts)
    assert ("62.5", {"rpm": 600}) == (accounts["R-D"].opening, accounts["R-D"].fields)
    assert "0" == accounts["Ops"].opening
    cap = {"spend_cap": "50", "spend_period": "month", "disabled": True}
    assert cap == accounts["Ops"].fields
    assert "10" == accounts["ada@example.org"].opening
    assert any("2 rows of spend, $1.75" in line for line in move.left)
    assert any("team gone" in line for line in move.left)


def test_keys_keep_their_terms() -> None:
    """Models, caps, limits of their budget, expiry, being blocked; a name twice gets a number."""
    move = Move()
    take_tables(ROWS, move)
    ci, blocked, second, lost = move.keys
    assert {"aliases": ["gpt", "my model"], "spend_cap": "5", "spend_period": "day",
            "expires_at": "2027-01-01T00:00:00Z"} == ci.fields  # fmt: skip
    assert ("R-D", False, "sk-...aa") == (ci.account, ci.is_blocked, ci.hint)
    assert (f"litellm-{'b' * 12}", "ada@example.org", True, {}) == (
        blocked.name, blocked.account, blocked.is_blocked, blocked.fields,
    )  # fmt: skip
    assert ("ci-2", {"rpm": 5, "spend_cap": "7", "spend_period": "total"}) == (
        second.name,
        second.fields,
    )
    assert "15" == lost.fields["spend_cap"]


DUMP = """\
COPY public."LiteLLM_TeamTable" (team_id, team_alias, max_budget) FROM stdin;
t1\tA \\\\ tab\\there\t\\N
t2\tB\t5
\\.

COPY public."Other" (a) FROM stdin;
1
\\.
"""


def test_a_plain_dump_is_read(tmp_path) -> None:
    """Nulls, escapes, several tables, also those that nobody asked for."""
    path = tmp_path / "dump.sql"
    path.write_text(DUMP)
    found = read_tables(path, COLUMNS)
    assert [
        {"team_id": "t1", "team_alias": "A \\ tab\there", "max_budget": None},
        {"team_id": "t2", "team_alias": "B", "max_budget": "5"},
    ] == found[TEAMS]


@pytest.mark.parametrize("form", ["json", "lines", "csv", "tables"])
def test_a_table_is_known_by_its_columns(form, tmp_path) -> None:
    """As CSV, JSON, JSON lines, or tables by name."""
    rows = [{"token": "a", "key_name": "sk-...1"}, {"token": "b", "key_name": None}]
    path = tmp_path / "keys"
    path.write_text(
        {
            "json": json.dumps(rows),
            "lines": "\n".join(map(json.dumps, rows)),
            "csv": "token,key_name\na,sk-...1\nb,\n",
            "tables": json.dumps({KEYS: rows}),
        }[form]
    )
    assert {KEYS: rows} == read_tables(path, COLUMNS)


def test_a_file_of_something_else_is_refused(tmp_path) -> None:
    """By its columns, or as no text."""
    path = tmp_path / "x.csv"
    path.write_text("sheep,wool\n1,2\n")
    with pytest.raises(Misconfigured, match="its columns are sheep, wool"):
        read_tables(path, COLUMNS)
    path.write_bytes(b"PGDMP\x01\x0e\xff\xfe")
    with pytest.raises(Misconfigured, match="plain format"):
        read_tables(path, COLUMNS)


@given(st.text(max_size=150), st.lists(st.text(max_size=30), max_size=5))
def test_names_are_usable_and_free(wanted, taken) -> None:
    """Whatever stood there, the name is one that is taken here, and nobody else's."""
    name = free_name(usable_name(wanted, "key"), taken)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._@:+-]{0,99}", name)
    assert name not in taken


@given(st.decimals(min_value=0, max_value=Decimal("0.01"), places=12))
def test_no_price_has_an_exponent(cost) -> None:
    """TOML takes amounts as plain numbers in texts."""
    [made] = moved(("m", {"model": "openai/a", "input_cost_per_token": str(cost)})).deployments
    assert re.fullmatch(r"\d+(\.\d{1,9})?", made.price["input"])
