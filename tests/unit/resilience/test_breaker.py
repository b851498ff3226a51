"""The breaker as a state machine, against a plain model of what it promises."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.lengths import examples

from merino.resilience.breaker import Breaker, BreakerPolicy, Outcome

POLICY = BreakerPolicy(
    window_s=10, outcomes_min=4, failure_share=0.5, consecutive_failures=3, open_s=5, open_max_s=20
)


def breaker(policy: BreakerPolicy = POLICY, on_change=None) -> Breaker:
    return Breaker(policy, uniform=lambda low, high: 0.0, on_change=on_change)


class Model(RuleBasedStateMachine):
    """Calls begin and end in any order while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.changes = []
        self.breaker = breaker(on_change=self.changes.append)
        self.running: list[tuple[int, str]] = []

    @rule(seconds=st.floats(0, 8))
    def wait(self, seconds) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def call(self) -> None:
        """A call is sent if the breaker allows it."""
        was = self.breaker.state
        reopens_at_s = self.breaker.reopens_at_s
        if not self.breaker.allows(self.now):
            assert was != "closed"
            return
        if was == "open":
            assert self.now >= reopens_at_s
        self.running.append((self.breaker.begin(), self.breaker.state))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(["success", "failure", "ignored"]))
    def end(self, data, outcome) -> None:
        """One of the running calls ends."""
        index = data.draw(st.integers(0, len(self.running) - 1))
        begun, sent_in = self.running.pop(index)
        before = self.breaker.state
        self.breaker.end(begun, outcome, self.now, "it broke")
        if before == "half_open" == sent_in and outcome == "failure" and before != "open":
            assert self.breaker.state in ("open", "half_open")
        if outcome == "ignored":
            assert before == self.breaker.state

    @invariant()
    def probes_are_few(self) -> None:
        """No more trial calls at once than succeeded before, plus one."""
        if self.breaker.state == "half_open":
            probes = self.breaker._probes_in_flight
            assert 0 <= probes <= self.breaker._probes_succeeded + 1 <= POLICY.probes_max

    @invariant()
    def history_is_possible(self) -> None:
        """States follow each other only as they may."""
        states = ["closed", *(change.state for change in self.changes)]
        allowed = {
            ("closed", "open"),
            ("open", "half_open"),
            ("half_open", "open"),
            ("half_open", "closed"),
        }
        assert set(pairwise(states)) <= allowed
        assert states[-1] == self.breaker.state


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=examples(40), stateful_step_count=40)


OUTCOMES: dict[str, Outcome] = {"s": "success", "f": "failure", "i": "ignored"}


def run(subject: Breaker, outcomes: str, now: float = 0.0) -> None:
    for letter in outcomes:
        assert subject.allows(now)
        begun = subject.begin()
        subject.end(begun, OUTCOMES[letter], now, "why")


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("ff", "closed"),
        ("fff", "open"),
        ("ffsff", "open"),  # 4 of 5
        ("sfsf", "open"),  # half of four
        ("sssf", "closed"),
        ("fifif", "open"),  # what is ignored interrupts nothing
        ("iiii", "closed"),
    ],
)
def test_opens(outcomes, state) -> None:
    """Opens at the share of failures or at failures in a row, and at nothing else."""
    subject = breaker()
    try:
        run(subject, outcomes)
    except AssertionError:
        assert "open" == subject.state
    assert state == subject.state


def test_failures_long_ago_do_not_count() -> None:
    """The window slides: what happened before it is forgotten."""
    subject = breaker()
    run(subject, "ffs")
    run(subject, "fsss", now=11.0)
    assert "closed" == subject.state


def test_grows_and_recovers() -> None:
    """Each failed trial doubles the wait up to its bound; successes close it, and it starts anew."""
    subject = breaker()
    run(subject, "fff")
    now, waits = 0.0, []
    for _ in range(4):
        waits.append(subject.retry_after_s(now))
        assert not subject.allows(now + waits[-1] - 0.01)
        now += waits[-1]
        run(subject, "f", now)
    assert [5, 10, 20, 20] == waits
    now += subject.retry_after_s(now)
    run(subject, "sss", now)
    assert "closed" == subject.state
    run(subject, "fff", now)
    assert 5 == subject.retry_after_s(now)


def test_trial_calls_grow() -> None:
    """One trial call at first, one more at once after each success."""
    subject = breaker()
    run(subject, "fff")
    assert subject.allows(5.0)
    first = subject.begin()
    assert not subject.allows(5.0)
    subject.end(first, "success", 5.0)
    assert subject.allows(5.0)
    second = subject.begin()
    assert subject.allows(5.0)
    third = subject.begin()
    assert not subject.allows(5.0)
    subject.end(second, "success", 5.0)
    subject.end(third, "success", 5.0)
    assert "closed" == subject.state


def test_a_late_outcome_counts_no_more() -> None:
    """A call sent before it opened says nothing about the time after."""
    subject = breaker()
    early = subject.begin()
    run(subject, "fff")
    assert subject.allows(5.0)
    subject.end(early, "failure", 5.0)
    assert "half_open" == subject.state


def test_forced() -> None:
    """An operator or a refused credential opens it at once; closing it forgets the failures."""
    subject = breaker()
    subject.force_open("the credential was refused", 0.0, for_s=300)
    assert (False, 300.0) == (subject.allows(1.0), subject.retry_after_s(0.0))
    subject.force_closed("by hand", 2.0)
    run(subject, "ff", 2.0)
    assert "closed" == subject.state
