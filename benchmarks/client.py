"""What Merino's client costs beside the bare `openai` package: CPU of the calling process per call.

    python benchmarks/client.py [--calls 300] [--rounds 60]

Both call the same simulator in another process, on another core, 20 at once. They take short turns,
in changing order, so that a slow stretch of the machine hits both; the median of the pairs' ratios
counts.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
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
    found: dict[Any, list[float]] = {bare: [], ours: []}
    for client in (bare, ours):  # warms both up
        await cpu_us(client, calls)
    for number in range(rounds):
        for client in (bare, ours) if number % 2 else (ours, bare):
            gc.collect()
            found[client].append(await cpu_us(client, calls))
    first, second = (statistics.median(each) for each in found.values())
    print(f"openai {openai.__version__}: {first:.0f} µs a call; merino's client: {second:.0f} µs")
    ratios = [b / a for a, b in zip(*found.values(), strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"ratio {middle:.3f} (quartiles {low:.3f} to {high:.3f}; target <= 1.10)")
    await bare.close()
    await ours.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=60)
    given = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
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
