"""One call with the production client: limits, retries, breaker and metrics in one object.

MERINO_API_KEY=mk-... python examples/ask.py "Why do sheep follow each other?"
"""

from __future__ import annotations

import asyncio
import os
import sys

from merino import RelayClient


async def main() -> None:
    client = RelayClient(
        api_key=os.environ["MERINO_API_KEY"],
        base_url=os.environ.get("MERINO_BASE_URL", "http://127.0.0.1:8080/v1"),
        requests_per_minute=60,
        requests_per_second=10,
    )
    response = await client.chat_completion_async(
        model="o3",
        messages=[{"role": "user", "content": " ".join(sys.argv[1:]) or "What is a merino?"}],
        max_completion_tokens=2000,
    )
    print(f"Answer: {response['content']}")
    print(f"Latency: {response['latency_ms']:.0f} ms")
    print(f"Metrics: {client.get_metrics_summary()}")
    await client.aclose()


asyncio.run(main())
