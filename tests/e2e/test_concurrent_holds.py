"""Nobody overspends, nobody is refused for good who could have paid."""

from __future__ import annotations

import asyncio

import httpx2

CALLS = 500
PAYABLE = 37
OUTPUT_TOKENS = 100
# Sixty tokens of prompt are held for generously; the exact cost is what the answer reports.
CONFIG = """
[hold]
when_short = "refuse"
wait_s = 20

[[deployments]]
name = "fixed"
provider = "simulator"
upstream_model = "plain!input=50,output=100,ttft=20ms"
price = { input = 1.00, output = 10.00 }

[aliases.fixed]
deployments = ["fixed"]
"""
COST_NANOS = 50 * 1_000 + 100 * 10_000


def test_500_calls_against_credit_for_37(start_relay) -> None:
    """Of 500 calls at once on credit for 37, exactly 37 are answered and the books balance."""
    relay = start_relay(CONFIG)
    probe = {
        "model": "fixed",
        "messages": [{"role": "user", "content": "x" * 100}],
        "max_completion_tokens": OUTPUT_TOKENS,
    }
    with relay.http() as http:
        worst_nanos = http.post("/v1/estimate", json=probe).json()["worst_case_nanos"]
    relay.cli("accounts", "create", "--name", "small")
    key = relay.cli("keys", "create", "--account", "small", "--name", "k")["key"]
    # The last of the 37 must still fit its worst case.
    credit_nanos = PAYABLE * COST_NANOS + (worst_nanos - COST_NANOS)
    relay.cli("accounts", "credit", "small", f"{credit_nanos / 1e9:.9f}", "--memo", "test")

    async def scenario() -> list[httpx2.Response]:
        limits = httpx2.Limits(max_connections=CALLS)
        async with httpx2.AsyncClient(
            base_url=relay.url,
            limits=limits,
            timeout=60,
            trust_env=False,
            headers={"authorization": f"Bearer {key}"},
        ) as http:

            async def one() -> httpx2.Response:
                return await http.post("/v1/chat/completions", json=probe)

            return await asyncio.gather(*(one() for _ in range(CALLS)))

    answers = asyncio.run(scenario())
    paid = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert PAYABLE == len(paid)
    assert {"insufficient_quota"} == {a.json()["error"]["code"] for a in refused}
    assert {"false"} == {answer.headers["x-should-retry"] for answer in refused}
    assert credit_nanos - PAYABLE * COST_NANOS == relay.balance_nanos("small")
    assert 0 == relay.cli("accounts", "show", "small")["balance"]["held_nanos"]
    assert [] == relay.cli("ledger", "verify")["differences"]


def test_busy_credit_is_a_temporary_refusal(start_relay) -> None:
    """While another call holds the credit, a call that cannot wait longer is told to come back."""
    relay = start_relay(
        CONFIG.replace("wait_s = 20", "wait_s = 0.05").replace("ttft=20ms", "ttft=3s")
    )
    body = {
        "model": "fixed",
        "messages": [{"role": "user", "content": "x"}],
        "max_completion_tokens": 490_000,
    }

    async def scenario() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(
            base_url=relay.url,
            timeout=60,
            trust_env=False,
            headers={"authorization": f"Bearer {relay.key}"},
        ) as http:
            first = asyncio.create_task(http.post("/v1/chat/completions", json=body))
            await asyncio.sleep(0.3)
            second = await http.post("/v1/chat/completions", json=body)
            return [await first, second]

    first, second = asyncio.run(scenario())
    assert 200 == first.status_code, first.text
    assert 429 == second.status_code
    assert "balance_held" == second.json()["error"]["code"]
    assert float(second.headers["retry-after"]) > 0
    assert "x-should-retry" not in second.headers
