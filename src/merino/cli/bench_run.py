"""A run of `merino bench`: its client, its progress on the terminal, its end."""

from __future__ import annotations

import asyncio
import os
import platform
import shlex
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from time import perf_counter
from typing import Any, TypeVar

import msgspec

from merino.bench.arrivals import arrivals
from merino.bench.caller import Caller
from merino.bench.compare import differences, rounds
from merino.bench.generator import Bodies, Load, LoadGenerator, Progress
from merino.bench.page import html_report
from merino.bench.results import (
    Result,
    TargetShown,
    machine_text,
    now_text,
    write_parquet,
    write_run,
)
from merino.bench.samples import INTERRUPTED, CallSample, ttft_ms
from merino.bench.stats import quantile
from merino.bench.summary import LATE_MS, LATE_SHARE_MAX, Summary, summarize
from merino.bench.sweep import Step, best, sweep
from merino.bench.tables import markdown_report, terminal_report
from merino.bench.targets import Target
from merino.cli.bench_setup import Setup, setup_of
from merino.cli.output import print_json, write
from merino.domain.money import format_nanos
from merino.settings import UpstreamSettings
from merino.transport.client import UpstreamClient
from merino.transport.connecting import Origin

T = TypeVar("T")

FAILED_EXIT = 1
_REFRESH_S = 0.5
_ERRORS_MAX = 0.5
_CACHED_MAX = 0.1
"""Share of the input served from a cache above which a run does not measure new prompts."""
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Bench:
    """One command's run: its client, its progress on the terminal, its end."""

    def __init__(self, setup: Setup, options: dict[str, Any]) -> None:
        self.setup = setup
        self.options = options
        self.samples: list[CallSample] = []
        self.stopped_by: str | None = None
        self.http = UpstreamClient(
            UpstreamSettings(connections_max_per_origin=20_000), environ=os.environ
        )
        self.began = perf_counter()
        self._running: list[LoadGenerator] = []
        self._spent_nanos = 0
        self._run = token_hex(8)
        self._is_quiet = options["quiet"] or options["as_json"]

    def generator(self, target: Target, block: int = 0) -> LoadGenerator:
        setup = self.setup
        caller = Caller(
            self.http,
            Origin.of(target.base_url),
            target,
            setup.policy,
            lambda model, tier, used: setup.prices.cost_nanos({"model": model}, used, tier),
        )
        bodies = Bodies(
            setup.scenario,
            target.model,
            is_streamed=setup.policy.is_streamed,
            output_tokens_max=self.options["max_output_tokens"],
            seed=self.options["seed"] + block,
            # As long for every target of a round; other words, which no cache has seen.
            wording="" if self.options["same_prompts"] else f"{self._run} {target.name}",
        )

        def worst(body: bytes) -> int:
            return setup.prices.worst_nanos("/v1/chat/completions", _decode(body)) or 0

        left = setup.max_cost_nanos
        if left is not None:
            left = max(0, left - self._spent_nanos)
        return LoadGenerator(
            caller, bodies, setup.scenario, max_cost_nanos=left, worst_nanos=worst, block=block
        )

    async def run(self, generator: LoadGenerator, load: Load) -> Progress:
        """Run one load; its samples are kept whatever happens."""
        self._running.append(generator)
        try:
            if self.stopped_by is None:
                await generator.run(load, self.began)
        finally:
            self._running.remove(generator)
            self.samples += generator.progress.samples
            self._spent_nanos += generator.progress.spent_nanos
            self.stopped_by = self.stopped_by or generator.progress.stopped_by
        return generator.progress

    def interrupt(self) -> None:
        """Ctrl-C: what was measured is still written."""
        self.stopped_by = self.stopped_by or INTERRUPTED
        for generator in tuple(self._running):
            generator.stop()

    async def show(self) -> None:
        """The live view, until cancelled."""
        is_terminal = sys.stderr.isatty()
        while not self._is_quiet:
            await asyncio.sleep(_REFRESH_S if is_terminal else 10 * _REFRESH_S)
            line = self._line()
            sys.stderr.write(f"\r{line}\x1b[K" if is_terminal else f"{line}\n")
            sys.stderr.flush()

    def clear(self) -> None:
        if not self._is_quiet and sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _line(self) -> str:
        samples = [
            *self.samples,
            *(each for running in tuple(self._running) for each in running.progress.samples),
        ]
        in_flight = sum(running.progress.in_flight for running in self._running)
        counted = [each for each in samples if not each.is_warmup]
        failed = sum(each.error is not None for each in counted)
        now = perf_counter() - self.began
        recent = [each for each in counted if each.end_s > now - 5]
        parts = [
            f"{now:,.0f} s",
            f"{len(counted):,} calls" if counted else f"{len(samples):,} to warm up",
            f"{len(recent) / min(5.0, max(now, 0.5)):,.1f}/s",
            f"{in_flight:,} in flight",
        ]
        times = sorted(v for each in recent if (v := ttft_ms(each)) is not None)
        if times:
            parts.append(
                f"first token p50 {quantile(times, 0.5):,.0f} p99 {quantile(times, 0.99):,.0f} ms"
            )
        if failed:
            parts.append(f"{failed:,} failed")
        if spent := sum(each.cost_nanos or 0 for each in samples):
            parts.append(format_nanos(spent))
        return "  ".join(parts)

    def result(self, kind: str, load: Load | None, why_invalid: list[str]) -> Result:
        options = self.options
        shown = {
            name: options[name]
            for name in (
                "scenario", "rate", "arrival_kind", "concurrency", "duration", "requests",
                "warmup", "is_streamed", "max_output_tokens", "slo", "max_cost", "timeout",
                "retries", "seed", "same_prompts",
            )
            if options.get(name) is not None
        }  # fmt: skip
        if load is not None and not load.is_open:
            shown.pop("arrival_kind", None)
        return Result(
            kind=kind,
            at=now_text(),
            machine=machine_text(),
            python=platform.python_version(),
            command=_told_command(),
            settings=shown,
            targets=[
                TargetShown(name=each.name, base_url=each.base_url, model=each.model)
                for each in self.setup.targets
            ],
            loop="open" if load is None or load.is_open else "closed",
            why_invalid=why_invalid,
        )

    def why_invalid(self, summaries: Sequence[Summary], load: Load) -> list[str]:
        """What speaks against believing the figures."""
        reasons: list[str] = []
        told = {
            INTERRUPTED: "it was interrupted, so the figures are of a part",
            "max_cost": "--max-cost was reached, so the figures are of a part",
            "in_flight": f"more than {load.in_flight_max:,} calls were in flight, which were the "
            "most: the server does not keep up with this rate",
            "warmup": "every call of the warm-up failed, so no others were sent",
        }
        if self.stopped_by is not None:
            reasons.append(told[self.stopped_by])
        for summary in summaries:
            if load.is_open and summary.was_late:
                reasons.append(
                    f"{summary.target}: the generator could not keep its schedule: "
                    f"{summary.sent_late:,} of {summary.calls:,} calls were sent more than "
                    f"{LATE_MS:g} ms late, one of them {summary.lag_max_ms:.1f} ms (at most "
                    f"{LATE_SHARE_MAX:.0%} may be); lower the rate, or free the machine"
                )
            if summary.calls and summary.error_share > _ERRORS_MAX:
                worst = max(summary.errors, key=summary.errors.__getitem__)
                detail = summary.error_details.get(worst, "")
                reasons.append(
                    f"{summary.target}: {summary.error_share:.0%} of the calls failed, most with "
                    f"{worst}" + (f": {detail.rstrip('.')}" if detail else "")
                )
            elif not summary.calls and self.stopped_by is None:
                reasons.append(f"{summary.target}: no call was made")
        return reasons + self._served_from_cache()

    def _served_from_cache(self) -> list[str]:
        """Where prompts that were meant to be new were not: a repeated run, or one server under
        two names."""
        if self.options["same_prompts"] or self.setup.scenario.shared_prefix_tokens:
            return []
        reasons: list[str] = []
        for target in self.setup.targets:
            good = [
                each
                for each in self.samples
                if each.target == target.name and not each.is_warmup and each.error is None
            ]
            cached = sum(each.cached_tokens for each in good)
            asked = sum(each.input_tokens for each in good)
            if asked and cached / asked > _CACHED_MAX:
                reasons.append(
                    f"{target.name}: {cached / asked:.0%} of its input came from the cache of "
                    "prompts, so first tokens are faster than those of new prompts; --same-prompts "
                    "says that this is meant"
                )
        return reasons


