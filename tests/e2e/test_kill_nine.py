"""Nothing is lost when the process is killed at any moment."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable

import httpx2
from tests.conftest import KILLS

CONFIG = """
[credits]
start = 1000

[[deployments]]
name = "quick"
provider = "simulator"
upstream_model = "plain!input=7,output=11,ttft=2ms"
price = { input = 1.00, output = 10.00 }

[aliases.quick]
deployments = ["quick"]
"""
COST_NANOS = 7 * 1_000 + 11 * 10_000


async def _load(
    url: str, key: str, answered: list[str], calls: int, pause_s: float, kill: Callable[[], None]
) -> None:
    """Calls without pause until the relay dies, noting every call that was answered whole. It is
    killed a moment after so many of them."""
    enough = asyncio.Event()
    async with httpx2.AsyncClient(
        base_url=url, timeout=10, trust_env=False, headers={"authorization": f"Bearer {key}"}
    ) as http:

        async def caller(streamed: bool) -> None:
            body = {
                "model": "quick",
                "messages": [{"role": "user", "content": "hello"}],
                "stream": streamed,
                "max_completion_tokens": 50,
            }
            while True:
                try:
                    answer = await http.post("/v1/chat/completions", json=body)
                except httpx2.TransportError:
                    return
                if answer.status_code != 200:
                    return
                if not streamed or answer.text.rstrip().endswith("[DONE]"):
                    answered.append(answer.headers["x-request-id"])
                    if len(answered) >= calls:
                        enough.set()

        callers = [asyncio.create_task(caller(number % 2 == 0)) for number in range(8)]
        async with asyncio.timeout(60):
            await enough.wait()
        await asyncio.sleep(pause_s)
        kill()
        await asyncio.gather(*callers)


def test_kill_nine_under_load(start_relay) -> None:
    """Killed over and over under load: every answered call is settled once, no hold survives, and
    the balance is what the entries say."""
    rng = random.Random(20261124)
    relay = start_relay(CONFIG)
    key = relay.key
    answered: list[str] = []
    for _ in range(KILLS):
        process = relay.process
        kill = lambda process=process: process.send_signal(signal.SIGKILL)  # noqa: E731
        calls = len(answered) + rng.randint(2, 60)
        asyncio.run(_load(relay.url, key, answered, calls, rng.uniform(0, 0.01), kill))
        relay.stop(signal.SIGKILL)
        relay.start()
    assert len(answered) > KILLS
    assert len(set(answered)) == len(answered)
    with httpx2.Client(
        base_url=relay.url, trust_env=False, headers={"authorization": f"Bearer {key}"}
    ) as http:
        for call_id in answered:
            call = http.get(f"/v1/calls/{call_id}").json()
            assert ("settled", COST_NANOS) == (call["resolution"], call["cost_nanos"])
    account = relay.cli("accounts", "show", "default")
    assert 0 == account["balance"]["held_nanos"]
    assert [] == relay.cli("ledger", "verify")["differences"]
    spent_nanos = 1000 * 10**9 - account["balance"]["posted_nanos"]
    assert 0 == spent_nanos % COST_NANOS
    # A call may have been settled and killed before its last byte; none was answered unsettled.
    assert spent_nanos // COST_NANOS >= len(answered)
    assert spent_nanos // COST_NANOS <= len(answered) + KILLS * 8
    relay.stop()
