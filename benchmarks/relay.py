"""`make bench`: what the relay costs, beside nginx's `proxy_pass` in the same run.

    python benchmarks/relay.py [--only json,stream,latency,memory,start] [--rounds 3] [--seconds 3]

Prints one table and writes `benchmarks/results.json`. docs/benchmarks.md says how it is measured
and what the numbers mean.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import httpx2
from load import FOREIGN_CORES_MAX, Round, latencies_ms, rounds_side_by_side, wrk
from machine import describe, rss_mib, tree
from stand import (
    GATEWAY_CORE,
    LOAD_CORE,
    Gateway,
    json_upstream,
    nginx_gateway,
    relay_gateway,
    request_body,
    streaming_upstream,
)

RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `target` is a bound on `value`, in its unit; none for references."""

    part: str
    what: str
    value: float
    unit: str
    target: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return f"{'yes' if self.value <= self.target else 'NO'} (<= {self.target:g})"


@dataclass(frozen=True, slots=True)
class Options:
    rounds: int
    seconds: int
    folder: Path


def measure_json(options: Options) -> list[Row]:
    with (
        json_upstream(options.folder) as port,
        nginx_gateway(options.folder, port) as nginx,
        relay_gateway(options.folder, port, data="json") as relay,
    ):
        done = rounds_side_by_side(
            options.folder,
            [nginx, relay],
            rounds=options.rounds,
            connections=32,
            duration_s=options.seconds,
            streamed=False,
        )
    return _cpu_rows("json", "1 KB JSON call", done, ratio_max=3.0)


def measure_stream(options: Options) -> list[Row]:
    with (
        streaming_upstream() as port,
        nginx_gateway(options.folder, port) as nginx,
        relay_gateway(options.folder, port, data="stream") as relay,
    ):
        done = rounds_side_by_side(
            options.folder,
            [nginx, relay],
            rounds=options.rounds,
            connections=64,
            duration_s=options.seconds,
            streamed=True,
        )
    return _cpu_rows("stream", "50-chunk stream", done, ratio_max=2.0)


def _cpu_rows(part: str, what: str, done: dict[str, list[Round]], *, ratio_max: float) -> list[Row]:
    rows: list[Row] = []
    for name, rounds in done.items():
        clean = sum(each.is_clean for each in rounds)
        note = (
            f"{median(each.calls_per_s for each in rounds):,.0f} calls/s, "
            f"p99 {median(each.p99_ms for each in rounds):.2f} ms, "
            f"core {median(each.gateway_cores for each in rounds):.0%} busy"
        )
        if clean < len(rounds):
            worst = max(each.foreign_cores for each in rounds)
            note += f"; DISTURBED: {clean} of {len(rounds)} rounds clean, up to {worst:.2f} cores"
        cpu_us = median(each.cpu_us_per_call for each in rounds)
        rows.append(Row(part, f"{what}, {name}", cpu_us, "us CPU", note=note))
    nginx, relay = rows
    # The rounds run in turn, so a disturbance hits neighbours alike.
    ratio = relay.value / nginx.value
    return [*rows, Row(part, f"{what}, merino / nginx", ratio, "x", target=ratio_max)]


def measure_latency(options: Options) -> list[Row]:
    """Added latency at 100 calls/s: quantiles through a gateway minus those without one."""
    seen: dict[str, list[float]] = {}
    with (
        json_upstream(options.folder) as port,
        nginx_gateway(options.folder, port) as nginx,
        relay_gateway(options.folder, port, data="latency") as relay,
    ):
        direct = Gateway("direct", port, 0)
        for _ in range(options.rounds):
            for gateway in (direct, nginx, relay):
                found = latencies_ms(gateway, calls_per_s=100, duration_s=2 * options.seconds)
                seen.setdefault(gateway.name, []).extend(found)
    p50, p99 = (
        {name: quantiles(found, n=100)[percent - 1] for name, found in seen.items()}
        for percent in (50, 99)
    )
    rows = [
        Row("latency", f"100 calls/s, {label}, direct", at["direct"], "ms")
        for label, at in (("p50", p50), ("p99", p99))
    ]
    for name in (nginx.name, relay.name):
        for label, at in (("p50", p50), ("p99", p99)):
            target = 1.0 if (name, label) == (relay.name, "p99") else None
            added = at[name] - at["direct"]
            rows.append(
                Row("latency", f"100 calls/s, {label} added by {name}", added, "ms", target=target)
            )
    return rows