async def measure_all(kind: str, make_load: Callable[[], Load], options: dict[str, Any]) -> int:
    setup = setup_of(options)
    load = make_load()
    bench = Bench(setup, options)
    async with _Shown(bench):
        for target in setup.targets:
            this = load if target is setup.targets[0] else make_load()
            await bench.run(bench.generator(target), this)
    summaries = [summarize(each.name, bench.samples, setup.objectives) for each in setup.targets]
    result = bench.result(kind, load, bench.why_invalid(summaries, load))
    result.summaries = summaries
    if bench.stopped_by == "warmup":
        result.why_invalid += _warmup_errors(bench.samples)
    return _end(bench, result)


def _warmup_errors(samples: Sequence[CallSample]) -> list[str]:
    seen: dict[str, str] = {}
    for each in samples:
        if each.is_warmup and each.error is not None:
            detail = (each.detail or "").rstrip(".")
            seen.setdefault(each.error, f"{each.target}: {each.error}: {detail}".rstrip(": "))
    return list(seen.values())


async def compare_all(
    make_load: Callable[[], Load], round_count: int, options: dict[str, Any]
) -> int:
    setup = setup_of(options)
    bench = Bench(setup, options)
    by_name = {target.name: target for target in setup.targets}
    load = make_load()
    async with _Shown(bench):
        for block, order in enumerate(rounds(list(by_name), round_count, options["seed"])):
            for name in order:
                # Connections and caches are warm after the first round.
                this = make_load() if block == 0 else replace(make_load(), warmup=0)
                await bench.run(bench.generator(by_name[name], block), this)
            if bench.stopped_by is not None:
                break
    summaries = [summarize(each.name, bench.samples, setup.objectives) for each in setup.targets]
    result = bench.result("compare", load, bench.why_invalid(summaries, load))
    result.settings["rounds"] = round_count
    result.summaries = summaries
    names = list(by_name)
    result.differences = differences(bench.samples, names[0], names[1:], options["seed"])
    if bench.stopped_by == "warmup":
        result.why_invalid += _warmup_errors(bench.samples)
    return _end(bench, result)


