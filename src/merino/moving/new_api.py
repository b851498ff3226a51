"""From new-api (and one-api, which it grew from): the tables of its database."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
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

CHANNELS, TOKENS, USERS, LOGS = "channels", "tokens", "users", "logs"
COLUMNS = {
    TOKENS: frozenset(("remain_quota", "unlimited_quota")),
    USERS: frozenset(("username", "quota")),
    CHANNELS: frozenset(("models", "type")),
    LOGS: frozenset(("prompt_tokens", "completion_tokens", "quota")),
}
QUOTA_PER_DOLLAR = Decimal(500_000)
_ENABLED = 1
_EXHAUSTED = 4
_NEVER = -1

_SERVERS = {
    1: "https://api.openai.com/v1",
    4: "http://localhost:11434/v1",
    14: "https://api.anthropic.com/v1",
    20: "https://openrouter.ai/api/v1",
    24: "https://generativelanguage.googleapis.com/v1beta/openai",
    25: "https://api.moonshot.cn/v1",
    26: "https://open.bigmodel.cn/api/paas/v4",
    27: "https://api.perplexity.ai",
    31: "https://api.lingyiwanwu.com/v1",
    35: "https://api.minimax.chat/v1",
    40: "https://api.siliconflow.cn/v1",
    42: "https://api.mistral.ai/v1",
    43: "https://api.deepseek.com/v1",
    45: "https://ark.cn-beijing.volces.com/api/v3",
    48: "https://api.x.ai/v1",
}
"""By the kind of a channel: where its servers speak OpenAI's API, or Anthropic's."""
_AZURE, _ALIBABA, _ANTHROPIC, _CUSTOM = 3, 17, 14, 8
_ANYWHERE = {6, 7, 8, 47}
"""Servers of anybody's that speak OpenAI's API."""


def take_tables(tables: Tables, move: Move) -> None:
    for row in sorted(
        tables.get(CHANNELS, []), key=lambda row: -(number(row.get("priority")) or 0)
    ):
        _take_channel(row, move)
    _choose(tables.get(CHANNELS, []), move)
    accounts = {str(row.get("id")): _take_user(row, move) for row in tables.get(USERS, [])}
    for row in tables.get(TOKENS, []):
        _take_token(row, accounts, move)
    if logs := tables.get(LOGS, []):
        move.left.append(f"{len(logs):,} rows of logs stay where they are")
    if tables.get(CHANNELS):
        move.left.append(
            "ratios of models and groups are not carried over: prices are those of the price book, "
            "margins those of [margins]; look at both before you open"
        )


def _take_channel(row: Row, move: Move) -> None:
    name = usable_name(str(row.get("name") or f"channel {row.get('id')}"), "channel")
    kind = number(row.get("type")) or 0
    if number(row.get("status")) not in {None, _ENABLED}:
        move.left.append(f"channel {name} is disabled there, and left out")
        return
    base = _address(kind, str(row.get("base_url") or ""))
    if base is None:
        move.left.append(
            f"channel {name}: servers of kind {kind} are not spoken here; put one with OpenAI's "
            "API in front of them"
        )
        return
    variable = f"{re.sub(r'[^A-Z0-9]+', '_', name.upper()).strip('_')}_API_KEY"
    move.variables[variable] = f"channel {name}"
    if "\n" in str(row.get("key") or "").strip():
        move.left.append(f"channel {name} has several keys; one is used here, {variable}")
    mapping = _mapping(row.get("model_mapping"))
    for model in str(row.get("models") or "").split(","):
        if model.strip():
            _take_model(model.strip(), name, kind, base, variable, mapping, row, move)
    for field, what in (("param_override", "parameters"), ("header_override", "headers")):
        if row.get(field):
            move.left.append(f"channel {name}: the {what} that it sets are not carried over")


def _take_model(
    model: str,
    channel: str,
    kind: int,
    base: str,
    variable: str,
    mapping: Mapping[str, str],
    row: Row,
    move: Move,
) -> None:
    wanted = usable_name(f"{channel}-{model}", "deployment")
    made = MovedDeployment(
        free_name(wanted, [each.name for each in move.deployments]),
        {"base_url": base, "upstream_model": mapping.get(model, model)},
    )
    if kind == _ANTHROPIC:
        made.fields["provider"] = "anthropic"
    if kind == _AZURE:
        made.headers["api-key"] = f"env:{variable}"
    else:
        made.fields["credential"] = f"env:{variable}"
    if weight := number(row.get("weight")):
        made.fields["weight"] = min(1000, weight)
    move.deployments.append(made)
    alias = next((each for each in move.aliases if each.name == model), None)
    if alias is None:
        alias = MovedAlias(model, [])
        move.aliases.append(alias)
    alias.deployments.append(made.name)


def _choose(channels: list[Row], move: Move) -> None:
    """By weight among equals; where some come first, they are listed first."""
    priorities = {number(row.get("priority")) or 0 for row in channels}
    for alias in move.aliases:
        if len(alias.deployments) > 1 and len(priorities) == 1:
            alias.fields["selection_policy"] = "weighted"


def _address(kind: int, given: str) -> str | None:
    given = given.strip().rstrip("/")
    if kind == _AZURE:
        return f"{re.sub(r'/openai(/v1)?$', '', given)}/openai/v1" if given else None
    if kind == _ALIBABA:
        return f"{given or 'https://dashscope.aliyuncs.com'}/compatible-mode/v1"
    known = _SERVERS.get(kind)
    if known is None and kind not in _ANYWHERE:
        return None
    if not given:
        return known
    if kind == _CUSTOM:
        # There, it is the address of the call itself.
        return re.sub(r"/chat/completions$", "", given)
    if known is None:
        return given if given.endswith("/v1") else f"{given}/v1"
    path = re.sub(r"^https?://[^/]+", "", known)
    return given if given.endswith(path) else f"{given}{path}"


def _take_user(row: Row, move: Move) -> str:
    label = str(row.get("username") or row.get("display_name") or f"user {row.get('id')}")
    name = free_name(usable_name(label, "account"), [each.name for each in move.accounts])
    quota = decimal(row.get("quota")) or Decimal(0)
    left = max(Decimal(0), quota / QUOTA_PER_DOLLAR)
    made = MovedAccount(name, f"user:{row.get('id')}", opening=plain(left))
    made.memo = f"opening balance from new-api: quota {quota:f}"
    group = usable_name(str(row.get("group") or ""), "")
    if group and group != "default":
        made.fields["group"] = group
    if number(row.get("status")) not in {None, _ENABLED}:
        made.fields["disabled"] = True
    if row.get("email"):
        made.fields["notice_email"] = str(row["email"])
    move.accounts.append(made)
    return name


def _take_token(row: Row, accounts: Mapping[str, str], move: Move) -> None:
    if row.get("deleted_at"):
        return
    label = str(row.get("name") or f"token {row.get('id')}")
    owner = str(row.get("user_id"))
    account = accounts.get(owner)
    if account is None:
        move.left.append(f"token {label}: its user {owner} is in no file; left out")
        return
    secret = str(row.get("key") or "")
    name = free_name(usable_name(f"{account} {label}", "key"), [each.name for each in move.keys])
    hint = f"sk-...{secret[-4:]}" if len(secret) > 8 else ""
    made = MovedKey(name, account, f"key:{row.get('id')}", hint)
    status = number(row.get("status"))
    made.is_blocked = status not in {None, _ENABLED, _EXHAUSTED}
    if not _is_true(row.get("unlimited_quota")):
        left = (decimal(row.get("remain_quota")) or Decimal(0)) / QUOTA_PER_DOLLAR
        made.fields["spend_cap"] = plain(max(Decimal("0.000000001"), left))
        made.fields["spend_period"] = "total"
    models = [
        each.strip() for each in str(row.get("model_limits") or "").split(",") if each.strip()
    ]
    if _is_true(row.get("model_limits_enabled")) and models:
        made.fields["aliases"] = models
    expires = number(row.get("expired_time"))
    if expires is not None and expires != _NEVER and expires > 0:
        moment = datetime.fromtimestamp(expires, UTC)
        made.fields["expires_at"] = moment.isoformat().replace("+00:00", "Z")
    if row.get("allow_ips"):
        move.left.append(f"key {name}: addresses that may use it are not limited here")
    move.keys.append(made)


def _mapping(value: Any) -> dict[str, str]:
    try:
        found: Any = json.loads(str(value)) if value else {}
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(key): str(each) for key, each in cast("dict[Any, Any]", found).items()}


def _is_true(value: Any) -> bool:
    return value is True or str(value).lower() in {"t", "true", "1"}
