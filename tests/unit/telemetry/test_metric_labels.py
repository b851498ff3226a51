"""What may be a label of a metric, whoever asks for more."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from merino.domain.call import CallRecord
from merino.telemetry.metrics import KNOWN_ERRORS, Metrics

ROOT = Path(__file__).parents[3]


def record(code: str | None, status: int) -> CallRecord:
    return CallRecord(
        "req_1", "a", "k", "o3", "chat/completions", 0, status, deployment="up", error_code=code
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=40), st.integers(400, 999)), min_size=1, max_size=300),
)
def test_no_upstream_adds_a_label(told) -> None:
    """Codes and statuses that nobody knows are counted together; what is known has its own."""
    metrics = Metrics()
    for code, status in [*told, ("insufficient_quota", 429), (None, 200)]:
        metrics.call_started()
        metrics.call_finished(record(code, status))
    lines = [
        line for line in metrics.render().decode().splitlines() if line.startswith("merino_calls_t")
    ]
    errors = {re.search(r'error_type="([^"]*)"', line)[1] for line in lines}
    assert errors <= KNOWN_ERRORS | {"other", ""}
    statuses = {re.search(r'status="([^"]*)"', line)[1] for line in lines}
    assert all(len(each) == 3 and (each.isdigit() or each.endswith("xx")) for each in statuses)
    assert {"insufficient_quota", ""} <= errors
    assert len(told) + 2 == sum(float(line.rpartition(" ")[2]) for line in lines)


def test_every_code_of_ours_is_a_label() -> None:
    """A new code in the page of errors is counted under its own name."""
    page = (ROOT / "docs/reference/errors.md").read_text()
    codes = set(re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)`", page)) - {"database_wait_s"}
    assert len(codes) > 40
    assert set() == codes - KNOWN_ERRORS


def test_the_page_of_metrics_names_what_there_is(tmp_path: Path) -> None:
    """Each metric of the relay is on the page under the name that is scraped, with its labels; no
    other name or label is."""
    relay = App.open(tmp_path)
    call = record("rate_limit_exceeded", 429)
    relay.metrics.call_started()
    relay.metrics.call_finished(replace(call, ttft_ms=1.0))
    relay.metrics.request_refused(404, "unknown_path")
    scraped: dict[str, set[str]] = {}
    for family in relay.metrics.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        scraped[name] = labels or set(getattr(family, "_labelnames", ()))
    assert scraped == _page_of_metrics()
