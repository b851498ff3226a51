"""Whether a header tells a wait or a moment."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.wire.retry_after import MOMENT_MIN, parse_rate_limit_reset, parse_retry_after

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EPOCH_S = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        (f"{EPOCH_S + 9}", 9.0),
        (f"{EPOCH_S - 9}", 0.0),
        (f"{EPOCH_S + 9}.5", 9.5),
        (f"{EPOCH_S + 9}000", 9.0),
        (f"{EPOCH_S + 9}000000", 9.0),
        ("2026-03-01T12:00:09Z", 9.0),
        ("2026-03-01T12:00:09", 9.0),
        ("2026-03-01T13:00:09+01:00", 9.0),
        ("2026-03-01T11:00:00Z", 0.0),
        ("Sun, 01 Mar 2026 12:00:09 GMT", 9.0),
        ("soon", None),
        ("", None),
        ("-3", None),
        ("nan", None),
    ],
)
def test_resets(value, expected) -> None:
    """Durations, moments in any unit, and dates each mean what they say; the rest means nothing."""
    found = parse_rate_limit_reset(value.encode(), NOW)
    assert expected == (found if found is None else pytest.approx(found))


def test_retry_after_tells_moments_too() -> None:
    """Either header, in seconds or milliseconds since 1970."""
    assert 9.0 == pytest.approx(parse_retry_after(None, f"{EPOCH_S + 9}".encode(), NOW))
    assert 9.0 == pytest.approx(parse_retry_after(f"{EPOCH_S + 9}000".encode(), None, NOW))
    assert 0.0 == parse_retry_after(None, f"{EPOCH_S - 60}".encode(), NOW)
    assert 86_400.0 == parse_retry_after(None, b"86400", NOW)


@given(st.floats(0, MOMENT_MIN, exclude_max=True), st.sampled_from([1, 1000, 1_000_000]))
def test_no_wait_is_taken_for_a_moment(seconds, unit) -> None:
    """Every wait below thirty years is itself; every moment of that time is told from it."""
    assert seconds == pytest.approx(parse_rate_limit_reset(repr(seconds).encode(), NOW))
    moment = round((EPOCH_S + seconds) * unit)
    found = parse_rate_limit_reset(str(moment).encode(), NOW)
    assert seconds == pytest.approx(found, abs=1.0)
