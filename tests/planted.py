"""A folder with a history to ask about: sixty days of calls of five accounts, in which the cost of
one key rose, one deployment is slow, and one key is noisy.

    python -m tests.planted FOLDER [CALLS]
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from merino.billing.stores.stores import BillingStores
from merino.domain.call import Attempt, CallRecord
from merino.ledger.lines import row_of
from merino.storage import Store

DAY_MS = 86_400_000
DAYS = 60
RISE_DAYS = 5
"""So long ago the bill began to rise."""
SLICE = 10_000
KEYS = {
    "default": ("first", "billing-service", "support-chat", "search-assist"),
    "acme": ("acme-web", "acme-mobile", "etl-backfill"),
    "northwind": ("nw-agents", "nw-reports"),
    "initech": ("initech-batch", "noisy-cron"),
    "globex": ("globex-eu", "globex-us"),
}
RISEN, NOISY, SLOW = "etl-backfill", "noisy-cron", "azure-o3"
MODELS = {
    "o3": ("openai-o3", SLOW),
    "o4-mini": ("openai-o4-mini",),
    "gpt-4.1": ("openai-gpt-4.1", "azure-gpt-4.1"),
    "claude-sonnet-4": ("anthropic-sonnet", "bedrock-sonnet"),
    "deepseek-r1": ("deepseek-r1",),
    "embed-3": ("openai-embed-3",),
}
PRICES = {
    "o3": (2_000, 8_000), "o4-mini": (1_100, 4_400), "gpt-4.1": (2_000, 8_000),
    "claude-sonnet-4": (3_000, 15_000), "deepseek-r1": (550, 2_190), "embed-3": (20, 0),
}  # fmt: skip
"""Nano-dollars a token, in and out."""
FAILURES = (
    (400, "invalid_type", "messages[0].content must be a string or a list, not a number."),
    (404, "model_not_found", "The model 'o3-min' does not exist. Did you mean o3-mini?"),
    (502, "upstream_failed", "The upstream answered 500: The server had an error."),
    (503, "upstream_unavailable", "No deployment of this model takes calls now."),
    (504, "upstream_timeout", "The upstream did not begin to answer within 60 s."),
)
CONTENT = {
    "model": "o3",
    "messages": [
        {"role": "system", "content": "You answer in short Markdown."},
        {"role": "user", "content": "Which deployment is *slow*, and why?"},
    ],
    "tools": [{"type": "function", "function": {"name": "latency_of", "parameters": {}}}],
    "stream": True,
    "reasoning_effort": "medium",
}
ANSWER = "**azure-o3** is slow:\n\n- p95 is 4 times that of `openai-o3`\n- it began five days ago\n"


@dataclass
class Planted:
    """Names to ask by."""

    admin_key: str
    keys: dict[str, str]
    accounts: dict[str, str]
    call_with_content: str


async def plant(folder: Path, calls: int = 60_000, now_ms: int | None = None) -> Planted:
    """As the relay books them."""
    now_ms = now_ms or int(time.time() * 1000)
    store = Store.open(folder)
    await store.start()
    chance = random.Random(7)
    accounts = {each.name: each for each in store.accounts.list()}
    for name in KEYS:
        if name not in accounts:
            accounts[name] = await store.accounts.create(name)
        await store.accounts.credit(accounts[name].id, 5_000 * 10**9, "invoice 2026-10")
    known = {each.name: each for each in store.keys.list()}
    keys = {}
    for account, names in KEYS.items():
        for name in names:
            if name not in known:
                known[name], _ = await store.keys.create(
                    account_id=accounts[account].id,
                    name=name,
                    spend_cap_nanos=400 * 10**9 if name in (RISEN, "acme-web") else None,
                    spend_period="month",
                )
            keys[name] = known[name]
    _, admin_key = await store.admin_keys.create("planted")
    applier = store._applier
    seq = applier.applied_seq
    names = list(keys)
    weights = [3, 8, 6, 4, 7, 5, 1, 6, 2, 3, 2, 4, 4]
    models = list(MODELS)
    for start in range(0, calls, SLICE):
        records = []
        for number in range(start, min(start + SLICE, calls)):
            seq += 1
            age_ms = int((calls - number) * DAYS * DAY_MS / calls)
            at_ms = now_ms - age_ms - chance.randrange(60_000)
            name = chance.choices(names, weights)[0]
            alias = chance.choices(models, [8, 10, 5, 6, 3, 2])[0]
            if age_ms < RISE_DAYS * DAY_MS and chance.random() < 0.14:
                name, alias = RISEN, "claude-sonnet-4"
            key = keys[name]
            records.append((seq, "call", at_ms, row_of(_call(chance, number, at_ms, key, alias, age_ms)), None))  # fmt: skip
        applier._booking.book(store._database, records)
        applier.applied_seq = seq
    seq += 1
    shown = _with_content(keys["support-chat"], now_ms - 60_000)
    applier._booking.book(store._database, [(seq, "call", shown.at_ms, row_of(shown), None)])
    applier.applied_seq = seq
    while await BillingStores(store).statements.sum_up(500):
        pass
    await store.close()
    return Planted(
        admin_key,
        {name: key.id for name, key in keys.items()},
        {name: account.id for name, account in accounts.items()},
        shown.id,
    )


def _call(chance: random.Random, number: int, at_ms: int, key, alias: str, age_ms: int):
    is_risen = key.name == RISEN and age_ms < RISE_DAYS * DAY_MS
    tokens_in = int(chance.lognormvariate(7.2 if is_risen else 6.4, 0.7))
    tokens_out = (
        0 if alias == "embed-3" else int(chance.lognormvariate(6.6 if is_risen else 5.6, 0.6))
    )
    deployment = chance.choice(MODELS[alias])
    first_ms = chance.lognormvariate(6.0, 0.45)
    if deployment == SLOW and age_ms < RISE_DAYS * DAY_MS:
        first_ms *= 4
    failure = None
    if key.name == NOISY and chance.random() < 0.7:
        failure = (429, "rate_limit_exceeded", "The key noisy-cron may send 60 calls a minute.")
    elif chance.random() < 0.02:
        failure = chance.choice(FAILURES)
    price_in, price_out = PRICES[alias]
    cost = 0 if failure else tokens_in * price_in + tokens_out * price_out
    streamed = chance.random() < 0.6
    attempts = ()
    if failure and failure[0] >= 500:
        attempts = (Attempt(deployment, 1.0, 400.0, "ServerError", 500, None, 0, "The server had an error."),)  # fmt: skip
    duration = 3.0 if failure else first_ms + tokens_out * chance.uniform(8, 14)
    says = number % 3 == 0  # as many callers say what a call is about
    return CallRecord(
        end_user=f"user-{1000 + number % 47}" if says else None,
        tags=json.dumps(["nightly", "etl"] if key.name == RISEN else ["web"]) if says else None,
        metadata=json.dumps({"team": ("search", "support")[number % 2]}) if says else None,
        address=f"203.0.113.{len(key.name)}" if number % 9 else f"198.51.100.{number % 5}",
        id=f"req_{number:06x}{chance.randrange(16**18):018x}",
        account_id=key.account_id,
        key_id=key.id,
        alias=alias,
        endpoint="embeddings" if alias == "embed-3" else "chat/completions",
        at_ms=at_ms,
        status=failure[0] if failure else 200,
        deployment="" if failure and failure[0] < 500 else deployment,
        upstream_model=alias,
        streamed=streamed,
        error_code=failure[1] if failure else None,
        error_message=failure[2] if failure else None,
        finish_reason=None if failure else "stop",
        resolution="voided" if failure else "settled",
        duration_ms=duration,
        ttft_ms=None if failure else first_ms,
        relay_ms=chance.uniform(0.1, 0.5),
        upstream_ms=0.0 if failure else duration - 1,
        input_tokens=0 if failure else tokens_in,
        output_tokens=0 if failure else tokens_out,
        reasoning_tokens=0 if failure else tokens_out // 3,
        usage_source="reported",
        held_nanos=10_000_000,
        charged_nanos=cost,
        upstream_nanos=cost * 9 // 10,
        price_id=f"{alias}@2026-06-10",
        attempts=attempts,
    )


def _with_content(key, at_ms: int) -> CallRecord:
    """A call whose content was kept: a stream with reasoning."""
    deltas = [
        {"role": "assistant", "reasoning_content": "The user asks about latency. "},
        {"reasoning_content": "Compare both deployments."},
        *({"content": piece} for piece in ANSWER.split(" ")[:1]),
        *({"content": f" {piece}"} for piece in ANSWER.split(" ")[1:]),
    ]
    events = [
        {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "o3",
         "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]  # fmt: skip
    text = "".join(f"data: {json.dumps(each)}\n\n" for each in events) + "data: [DONE]\n\n"
    return CallRecord(
        id="req_c0ffee0123456789abcdef01",
        account_id=key.account_id,
        key_id=key.id,
        alias="o3",
        endpoint="chat/completions",
        at_ms=at_ms,
        status=200,
        deployment="openai-o3",
        upstream_model="o3",
        streamed=True,
        finish_reason="stop",
        resolution="settled",
        duration_ms=2_840.0,
        ttft_ms=612.0,
        queue_ms=0.4,
        relay_ms=0.31,
        upstream_ms=2_400.0,
        input_tokens=412,
        output_tokens=236,
        reasoning_tokens=120,
        usage_source="reported",
        held_nanos=4_000_000,
        charged_nanos=2_712_000,
        upstream_nanos=2_440_000,
        price_id="openai/o3@2026-06-10",
        attempts=(
            Attempt(SLOW, 1.2, 402.0, "ServerError", 503, "ServerError", 0, "Overloaded.", 36.0),
        ),
        request_json=json.dumps(CONTENT),
        response_text=text,
    )


CONFIG = (
    """
[payments.invoice]
[status]
public = true
"""
    + "".join(
        f"""
[[deployments]]
name = "{name}"
provider = "simulator"
upstream_model = "o3!ttft=30ms,tps=2000"
"""
        for names in MODELS.values()
        for name in names
    )
    + "".join(
        f"""
[aliases."{alias}"]
deployments = {json.dumps(list(names))}
"""
        for alias, names in MODELS.items()
    )
)


def main() -> None:
    folder = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 60_000
    planted = asyncio.run(plant(folder, count))
    (folder / "planted.toml").write_text(CONFIG)
    print(planted.admin_key)


if __name__ == "__main__":
    main()
