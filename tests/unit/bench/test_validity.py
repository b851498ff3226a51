"""What speaks against believing the figures of a run."""

from __future__ import annotations

from typing import Any

import pytest

from merino.bench.generator import Load
from merino.bench.samples import INTERRUPTED, CallSample
from merino.bench.summary import summarize
from merino.bench.validity import served_from_cache, too_long, why_invalid


def sample(number: int, **more: Any) -> CallSample:
    fields = {"target": "a", "scheduled_s": 0.1 * number, "sent_s": 0.1 * number, "end_s": 9.0}
    return CallSample(number=number, **{**fields, **more})


def reasons(samples: list[CallSample], load: Load | None = None, stopped_by: str | None = None):
    return why_invalid(load or Load(), [summarize("a", samples, ())], samples, stopped_by)


def test_a_whole_run_of_good_calls_is_valid() -> None:
    """Nothing speaks against calls that were answered, also where a few failed."""
    assert [] == reasons([sample(n, error="http_500" if n == 0 else None) for n in range(10)])


@pytest.mark.parametrize(
    ("stopped_by", "words"),
    [
        (INTERRUPTED, "it was interrupted"),
        ("max_cost", "--max-cost was reached"),
        ("in_flight", "more than 20,000 calls were in flight"),
        ("warmup", "every call of the warm-up failed"),
    ],
)
def test_a_part_is_told_as_one(stopped_by: str, words: str) -> None:
    """Whatever ended a run before it was whole is said first."""
    assert reasons([sample(1)], stopped_by=stopped_by)[0].startswith(words)


def test_a_warm_up_that_failed_says_why() -> None:
    """Each error once, with what was heard of it."""
    bad = {"is_warmup": True, "error": "connect", "detail": "nobody listens."}
    told = reasons([sample(1, **bad), sample(2, **bad)], stopped_by="warmup")
    assert ["a: connect: nobody listens"] == told[1:]


def test_mostly_failed_and_not_made_are_no_figures() -> None:
    """More than half of the calls failed, or there was none."""
    bad = [sample(n, error="http_503", detail="busy.") for n in range(3)]
    assert ["a: 75% of the calls failed, most with http_503: busy"] == reasons([*bad, sample(9)])
    assert ["a: no call was made"] == reasons([])


def test_a_late_generator_is_told_of_open_loops_only() -> None:
    """In a closed loop there is no schedule that could be missed."""
    late = [sample(n, sent_s=0.1 * n + 1.0) for n in range(20)]
    assert [] == reasons(late)
    (told,) = reasons(late, Load(arrivals=iter(())))
    assert "20 of 20 calls were sent more than" in told
    assert "one of them 1000.0 ms" in told


def test_a_cache_is_told_from_a_tenth_of_the_input_on() -> None:
    """Only of good calls that counted, and only of the target itself."""
    good = [sample(n, input_tokens=100, cached_tokens=50) for n in range(4)]
    other = [sample(n, target="b", input_tokens=100, cached_tokens=100) for n in range(4)]
    (told,) = served_from_cache("a", [*good, *other])
    assert told.startswith("a: 50% of its input came from the cache")
    assert [] == served_from_cache("a", [sample(1, input_tokens=100, cached_tokens=10), *other])
    warm = [sample(1, input_tokens=100, cached_tokens=100, is_warmup=True)]
    failed = [sample(1, input_tokens=100, cached_tokens=100, error="cut")]
    assert [] == served_from_cache("a", [*warm, *failed])


@pytest.mark.parametrize(("longer", "is_told"), [(0, False), (2, False), (3, True), (20, True)])
def test_answers_without_end_are_not_the_scenarios(longer: int, is_told: bool) -> None:
    """More than a tenth that pass over the limit speak against a run; a warm-up finds the limit's
    name."""
    limit = {"output_tokens": 20, "output_tokens_max": 20}
    samples = [
        sample(n, **limit | ({"output_tokens": 900} if n < longer else {})) for n in range(20)
    ]
    samples.append(sample(20, **limit | {"output_tokens": 900}, is_warmup=True))
    told = too_long("a", samples)
    assert is_told == bool(told)
    assert not told or told[0].startswith(f"a: {longer} of 20 answers are longer")
