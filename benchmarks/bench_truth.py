"""`make bench-truth`: whether `merino bench` tells the truth, and how much it can send.

    python benchmarks/bench_truth.py [--only truth,stall,capacity] [--seconds 30]

The server is the simulator in a process of its own on one core, the generator runs on the other.
The truth is known: the simulator draws its times from a seed, so the very values it drew are drawn
here again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stand import GATEWAY_CORE, LOAD_CORE

from merino.bench.results import Result, read_run
from merino.bench.samples import CallSample, e2e_ms, tpot_ms, ttft_ms
from merino.bench.stats import mean, quantile

SHARES = (0.5, 0.9, 0.99)


def on_core(core: int, command: list[str]) -> list[str]:
    return ["taskset", "-c", str(core), *command]


@contextmanager
def server(behaviour: str) -> Iterator[tuple[str, int]]:
    """The simulator's address and process id."""
    process = subprocess.Popen(
        on_core(
            GATEWAY_CORE,
            [
                *(sys.executable, "-m", "merino", "bench", "serve", "--port", "0"),
                *("--behaviour", behaviour),
            ],
        ),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[2], process.pid
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(20)
        process.stdout.close()


def bench(url: str, *arguments: object) -> tuple[Result, list[CallSample], str]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "merino", "bench", "throughput"]
        command += ["--target", f"sim={url}", "--warmup", "0", "--quiet", "--out", folder]
        done = subprocess.run(
            on_core(LOAD_CORE, [*command, *map(str, arguments)]),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        result, samples = read_run(Path(folder))
        return result, samples, done.stdout


def drawn_ms(behaviour: dict[str, float], count: int) -> list[float]:
    """The times to first token that the simulator drew, in its own order of drawing."""
    chance = random.Random(0)
    found = []
    for _ in range(count):
        value = behaviour["ttft"]
        if behaviour.get("slow_share") and chance.random() < behaviour["slow_share"]:
            value *= behaviour["slow_factor"]
        if behaviour.get("ttft_sigma"):
            value *= chance.lognormvariate(0, behaviour["ttft_sigma"])
        if behaviour.get("gap_sigma"):
            chance.getrandbits(64)
        found.append(value)
    return sorted(found)


def truth(seconds: float) -> None:
    print(f"Truth: 200 streams/s for {seconds:g} s, 20 tokens each")
    print("| distribution | figure | truth | measured | error |")
    print("|---|---|---:|---:|---:|")
    for name, behaviour in (
        ("constant", {"ttft": 200.0}),
        ("lognormal", {"ttft": 200.0, "ttft_sigma": 0.4, "gap_sigma": 0.5}),
        ("bimodal", {"ttft": 100.0, "slow_share": 0.1, "slow_factor": 5.0}),
    ):
        options = ",".join(
            f"{key}={value:g}" + ("ms" if key == "ttft" else "") for key, value in behaviour.items()
        )
        with server(f"{options},tps=50,output=20,reasoning=0") as (url, _):
            result, samples, _ = bench(url, "--rate", 200, "--duration", seconds)
        good = [each for each in samples if each.error is None]
        real = drawn_ms(behaviour, len(good))
        seen = sorted(value for each in good if (value := ttft_ms(each)) is not None)
        for share in SHARES:
            told, known = quantile(seen, share), quantile(real, share)
            verdict = told - known
            print(
                f"| {name} | TTFT p{share * 100:g} | {known:.1f} ms | {told:.1f} ms | "
                f"{verdict:+.2f} ms, {verdict / known:+.2%} |"
            )
        # Slow requests are slow in their pace, too.
        slow = behaviour.get("slow_share", 0.0)
        gap = 20.0 * (1 - slow + slow * behaviour.get("slow_factor", 1.0))
        if slow:
            count = sum(value > 300 for value in real)
            gap = 20.0 * (1 + count / len(real) * (behaviour["slow_factor"] - 1))
        paces = [value for each in good if (value := tpot_ms(each)) is not None]
        told = mean(paces)
        print(
            f"| {name} | tokens/s of a stream | {1000 / gap:.2f} | {1000 / told:.2f} | "
            f"{gap / told - 1:+.2%} |"
        )
        summary = result.summaries[0]
        print(
            f"| {name} | sent late, p99 |  | {summary.lag_p99_ms:.2f} ms | "
            f"{summary.good:,} of {summary.calls:,} calls |"
        )


def stall() -> None:
    """2 s of freeze in 20 s at 200 calls/s, every answer 50 ms after its request is read."""
    rate, seconds, frozen = 200.0, 20.0, 2.0
    with server("ttft=50ms,tps=0,output=5,reasoning=0") as (url, pid):
        timers = [
            threading.Timer(9.0, lambda: _signal(pid, signal.SIGSTOP)),
            threading.Timer(9.0 + frozen, lambda: _signal(pid, signal.SIGCONT)),
        ]
        for timer in timers:
            timer.start()
        _, samples, _ = bench(url, "--rate", rate, "--arrivals", "constant", "--duration", seconds)
    seen = sorted(value for each in samples if (value := e2e_ms(each)) is not None)
    # A call due s seconds into the freeze is read at its end and answered 50 ms later.
    expected = sorted(
        50.0 + (frozen - (n / rate - 9.0)) * 1000 if 0 <= n / rate - 9.0 < frozen else 50.0
        for n in range(int(rate * seconds))
    )
    print(f"\nStall: the server stops for {frozen:g} s; open loop at {rate:g}/s for {seconds:g} s")
    print("| figure | arithmetic | measured |")
    print("|---|---:|---:|")
    for share in (0.5, 0.9, 0.95, 0.99):
        print(
            f"| end to end p{share * 100:g} | {quantile(expected, share):,.0f} ms | "
            f"{quantile(seen, share):,.0f} ms |"
        )


def _signal(pid: int, number: int) -> None:
    os.kill(pid, number)


def capacity() -> None:
    print("\nCapacity of one generator process on one core")
    print("| load | kept | lag p50 | lag p99 | answered |")
    print("|---|---|---:|---:|---:|")
    for rate in (1500, 2000, 2500):
        with server("ttft=1ms,output=20,reasoning=0") as (url, _):
            result, _, _ = bench(
                url, "--rate", rate, "--arrivals", "constant", "--no-stream", "--duration", 15
            )
        _capacity_row(f"{rate:,} calls/s, not streamed", result)
    for streams in (300, 400):
        with server("ttft=20ms,tps=50,output=250,reasoning=0") as (url, _):
            result, _, _ = bench(
                url, "--rate", streams / 5, "--arrivals", "constant", "--duration", 20
            )
        _capacity_row(f"{streams} concurrent streams of 50 tokens/s", result)


def _capacity_row(name: str, result: Result) -> None:
    summary = result.summaries[0]
    valid = "no: " + "; ".join(result.why_invalid) if result.why_invalid else "yes"
    pace = summary.metrics.get("tpot_ms")
    more = "" if pace is None else f", {1000 / pace.mean:.1f} tokens/s each"
    print(
        f"| {name} | {valid} | {summary.lag_p50_ms:.2f} ms | {summary.lag_p99_ms:.2f} ms | "
        f"{summary.good:,} of {summary.calls:,}{more} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="truth,stall,capacity")
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    wanted = given.only.split(",")
    print(json.dumps({"cores": [GATEWAY_CORE, LOAD_CORE]}))
    if "truth" in wanted:
        truth(given.seconds)
    if "stall" in wanted:
        stall()
    if "capacity" in wanted:
        capacity()


if __name__ == "__main__":
    main()
