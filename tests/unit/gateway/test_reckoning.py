"""What is billed, by what was reported, seen and allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.usage import Usage
from merino.gateway.reckoning import Allowed, Reckoned, Seen, reckon
from merino.wire.reported_usage import TOKENS_MAX, Unsplit, clamped

ALLOWED = Allowed(input_tokens=40, output_tokens=100, context_tokens=128_000)


def seen(text_bytes: int = 0, **more) -> Seen:
    return Seen(12, text_bytes, has_content=text_bytes > 0, **more)


@pytest.mark.parametrize(
    ("said", "went_by", "billed", "source", "oddity"),
    [
        (Usage(10, 80), seen(400), (10, 80), "reported", None),
        (None, seen(200), (12, 50), "counted", None),
        (Usage(0, 0), seen(200), (12, 50), "counted", "too_low"),
        (Usage(10, 0), seen(200), (10, 50), "counted", "too_low"),
        (Usage(10, 0), seen(200, is_whole=False), (10, 50), "counted", None),
        (Usage(10, 20), seen(200), (10, 25), "raised", "too_low"),
        (Usage(0, 60), seen(200), (12, 60), "raised", None),
        (Usage(10, 150), seen(400), (10, 150), "reported", "above_limit"),
        (Usage(10, 900_000), seen(12), (12, 3), "disbelieved", "impossible"),
        (Usage(900_000, 5), seen(12), (12, 3), "disbelieved", "impossible"),
        (Usage(10, TOKENS_MAX + 1), seen(12), (12, 3), "disbelieved", "impossible"),
        (Unsplit(0, 92), seen(200), (12, 80), "reported", None),
        (None, seen(4000), (12, 500), "counted", "above_limit"),
        (None, seen(4000, paid_tokens=100), (12, 100), "counted", None),
        # Far more than ten times 100, and 8,192: an upstream that obeys no limit.
        (None, seen(80_000), (12, 10_000), "counted", "runaway"),
        (Usage(10, 20_000), seen(80_000), (10, 20_000), "reported", "runaway"),
        (Usage(10, 9_000), seen(72_000), (10, 9_000), "reported", "above_limit"),
        # Nor does what went by cost more than any model can give.
        (None, seen(4_000_000), (12, 128_000), "counted", "runaway"),
        (Usage(10, 900_000), seen(4_000_000), (12, 128_000), "disbelieved", "impossible"),
        (Usage(10, 0), seen(4_000_000), (10, 128_000), "counted", "runaway"),
        (None, Seen(12, has_content=True), (12, 1), "counted", None),
        (None, seen(40, hidden_tokens=70), (12, 80), "estimated", None),
        # Scripts of three bytes a letter: 300 bytes are 100 letters, and 14 tokens are honest.
        (Usage(10, 14), seen(300, wide_bytes=200), (10, 14), "reported", None),
    ],
)
def test_the_table(said, went_by, billed, source, oddity) -> None:
    """Who is believed, and what is odd about it."""
    found = reckon(said, went_by, ALLOWED)
    assert (billed, source, oddity) == (
        (found.usage.input_tokens, found.usage.output_tokens),
        found.source,
        found.oddity,
    )


small = st.integers(0, 5_000)
reports = st.one_of(
    st.none(),
    st.builds(
        clamped, *[st.one_of(st.just(0), small, st.integers(0, TOKENS_MAX + 1)) for _ in range(8)]
    ),
    st.builds(Unsplit, st.just(0), small),
)
sights = st.builds(
    Seen,
    input_tokens=small,
    text_bytes=st.one_of(small, st.integers(0, 3_000_000)),
    thought_bytes=small,
    wide_bytes=st.just(0),
    hidden_tokens=small,
    paid_tokens=st.none(),
    has_content=st.booleans(),
    is_whole=st.booleans(),
)
allowances = st.builds(
    Allowed, small, st.integers(1, 5_000), st.integers(1, 100_000), st.integers(1, 4)
)


@given(said=reports, went_by=sights, allowed=allowances)
def test_never_below_what_went_by_nor_above_without_the_alarm(said, went_by, allowed) -> None:
    """Consistent, not negative, at least what was seen; more than was allowed only with a word."""
    found = reckon(said, went_by, allowed)
    assert found.usage.is_consistent()
    possible = max(10 * allowed.output_tokens, allowed.context_tokens * allowed.n)
    assert found.usage.output_tokens >= min(went_by.least, possible)
    if found.usage.output_tokens > allowed.output_tokens:
        assert found.oddity in ("above_limit", "runaway", "impossible")
    if found.oddity == "impossible":
        assert found.usage.output_tokens <= max(allowed.output_tokens, went_by.least)
        assert found.usage.input_tokens <= allowed.input_tokens
    assert found.usage.output_tokens <= possible


@given(said=reports, went_by=sights, allowed=allowances, more=small)
def test_monotone_in_what_was_seen(said, went_by, allowed, more) -> None:
    """More text is never a smaller bill."""
    less = reckon(said, went_by, allowed).usage
    after = reckon(said, went_by._replace(text_bytes=went_by.text_bytes + more), allowed).usage
    assert after.output_tokens >= less.output_tokens
    assert after.input_tokens == less.input_tokens


@given(output=st.integers(1, 5_000), text=small, allowed=allowances)
def test_an_honest_report_is_believed(output, text, allowed) -> None:
    """Whoever reports at least a token for eight letters, and no more than was allowed, is billed."""
    said = Usage(5, output)
    if output * 8 >= text and output <= allowed.output_tokens and allowed.context_tokens >= 5:
        assert Reckoned(said, "reported") == reckon(said, Seen(9, text, has_content=True), allowed)
