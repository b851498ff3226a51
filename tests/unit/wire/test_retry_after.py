"""What upstreams write into `Retry-After`."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.wire.retry_after import LONGEST_S, parse_rate_limit_reset, parse_retry_after

NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"7", 7.0),
        (b"0.5", 0.5),
        (b"-3", 0.0),
        (b"1e308", 1e308),
        (b"9" * 400, LONGEST_S),
        (b"nan", None),
        (b"soon", None),
        (b"", None),
        (b"Sat, 28 Nov 2026 12:00:09 GMT", 9.0),
        (b"Sat, 28 Nov 2026 13:00:09 +0100", 9.0),
        (b"Sat, 28 Nov 2026 11:00:00 GMT", 0.0),
        (b"Sat, 28 Nov 100000000000000000000 12:00:00 GMT", None),
        (b"Sat, 99 Nov 2026 12:00:00 GMT", None),
        (b"Sat, 28 Nov 2026 12:00:00 +99999999999", None),
        (b"Sat, 28 Nov 0000 12:00:00 GMT", 0.0),
        (b"1 1 1", None),
        (b"\xff\xfe", None),
    ],
)
def test_numbers_and_dates(value, expected) -> None:
    """Seconds or a date, never negative; what is neither says nothing."""
    assert expected == parse_retry_after(None, value, NOW)


DATES = st.from_regex(
    rb"\A(Mon|Sat|x)?,? ?-?[0-9]{1,25} (Jan|Nov|Foo) -?[0-9]{1,25} [0-9]{1,9}(:[0-9]{1,9}){0,3} "
    rb"(GMT|[+-][0-9]{1,25}|)\Z"
)


@given(st.one_of(DATES, st.binary(max_size=40)), st.none() | st.binary(max_size=12))
def test_nothing_breaks_it(value, milliseconds) -> None:
    """Whatever is there: a finite time, or none."""
    for found in (parse_retry_after(milliseconds, value), parse_rate_limit_reset(value)):
        assert found is None or (found >= 0 and math.isfinite(found))
