"""A run of `merino bench` on the terminal: its progress, Ctrl-C, its end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from merino.bench.page import html_report
from merino.bench.results import Result, write_parquet, write_run
from merino.bench.run import BenchRun
from merino.bench.samples import CallSample, ttft_ms
from merino.bench.stats import quantile
from merino.bench.tables import markdown_report, terminal_report
from merino.cli.bench_setup import setup_of
from merino.cli.output import print_json, write
from merino.domain.money import format_nanos

FAILED_EXIT = 1
_REFRESH_S = 0.5


def run_shown(measure: Callable[[BenchRun], Awaitable[Result]], options: dict[str, Any]) -> int:
    """Run it in a loop of its own, show how far it is, and its result; how the command exits."""
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    return run(_run_shown(measure, options))


async def _run_shown(
    measure: Callable[[BenchRun], Awaitable[Result]], options: dict[str, Any]
) -> int:
    bench = BenchRun(setup_of(options))
    is_quiet = options["quiet"] or options["as_json"]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, bench.interrupt)
    showing = asyncio.create_task(_show(bench, is_quiet=is_quiet))
    try:
        result = await measure(bench)
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
        if not is_quiet and sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        await bench.aclose()
    return _end(result, bench.samples, options)


async def _show(bench: BenchRun, *, is_quiet: bool) -> None:
    """The live view, until cancelled."""
    is_terminal = sys.stderr.isatty()
    while not is_quiet:
        await asyncio.sleep(_REFRESH_S if is_terminal else 10 * _REFRESH_S)
        line = _line(bench)
        sys.stderr.write(f"\r{line}\x1b[K" if is_terminal else f"{line}\n")
        sys.stderr.flush()


def _line(bench: BenchRun) -> str:
    samples = bench.samples_so_far()
    counted = [each for each in samples if not each.is_warmup]
    failed = sum(each.error is not None for each in counted)
    now = perf_counter() - bench.began
    recent = [each for each in counted if each.end_s > now - 5]
    parts = [
        f"{now:,.0f} s",
        f"{len(counted):,} calls" if counted else f"{len(samples):,} to warm up",
        f"{len(recent) / min(5.0, max(now, 0.5)):,.1f}/s",
        f"{bench.in_flight:,} in flight",
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
