"""From LiteLLM: its `config.yaml`, and the tables of its database."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, cast

from merino.moving.dumps import Row, Tables
from merino.moving.move import (
    Move,
    MovedAccount,
    MovedAlias,
    MovedDeployment,
    MovedKey,
    free_name,
    usable_name,
)
from merino.moving.values import decimal, number, plain

KEYS, TEAMS, USERS = "LiteLLM_VerificationToken", "LiteLLM_TeamTable", "LiteLLM_UserTable"
BUDGETS, MODELS, SPEND = "LiteLLM_BudgetTable", "LiteLLM_ProxyModelTable", "LiteLLM_SpendLogs"
COLUMNS = {
    KEYS: frozenset(("token", "key_name")),
    TEAMS: frozenset(("team_id", "team_alias")),
    SPEND: frozenset(("request_id", "spend")),
    MODELS: frozenset(("model_id", "litellm_params")),
    BUDGETS: frozenset(("budget_id", "max_budget")),
    USERS: frozenset(("user_id", "user_role")),
}
"""What tells a table's rows where the table is not named."""

WITHOUT_TEAM = "litellm"
"""The account of keys that have neither a team nor a user."""

_SERVERS = {
    "openai": "https://api.openai.com/v1",
    "text-completion-openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "deepseek": "https://api.deepseek.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "groq": "https://api.groq.com/openai/v1",
    "mistral": "https://api.mistral.ai/v1",
    "xai": "https://api.x.ai/v1",
    "together_ai": "https://api.together.xyz/v1",
    "fireworks_ai": "https://api.fireworks.ai/inference/v1",
    "cerebras": "https://api.cerebras.ai/v1",
    "perplexity": "https://api.perplexity.ai",
    "nvidia_nim": "https://integrate.api.nvidia.com/v1",
    "ollama": "http://localhost:11434/v1",
    "ollama_chat": "http://localhost:11434/v1",
}
_ANYWHERE = {"hosted_vllm", "openai_like", "custom_openai", "lm_studio", "litellm_proxy", "vllm"}
"""Servers of one's own that speak OpenAI's API; their address is in `api_base`."""
_STRATEGIES = {
    "simple-shuffle": "weighted",
    "least-busy": "least_busy",
    "latency-based-routing": "fastest",
    "cost-based-routing": "cheapest",
    "usage-based-routing": "least_busy",
    "usage-based-routing-v2": "least_busy",
}
_ALL = {"all-team-models", "all-proxy-models", "*"}
_CARRIED = {
    "model", "api_base", "api_key", "rpm", "tpm", "max_parallel_requests", "weight", "timeout",
    "stream_timeout", "input_cost_per_token", "output_cost_per_token", "api_version", "base_url",
    "cache_read_input_token_cost", "cache_creation_input_token_cost", "custom_llm_provider",
}  # fmt: skip
_ANSWERED = {
    "general_settings": {"master_key", "database_url", "store_model_in_db"},
    "litellm_settings": {
        "fallbacks", "drop_params", "set_verbose", "request_timeout", "num_retries",
    },
}  # fmt: skip
"""What is done here without a setting, or told of in another way."""
_MILLION = Decimal(1_000_000)


def take_config(config: Mapping[str, Any], move: Move) -> None:
    """Models, routing, fallbacks."""
    for entry in _dicts(config.get("model_list")):
        _take_model(entry, move)
    router = _dict(config.get("router_settings"))
    general = _dict(config.get("litellm_settings"))
    _take_routing(router, general, move)
    for section, known in _ANSWERED.items():
        for name in sorted(_dict(config.get(section)).keys() - known):
            move.left.append(f"{section}.{name} has no counterpart that is filled in by itself")
    if "master_key" in _dict(config.get("general_settings")):
        move.left.append(
            "general_settings.master_key: operators have keys of their own here, see "
            "`merino admin-keys create`"
        )


