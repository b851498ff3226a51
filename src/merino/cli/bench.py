"""`merino bench`: latency and throughput of any OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from merino.bench.generator import Load
from merino.bench.page import html_report
from merino.bench.results import BadRun, Result, read_run
from merino.bench.samples import CallSample
from merino.bench.slo import FailIf, figure
from merino.bench.summary import summarize
from merino.bench.tables import markdown_report, terminal_report
from merino.cli.bench_run import FAILED_EXIT, run_shown
from merino.cli.bench_setup import load_maker, objectives_of, parsed, warmup_of
from merino.cli.output import print_json, write
from merino.domain.errors import Misconfigured


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
        click.option(
            "--api",
            type=click.Choice(["chat", "responses"]),
            default="chat",
            show_default=True,
            help="Which API is asked; scenarios are the same.",
        ),
        click.option("--stream/--no-stream", "is_streamed", default=True, show_default=True),
        click.option("--max-output-tokens", type=click.IntRange(1), help="Of every answer."),
        click.option(
            "--warmup", type=click.IntRange(0),
            help="Calls before the counted ones; 10 if left out, or one for each caller if those "
            "are more.",
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
        click.option("--seed", type=int, default=0, show_default=True,
                     help="Of lengths and arrivals."),
        click.option("--same-prompts", is_flag=True,
                     help="Ask all targets and all runs with this seed the same synthetic prompts: "
                     "measures what caches of prompts do."),
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
    load = Load(
        concurrency=concurrency or 1,
        requests=requests,
        warmup=warmup_of(options | {"concurrency": concurrency}),
    )
    return run_shown(lambda bench: bench.measure("latency", lambda: load), options, calls=requests)


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
    loads = load_maker(options)
    return run_shown(lambda bench: bench.measure("throughput", loads), options)


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
    loads = load_maker(options)
    return run_shown(lambda bench: bench.compare(loads, round_count), options, rounds=round_count)


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
    load = Load(duration_s=options["duration"], warmup=warmup_of(options))
    return run_shown(
        lambda bench: bench.sweep(
            load,
            options["arrival_kind"],
            start_per_s=options["start_rate"],
            rate_max_per_s=options["rate_max"],
            precision=options["precision"],
        ),
        options,
    )


@command.command("report")
@click.argument("folders", nargs=-1, required=True,
                type=click.Path(exists=True, file_okay=False, path_type=Path))  # fmt: skip
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path),
              help="An .html or .md file; the terminal if left out.")  # fmt: skip
@click.option("--title", default="Benchmark", show_default=True)
@click.option("--slo", help="Judge the runs by these bounds instead of their own.")
def report(folders: Sequence[Path], out: Path | None, title: str, slo: str | None) -> int:
    """Show runs again, several as one report. Figures are computed anew from the samples."""
    objectives = objectives_of(slo) if slo else None
    runs: list[tuple[Result, list[CallSample]]] = []
    for folder in folders:
        result, samples = _read(folder)
        given = objectives
        if given is None:
            given = objectives_of(result.settings.get("slo"))
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
    wanted = [parsed(FailIf.parse, text, "--fail-if") for text in conditions]
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
    from merino.simulator.server import main

    return main(["--host", host, "--port", str(port), "--defaults", behaviour, "--seed", str(seed)])


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
        found = summarize(target.name, samples, objectives_of(result.settings.get("slo"))).figures()
        # With several targets the first gives its figures their plain names.
        figures = {**{f"{target.name}.{k}" if many else k: v for k, v in found.items()}, **figures}
        if target is result.targets[0] and many:
            figures = {**found, **figures}
    return figures
