"""Selection policies: pure functions, so a table says it all."""

from __future__ import annotations

import random
from collections import Counter
from itertools import count

import pytest

from merino.domain.deployment import Deployment
from merino.gateway.routing import POLICIES, Candidate, kept_together


def candidates(*given) -> list[Candidate]:
    """(weight, in flight, first token, worst case) of a, b, c ..."""
    return [
        Candidate(Deployment("abcdef"[index], "openai", "m", weight=weight), *rest)
        for index, (weight, *rest) in enumerate(given)
    ]


def names(ordered) -> str:
    return "".join(each.deployment.name for each in ordered)


THREE = candidates((1, 0, 0.0, 30), (1, 0, 0.0, 10), (1, 0, 0.0, 20))


@pytest.mark.parametrize("policy", POLICIES)
def test_nobody_is_lost(policy) -> None:
    """Every policy returns every candidate once."""
    for turn in range(10):
        assert "abc" == "".join(sorted(names(POLICIES[policy](THREE, turn, random.Random(turn)))))
    assert "a" == names(POLICIES[policy](THREE[:1], 0, random.Random(0)))


@pytest.mark.parametrize(
    ("policy", "given", "expected"),
    [
        ("priority", THREE, "abc"),
        ("cheapest", THREE, "bca"),
        ("cheapest", candidates((1, 0, 0, 5), (1, 0, 0, 5)), "ab"),
        ("least_busy", candidates((1, 3), (1, 1), (1, 2)), "bca"),
        ("least_busy", candidates((4, 3), (1, 1), (1, 2)), "abc"),
    ],
)
def test_orders(policy, given, expected) -> None:
    """What a policy prefers, on hand-made candidates."""
    assert expected == names(POLICIES[policy](given, 0, random.Random(0)))


def test_round_robin() -> None:
    """Each call begins one further."""
    assert ["abc", "bca", "cab", "abc"] == [
        names(POLICIES["round_robin"](THREE, turn, random.Random(0))) for turn in range(4)
    ]


def test_weighted() -> None:
    """Calls are shared out by weight."""
    chance = random.Random(7)
    given = candidates((6, 0), (3, 0), (1, 0))
    first = Counter(names(POLICIES["weighted"](given, 0, chance))[0] for _ in range(10_000))
    for name, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
        assert share == pytest.approx(first[name] / 10_000, abs=0.02)


def test_fastest() -> None:
    """The slow one gets no calls while others are there, an unknown one is tried, and a busy one
    counts as slow."""
    chance = random.Random(7)
    given = candidates((1, 0, 0.2), (1, 0, 5.0), (1, 0, 0.3))
    first = Counter(names(POLICIES["fastest"](given, 0, chance))[0] for _ in range(1000))
    assert first["a"] > first["c"] > first["b"] == 0
    unknown = candidates((1, 0, 0.2), (1, 0, 0.0))
    assert "ba" == names(POLICIES["fastest"](unknown, 0, chance))
    busy = candidates((1, 9, 0.2), (1, 0, 0.3))
    assert "ba" == names(POLICIES["fastest"](busy, 0, chance))


def test_sessions_stay() -> None:
    """A session keeps its deployment, sessions spread, and when one goes only its own move."""
    given = candidates(*[(1, 0)] * 4)
    homes = {}
    for number in range(400):
        session = b"session %d" % number
        homes[session] = names(kept_together(given, session))[0]
        assert homes[session] == names(kept_together(given[::-1], session))[0]
    spread = Counter(homes.values())
    assert 4 == len(spread)
    assert min(spread.values()) > 50
    for session, home in homes.items():
        moved = names(kept_together(given[1:], session))[0]
        assert home in (moved, "a")


@pytest.mark.parametrize("size", [2, 3, 5])
def test_sessions_spread_evenly(size) -> None:
    """However alike the deployments' names are, each is home to about as many sessions."""
    given = candidates(*[(1, 0)] * size)
    homes = Counter(names(kept_together(given, b"user-%d" % each))[0] for each in range(3000))
    assert all(abs(homes[name] - 3000 / size) < 150 for name in "abcde"[:size])


def test_turns_are_counted_from_zero() -> None:
    """Whatever the turn, the rotation is even."""
    turns = count()
    first = Counter(
        names(POLICIES["round_robin"](THREE, next(turns), random.Random(0)))[0] for _ in range(300)
    )
    assert {"a": 100, "b": 100, "c": 100} == first
