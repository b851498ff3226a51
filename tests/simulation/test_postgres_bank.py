"""PostgreSQL answers every request as the model does that the simulation has proven."""

from __future__ import annotations

import asyncio

import pytest
from tests.lengths import examples
from tests.postgres_server import database, server
from tests.simulation.mirrored_bank import MirroredBank
from tests.simulation.mutants import LOSSES, RARE
from tests.simulation.world import World


@pytest.fixture(scope="module")
def bank(request):
    with server() as running, database(running) as url:
        loop = asyncio.new_event_loop()
        yield type("Bank", (MirroredBank,), {"url": url, "loop": loop})
        loop.close()


WORLDS = [*({"seed": seed} for seed in range(1, 1 + examples(5)))]
WORLDS += [{"seed": 2, **RARE}, {"seed": 1, **LOSSES, "calls": 120}]


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_postgres_answers_as_the_model(bank, world) -> None:
    """Whatever fails on the way, and whatever comes late."""
    made = World(**world, bank=bank)
    try:
        made.run()
    finally:
        made.bank.close()
