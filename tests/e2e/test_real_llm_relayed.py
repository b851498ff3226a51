"""A real model behind the relay: what is billed is what the model itself counted."""

from __future__ import annotations

from typing import Any

import openai
import pytest

CONFIG = """
[[deployments]]
name = "real"
base_url = "{url}"
upstream_model = "{model}"
price = {{ input = 1.00, cached = 0.25, output = 4.00 }}
"""


def question(text: str) -> Any:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("kind", ["real_llm", "reasoning_llm"])
def test_the_bill_is_what_the_model_counted(start_relay, request, kind) -> None:
    """Plain and streamed calls through the `openai` package: the ledger's tokens equal the model's
    own counters, and the cost is the price's arithmetic on them, cached tokens included."""
    llm = request.getfixturevalue(kind)
    relay = start_relay(CONFIG.format(url=llm.base_url, model=llm.model))
    start_nanos = relay.balance_nanos()
    before = llm.counters()
    with openai.OpenAI(base_url=f"{relay.url}/v1", api_key=relay.key, max_retries=0) as client:
        for _ in range(2):  # the second prompt comes from the model's cache
            answer = client.chat.completions.create(
                model="real", messages=question("Name a river in France."), max_tokens=24
            )
            assert answer.usage.completion_tokens > 0
        chunks = list(
            client.chat.completions.create(
                model="real", messages=question("Count to five."), max_tokens=24, stream=True
            )
        )
        assert all(chunk.choices for chunk in chunks)
    used = llm.counters() - before
    calls = relay.cli("calls", "list")["data"]
    assert 3 == len(calls)
    assert {("settled", "reported")} == {(c["resolution"], c["usage_source"]) for c in calls}
    assert used.input_tokens == sum(call["input_tokens"] for call in calls)
    assert used.output_tokens == sum(call["output_tokens"] for call in calls)
    assert used.cached_tokens == sum(call["cached_tokens"] for call in calls)
    plain = used.input_tokens - used.cached_tokens
    cost_nanos = plain * 1_000 + used.cached_tokens * 250 + used.output_tokens * 4_000
    assert start_nanos - cost_nanos == relay.balance_nanos()
    assert [] == relay.cli("ledger", "verify")["differences"]
