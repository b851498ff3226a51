"""Relays that share a bank keep every promise, whatever fails; and without any one guard they do not.

`make test-simulation` runs 10,000 worlds.
"""

from __future__ import annotations

import os

import pytest
from tests.simulation.mutants import LOSSES, MUTANTS, RARE, SILENCE, world_with
from tests.simulation.world import World

SEEDS = int(os.environ.get("MERINO_TEST_SEEDS", "200"))
TOGETHER = 20
TRIES = 100


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_nobody_overspends_and_nothing_is_lost(first) -> None:
    """Crashes, cuts, pauses, lost and late messages, lost folders, a bank that is away or fails
    over: what calls cost is booked once, money comes home, and no refusal is wrong."""
    for seed in range(first, first + TOGETHER):
        world = World(seed)
        try:
            world.run()
        except AssertionError as broken:
            raise AssertionError(f"seed {seed}, faults {world.faults}: {broken}") from broken


@pytest.mark.parametrize("kind", [SILENCE, LOSSES, RARE], ids=["silence", "losses", "rare"])
def test_nor_where_one_kind_of_fault_comes_often(kind) -> None:
    """Little money, many calls, and many faults of one kind."""
    for seed in range(1, 1 + SEEDS // 50):
        World(seed, **kind).run()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_every_guard_is_needed(mutant) -> None:
    """A protocol that lacks one of its guards breaks a promise in some world."""
    first = MUTANTS[mutant].seed
    for seed in range(first, first + TRIES):
        try:
            world_with(mutant, seed).run()
        except AssertionError:
            return
    raise AssertionError(f"{mutant.__doc__} Nobody noticed.")
