"""What long commands tell while they run, and at their end."""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
import os
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.batch_lines import lines
from tests.terminals import Tty, terminal

from merino.batch.latencies import Latencies
from merino.batch.runner import Progress
from merino.cli.batch_told import batch_fields, batch_line, batch_step
from merino.cli.bench_told import Goal
from merino.cli.progress import Step, drawn, show_progress
from merino.cli.root import run
from merino.cli.terminal import Terminal
from merino.simulator.server import simulator_in_thread

TERMS: Any = SimpleNamespace(
    out=Path("r.jsonl"), errors=Path("r.errors.jsonl"), max_cost_nanos=5 * 10**9
)


def progress(**more) -> Progress:
    known = {"done": 104, "good": 102, "in_flight": 20, "input_tokens": 4000, "output_tokens": 871}
    errors = {"rate_limit": 1, "500": 1}
    told: dict[str, Any] = {"spent_nanos": 45_859_000, "errors": errors} | known | more
    return Progress(400, **told)


@settings(deadline=None)
@given(
    done=st.floats(0, 10**9),
    total=st.none() | st.floats(0, 10**9),
    head=st.lists(st.text(max_size=30), max_size=4),
    details=st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=4),
    wrong=st.text(max_size=40),
    width=st.integers(20, 200),
)
def test_progress_fits_the_terminal(done, total, head, details, wrong, width) -> None:
    """Two lines at most, none wider, whatever they tell."""
    shown = drawn(
        Step(done, total, head, details, wrong), Terminal(width, has_colour=True, is_live=True)
    )
    assert len(shown) <= 2
    assert all(cell_len(each.plain) <= width for each in shown)


def test_the_bar_is_as_long_as_the_share() -> None:
    """Half of it for half; where there is no room or no total, there is none."""
    wide = Terminal(100, has_colour=True, is_live=True)
    [line] = drawn(Step(50, 100, ["50/100"]), wide)
    assert " 50 %  50/100" in line.plain
    filled = [span for span in line.spans if span.style == "green"]
    assert [20] == [span.end - span.start for span in filled]
    assert "━" not in drawn(Step(5, None, ["5 calls"]), wide)[0].plain
    assert (
        "━"
        not in drawn(Step(5, 10, ["x" * 14]), Terminal(24, has_colour=True, is_live=True))[0].plain
    )


def test_a_batch_tells_share_rate_failures_and_budget() -> None:
    """The time that is left once it is known; the budget if there is one."""
    step = batch_step(progress(), 5 * 10**9)
    assert (104, 400) == (step.done, step.total)
    assert step.head[0] == "104/400"
    assert step.head[1].endswith("/s")
    assert step.head[2].endswith(" left")
    assert ("20 at once", "4,871 tokens", "$0.0459 of $5.00") == (*step.details,)
    assert "2 failed (500 x 1, rate_limit x 1)" == step.wrong
    assert "$0.0459" == batch_step(progress(), None).details[-1]
    assert "2 failed (500)" == batch_step(progress(errors={"500": 2}), None).wrong
    many = {"a": 1, "b": 9, "c": 3, "d": 2}
    assert "failed (b x 9, c x 3, d x 2, ...)" in batch_step(progress(errors=many), None).wrong
    assert (
        "waiting for the first answer" in batch_step(progress(done=0, good=0, errors={}), None).head
    )


def test_the_end_of_a_batch_is_told_in_fields() -> None:
    """What was answered, what failed and why, how long answers took, where things are."""
    at_end = progress(done=400, good=398, skipped=0)
    for number in range(100):
        at_end.latencies.add(0.1 if number < 90 else 2.0)
    fields = dict(batch_fields(at_end, TERMS, bad_lines=1))
    assert "398 of 400" == fields["answered"]
    assert "2 (500 x 1, rate_limit x 1)" == fields["failed"]
    assert "1 bad line" == fields["left out"]
    assert "$0.0459 of $5.00" == fields["cost"]
    assert (Path("r.jsonl"), Path("r.errors.jsonl")) == (fields["results"], fields["failures"])
    middle, slow = fields["latency"].split(" at the median, 95 % within ")
    assert 100 <= int(middle.removesuffix(" ms")) <= 104
    assert 2.0 <= float(slow.removesuffix(" s")) <= 2.1


