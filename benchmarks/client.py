"""What Merino's client costs beside the bare `openai` package: CPU of the calling process per call.

    python benchmarks/client.py [--calls 2000] [--rounds 7]

Both call the same simulator in another process, in turns, 20 at once and one after another, so that
a slow stretch of the machine hits both; the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from typing import Any

import openai
from stand import GATEWAY_CORE, LOAD_CORE

import merino

AT_ONCE = 20


async def cpu_us(client: Any, calls: int) -> float:
    """Microseconds of this process's CPU a call."""
    left = calls

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await client.chat.completions.create(
                model="o3-mini", messages=[{"role": "user", "content": "Hi"}]
            )

    before = time.process_time()
    await asyncio.gather(*[caller() for _ in range(AT_ONCE)])
    return (time.process_time() - before) / calls * 1e6


async def measure(url: str, calls: int, rounds: int) -> None:
    given: dict[str, Any] = {"base_url": url, "api_key": "k"}
    bare, ours = openai.AsyncOpenAI(**given), merino.AsyncOpenAI(**given)
    found: dict[str, list[float]] = {"openai": [], "merino": []}
    for number in range(rounds + 1):
        for name, client in (("openai", bare), ("merino", ours)):
            value = await cpu_us(client, calls)
            if number:  # the first round warms both up
                found[name].append(value)
    first, second = (statistics.median(found[name]) for name in ("openai", "merino"))
    print(f"openai {openai.__version__}: {first:.0f} µs a call; merino's client: {second:.0f} µs")
    print(f"ratio {second / first:.3f} (target <= 1.10)")
    await bare.close()
    await ours.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    command = ["taskset", "-c", str(GATEWAY_CORE), sys.executable, "-m", "merino", "bench", "serve"]
    command += ["--port", "0", "--behaviour", "output=20,reasoning=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[2]
        try:
            asyncio.run(measure(url, given.calls, given.rounds))
        finally:
            server.terminate()


if __name__ == "__main__":
    print(f"cores: server {GATEWAY_CORE}, client {LOAD_CORE}")
    main()
