"""Every figure on hand-made events, with the answers worked out by hand."""

from __future__ import annotations

import pytest

from merino.bench.samples import (
    CallSample,
    e2e_ms,
    lag_ms,
    tokens_per_s,
    tpot_ms,
    ttfb_ms,
    ttft_ms,
    ttft_visible_ms,
)
from merino.bench.slo import FailIf, Objective, parse_objectives, split_name
from merino.bench.summary import summarize


def sample(number: int = 0, **changes) -> CallSample:
    """Due at 10.0, sent at 10.1, tokens from 10.5 to 11.5, over at 11.6."""
    fields = {
        "number": number,
        "target": "t",
        "scheduled_s": 10.0,
        "sent_s": 10.1,
        "first_byte_s": 10.2,
        "first_token_s": 10.5,
        "first_visible_s": 10.5,
        "last_token_s": 11.5,
        "end_s": 11.6,
        "gaps_ms": [500.0, 500.0],
        "status": 200,
        "output_tokens": 11,
        "input_tokens": 20,
    }
    return CallSample(**(fields | changes))


def test_latencies_count_from_when_the_call_was_due() -> None:
    """10.0 due; byte at 10.2, token at 10.5, end at 11.6: 200, 500 and 1600 ms; sent 100 late."""
    one = sample()
    assert (200, 500, 500, 1600, 100) == tuple(
        each and round(each)
        for each in (ttfb_ms(one), ttft_ms(one), ttft_visible_ms(one), e2e_ms(one), lag_ms(one))
    )


def test_thinking_that_streams_comes_before_the_first_visible_token() -> None:
    """First thought at 10.5, first word at 11.0."""
    one = sample(first_visible_s=11.0)
    first, visible = ttft_ms(one), ttft_visible_ms(one)
    assert first is not None
    assert visible is not None
    assert (500, 1000) == (round(first), round(visible))


def test_time_per_output_token_is_over_the_tokens_after_the_first() -> None:
    """11 tokens in one second: ten steps of 100 ms."""
    assert 100 == pytest.approx(tpot_ms(sample()))


def test_hidden_thinking_is_not_in_the_time_per_output_token() -> None:
    """31 tokens, 20 of them thought unseen before the first: 11 came in the second."""
    assert 100 == pytest.approx(tpot_ms(sample(output_tokens=31, reasoning_tokens=20)))


def test_streamed_thinking_is_in_the_time_per_output_token() -> None:
    """31 tokens, thinking seen from 10.5 on: all 31 came in the second, thirty steps."""
    one = sample(output_tokens=31, reasoning_tokens=20, first_visible_s=11.0)
    assert 1000 / 30 == pytest.approx(tpot_ms(one))


@pytest.mark.parametrize("changes", [{"output_tokens": 1}, {"first_token_s": None}])
def test_one_token_has_no_pace(changes) -> None:
    """A pace needs two tokens."""
    assert None is tpot_ms(sample(**changes))


def test_tokens_per_second_are_over_the_time_from_sending_to_the_end() -> None:
    """11 tokens in 1.5 s."""
    assert 11 / 1.5 == pytest.approx(tokens_per_s(sample()))


