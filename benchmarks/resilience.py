"""`make bench-resilience`: how small failures stay, on a real relay over real sockets.

    python benchmarks/resilience.py [--only mixed,outage,limit,hedging] [--calls 10000]

Every scenario starts a relay of its own, with the built-in simulator behind it, and drives it with
an open loop: calls start when the schedule says, whatever became of the earlier ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import httpx2
import uvloop
from stand import GATEWAY_CORE, on_core

from merino.transport.client import UpstreamClient
from merino.transport.connecting import Origin

TIMEOUT_S = 60.0
DRILL_LAG_S = 0.1
"""A drill's clock starts with the relay, about this long before it listens."""


@dataclass(slots=True)
class Seen:
    """One call: when it was due, when it was answered, how, and after which attempts."""

    due_s: float
    ended_s: float
    status: int
    first_content_s: float
    attempts: int
    retry_after_s: float | None = None


@dataclass(slots=True)
class Relay:
    url: str
    key: str


@contextmanager
def relay(folder: Path, config: str, drill: str = "") -> Iterator[Relay]:
    (folder / "merino.toml").write_text('[credits]\nstart = "100000000"\n' + config)
    command = [sys.executable, "-m", "merino", "serve", "--port", "0", "--data"]
    command += [str(folder / "data"), "--config", str(folder / "merino.toml")]
    if drill:
        (folder / "drill.toml").write_text(drill)
        command += ["--drill", str(folder / "drill.toml")]
    with (folder / "log").open("w") as log:
        process = on_core(GATEWAY_CORE, command, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    url = key = ""
    for line in process.stdout:
        for word in line.split():
            if word.startswith("http://127."):
                url = url or word.removesuffix("/v1")
            elif word.startswith("mk-"):
                key = word
        if url and key:
            break
    try:
        yield Relay(url, key)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


async def drive(relay: Relay, *, rate: float, count: int, streamed: bool) -> list[Seen]:
    """`count` calls at `rate` per second."""
    client = UpstreamClient()
    origin = Origin.of(relay.url)
    body = json.dumps(
        {
            "model": "o3",
            "messages": [{"role": "user", "content": "How do I keep my flock together?"}],
            "max_completion_tokens": 20,
            "stream": streamed,
        }
    ).encode()
    data = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: merino\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        % (relay.key.encode(), len(body), body)
    )
    seen: list[Seen] = []
    started = perf_counter()

    async def one(due: float) -> None:
        first = 0.0
        status, attempts, retry_after = 0, 1, None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                response = await client.send(origin, data)
                status = response.status
                told = response.header(b"x-merino-attempts")
                attempts = 1 if told is None else told.count(b",") + 1
                after = response.header(b"retry-after-ms")
                retry_after = None if after is None else float(after) / 1000

                def take(piece: bytes) -> None:
                    nonlocal first, status
                    if not first and b'"content"' in piece:
                        first = perf_counter()
                    if b'"error"' in piece and streamed:
                        status = 599

                await response.pipe(take)
                response.close()
        except Exception:  # noqa: BLE001 - whatever went wrong, the call was not answered
            status = status if status >= 400 else 598
        now = perf_counter()
        seen.append(
            Seen(due - started, now - started, status, (first or now) - due, attempts, retry_after)
        )

    tasks: set[asyncio.Task[None]] = set()
    for number in range(count):
        due = started + number / rate
        wait_s = due - perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        task = asyncio.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    while tasks:
        await asyncio.wait(tasks)
    await client.aclose()
    return seen


def quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))] if ordered else float("nan")


def attempts_of(relay: Relay) -> int:
    """Attempts the relay counted: calls and failed attempts, from its metrics."""
    text = httpx2.get(f"{relay.url}/metrics", trust_env=False).text
    total = 0.0
    for line in text.splitlines():
        if line.startswith("merino_failed_attempts_total{"):
            total += float(line.rpartition(" ")[2])
    return int(total)


DEPLOYMENT = """
[[deployments]]
name = "{name}"
provider = "simulator"
upstream_model = "{model}"
first_token_timeout_s = {timeout}
price = {{ input = 1.0, output = 1.0 }}
"""


def deployments(timeout_s: float = 2.0, **models: str) -> str:
    return "".join(
        DEPLOYMENT.format(name=name, model=model, timeout=timeout_s)
        for name, model in models.items()
    )


def mixed(folder: Path, calls: int) -> None:
    """One of three answers 500, one hangs, one is healthy."""
    config = deployments(
        fails="plain!status=500", hangs="plain!hang", healthy="plain!ttft=20ms,output=4"
    )
    config += (
        '[aliases.o3]\ndeployments = ["fails", "hangs", "healthy"]\n'
        'selection_policy = "round_robin"\n'
    )
    with relay(folder, config) as running:
        seen = uvloop.run(drive(running, rate=200, count=calls, streamed=True))
        failed = attempts_of(running)
    good = [each for each in seen if each.status == 200]
    early = [each.first_content_s for each in good if each.due_s < 10]
    late = [each.first_content_s for each in good if each.due_s >= 10]
    print(f"mixed: {len(good)} of {len(seen)} answered = {len(good) / len(seen):.4%} (bar 99.9 %)")
    print(
        f"  time to first content p99: first 10 s {quantile(early, 0.99):.3f} s "
        f"(bar 2 s + one attempt), after {quantile(late, 0.99) * 1000:.1f} ms"
    )
    print(f"  attempts / calls: {(len(good) + failed) / len(seen):.3f} (bar 1.25)")
    print(f"  statuses: {dict(Counter(each.status for each in seen))}")