def measure_memory(options: Options) -> list[Row]:
    """Memory must not grow with the number of calls."""
    with (
        json_upstream(options.folder) as port,
        relay_gateway(options.folder, port, data="memory") as relay,
    ):
        calls = 0
        rss: dict[int, float] = {}
        for wanted in (10_000, 100_000):
            while calls < wanted:
                found = wrk(options.folder, relay, connections=32, duration_s=1, streamed=False)
                calls += found.calls
            rss[wanted] = rss_mib(tree(relay.pid))
    first, last = rss.values()
    return [
        Row("memory", "after 10,000 calls", first, "MiB RSS"),
        Row("memory", "after 100,000 calls", last, "MiB RSS"),
        Row("memory", "growth between them", (last / first - 1) * 100, "%", target=10.0),
    ]


def measure_start(options: Options) -> list[Row]:
    firsts: list[float] = []
    again: list[float] = []
    with json_upstream(options.folder) as port:
        for number in range(max(3, options.rounds)):
            key = ""
            for taken in (firsts, again):
                started = perf_counter()
                data = f"start-{number}"
                with relay_gateway(options.folder, port, data=data, key=key) as relay:
                    key = relay.key
                    _call(relay)
                    taken.append(perf_counter() - started)
    imported_s = median(_import_s() for _ in range(7))
    return [
        Row("start", "to the first answer, new folder", median(firsts), "s", target=1.0),
        Row("start", "to the first answer, old folder", median(again), "s", target=1.0),
        Row("start", "import merino", imported_s * 1000, "ms", target=150.0),
    ]


def _call(relay: Gateway) -> None:
    answer = httpx2.post(
        f"http://127.0.0.1:{relay.port}/v1/chat/completions",
        content=request_body(streamed=False),
        headers={"authorization": f"Bearer {relay.key}", "content-type": "application/json"},
        trust_env=False,
    )
    if answer.status_code != 200:
        raise SystemExit(f"The relay answered {answer.status_code}: {answer.text}")


def _import_s() -> float:
    code = "from time import perf_counter as t; s = t(); import merino; print(t() - s)"
    return float(subprocess.check_output([sys.executable, "-c", code]))


PARTS: dict[str, Callable[[Options], list[Row]]] = {
    "json": measure_json,
    "stream": measure_stream,
    "latency": measure_latency,
    "memory": measure_memory,
    "start": measure_start,
}


def print_table(rows: list[Row]) -> None:
    width = max(len(row.what) for row in rows)
    for row in rows:
        line = (
            f"{row.part:<8} {row.what:<{width}} {row.value:>9.2f} {row.unit:<8} {row.verdict:<14}"
        )
        print(f"{line} {row.note}".rstrip())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="duration of a round")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.parts = arguments.only.split(",")
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"--only knows {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    return arguments


def bench() -> None:
    arguments = parse()
    missing = [program for program in ("nginx", "taskset", "wrk") if shutil.which(program) is None]
    if missing:
        sys.exit(
            f"The benchmark needs {' and '.join(missing)}. "
            "On Debian or Ubuntu: apt install nginx-light util-linux wrk"
        )
    machine = describe()
    print(f"{machine['cpu']}, Python {machine['python']}, {machine['date']}, {machine['commit']}")
    if LOAD_CORE == GATEWAY_CORE:
        print("One core only: gateway, mock and load share it, so latencies mean little.")
    os.sched_setaffinity(0, {LOAD_CORE})
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="merino-bench-") as name:
        options = Options(arguments.rounds, arguments.seconds, Path(name))
        for part in arguments.parts:
            found = PARTS[part](options)
            print_table(found)
            rows += found
    results = {
        "machine": machine,
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "foreign_cores_max": FOREIGN_CORES_MAX,
        "rows": [asdict(row) for row in rows],
    }
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    bench()
