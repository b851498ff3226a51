"""Work that comes again and again, and what runs now."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.running.every import every
from merino.running.registry import Registry


@pytest.fixture
def slept(monkeypatch):
    """The pauses that were made, none of which takes any time."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("merino.running.every.asyncio.sleep", sleep)
    return pauses


def rounds(outcomes, **how) -> tuple[int, list[str]]:
    """Work that ends so, round by round, until it is cancelled; the rounds, and faults reported."""
    told: list[str] = []
    left = list(outcomes)

    async def work() -> float | None:
        if not left:
            raise asyncio.CancelledError
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        with suppress(asyncio.CancelledError):
            await every(5.0, work, **how)

    asyncio.run(scene())
    return len(outcomes) - len(left), told


@pytest.mark.parametrize(("at_once", "first"), [(False, 5.0), (True, 0.0)])
def test_work_comes_again_after_its_time_or_when_it_says(slept, at_once, first) -> None:
    """What a round wants holds for the next pause only."""
    done, told = rounds([None, 0.5, None], at_once=at_once)
    assert (3, []) == (done, told)
    assert [first, 5.0, 0.5, 5.0] == slept


def test_a_round_that_fails_is_reported_and_the_next_one_comes(slept) -> None:
    """Work that has to be done again and again does not end because it failed once."""
    done, told = rounds([ValueError("a"), None, OSError("b"), 1.0])
    assert (4, ["a", "b"]) == (done, told)
    assert [5.0, 5.0, 5.0, 5.0, 1.0] == slept


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans())))
def test_what_runs_is_what_began_and_has_not_ended(steps) -> None:
    """In the order of beginning, whatever ends twice or never began."""
    registry: Registry[str] = Registry()
    running: list[str] = []
    for name, begins in steps:
        if begins and name not in running:
            registry.begin(name, name.upper())
            running.append(name)
        elif not begins:
            registry.end(name)
            running = [each for each in running if each != name]
        assert [each.upper() for each in running] == list(registry)
        assert len(running) == len(registry)


def test_who_looks_at_what_runs_may_end_it() -> None:
    """A look is as of now."""
    registry: Registry[str] = Registry()
    for name in "abc":
        registry.begin(name, name)
    for name in registry:
        registry.end(name)
    assert [] == list(registry)