def _take_model(entry: Mapping[str, Any], move: Move) -> None:
    alias = str(entry.get("model_name") or "")
    params, info = _dict(entry.get("litellm_params")), _dict(entry.get("model_info"))
    model = str(params.get("model") or "")
    if not alias or not model:
        move.left.append(
            f"a model without a name or without litellm_params.model: {alias or model}"
        )
        return
    if "*" in alias or "*" in model:
        move.left.append(f"model {alias}: patterns are not carried over; name each model")
        return
    deployment = _deployment(alias, model, params, info, move)
    if deployment is None:
        return
    move.deployments.append(deployment)
    found = next((each for each in move.aliases if each.name == alias), None)
    if found is None:
        found = MovedAlias(alias, [])
        move.aliases.append(found)
    found.deployments.append(deployment.name)
    for name, value in (
        ("output_tokens_max", info.get("max_output_tokens")),
        ("context_tokens_max", _sum(info.get("max_input_tokens"), info.get("max_output_tokens"))),
        ("timeout_s", params.get("timeout")),
    ):
        given = number(value)
        if given is not None and given > 0:
            found.fields[name] = max(found.fields.get(name, 0), given)


def _deployment(
    alias: str, model: str, params: Mapping[str, Any], info: Mapping[str, Any], move: Move
) -> MovedDeployment | None:
    provider, _, rest = model.partition("/")
    if params.get("custom_llm_provider"):
        given = str(params["custom_llm_provider"])
        provider, rest = given, rest if provider == given else model
    elif not rest:
        provider, rest = "openai", model
    is_spoken = provider in _SERVERS or provider in _ANYWHERE or provider.startswith("azure")
    if not is_spoken:
        move.left.append(
            f"model {alias}: provider {provider} is not spoken here; put a server with OpenAI's "
            "API in front of it, or reach it through OpenRouter"
        )
        return None
    base = str(params.get("api_base") or params.get("base_url") or _SERVERS.get(provider, ""))
    made = MovedDeployment(
        free_name(
            usable_name(str(info.get("id") or f"{provider}-{rest}"), "deployment"),
            [each.name for each in move.deployments],
        ),
        {"base_url": base.rstrip("/"), "upstream_model": rest},
    )
    if provider.startswith("azure"):
        made.fields["base_url"] = re.sub(r"(/openai(/v1)?)?/*$", "", base) + "/openai/v1"
    elif provider in {"ollama", "ollama_chat"} and not made.fields["base_url"].endswith("/v1"):
        made.fields["base_url"] += "/v1"
    if not base:
        move.left.append(f"model {alias}: it has no api_base; set base_url of {made.name}")
        made.fields["base_url"] = "https://fill.in.example/v1"
    if provider == "anthropic":
        made.fields["provider"] = "anthropic"
    _take_credential(alias, provider, params.get("api_key"), made, move)
    _take_numbers(params, info, made)
    if info.get("base_model"):
        made.fields["price_model"] = str(info["base_model"]).rpartition("/")[2]
    for name in sorted(params.keys() - _CARRIED):
        move.left.append(f"model {alias}: litellm_params.{name} is not sent; callers may send it")
    return made


def _take_credential(
    alias: str, provider: str, given: Any, made: MovedDeployment, move: Move
) -> None:
    variable = f"{re.sub(r'[^A-Z0-9]+', '_', provider.upper())}_API_KEY"
    if isinstance(given, str) and given.startswith("os.environ/"):
        variable = given.removeprefix("os.environ/")
    elif given:
        variable = f"{re.sub(r'[^A-Z0-9]+', '_', made.name.upper()).strip('_')}_API_KEY"
        move.left.append(
            f"model {alias}: its key stands in the file as it is, and is not written anywhere; set "
            f"{variable} to it"
        )
    elif provider in _ANYWHERE or provider.startswith("ollama"):
        return
    move.variables[variable] = made.name
    if provider.startswith("azure"):
        made.headers["api-key"] = f"env:{variable}"
    else:
        made.fields["credential"] = f"env:{variable}"


