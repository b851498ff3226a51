"""What `merino batch run` tells of itself: while it runs, and at its end."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from merino.cli.figures import count, counted, duration, money
from merino.cli.progress import Step
from merino.domain.money import format_nanos

if TYPE_CHECKING:
    from merino.batch.run import RunTerms
    from merino.batch.runner import Progress

_KINDS_MAX = 3


def batch_line(progress: Progress) -> str:
    """One line for a log."""
    wanted = progress.total - progress.skipped
    if not wanted:
        return "nothing was left to send"
    eta = f"{progress.eta_s:,.0f} s left" if progress.done else "starting"
    failed = progress.done - progress.good
    return (
        f"{progress.done:,}/{wanted:,}  {progress.per_s:,.1f}/s  {eta}  "
        f"{progress.in_flight} at once  {progress.input_tokens + progress.output_tokens:,} tokens  "
        f"{format_nanos(progress.spent_nanos)}"
        + (f"  {failed} failed ({_kinds(progress)})" if failed else "")
    )


def batch_step(progress: Progress, max_cost_nanos: int | None) -> Step:
    wanted = progress.total - progress.skipped
    head = [f"{progress.done:,}/{wanted:,}"]
    if progress.done:
        head += [f"{progress.per_s:,.1f}/s", f"{duration(progress.eta_s)} left"]
    else:
        head.append("waiting for the first answer")
    failed = progress.done - progress.good
    return Step(
        progress.done,
        wanted,
        head,
        (
            f"{progress.in_flight} at once",
            counted(progress.input_tokens + progress.output_tokens, "token"),
            _cost(progress, max_cost_nanos),
        ),
        f"{failed:,} failed ({_reasons(progress)})" if failed else "",
    )


def batch_fields(progress: Progress, terms: RunTerms, *, bad_lines: int) -> list[tuple[str, Any]]:
    """What came of it, for a terminal."""
    wanted = progress.total - progress.skipped
    failed = progress.done - progress.good
    fields: list[tuple[str, Any]] = []
    if wanted:
        took = duration(monotonic() - progress.began_s)
        fields.append(("answered", f"{progress.good:,} of {wanted:,}"))
        if failed:
            fields.append(("failed", f"{failed:,} ({_reasons(progress)})"))
        fields.append(("took", f"{took}, {progress.per_s:,.1f} calls/s"))
        if progress.good:
            middle, slow = progress.latencies.quantile(0.5), progress.latencies.quantile(0.95)
            fields.append(
                ("latency", f"{duration(middle)} at the median, 95 % within {duration(slow)}")
            )
        tokens = f"{count(progress.input_tokens)} in, {count(progress.output_tokens)} out"
        fields += [("tokens", tokens), ("cost", _cost(progress, terms.max_cost_nanos))]
    else:
        fields.append(("answered", "nothing was left to send"))
    if progress.unpriced:
        fields.append(("without cost", counted(progress.unpriced, "answer")))
    if progress.skipped:
        refused = f", {progress.failed_before:,} of them refused" if progress.failed_before else ""
        before = money(progress.spent_before_nanos, "USD")
        fields.append(("done before", f"{progress.skipped:,}, for {before}{refused}"))
    if bad_lines:
        fields.append(("left out", counted(bad_lines, "bad line")))
    fields.append(("results", terms.out))
    if progress.errors:
        fields.append(("failures", terms.errors))
    return fields


def _cost(progress: Progress, max_cost_nanos: int | None) -> str:
    spent = money(progress.spent_nanos, "USD")
    if max_cost_nanos is None:
        return spent
    spent = money(progress.spent_nanos + progress.spent_before_nanos, "USD")
    return f"{spent} of {money(max_cost_nanos, 'USD')}"


def _reasons(progress: Progress) -> str:
    """The most frequent first, how often if there are several."""
    errors = sorted(progress.errors.items(), key=lambda each: (-each[1], each[0]))
    if len(errors) == 1:
        return errors[0][0]
    shown = ", ".join(f"{kind} x {number:,}" for kind, number in errors[:_KINDS_MAX])
    return shown + (", ..." if len(errors) > _KINDS_MAX else "")


def _kinds(progress: Progress) -> str:
    kinds = sorted(progress.errors.items())[:_KINDS_MAX]
    return ", ".join(f"{number} {kind}" for kind, number in kinds)