async def sweep_all(options: dict[str, Any]) -> int:
    setup = setup_of(options)
    bench = Bench(setup, options)
    target = setup.targets[0]
    block = 0
    load = Load(duration_s=options["duration"], warmup=options["warmup"])

    async def measure(rate: float) -> Summary | None:
        nonlocal block
        block += 1
        this = replace(load, arrivals=arrivals(rate, options["arrival_kind"], options["seed"]))
        await bench.run(bench.generator(target, block), this)
        if bench.stopped_by == "in_flight":
            bench.stopped_by = None  # that is what was looked for
        if bench.stopped_by is not None:
            return None
        of_rate = [each for each in bench.samples if each.block == block]
        return summarize(target.name, of_rate, setup.objectives)

    steps: list[Step] = []
    async with _Shown(bench):
        steps = await sweep(
            measure,
            start_per_s=options["start_rate"],
            rate_max_per_s=options["rate_max"],
            precision=options["precision"],
        )
    open_load = replace(load, arrivals=iter(()))
    result = bench.result("sweep", open_load, bench.why_invalid((), open_load))
    result.steps = steps
    result.best_rate_per_s = best(steps)
    if bench.stopped_by == "warmup":
        result.why_invalid += _warmup_errors(bench.samples)
    return _end(bench, result)


class _Shown:
    """Shows progress and takes Ctrl-C while its block runs."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._showing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._bench.interrupt)
        self._showing = asyncio.create_task(self._bench.show())

    async def __aexit__(self, *_: object) -> None:
        assert self._showing is not None
        self._showing.cancel()
        await asyncio.gather(self._showing, return_exceptions=True)
        self._bench.clear()
        await self._bench.http.aclose()


def _end(bench: Bench, result: Result) -> int:
    out: Path | None = bench.options["out"]
    samples = sorted(bench.samples, key=lambda each: (each.scheduled_s, each.number))
    if out is not None:
        write_run(out, result, samples)
        (out / "report.html").write_text(html_report([(result, samples)]), encoding="utf-8")
        (out / "report.md").write_text(markdown_report(result), encoding="utf-8")
        if bench.options["parquet"]:
            write_parquet(out / "samples.parquet", samples)
    if bench.options["as_json"]:
        print_json(msgspec.to_builtins(result))
    else:
        write(terminal_report(result).rstrip())
        if out is not None:
            write(f"\nwritten to {out}: result.json, samples.jsonl, report.html, report.md")
    is_missed = any(
        not verdict.is_met for summary in result.summaries for verdict in summary.objectives
    )
    return FAILED_EXIT if result.why_invalid or is_missed else 0


def run_in_loop(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(make())
    return uvloop.run(make())


def _told_command() -> list[str]:
    """The command line, which has no secrets: keys are named by their variables."""
    return ["merino", *(shlex.quote(argument) for argument in sys.argv[1:])]