def outage(folder: Path, calls: int) -> None:
    """Everything fails for 20 s, then comes back."""
    config = deployments(a="plain!ttft=5ms,output=4", b="plain!ttft=5ms,output=4")
    config += '[aliases.o3]\ndeployments = ["a", "b"]\nselection_policy = "round_robin"\n'
    config += "[breaker]\nopen_s = 2.0\nopen_max_s = 4.0\n"
    drill = "".join(
        f'[[drill]]\ndeployment = "{name}"\nfault = "status=503"\nafter_s = 5\nfor_s = 20\n'
        for name in "ab"
    )
    lag_s = DRILL_LAG_S
    with relay(folder, config, drill) as running:
        seen = uvloop.run(drive(running, rate=200, count=200 * 40, streamed=False))
        failed = attempts_of(running)
    down = [each for each in seen if 6 - lag_s < each.due_s < 25 - lag_s]
    refused = [each for each in down if each.status == 503]
    back = min(
        (each.due_s for each in seen if each.status == 200 and each.due_s > 25 - lag_s), default=99
    )
    sent = failed / sum(1 for each in seen if 5 - lag_s <= each.due_s <= 25 - lag_s)
    print(f"outage: {len(refused)} of {len(down)} calls refused with 503 while down")
    told = sum(each.retry_after_s is not None for each in refused)
    times = [each.ended_s - each.due_s for each in refused]
    print(
        f"  with Retry-After: {told}; time to the refusal p50 {quantile(times, 0.5) * 1000:.1f} ms,"
        f" p99 {quantile(times, 0.99) * 1000:.1f} ms (bar 50 ms)"
    )
    print(f"  failed attempts / calls while down: {sent:.3f} (bar 1.2)")
    print(
        f"  first answer {back - (25 - lag_s):.2f} s after the return"
        " (bar: one open time, 4 s +- 20 %)"
    )


def limit(folder: Path, calls: int) -> None:
    """600 calls a minute allowed, 3,000 a minute offered, for 60 s."""
    config = deployments(a="plain!output=1") + '[aliases.o3]\ndeployments = ["a"]\n'
    config += '[limits.accounts."*"]\nrpm = 600\n'
    with relay(folder, config) as running:
        seen = uvloop.run(drive(running, rate=50, count=3000, streamed=False))
    good = sorted(each.due_s for each in seen if each.status == 200)
    expected = 600 + 600 * good[-1] / 60
    gaps = [after - before for before, after in pairwise(good)]
    print(
        f"limit: {len(good)} of {len(seen)} admitted, by arithmetic {expected:.0f}: "
        f"{len(good) / expected - 1:+.2%} (bar 1 %); longest pause {max(gaps):.2f} s"
    )
    told = [each.retry_after_s for each in seen if each.status == 429]
    print(f"  429 without retry-after: {sum(each is None for each in told)} of {len(told)}")


def hedging(folder: Path, calls: int) -> None:
    """Three calls in two hundred are twenty times slower; with and without a second attempt."""
    found: dict[bool, float] = {}
    extra = 0.0
    for hedged in (False, True):
        place = folder / f"hedging-{hedged}"
        place.mkdir()
        config = deployments(a="plain!ttft=50ms,output=4", b="plain!ttft=50ms,output=4")
        config += '[aliases.o3]\ndeployments = ["a", "b"]\nselection_policy = "round_robin"\n'
        config += f"hedging = {str(hedged).lower()}\n[hedging]\ndelay_min_s = 0.0\n"
        drill = "".join(
            f'[[drill]]\ndeployment = "{name}"\nfault = "ttft=1s,output=4"\nshare = 0.015\n'
            for name in "ab"
        )
        with relay(place, config, drill) as running:
            # The first calls teach it what is usual.
            uvloop.run(drive(running, rate=100, count=600, streamed=True))
            before = attempts_of(running)
            seen = uvloop.run(drive(running, rate=100, count=calls // 2, streamed=True))
            if hedged:
                extra = (attempts_of(running) - before) / len(seen)
        found[hedged] = quantile([each.first_content_s for each in seen], 0.99)
    print(
        f"hedging: p99 time to first content {found[False] * 1000:.0f} ms without, "
        f"{found[True] * 1000:.0f} ms with: {found[False] / found[True]:.1f} times less (bar 5); "
        f"extra attempts {extra:.1%} of calls (bar 5 %)"
    )


SCENARIOS = {"mixed": mixed, "outage": outage, "limit": limit, "hedging": hedging}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(SCENARIOS))
    parser.add_argument("--calls", type=int, default=10_000)
    options = parser.parse_args()
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            SCENARIOS[name](Path(folder), options.calls)


if __name__ == "__main__":
    main()
