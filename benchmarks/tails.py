"""`make bench-tails`: how much the slowest calls wait in the relay, beside nginx's `proxy_pass`.

    python benchmarks/tails.py [--before REV] [--rates 100,500,1000,2000] [--rounds 3] [--seconds 5]
                               [--busy-rates 100,1000] [--calls 1000000]

An open loop asks one upstream directly, through nginx and through the relay (with `--before`,
through an earlier commit's relay, too) in turn; every figure is the median of the rounds. Added
latency is the quantile through a gateway less that without one. Then the same while pages, a report
of a month, `verify`, exports and uploads of 50,000 lines run on a folder of a million calls; nginx
has nothing beside it then. Bars, of nginx's: added p99 <= 1.5 x + 1 ms, added p99.9 <= 2 x + 1 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from time import perf_counter

from beside import Books, books, work_beside
from machine import cpu_s, describe, tree
from stand import LOAD_CORE, Gateway, json_upstream, nginx_gateway, on_core, relay_gateway

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".venv" / "tails"
CALLS_MIN = 1_000
"""Of a round, so that one call in a thousand is among them."""
START_S = 6.0
BARS = {"p99": (0.99, 1.5), "p99.9": (0.999, 2.0)}
SLACK_MS = 1.0
PLACES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Round:
    p50_ms: float
    p99_ms: float
    p999_ms: float
    late_p99_ms: float
    """How late the load itself was."""
    cpu_us_per_call: float

    def quantile(self, name: str) -> float:
        return {"p50": self.p50_ms, "p99": self.p99_ms, "p99.9": self.p999_ms}[name]


@dataclass(slots=True)
class Measured:
    """The rounds of one gateway at one rate."""

    rounds: list[Round] = field(default_factory=list)

    def quantile(self, name: str) -> float:
        return median(each.quantile(name) for each in self.rounds)

    @property
    def cpu_us(self) -> float:
        return median(each.cpu_us_per_call for each in self.rounds)

    @property
    def late_ms(self) -> float:
        return median(each.late_p99_ms for each in self.rounds)


def seconds_of(rate: float, seconds: float) -> float:
    return max(seconds, CALLS_MIN / rate)


def one_round(gateway: Gateway, rate: float, seconds: float, seed: int) -> Round:
    pids = tree(gateway.pid) if gateway.pid else []
    before_s = cpu_s(pids)
    command = [sys.executable, str(HERE / "open_loop.py"), str(gateway.port), gateway.key]
    load = on_core(
        LOAD_CORE, [*command, str(rate), str(seconds), str(seed)], stdout=subprocess.PIPE
    )
    output, _ = load.communicate(timeout=seconds + 60)
    used_s = cpu_s(pids) - before_s
    if load.returncode:
        raise SystemExit(f"{gateway.name} at {rate:g} calls/s: the load failed")
    found = json.loads(output)
    took = sorted(found["latency_us"])
    return Round(
        at(took, 0.5) / 1000,
        at(took, 0.99) / 1000,
        at(took, 0.999) / 1000,
        at(sorted(found["late_us"]), 0.99) / 1000,
        used_s * 1e6 / len(took),
    )


def at(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def print_rate(title: str, found: dict[str, Measured]) -> dict[str, bool]:
    """Which bars hold, by what they are for."""
    direct, nginx = found["direct"], found["nginx proxy_pass"]
    late_ms = max(each.late_ms for each in found.values())
    print(f"\n{title}    (the load was late by {late_ms:.2f} ms at its p99)")
    print(
        f"  {'':<20} {'p50':>8} {'p99':>8} {'p99.9':>8}"
        f"   {'added p99':>9} {'p99.9':>8} {'CPU us':>8}"
    )
    verdicts: dict[str, bool] = {}
    for name, each in found.items():
        added = {q: max(0.0, each.quantile(q) - direct.quantile(q)) for q in BARS}
        shown = "".join(f" {each.quantile(q):8.2f}" for q in ("p50", "p99", "p99.9"))
        line = f"  {name:<20}{shown}   {added['p99']:9.2f} {added['p99.9']:8.2f} {each.cpu_us:8.1f}"
        if name.startswith("merino"):
            for q, (_, factor) in BARS.items():
                of_nginx = max(0.0, nginx.quantile(q) - direct.quantile(q))
                bar = factor * of_nginx + SLACK_MS
                verdicts[f"{title}, {name}, {q}"] = holds = added[q] <= bar
                line += f"  {q} {'yes' if holds else 'NO'} (<= {bar:.2f})"
        print(line, flush=True)
    return verdicts


@dataclass(frozen=True, slots=True)
class Options:
    rates: list[float]
    busy_rates: list[float]
    rounds: int
    seconds: float
    calls: int
    folder: Path
    trees: dict[str, Path]
    """Of each relay that is measured, by its name."""

    def expected_s(self) -> float:
        gateways = 2 + len(self.trees)
        quiet = sum(seconds_of(rate, self.seconds) + 1 for rate in self.rates) * gateways
        busy = sum(seconds_of(rate, self.seconds) + 4 for rate in self.busy_rates) * gateways
        return self.rounds * (quiet + busy) + 4 * START_S * gateways


def measure_quiet(options: Options, stand: list[Gateway], upstream: int) -> dict[str, bool]:
    with ExitStack() as stack:
        relays = [
            replace(
                stack.enter_context(
                    relay_gateway(
                        options.folder, upstream, data=f"quiet-{index}", sources=root / "src"
                    )
                ),
                name=name,
            )
            for index, (name, root) in enumerate(options.trees.items())
        ]
        verdicts: dict[str, bool] = {}
        for rate in options.rates:
            found = {gateway.name: Measured() for gateway in (*stand, *relays)}
            for turn in range(options.rounds):
                for gateway in (*stand, *relays):
                    took = one_round(gateway, rate, seconds_of(rate, options.seconds), turn)
                    found[gateway.name].rounds.append(took)
            verdicts |= print_rate(f"{rate:,.0f} calls/s", found)
        return verdicts


def measure_busy(options: Options, stand: list[Gateway], upstream: int) -> dict[str, bool]:
    with ExitStack() as stack:
        relays: list[tuple[Gateway, Books | None]] = []
        for index, (name, root) in enumerate(options.trees.items()):
            data = options.folder / f"busy-{index}"
            filled = books(root, options.calls, CACHE, data)
            gateway = stack.enter_context(
                relay_gateway(
                    options.folder, upstream, data=data.name, key=filled.key, sources=root / "src"
                )
            )
            relays.append((replace(gateway, name=name), filled))
        verdicts: dict[str, bool] = {}
        for rate in options.busy_rates:
            asked: list[tuple[Gateway, Books | None]] = [*((each, None) for each in stand), *relays]
            found = {gateway.name: Measured() for gateway, _ in asked}
            done: Counter[str] = Counter()
            for turn in range(options.rounds):
                for gateway, filled in asked:
                    url = f"http://127.0.0.1:{gateway.port}"
                    beside = (
                        work_beside(url, filled.key, filled.admin_key, done)
                        if filled is not None
                        else nullcontext()
                    )
                    with beside:
                        took = one_round(gateway, rate, seconds_of(rate, options.seconds), turn)
                    found[gateway.name].rounds.append(took)
            verdicts |= print_rate(f"{rate:,.0f} calls/s beside other work", found)
            print(
                f"  done beside: {', '.join(f'{count} x {name}' for name, count in done.items())}"
            )
        print_what_held_up((options.folder / "relay.log").read_text())
        return verdicts


def print_what_held_up(log: str) -> None:
    """What the relays' own recorders named, the worst of each place."""
    worst: dict[str, float] = {}
    for line in log.splitlines():
        if found := re.search(r"held up.* by=(.+?) left_out.* ms=([0-9.]+)", line):
            worst[found[1]] = max(worst.get(found[1], 0.0), float(found[2]))
    if worst:
        print("\nwhat held the event loop up, at worst:")
    for place, ms in sorted(worst.items(), key=lambda each: -each[1])[:PLACES_SHOWN]:
        print(f"  {ms:9.1f} ms  {place}")


@contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Path]:
    """The sources and benchmarks of a revision, in a folder of their own."""
    root = folder / "before"
    root.mkdir()
    packed = subprocess.run(
        ["git", "-C", str(HERE.parent), "archive", revision, "src", "benchmarks"],
        check=True,
        capture_output=True,
    )
    subprocess.run(["tar", "-x", "-C", str(root)], input=packed.stdout, check=True)
    yield root


def numbers(text: str) -> list[float]:
    return [float(each) for each in text.split(",") if each]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", help="a commit, tag or branch to measure beside this one")
    parser.add_argument("--rates", type=numbers, default=[100.0, 500.0, 1000.0, 2000.0])
    parser.add_argument("--busy-rates", type=numbers, default=[100.0, 1000.0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="least duration of a round")
    parser.add_argument(
        "--calls", type=int, default=1_000_000, help="in the folder of the busy part"
    )
    given = parser.parse_args()
    if missing := [each for each in ("nginx", "taskset") if shutil.which(each) is None]:
        sys.exit(f"The benchmark needs {' and '.join(missing)}: apt install nginx-light util-linux")
    machine = describe()
    print(f"{machine['cpu']}, Python {machine['python']}, {machine['date']}, {machine['commit']}")
    os.sched_setaffinity(0, {LOAD_CORE})
    began = perf_counter()
    with tempfile.TemporaryDirectory(prefix="merino-tails-") as name, ExitStack() as stack:
        folder = Path(name)
        trees = {"merino": HERE.parent}
        if given.before:
            trees[f"merino {given.before}"[:20]] = stack.enter_context(
                checkout(given.before, folder)
            )
        options = Options(
            given.rates, given.busy_rates, given.rounds, given.seconds, given.calls, folder, trees
        )
        print(
            f"takes about {options.expected_s() / 60:.1f} minutes, and once a folder to be filled"
        )
        upstream = stack.enter_context(json_upstream(folder))
        stand = [
            Gateway("direct", upstream, 0),
            stack.enter_context(nginx_gateway(folder, upstream)),
        ]
        verdicts: dict[str, bool] = {}
        if options.rates:
            verdicts |= measure_quiet(options, stand, upstream)
        if options.busy_rates:
            verdicts |= measure_busy(options, stand, upstream)
    missed = [what for what, holds in verdicts.items() if not holds]
    print(
        f"\n{len(verdicts) - len(missed)} of {len(verdicts)} bars hold, "
        f"in {perf_counter() - began:.0f} s"
    )
    for what in missed:
        print(f"  NOT: {what}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
