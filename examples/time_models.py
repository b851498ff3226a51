"""Times models one call after the other, as one would by hand. For numbers to trust, load must come
on a schedule and latency count from it; this shows what the client makes of a simple loop.

MERINO_API_KEY=mk-... python examples/time_models.py [calls per model]
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time

from merino import RelayClient

MODELS = ("o3", "o3-mini", "o4", "o4-mini")
PROMPT = "Prove that there are infinitely many primes."


async def latency(client: RelayClient, model: str, calls: int) -> dict[str, float]:
    """Percentiles of so many calls in milliseconds."""
    seen: list[float] = []
    for _ in range(calls):
        began = time.perf_counter()
        await client.chat_completion_async(
            model=model, messages=[{"role": "user", "content": PROMPT}], max_completion_tokens=300
        )
        seen.append((time.perf_counter() - began) * 1000)
    seen.sort()
    return {
        "p50": seen[len(seen) // 2],
        "p99": seen[min(len(seen) - 1, int(len(seen) * 0.99))],
        "mean": statistics.mean(seen),
    }


async def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    client = RelayClient(
        api_key=os.environ["MERINO_API_KEY"],
        base_url=os.environ.get("MERINO_BASE_URL", "http://127.0.0.1:8080/v1"),
        requests_per_minute=6000,
        requests_per_second=100,
    )
    for model in MODELS:
        found = await latency(client, model, calls)
        print(
            f"{model:<8} p50 {found['p50']:.0f} ms, p99 {found['p99']:.0f} ms, "
            f"mean {found['mean']:.0f} ms"
        )
    print(client.metrics)
    await client.aclose()


asyncio.run(main())
