"""`merino bench`: latency and throughput of any OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import platform
import shlex
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import click
import msgspec

from merino.bench.arrivals import arrivals, replayed
from merino.bench.caller import Caller, CallerPolicy
from merino.bench.compare import differences, rounds
from merino.bench.generator import LAG_P99_MS_MAX, Bodies, Load, LoadGenerator, Progress
from merino.bench.page import html_report
from merino.bench.results import (
    BadRun,
    Result,
    TargetShown,
    machine_text,
    now_text,
    read_run,
    write_parquet,
    write_run,
)
from merino.bench.samples import INTERRUPTED, CallSample, ttft_ms
from merino.bench.scenario import BadScenario, Scenario, load_scenario
from merino.bench.slo import FailIf, Objective, figure, parse_objectives
from merino.bench.stats import quantile
from merino.bench.summary import Summary, summarize
from merino.bench.sweep import Step, best, sweep
from merino.bench.tables import markdown_report, terminal_report
from merino.bench.targets import Target, parse_target
from merino.cli.offline_prices import OfflinePrices
from merino.cli.output import print_json, write
from merino.domain.errors import Misconfigured
from merino.domain.money import format_nanos, parse_nanos
from merino.transport.client import ClientLimits, Origin, UpstreamClient

T = TypeVar("T")

FAILED_EXIT = 1
_REFRESH_S = 0.5
_ERRORS_MAX = 0.5
_decode = msgspec.json.Decoder(dict[str, Any]).decode


@click.group("bench")
def command() -> None:
    """Measure latency and throughput of any OpenAI-compatible endpoint."""


def _common(function: Callable[..., int]) -> Callable[..., int]:
    options = [
        click.option(
            "--target",
            "targets",
            multiple=True,
            required=True,
            metavar="NAME=URL[,model][,key-env]",
            help="What to measure; the key is the value of that variable, else MERINO_API_KEY or "
            "OPENAI_API_KEY.",
        ),
        click.option(
            "--scenario",
            default="simple",
            show_default=True,
            help="simple, code, proof, image, or a .toml or .jsonl file.",
        ),
        click.option("--stream/--no-stream", "is_streamed", default=True, show_default=True),
        click.option("--max-output-tokens", type=click.IntRange(1), help="Of every answer."),
        click.option(
            "--warmup", type=click.IntRange(0), default=10, show_default=True,
            help="Calls before the counted ones.",
        ),
        click.option("--slo", help="Bounds such as ttft_ms_p99=300,error_share=0.01."),
        click.option("--max-cost", help="Stop before the run could cost more than this."),
        click.option(
            "--price", help="input,output per million tokens, for models the book does not have."
        ),
        click.option("--timeout", type=click.FloatRange(0.1), default=600.0, show_default=True,
                     help="Seconds a call may take."),
        click.option("--retries", type=click.IntRange(0, 20), default=0, show_default=True,
                     help="After 429, 5xx and lost connections; counted in the call's latency."),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option("--out", type=click.Path(file_okay=False, path_type=Path),
                     help="Folder for result.json, samples.jsonl, report.html and report.md."),
        click.option("--parquet", is_flag=True, help="Write the samples as Parquet, too."),
        click.option("--quiet", is_flag=True, help="No progress."),
        click.option("--json", "as_json", is_flag=True, help="Print result.json."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


_RATE = click.option("--rate", type=click.FloatRange(min=0, min_open=True),
                     help="Calls per second by schedule: open loop.")  # fmt: skip
_ARRIVALS = click.option("--arrivals", "arrival_kind", default="poisson", show_default=True,
                         type=click.Choice(["poisson", "constant", "trace"]))  # fmt: skip
_SPEED = click.option("--trace-speed", type=click.FloatRange(min=0, min_open=True), default=1.0,
                      show_default=True, help="2 plays a trace in half its time.")  # fmt: skip
_CONCURRENCY = click.option("--concurrency", type=click.IntRange(1, 20_000),
                            help="So many callers, one call each: closed loop.")  # fmt: skip


@command.command("latency")
@_common
@_CONCURRENCY
@click.option("--requests", type=click.IntRange(1), default=100, show_default=True)
def latency(concurrency: int | None, requests: int, **options: Any) -> int:
    """How long calls take on an idle server: one after another, unless --concurrency says more."""
    load = Load(concurrency=concurrency or 1, requests=requests, warmup=options["warmup"])
    return _measure("latency", lambda: load, options)


@command.command("throughput")
@_common
@_RATE
@_ARRIVALS
@_SPEED
@_CONCURRENCY
@click.option("--duration", type=click.FloatRange(0.1), help="Seconds.")
@click.option("--requests", type=click.IntRange(1))
def throughput(**options: Any) -> int:
    """How calls fare under load: --rate (open loop), --concurrency (closed), or a trace."""
    loads = _load_maker(options)
    return _measure("throughput", loads, options)


@command.command("compare")
@_common
@_RATE
@_ARRIVALS
@_SPEED
@_CONCURRENCY
@click.option("--rounds", "round_count", type=click.IntRange(2, 10_000), default=20,
              show_default=True)  # fmt: skip
@click.option("--requests", type=click.IntRange(1), default=10, show_default=True,
              help="Calls of each target in a round.")  # fmt: skip
def compare(round_count: int, **options: Any) -> int:
    """Whether targets differ: they take turns in random order; the first is the baseline."""
    if len(options["targets"]) < 2:
        raise click.UsageError("compare needs two --target or more; the first is the baseline")
    if options["rate"] is None and options["concurrency"] is None:
        options["concurrency"] = 1
    options["duration"] = None
    loads = _load_maker(options)
    return _run_in_loop(lambda: _compare(loads, round_count, options))


@command.command("sweep")
@_common
@_ARRIVALS
@click.option("--rate", "start_rate", type=click.FloatRange(min=0, min_open=True), default=1.0,
              show_default=True, help="First rate tried, in calls per second.")  # fmt: skip
@click.option("--rate-max", type=click.FloatRange(min=0, min_open=True), default=1000.0,
              show_default=True)  # fmt: skip
@click.option("--duration", type=click.FloatRange(0.1), default=15.0, show_default=True,
              help="Seconds at each rate.")  # fmt: skip
@click.option("--precision", type=click.FloatRange(0.01, 0.5), default=0.1, show_default=True)
def run_sweep(**options: Any) -> int:
    """The highest rate that keeps the objectives (--slo), and latency over load."""
    if len(options["targets"]) != 1:
        raise click.UsageError("sweep measures one --target")
    if options["arrival_kind"] == "trace":
        raise click.UsageError("a sweep sets the rate itself; a trace has its own")
    return _run_in_loop(lambda: _sweep(options))


@command.command("report")
@click.argument("folders", nargs=-1, required=True,
                type=click.Path(exists=True, file_okay=False, path_type=Path))  # fmt: skip
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path),
              help="An .html or .md file; the terminal if left out.")  # fmt: skip
@click.option("--title", default="Benchmark", show_default=True)
@click.option("--slo", help="Judge the runs by these bounds instead of their own.")
def report(folders: Sequence[Path], out: Path | None, title: str, slo: str | None) -> int:
    """Show runs again, several as one report. Figures are computed anew from the samples."""
    objectives = _objectives(slo) if slo else None
    runs: list[tuple[Result, list[CallSample]]] = []
    for folder in folders:
        result, samples = _read(folder)
        given = objectives
        if given is None:
            given = _objectives(result.settings.get("slo"))
        if result.kind != "sweep":
            result.summaries = [summarize(target.name, samples, given) for target in result.targets]
        runs.append((result, samples))
    runs.sort(key=lambda run: run[0].at)
    if out is None:
        for result, _ in runs:
            write(terminal_report(result).rstrip())
    elif out.suffix == ".md":
        out.write_text("\n".join(markdown_report(result) for result, _ in runs), encoding="utf-8")
    else:
        out.write_text(html_report(runs, title), encoding="utf-8")
    return 0


@command.command("diff")
@click.argument("before", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("after", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--fail-if", "conditions", multiple=True, metavar="CONDITION",
              help="Such as 'ttft_ms_p99 > +10%' or 'error_share > +0.01'.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True)
def diff(before: Path, after: Path, conditions: Sequence[str], as_json: bool) -> int:
    """What changed from one run to another; exit code 1 if a condition holds."""
    wanted = [_parsed(FailIf.parse, text, "--fail-if") for text in conditions]
    old, new = _figures_of(before), _figures_of(after)
    names = [name for name in old if name in new]
    held: list[str] = []
    for condition in wanted:
        try:
            first, second = figure(old, condition.name), figure(new, condition.name)
        except ValueError as error:
            raise click.UsageError(f"--fail-if: {error}") from None
        if condition.holds(first, second):
            held.append(f"{condition} holds: {first:,.2f} became {second:,.2f}")
    if as_json:
        rows = {name: {"before": old[name], "after": new[name]} for name in names}
        print_json({"figures": rows, "failed": held})
        return FAILED_EXIT if held else 0
    for name in names:
        change = (new[name] - old[name]) / old[name] if old[name] else 0.0
        write(f"{name:28}  {old[name]:>12,.2f}  {new[name]:>12,.2f}  {change:+8.1%}")
    for line in held:
        write(f"FAILED: {line}")
    return FAILED_EXIT if held else 0


@command.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65_535), default=9000, show_default=True)
@click.option("--behaviour", default="ttft=200ms,tps=50,output=50,reasoning=0", show_default=True,
              help="Of every model; see the simulator's reference.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
def serve(host: str, port: int, behaviour: str, seed: int) -> int:
    """A reference server whose times are known: the simulator."""
    from merino.providers.simulator_server import main

    return main(["--host", host, "--port", str(port), "--defaults", behaviour, "--seed", str(seed)])


# -- what the commands share -----------------------------------------------------------------------


@dataclass(slots=True)
class _Setup:
    """What a command line comes to."""

    scenario: Scenario
    targets: list[Target]
    objectives: tuple[Objective, ...]
    policy: CallerPolicy
    prices: OfflinePrices
    max_cost_nanos: int | None


def _setup(options: dict[str, Any]) -> _Setup:
    targets = [_parsed(parse_target, text, "--target") for text in options["targets"]]
    names = [target.name for target in targets]
    if len(set(names)) < len(names):
        raise click.UsageError("--target: every target needs a name of its own")
    try:
        scenario = load_scenario(options["scenario"])
    except BadScenario as error:
        raise click.UsageError(f"--scenario: {error}") from None
    if options["parquet"]:
        if options["out"] is None:
            raise click.UsageError("--parquet writes into the folder of --out; give one")
        if find_spec("pyarrow") is None:
            raise Misconfigured("--parquet needs: pip install 'merino[parquet]'") from None
    max_cost = options["max_cost"]
    if max_cost is not None:
        max_cost = _parsed(parse_nanos, max_cost, "--max-cost")
    prices = OfflinePrices(options["price"])
    if max_cost is not None:
        for target in targets:
            if prices.of(target.model) is None:
                raise Misconfigured(
                    f"--max-cost needs a price, and the book has none for {target.model!r}; give "
                    "--price input,output (per million tokens)"
                )
    return _Setup(
        scenario,
        targets,
        _objectives(options["slo"]),
        CallerPolicy(
            is_streamed=options["is_streamed"],
            timeout_s=options["timeout"],
            retries=options["retries"],
        ),
        prices,
        max_cost,
    )


def _load_maker(options: dict[str, Any]) -> Callable[[], Load]:
    """Makes a load as the options say: a schedule can be used once."""
    rate, concurrency, kind = options["rate"], options["concurrency"], options["arrival_kind"]
    if (rate is not None) + (concurrency is not None) + (kind == "trace") != 1:
        raise click.UsageError(
            "give one of --rate (open loop), --concurrency (closed loop) or --arrivals trace"
        )
    duration, requests = options["duration"], options["requests"]
    if duration is None and requests is None and kind != "trace":
        duration = 60.0
    load = Load(
        concurrency=concurrency or 1,
        requests=requests,
        duration_s=duration,
        warmup=0 if kind == "trace" else options["warmup"],
    )

    def make() -> Load:
        if kind == "trace":
            moments = load_scenario(options["scenario"]).timestamps_ms
            if moments is None:
                raise click.UsageError("--arrivals trace needs a .jsonl scenario with timestamps")
            return replace(load, arrivals=replayed(moments, options["trace_speed"]))
        if rate is not None:
            return replace(load, arrivals=arrivals(rate, kind, options["seed"]))
        return load

    return make


class _Bench:
    """One command's run: its client, its progress on the terminal, its end."""

    def __init__(self, setup: _Setup, options: dict[str, Any]) -> None:
        self.setup = setup
        self.options = options
        self.samples: list[CallSample] = []
        self.stopped_by: str | None = None
        self.http = UpstreamClient(ClientLimits(connections_max_per_origin=20_000))
        self.began = perf_counter()
        self._running: list[LoadGenerator] = []
        self._spent_nanos = 0
        self._is_quiet = options["quiet"] or options["as_json"]

    def generator(self, target: Target, block: int = 0) -> LoadGenerator:
        setup = self.setup
        caller = Caller(
            self.http, Origin.of(target.base_url), target, setup.policy, setup.prices.cost_nanos
        )
        bodies = Bodies(
            setup.scenario,
            target.model,
            is_streamed=setup.policy.is_streamed,
            output_tokens_max=self.options["max_output_tokens"],
            # The same prompts for every target of a round, others in each round.
            seed=self.options["seed"] + block,
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
                "retries", "seed",
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
            if load.is_open and summary.lag_p99_ms > LAG_P99_MS_MAX:
                reasons.append(
                    f"{summary.target}: the generator could not keep its schedule: 1 % of the "
                    f"calls were sent {summary.lag_p99_ms:.1f} ms late or more (at most "
                    f"{LAG_P99_MS_MAX:g} ms); lower the rate, or free the machine"
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
        return reasons


def _measure(kind: str, make_load: Callable[[], Load], options: dict[str, Any]) -> int:
    return _run_in_loop(lambda: _measure_all(kind, make_load, options))


async def _measure_all(kind: str, make_load: Callable[[], Load], options: dict[str, Any]) -> int:
    setup = _setup(options)
    load = make_load()
    bench = _Bench(setup, options)
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


async def _compare(make_load: Callable[[], Load], round_count: int, options: dict[str, Any]) -> int:
    setup = _setup(options)
    bench = _Bench(setup, options)
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


async def _sweep(options: dict[str, Any]) -> int:
    setup = _setup(options)
    bench = _Bench(setup, options)
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
            lag_p99_ms_max=LAG_P99_MS_MAX,
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

    def __init__(self, bench: _Bench) -> None:
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


def _end(bench: _Bench, result: Result) -> int:
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


def _run_in_loop(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(make())
    return uvloop.run(make())


def _objectives(text: str | None) -> tuple[Objective, ...]:
    return () if not text else _parsed(parse_objectives, text, "--slo")


def _parsed(parse: Callable[[str], T], text: str, option: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None


def _read(folder: Path) -> tuple[Result, list[CallSample]]:
    try:
        return read_run(folder)
    except BadRun as error:
        raise Misconfigured(str(error)) from None


def _figures_of(folder: Path) -> dict[str, float]:
    result, samples = _read(folder)
    figures: dict[str, float] = {}
    many = len(result.targets) > 1
    for target in result.targets:
        found = summarize(target.name, samples, _objectives(result.settings.get("slo"))).figures()
        # With several targets the first gives its figures their plain names.
        figures = {**{f"{target.name}.{k}" if many else k: v for k, v in found.items()}, **figures}
        if target is result.targets[0] and many:
            figures = {**found, **figures}
    return figures


def _told_command() -> list[str]:
    """The command line, which has no secrets: keys are named by their variables."""
    return ["merino", *(shlex.quote(argument) for argument in sys.argv[1:])]