def _take_numbers(
    params: Mapping[str, Any], info: Mapping[str, Any], made: MovedDeployment
) -> None:
    for theirs, ours in (("rpm", "rpm"), ("tpm", "tpm"), ("max_parallel_requests", "concurrency")):
        limit = number(params.get(theirs))
        if limit:
            made.limits[ours] = limit
    weight = number(params.get("weight"))
    if weight:
        made.fields["weight"] = min(1000, weight)
    first = number(params.get("stream_timeout"))
    if first:
        made.fields["first_token_timeout_s"] = first
    for theirs, ours in (
        ("input_cost_per_token", "input"),
        ("output_cost_per_token", "output"),
        ("cache_read_input_token_cost", "cached"),
        ("cache_creation_input_token_cost", "cache_write"),
    ):
        cost = decimal(params.get(theirs, info.get(theirs)))
        if cost is not None:
            made.price[ours] = plain(cost * _MILLION)


def _take_routing(router: Mapping[str, Any], general: Mapping[str, Any], move: Move) -> None:
    strategy = _STRATEGIES.get(str(router.get("routing_strategy") or "simple-shuffle"))
    if strategy is None:
        move.left.append(
            f"router_settings.routing_strategy {router['routing_strategy']} is not known here"
        )
    aliases = {alias.name: alias for alias in move.aliases}
    for alias in move.aliases:
        if strategy and len(alias.deployments) > 1:
            alias.fields["selection_policy"] = strategy
    for fallbacks in (general.get("fallbacks"), router.get("fallbacks")):
        for each in _dicts(fallbacks):
            for name, others in each.items():
                known = [str(other) for other in _list(others) if str(other) in aliases]
                if name in aliases and known:
                    aliases[name].fields["fallbacks"] = known
                if lost := [str(other) for other in _list(others) if str(other) not in aliases]:
                    move.left.append(f"fallbacks of {name}: {', '.join(lost)} are no models here")
    for name, value in _dict(router.get("model_group_alias")).items():
        target = str(_dict(value).get("model") or value)
        if target in aliases and name not in aliases:
            one = aliases[target]
            move.aliases.append(MovedAlias(name, list(one.deployments), dict(one.fields)))
    known = {"routing_strategy", "fallbacks", "model_group_alias", "num_retries", "timeout"}
    for name in sorted(router.keys() - known):
        move.left.append(f"router_settings.{name} has no counterpart that is filled in by itself")


def take_tables(tables: Tables, move: Move) -> None:
    """Teams and users become accounts, keys become keys."""
    budgets = {str(row["budget_id"]): row for row in tables.get(BUDGETS, [])}
    accounts: dict[str, str] = {}
    for row in tables.get(TEAMS, []):
        label = str(row.get("team_alias") or row["team_id"])
        _take_account(f"team:{row['team_id']}", label, row, accounts, move)
    users = {str(row["user_id"]): row for row in tables.get(USERS, [])}
    for row in tables.get(KEYS, []):
        _take_key(row, users, budgets, accounts, move)
    for row in tables.get(MODELS, []):
        name = row.get("model_name")
        move.left.append(
            f"model {name} is kept in the database, its parameters encrypted; add it to "
            "config.yaml, or as a deployment here"
        )
    if spend := tables.get(SPEND, []):
        total = sum((decimal(row.get("spend")) or Decimal(0) for row in spend), Decimal(0))
        move.left.append(
            f"{len(spend):,} rows of spend, ${plain(total)}, stay where they are; what is left of "
            "budgets is carried over"
        )


def _take_account(origin: str, label: str, row: Row, accounts: dict[str, str], move: Move) -> str:
    if origin in accounts:
        return accounts[origin]
    name = free_name(usable_name(label, "account"), [each.name for each in move.accounts])
    made = MovedAccount(name, origin)
    accounts[origin] = name
    move.accounts.append(made)
    made.fields.update(_limits(row))
    if _is_true(row.get("blocked")):
        made.fields["disabled"] = True
    budget, spent = decimal(row.get("max_budget")), decimal(row.get("spend")) or Decimal(0)
    period = _period(row.get("budget_duration"))
    if budget is None:
        move.left.append(
            f"account {name}: no budget there; give it credit: "
            f"merino accounts credit '{name}' AMOUNT"
        )
        return name
    left = max(Decimal(0), budget - spent)
    made.opening = plain(left)
    made.memo = f"opening balance from LiteLLM: budget {plain(budget)}, spent {plain(spent)}"
    if row.get("budget_duration"):
        made.fields["spend_cap"] = plain(budget)
        made.fields["spend_period"] = period or "month"
        move.left.append(
            f"account {name}: its budget of {plain(budget)} comes anew every "
            f"{row['budget_duration']}; here credit does not: book it each time, or let a rule top "
            "it up" + ("" if period else "; the cap is by the month")
        )
    return name


