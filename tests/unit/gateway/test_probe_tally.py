"""From health checks to minutes of a model."""

from __future__ import annotations

import pytest

from merino.domain.deployment import Alias, Deployment
from merino.gateway.probe_tally import ProbeTally

ONE = Deployment("one", "openai", "m", health_check_s=10.0)
TWO = Deployment("two", "openai", "m", health_check_s=10.0)
RARE = Deployment("rare", "openai", "m", health_check_s=3600.0)
UNASKED = Deployment("unasked", "openai", "m")
BOTH = Alias("both", (ONE, TWO))


@pytest.mark.parametrize(
    ("one", "two", "is_answered"),
    [([True], [True], True), ([False], [True], True), ([False], [False], False)],
)
def test_a_model_is_reached_if_any_of_its_deployments_answers(one, two, is_answered) -> None:
    """It is not if none does."""
    tally = ProbeTally()
    for deployment, outcomes in ((ONE, one), (TWO, two)):
        for outcome in outcomes:
            tally.heard(deployment, is_answered=outcome, now=10.0)
    assert [("both", is_answered)] == tally.minute([BOTH], 60.0)


def test_one_answer_in_a_minute_is_enough() -> None:
    """A lost check among others is no outage; the next minute begins with what was found last."""
    tally = ProbeTally()
    alias = Alias("m", (ONE,))
    for now, outcome in ((10.0, True), (50.0, False)):
        tally.heard(ONE, is_answered=outcome, now=now)
    assert [("m", True)] == tally.minute([alias], 60.0)
    tally.heard(ONE, is_answered=False, now=70.0)
    assert [("m", False)] == tally.minute([alias], 120.0)


def test_a_model_with_a_deployment_that_nobody_asks_does_not_count() -> None:
    """Of that one nobody can say that it would not have answered."""
    tally = ProbeTally()
    tally.heard(ONE, is_answered=False, now=10.0)
    assert [] == tally.minute([Alias("m", (ONE, UNASKED))], 60.0)
    assert [] == tally.minute([Alias("none", ())], 60.0)


def test_what_was_found_holds_until_the_next_check_is_due() -> None:
    """And no longer: a check that did not take place says nothing."""
    tally = ProbeTally()
    alias = Alias("m", (RARE,))
    tally.heard(RARE, is_answered=False, now=0.0)
    assert [("m", False)] == tally.minute([alias], 3600.0)
    assert [] == tally.minute([alias], 3700.0)


def test_deployments_that_are_gone_are_forgotten() -> None:
    """What is kept is bounded by the settings."""
    tally = ProbeTally()
    tally.heard(ONE, is_answered=True, now=0.0)
    tally.minute([], 60.0)
    assert {} == tally._heard
