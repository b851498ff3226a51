"""A run of `merino bench` on the terminal: its progress, Ctrl-C, its end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from merino.bench.page import html_report
from merino.bench.results import Result, write_parquet, write_run
from merino.bench.run import BenchRun
from merino.bench.samples import CallSample
from merino.bench.tables import markdown_report, terminal_report
from merino.cli.bench_setup import setup_of
from merino.cli.bench_told import Goal, bench_line, bench_step
from merino.cli.output import print_json, write
from merino.cli.progress import show_progress

FAILED_EXIT = 1
_REFRESH_S = 5.0
"""Between two lines where no bar can be drawn."""


def run_shown(
    measure: Callable[[BenchRun], Awaitable[Result]],
    options: dict[str, Any],
    *,
    rounds: int = 1,
    calls: int | None = None,
) -> int:
    """Run it in a loop of its own, show how far it is, and its result; how the command exits."""
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    return run(_run_shown(measure, options, lambda: Goal.of(options, rounds, calls)))


async def _run_shown(
    measure: Callable[[BenchRun], Awaitable[Result]],
    options: dict[str, Any],
    goal_of: Callable[[], Goal],
) -> int:
    bench = BenchRun(setup_of(options))
    is_quiet = options["quiet"] or options["as_json"]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, bench.interrupt)
    goal = goal_of()
    showing = asyncio.create_task(
        show_progress(
            lambda: bench_step(bench, goal),
            lambda: bench_line(bench),
            every_s=_REFRESH_S,
            is_quiet=is_quiet,
        )
    )
    try:
        result = await measure(bench)
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
        await bench.aclose()
    return _end(result, bench.samples, options)


def _end(result: Result, measured: list[CallSample], options: dict[str, Any]) -> int:
    out: Path | None = options["out"]
    samples = sorted(measured, key=lambda each: (each.scheduled_s, each.number))
    if out is not None:
        write_run(out, result, samples)
        (out / "report.html").write_text(html_report([(result, samples)]), encoding="utf-8")
        (out / "report.md").write_text(markdown_report(result), encoding="utf-8")
        if options["parquet"]:
            write_parquet(out / "samples.parquet", samples)
    if options["as_json"]:
        print_json(msgspec.to_builtins(result))
    else:
        write(terminal_report(result).rstrip())
        if out is not None:
            write(f"\nwritten to {out}: result.json, samples.jsonl, report.html, report.md")
    is_missed = any(
        not verdict.is_met for summary in result.summaries for verdict in summary.objectives
    )
    return FAILED_EXIT if result.why_invalid or is_missed else 0
