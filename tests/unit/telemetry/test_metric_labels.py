"""What may be a label of a metric, whoever asks for more."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.lengths import examples

from merino.app import Relay
from merino.domain.call import CallRecord
from merino.live import live_of
from merino.settings import load
from merino.storage import Store
from merino.telemetry.metrics import KNOWN_ERRORS, Metrics

ROOT = Path(__file__).parents[3]


def record(code: str | None, status: int) -> CallRecord:
    return CallRecord(
        "req_1", "a", "k", "o3", "chat/completions", 0, status, deployment="up", error_code=code
    )


@settings(max_examples=examples(30))
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


DECLARED = re.compile(r"`((?:gen_ai_|merino_|…)\w+)`")


def page_of_metrics() -> dict[str, set[str]]:
    """Names and labels as the page's table has them."""
    found: dict[str, set[str]] = {}
    labels: set[str] = set()
    family = ""
    for line in (ROOT / "docs/reference/metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 4 or not DECLARED.match(cells[1]):
            continue
        if cells[2] != "the same":
            labels = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", cells[2])))
        for name in DECLARED.findall(cells[1]):
            family = family if name.startswith("…") else name
            found[_whole(name, family)] = labels
    return found


def _whole(name: str, family: str) -> str:
    stem = re.sub(r"(?:in|out)put_tokens_total$", "", family)
    return name.replace("…_", stem).replace("…", stem)


def test_the_page_of_metrics_names_what_is_scraped(tmp_path: Path) -> None:
    """Each metric of a relay stands on the page under the name that a query needs, with its labels,
    and the page has no other."""
    assert asyncio.run(scraped(tmp_path)) == page_of_metrics()


async def scraped(tmp_path: Path) -> dict[str, set[str]]:
    """Names and labels of a relay in which everything has been counted once."""
    store = Store.open(tmp_path / "data")
    await store.start()
    try:
        relay = Relay(live_of(load(None, {}), {}, store.accounts.get), store, {})
        relay.metrics.call_started()
        relay.metrics.call_finished(replace(record("upstream_failed", 502), ttft_ms=1.0))
        relay.metrics.request_refused(404, "unknown_path")
        found: dict[str, set[str]] = {}
        for family in relay.metrics.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            used = {label for sample in family.samples for label in sample.labels}
            found[name] = (used or set(getattr(family, "_labelnames"))) - {"le"}  # noqa: B009
    finally:
        await store.close()
    return found