def _take_key(
    row: Row,
    users: Mapping[str, Row],
    budgets: Mapping[str, Row],
    accounts: dict[str, str],
    move: Move,
) -> None:
    token = str(row["token"])
    account = _account_of(row, users, accounts, move)
    label = str(row.get("key_alias") or f"litellm-{token[:12]}")
    name = free_name(usable_name(label, "key"), [each.name for each in move.keys])
    made = MovedKey(name, account, f"key:{token}", str(row.get("key_name") or ""))
    terms = {
        **budgets.get(str(row.get("budget_id")), {}),
        **{k: v for k, v in row.items() if v is not None},
    }
    made.fields.update(_limits(terms))
    models = [str(each) for each in _list(row.get("models"))]
    if "no-default-models" in models:
        made.is_blocked = True
        move.left.append(f"key {name} may call no model there; it is disabled here")
    elif models and not set(models) & _ALL:
        made.fields["aliases"] = models
    if budget := decimal(terms.get("max_budget")):
        period = _period(terms.get("budget_duration")) if terms.get("budget_duration") else "total"
        made.fields["spend_cap"] = plain(budget)
        made.fields["spend_period"] = period or "month"
        if period is None:
            move.left.append(
                f"key {name}: its cap is for {terms['budget_duration']} there, by the month here"
            )
        if period == "total" and (spent := decimal(row.get("spend"))):
            made.fields["spend_cap"] = plain(max(Decimal("0.01"), budget - spent))
    if row.get("expires"):
        made.fields["expires_at"] = _moment(str(row["expires"]))
    made.is_blocked = made.is_blocked or _is_true(row.get("blocked"))
    move.keys.append(made)


def _account_of(row: Row, users: Mapping[str, Row], accounts: dict[str, str], move: Move) -> str:
    if team := row.get("team_id"):
        if f"team:{team}" not in accounts:
            move.left.append(
                f"team {team} has keys and is in no file; its account has its id as name"
            )
        return _take_account(f"team:{team}", str(team), {}, accounts, move)
    if user := row.get("user_id"):
        of = users.get(str(user), {})
        label = str(of.get("user_alias") or of.get("user_email") or user)
        return _take_account(f"user:{user}", label, of, accounts, move)
    return _take_account("nobody", WITHOUT_TEAM, {}, accounts, move)


def _limits(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "rpm": number(row.get("rpm_limit")),
        "tpm": number(row.get("tpm_limit")),
        "concurrency": number(row.get("max_parallel_requests")),
    }
    return {name: value for name, value in found.items() if value}


def _period(duration: Any) -> str | None:
    """Of a calendar's periods the same one; `None` if there is none like it."""
    text = str(duration or "").lower()
    if text in {"1d", "24h", "daily"}:
        return "day"
    return "month" if text in {"30d", "31d", "1mo", "monthly"} else None


def _moment(text: str) -> str:
    plain = text.strip().replace(" ", "T")
    return plain if re.search(r"(Z|[+-]\d\d:?\d\d)$", plain) else f"{plain}Z"


def _list(value: Any) -> list[Any]:
    """A list, also as PostgreSQL writes one: ``{a,"b c"}``."""
    if isinstance(value, list):
        return cast("list[Any]", value)
    text = str(value or "").strip()
    if text.startswith("["):
        try:
            return cast("list[Any]", json.loads(text))
        except ValueError:
            return []
    if text.startswith("{") and text.endswith("}"):
        return [
            quoted or plain for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)', text)
        ]
    return [text] if text else []


def _dict(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _dicts(value: Any) -> Iterable[dict[str, Any]]:
    return [_dict(each) for each in cast("list[Any]", value)] if isinstance(value, list) else []


def _is_true(value: Any) -> bool:
    return value is True or str(value).lower() in {"t", "true", "1"}


def _sum(one: Any, other: Any) -> int | None:
    first, second = number(one), number(other)
    return None if first is None else first + (second or 0)
