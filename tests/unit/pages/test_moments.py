"""Moments on pages: one line, with UTC for who hovers and the time itself for scripts."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.pages.moments import day_text, moment, moment_text

AT_MS = int(datetime(2024, 2, 29, 8, 15, 7, tzinfo=UTC).timestamp() * 1000)


def test_a_moment_says_that_it_is_utc() -> None:
    """In what is shown without scripts and on hover; scripts find the whole time."""
    assert (
        '<time datetime="2024-02-29T08:15:07.000Z" data-moment="moment"'
        ' title="2024-02-29 08:15:07 UTC">2024-02-29 08:15:07 UTC</time>' == moment(AT_MS)
    )


def test_the_year_is_left_out_while_it_lasts() -> None:
    """Everybody knows it."""
    now = datetime.now(UTC)
    shown = re.search(">([^<]+)<", moment(int(now.timestamp() * 1000)))[1]
    assert f"{now:%m-%d %H:%M:%S} UTC" == shown


def test_a_day_alone() -> None:
    """The date without a time."""
    assert ">2024-02-29</time>" in moment(AT_MS, "day")
    assert "2024-02-29" == day_text(AT_MS)


@pytest.mark.parametrize("nothing", [None, 0])
def test_no_moment(nothing) -> None:
    """A dash, which is no time."""
    assert '<span class="none">–</span>' == moment(nothing)


@given(st.integers(1, 2**62))
def test_every_moment_can_be_told(at_ms) -> None:
    """Also one far beyond the years that there are."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", moment_text(at_ms))
