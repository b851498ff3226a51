"""Timeouts beside what models take."""

from __future__ import annotations

import pytest

from merino.doctor.books import check_latencies
from merino.doctor.latency import check_timeout, p99_of, p99_of_metrics


def calls(alias: str, *durations_s: float, status: int = 200) -> list[dict[str, object]]:
    return [{"alias": alias, "status": status, "duration_ms": each * 1000} for each in durations_s]


def test_the_slowest_of_a_hundred() -> None:
    """The nearest rank, once there are enough calls."""
    assert 99.0 == p99_of([float(each) for each in range(1, 101)])
    assert 20.0 == p99_of([float(each) for each in range(1, 21)])
    assert None is p99_of([1.0] * 19)


@pytest.mark.parametrize(("timeout_s", "severity"), [(60.0, "ok"), (30.0, "ok"), (29.0, "problem")])
def test_a_program_waits_at_least_as_long(timeout_s, severity) -> None:
    """A shorter timeout pays for answers nobody reads."""
    (found,) = check_timeout("o3", 30.0, timeout_s)

    assert ("timeout-short", severity) == (found.id, found.severity)


def test_every_model_that_is_too_slow_is_named() -> None:
    """Else the slowest, so that the number is known; refused calls say nothing."""
    seen = [
        *calls("slow", *[50.0] * 20),
        *calls("slower", *[70.0] * 20, status=504),
        *calls("quick", *[1.0] * 20),
        *calls("rare", *[500.0] * 3),
        *calls("quick", *[900.0] * 20, status=429),
    ]

    assert ["problem", "problem"] == [each.severity for each in check_latencies(seen, 40.0)]
    assert ["ok"] == [each.severity for each in check_latencies(seen, 600.0)]
    assert "slower" in check_latencies(seen, 600.0)[0].seen
    assert [] == check_latencies([], 600.0)


def test_the_relays_histogram_says_it_too() -> None:
    """The bucket's upper bound, of the model in question."""
    name = "gen_ai_client_operation_duration_seconds_bucket"
    text = "\n".join(
        f'{name}{{gen_ai_request_model="o3",deployment="{deployment}",le="{bound}"}} {count}'
        for deployment, counts in {
            "a": ("10.0", "60.0", "60.0", "60.0"),
            "b": ("0.0", "39.0", "40.0", "40.0"),
        }.items()
        for bound, count in zip(("1.28", "2.56", "5.12", "+Inf"), counts, strict=True)
    )

    assert 2.56 == p99_of_metrics(text, "o3")
    assert None is p99_of_metrics(text, "o4")
    assert 5.12 == p99_of_metrics(text.replace('"+Inf"} 60.0', '"+Inf"} 160.0'), "o3")