def test_where_nothing_is_left_nothing_starts() -> None:
    """No line says 0/0."""
    nothing = Progress(7, skipped=7, spent_before_nanos=10**9)
    assert "nothing was left to send" == batch_line(nothing)
    fields = dict(batch_fields(nothing, TERMS, bad_lines=0))
    assert "nothing was left to send" == fields["answered"]
    assert "7, for $1.00" == fields["done before"]


@settings(deadline=None)
@given(
    times=st.lists(st.floats(0.0001, 10_000), min_size=1, max_size=200), share=st.floats(0.01, 1)
)
def test_latencies_are_true_to_a_few_percent(times, share) -> None:
    """At least so many took no longer, and the figure is of one that did."""
    kept = Latencies()
    for each in times:
        kept.add(each)
    exact = sorted(times)[max(0, math.ceil(share * len(times) - 1e-9) - 1)]
    assert exact * 0.9999 <= kept.quantile(share) <= exact * 1.04


def test_no_latencies_are_none() -> None:
    assert 0.0 == Latencies().quantile(0.5)


@pytest.mark.parametrize(
    ("options", "rounds", "calls", "seconds", "part"),
    [
        ({"requests": 20}, 1, 20, None, 0.5),
        ({"requests": 20, "targets": ["a", "b"]}, 20, 800, None, 10 / 800),
        ({"duration": 30.0, "requests": None}, 1, None, 30.0, 0.1),
        ({"duration": 30.0, "requests": 20}, 1, 20, 30.0, 0.5),
        ({}, 1, None, 60.0, 0.05),
        ({"arrival_kind": "trace"}, 1, None, None, None),
        ({"start_rate": 1.0, "duration": 15.0}, 1, None, None, None),
    ],
)
def test_how_far_a_benchmark_is(options, rounds, calls, seconds, part) -> None:
    """By its calls or its time, whichever ends it first; a sweep and a trace do not say."""
    goal = Goal.of({"targets": ["a"], "max_cost": None} | options, rounds)
    assert (calls, seconds) == (goal.calls, goal.seconds)
    assert part == goal.part(10, 3.0)


def shown(columns: int, is_quiet: bool = False, **environ: str) -> Tty:
    """What progress wrote before it was cancelled."""

    async def watch() -> None:
        showing = show_progress(
            lambda: Step(1, 2, ["1/2"], ["a detail"], "1 failed"),
            lambda: "a line",
            every_s=0.0,
            is_quiet=is_quiet,
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await showing

    tty = Tty()
    with terminal(columns, **environ), redirect_stderr(tty):
        asyncio.run(watch())
    return tty


def test_a_bar_is_drawn_over_itself_and_gone_at_the_end() -> None:
    """Where a terminal cannot, and in a pipe, it is a line now and then; quiet is nothing."""
    told = shown(80).getvalue()
    assert "50 %" in told
    assert "1 failed" in told
    assert told.endswith("\x1b[2K")
    assert "a line\n" in shown(80, TERM="dumb").getvalue()
    assert "\x1b" not in shown(80, TERM="dumb").getvalue()
    assert "\x1b[32m" not in shown(80, NO_COLOR="1").getvalue()
    assert "" == shown(80, is_quiet=True).getvalue()


def test_a_whole_batch_at_a_terminal(tmp_path) -> None:
    """It ends with its summary on standard output, and a second run has nothing to do."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(lines(5, model="plain!output=5"))
    with simulator_in_thread() as server:
        environ = {"MERINO_BASE_URL": server.base_url, "MERINO_API_KEY": "k"}
        said: list[str] = []
        for more in ((), ("--resume",)):
            with (
                terminal(100) as tty,
                patch.dict(os.environ, environ),
                redirect_stderr(io.StringIO()),
            ):
                assert 0 == run(["batch", "run", str(source), "-o", str(out), *more])
            said.append(tty.said)
    first, second = (dict(line.split("  ", 1) for line in each.splitlines()) for each in said)
    assert ("5 of 5", str(out)) == (first["answered"].strip(), first["results"].strip())
    assert "nothing was left to send" == second["answered"].strip()
    assert second["done before"].strip().startswith("5,")
