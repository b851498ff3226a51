"""What is remembered of deployments, across restarts and within bounds."""

from __future__ import annotations

from typing import LiteralString

import pytest

from merino.control.overview import Outage, OverviewDesk, Probes
from merino.domain.clock import HOUR_MS
from merino.domain.deployment import BreakerChange, Deployment
from merino.gateway.fleet import Fleet
from merino.storage import Store
from merino.storage.uptime import CHANGES_MAX, EDGES_MAX, KEEP_MS

NOW_MS = 1_795_000_000_000
DAY_MS = 86_400_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


def rows(store: Store, table: LiteralString) -> int:
    return next(store._database.execute(f"SELECT count(*) FROM {table}"))[0]


@pytest.mark.anyio
async def test_probes_are_added_up_and_survive_a_restart(tmp_path) -> None:
    """By model and window; what is old is forgotten."""
    clock = Clock()
    store = Store.open(tmp_path, now_ms=clock)
    store.uptime.probed([("o3", True), ("o4", False)])
    clock.now_ms += 2 * DAY_MS
    store.uptime.probed([("o3", False), ("o3", True)])
    await store.close()
    store = Store.open(tmp_path, now_ms=clock)
    store.uptime.probed([("o3", True)])
    assert {"o3": Probes(4, 1), "o4": Probes(1, 1)} == await store.uptime.probes(NOW_MS - HOUR_MS)
    assert {"o3": Probes(3, 1)} == await store.uptime.probes(clock.now_ms - DAY_MS)
    clock.now_ms = NOW_MS + KEEP_MS + HOUR_MS
    await store.uptime.forget_old()
    assert {"o3": Probes(3, 1)} == await store.uptime.probes(0)
    await store.close()


@pytest.mark.anyio
async def test_outages_survive_a_restart(tmp_path) -> None:
    """They are told from the first opening to the closing; a restart ends what lasted."""
    clock = Clock()
    store = Store.open(tmp_path, now_ms=clock)
    store.uptime.begin()
    for at_ms, state in ((1, "open"), (2, "half_open"), (3, "open"), (4, "closed"), (5, "open")):
        store.uptime.heard("a", BreakerChange(NOW_MS + at_ms, state, f"why {at_ms}"))
    ended = Outage("a", NOW_MS + 1, NOW_MS + 4, "why 1")
    assert [Outage("a", NOW_MS + 5, None, "why 5"), ended] == await store.uptime.outages(9)
    await store.close()

    clock.now_ms += 100
    store = Store.open(tmp_path, now_ms=clock)
    store.uptime.begin()
    assert [Outage("a", NOW_MS + 5, NOW_MS + 100, "why 5"), ended] == await store.uptime.outages(9)
    assert 6 == len(store.uptime.history("a"))
    fleet = Fleet(breaker_log=store.uptime)
    fleet.keep([Deployment("a", "openai", "m"), Deployment("b", "openai", "m")])
    assert "why 5" == fleet.get("a").history[-2].reason
    assert [] == list(fleet.get("b").history)
    await store.close()


@pytest.mark.anyio
async def test_a_deployment_that_is_left_out_ends_its_outage(tmp_path) -> None:
    """What is no longer in the settings is not down for good."""
    store = Store.open(tmp_path, now_ms=Clock())
    fleet = Fleet(breaker_log=store.uptime)
    fleet.keep([Deployment("a", "openai", "m")])
    fleet.get("a").breaker.force_open("broken", 0.0)
    (lasting,) = await store.uptime.outages(9)
    assert None is lasting.ended_ms
    fleet.keep([])
    (ended,) = await store.uptime.outages(9)
    assert None is not ended.ended_ms
    await store.close()


@pytest.mark.anyio
async def test_what_is_kept_is_bounded(tmp_path) -> None:
    """However often a breaker changes its mind, its newest outages and changes are kept, and when a
    lasting one began."""
    clock = Clock()
    store = Store.open(tmp_path, now_ms=clock)
    for number in range(EDGES_MAX):
        for state in ("open", "half_open", "closed"):
            change = BreakerChange(NOW_MS + number, state, "x" * 1000)
            store.uptime.heard("a", change)
    store.uptime.heard("a", BreakerChange(NOW_MS + EDGES_MAX, "open", "the last"))
    for number in range(2 * CHANGES_MAX):
        store.uptime.heard("a", BreakerChange(NOW_MS + number, "half_open", ""))
    await store.uptime.flush()
    assert EDGES_MAX + CHANGES_MAX == rows(store, "breaker_changes")
    assert Outage("a", NOW_MS + EDGES_MAX, None, "the last") == (await store.uptime.outages(1))[0]
    clock.now_ms += 2 * KEEP_MS
    await store.uptime.forget_old()
    assert [Outage("a", NOW_MS + EDGES_MAX, None, "the last")] == await store.uptime.outages(9)
    await store.close()


@pytest.mark.anyio
async def test_the_worse_of_calls_and_probes_is_the_availability(tmp_path) -> None:
    """Whichever says nothing is left out."""
    store = Store.open(tmp_path, now_ms=Clock())
    store.uptime.probed([("o3", False), *[("o3", True)] * 3])
    desk = OverviewDesk(store.sums, store.uptime, 0.5, Clock())
    found = {row.alias: row for row in await desk.availability(["o3", "o4"]) if row.window == "24h"}
    assert (0.75, 0.5) == (found["o3"].availability, found["o3"].burn)
    assert None is found["o4"].availability
    await store.close()
