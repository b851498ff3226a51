"""`make bench-batch`: `merino batch run` beside the arithmetic, against a mock upstream.

    python benchmarks/batch.py [--only ideal,limited,memory] [--lines 1000000]

The batch has one core to itself, the mock upstream the other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from machine import cpu_s, describe, rss_mib
from resilience import relay
from stand import GATEWAY_CORE, LOAD_CORE, on_core

HERE = Path(__file__).parent
SCENARIOS = ("ideal", "limited", "memory")
TIMEOUT_S = 1800.0
ROUNDS = 3


@contextmanager
def upstream(*arguments: float) -> Iterator[str]:
    """A mock upstream's base URL."""
    command = [sys.executable, str(HERE / "batch_upstream.py"), *map(str, arguments)]
    process = on_core(LOAD_CORE, command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def write_lines(path: Path, count: int) -> None:
    with path.open("w") as file:
        for number in range(count):
            body = {
                "model": "o3-mini",
                "messages": [
                    {"role": "user", "content": f"How do I keep flock {number} together?"}
                ],
                "max_completion_tokens": 500,
            }
            line = {
                "custom_id": f"flock-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body,
            }
            file.write(json.dumps(line) + "\n")


class Batch:
    """One run of `merino batch run`; `samples` are the size of its results and its memory."""

    def __init__(self, source: Path, base_url: str, concurrency: int, key: str = "k") -> None:
        out = source.with_suffix(".out.jsonl")
        command = [sys.executable, "-m", "merino", "batch", "run", str(source), "-o", str(out)]
        command += ["--json", "--base-url", base_url, "--concurrency", str(concurrency)]
        began = time.perf_counter()
        self.samples: list[tuple[int, float]] = []
        process = on_core(
            GATEWAY_CORE,
            command,
            stdout=subprocess.PIPE,
            env=os.environ | {"MERINO_API_KEY": key},
        )
        deadline = began + TIMEOUT_S
        self.cpu_s = 0.0
        while process.poll() is None and time.perf_counter() < deadline:
            try:
                rss = rss_mib([process.pid])
                if rss:
                    self.samples.append((out.stat().st_size if out.exists() else 0, rss))
                self.cpu_s = cpu_s([process.pid])
            except OSError:
                break  # it ended in between
            time.sleep(0.2)
        assert process.stdout is not None
        said = process.communicate(timeout=TIMEOUT_S)[0]
        if process.returncode:
            raise SystemExit(f"the batch failed: {said.decode()}")
        self.took_s = time.perf_counter() - began
        self.found = json.loads(said)
        self.sending_s = self.found["done"] / self.found["calls_per_s"]
        for path in out.parent.glob(f"{source.stem}.out*"):
            path.unlink()

    def rss_at(self, share: float) -> float:
        """Memory when so much of the results was written."""
        whole = self.samples[-1][0]
        return next(rss for size, rss in self.samples if size >= whole * share)


def ideal(folder: Path) -> None:
    source = folder / "ideal.jsonl"
    write_lines(source, 10_000)
    with upstream(0.05) as url:
        batches = [Batch(source, url, 200) for _ in range(ROUNDS)]
    took_s = median(batch.sending_s for batch in batches)
    print(f"10,000 calls of 50 ms, 200 at once: {took_s:.2f} s, {took_s / 2.5:.3f} x ideal (2.5 s)")


RELAY = """
[[deployments]]
name = "d"
provider = "simulator"
upstream_model = "plain!ttft=50ms,output=3"
price = {{ input = 1, output = 1 }}
[aliases.o3-mini]
deployments = ["d"]
[limits.accounts."*"]
{limit}
"""


def limited(folder: Path) -> None:
    source = folder / "limited.jsonl"
    for rate, burst, seconds in ((300, 30, 20), (300, 300, 20), (1000, 100, 15)):
        count = rate * seconds + burst
        write_lines(source, count)
        with upstream(0.05, rate, burst) as url:
            batch = Batch(source, url, 1000)
        report(f"{rate}/s, burst of {burst}, only 429 tells", batch, count, seconds)
    for limit, rate, burst, seconds in (("rps = 100", 100, 100, 15), ("rpm = 6000", 100, 6000, 15)):
        count = rate * seconds + burst
        write_lines(source, count)
        place = folder / limit.partition(" ")[0]
        place.mkdir()
        with relay(place, RELAY.format(limit=limit)) as merino:
            batch = Batch(source, f"{merino.url}/v1", 1000, merino.key)
        report(f"a relay with {limit}", batch, count, seconds)


def report(name: str, batch: Batch, count: int, allowed_s: float) -> None:
    """`allowed_s` leaves out what the bucket held at the start: that is no rate."""
    assert (count, 0) == (batch.found["succeeded"], batch.found["failed"])
    share = allowed_s / batch.sending_s
    print(f"{name}: {share:.1%} of what is allowed, {batch.sending_s:.1f} s", flush=True)


def memory(folder: Path, lines: int) -> None:
    source = folder / "memory.jsonl"
    for count in (lines // 100, lines):
        write_lines(source, count)
        with upstream(0.01) as url:
            batch = Batch(source, url, 200)
        found = {share: f"{batch.rss_at(share):.0f}" for share in (0.01, 0.1, 0.5, 1.0)}
        print(
            f"{count:,} lines: {batch.took_s:.0f} s in all, "
            f"{batch.found['calls_per_s']:,.0f} calls/s, "
            f"{batch.cpu_s / count * 1e6:.0f} us CPU a call; MiB at 1, 10, 50, 100 %:"
            f" {', '.join(found.values())}; peak {max(rss for _, rss in batch.samples):.0f}"
        )
        assert (count, 0) == (batch.found["succeeded"], batch.found["failed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(SCENARIOS))
    parser.add_argument("--lines", type=int, default=1_000_000)
    options = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory(prefix="merino-batch-") as name:
        folder = Path(name)
        wanted = options.only.split(",")
        if "ideal" in wanted:
            ideal(folder)
        if "limited" in wanted:
            limited(folder)
        if "memory" in wanted:
            memory(folder, options.lines)


if __name__ == "__main__":
    main()