def test_a_summary_adds_up() -> None:
    """Four calls: two good, one failed, one of the warm-up, over a span of 3 seconds."""
    samples = [
        sample(0, is_warmup=True, scheduled_s=0.0),
        sample(1, cost_nanos=5),
        sample(
            2,
            scheduled_s=11.0,
            sent_s=11.0,
            first_token_s=12.0,
            first_visible_s=12.0,
            last_token_s=12.5,
            end_s=13.0,
            output_tokens=19,
            cost_nanos=7,
            retries=1,
            tokens_source="counted",
        ),
        sample(3, error="http_500", detail="broken"),
        sample(4, error="interrupted"),
    ]
    found = summarize("t", samples, parse_objectives("ttft_ms_p99=600,calls_per_s=0.5"))
    assert (3, 2, {"http_500": 1}, {"http_500": "broken"}) == (
        found.calls,
        found.good,
        found.errors,
        found.error_details,
    )
    assert (3.0, 2 / 3, 10.0, 1 / 3) == pytest.approx(
        (found.span_s, found.calls_per_s, found.output_tokens_per_s, found.error_share)
    )
    # Of the two good calls the first has its token within 600 ms.
    assert (1 / 3, 1 / 3) == pytest.approx((found.goodput_per_s, found.goodput_share))
    assert (12, 1, 1) == (found.cost_nanos, found.retries, found.tokens_counted)
    ttft = found.metrics["ttft_ms"]
    assert (2, 750, 500, 1000) == pytest.approx((ttft.count, ttft.mean, ttft.low, ttft.high))
    # Rank 0.99 * (2 - 1) between 500 and 1000.
    assert 995 == pytest.approx(ttft.percentiles["p99"])
    assert [("ttft_ms_p99", False), ("calls_per_s", True)] == [
        (each.objective, each.is_met) for each in found.objectives
    ]
    assert 4 == found.metrics["itl_ms"].count


def test_a_summary_of_nothing_is_empty() -> None:
    """No calls give no figures, and no objective is met by that."""
    found = summarize("t", [], parse_objectives("ttft_ms_p99=600"))
    assert (0, 0.0, {}, [False]) == (
        found.calls,
        found.calls_per_s,
        found.metrics,
        [each.is_met for each in found.objectives],
    )


@pytest.mark.parametrize(
    "text", ["ttft_ms_p99", "ttft_ms_p98=1", "speed=1", "ttft_ms_p99=x", "ttft_ms_p99=-1", ""]
)
def test_wrong_objectives_are_refused(text) -> None:
    """What is no figure, or has no bound, says so."""
    with pytest.raises(ValueError, match=r".+"):
        parse_objectives(text)


def test_figures_are_named_by_metric_and_statistic() -> None:
    """Also the statistic with a point in it."""
    assert [("ttft_ms", "p99.9"), ("cost", "")] == [split_name("ttft_ms_p99.9"), split_name("cost")]
    assert Objective("tokens_per_s", "p50", 10).is_met_by(11)
    assert not Objective("ttft_ms", "p50", 10).is_met_by(11)


@pytest.mark.parametrize(
    ("text", "before", "after", "holds"),
    [
        ("ttft_ms_p99 > +10%", 100, 111, True),
        ("ttft_ms_p99 > +10%", 100, 109, False),
        ("ttft_ms_p99 > +5", 100, 106, True),
        ("calls_per_s < -10%", 100, 89, True),
        ("calls_per_s < -10%", 100, 95, False),
        ("error_share > +0%", 0, 0.1, True),
        ("error_share > +0%", 0, 0, False),
    ],
)
def test_conditions_are_on_the_change(text, before, after, holds) -> None:
    """In percent of the old value, or as it is."""
    assert holds == FailIf.parse(text).holds(before, after)


@pytest.mark.parametrize("text", ["ttft_ms_p99", "x > 1%", "ttft_ms_p99 = 1", "ttft_ms_p99 > ++1"])
def test_wrong_conditions_are_refused(text) -> None:
    """What cannot be read says so."""
    with pytest.raises(ValueError, match=r".+"):
        FailIf.parse(text)


@pytest.mark.parametrize(
    ("late", "of", "is_late"),
    [(0, 1, False), (1, 1, True), (1, 20, True), (1, 99, True), (1, 100, False), (2, 100, True),
     (10, 1000, False), (11, 1000, True)],
)  # fmt: skip
def test_of_few_calls_one_that_is_late_is_too_many(late, of, is_late) -> None:
    """A share of calls is counted, not read off a percentile that few calls do not have."""
    samples = [sample(n, sent_s=10.0 + (0.006 if n < late else 0.004)) for n in range(of)]
    found = summarize("t", samples, [])
    assert (late, is_late) == (found.sent_late, found.was_late)
