"""The history of deployments: health checks by the hour, and changes of breakers.

Both arrive on the event loop at moments that must not wait, so they stay in memory until `flush`.
Both are bounded, however often a deployment changes state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from merino.control.overview import Outage, Probes
from merino.domain.clock import DAY_MS, HOUR_MS
from merino.domain.deployment import BreakerChange
from merino.domain.errors import StoreUnavailable
from merino.sqlite.database import Database
from merino.sqlite.writer import Writer
from merino.storage.calls import Reader

KEEP_MS = 91 * DAY_MS
"""A little more than the longest window of the status page."""
EDGES_MAX = 2_000
CHANGES_MAX = 100
"""Changes kept of each deployment: beginnings and ends of outages, and the changes between them."""
REASON_MAX = 500
_WAITING_MAX = 10_000

_ADD_PROBES = """
INSERT INTO probe_hours VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    probes = probes + excluded.probes, unanswered = unanswered + excluded.unanswered
"""
_ADD_CHANGE = """
INSERT INTO breaker_changes (at_ms, deployment, state, reason, is_edge) VALUES (?, ?, ?, ?, ?)
"""
_KEEP_NEWEST = """
DELETE FROM breaker_changes WHERE deployment = :deployment AND is_edge = :is_edge AND id <= (
    SELECT id FROM breaker_changes WHERE deployment = :deployment AND is_edge = :is_edge
    ORDER BY id DESC LIMIT 1 OFFSET :most
)
"""
_LAST_STATES = """
SELECT deployment, state FROM breaker_changes
WHERE id IN (SELECT max(id) FROM breaker_changes GROUP BY deployment)
"""
_HISTORY = """
SELECT at_ms, state, reason FROM breaker_changes WHERE deployment = ? ORDER BY id DESC LIMIT ?
"""
_PROBES = """
SELECT alias, sum(probes), sum(unanswered) FROM probe_hours WHERE hour >= ? GROUP BY alias
"""
_EDGES = """
SELECT deployment, state, at_ms, reason FROM breaker_changes WHERE is_edge ORDER BY id DESC LIMIT ?
"""


class UptimeStore:
    """`control.overview.Uptime` and `gateway.fleet.BreakerLog`."""

    def __init__(
        self, database: Database, writer: Writer, read: Reader, now_ms: Callable[[], int]
    ) -> None:
        self._writer = writer
        self._read = read
        self._now_ms = now_ms
        self._probes: dict[tuple[str, int], list[int]] = {}
        self._changes: list[tuple[int, str, str, str, int]] = []
        self._states: dict[str, str] = dict(database.execute(_LAST_STATES))
        self._history: dict[str, deque[BreakerChange]] = {}
        for name in self._states:
            rows = database.execute(_HISTORY, (name, CHANGES_MAX)).fetchall()
            newest_last = (BreakerChange(*row) for row in reversed(rows))
            self._history[name] = deque(newest_last, CHANGES_MAX)

    def begin(self) -> None:
        """A relay starts: its breakers are closed, whatever they were when the last process
        ended."""
        for deployment, state in list(self._states.items()):
            if state != "closed":
                self.heard(deployment, BreakerChange(self._now_ms(), "closed", "the relay started"))

    def heard(self, deployment: str, change: BreakerChange) -> None:
        """Note a breaker's change. Nothing is written yet."""
        before = self._states.get(deployment, "closed")
        is_edge = (before == "closed") != (change.state == "closed")
        self._states[deployment] = change.state
        if is_edge or len(self._changes) < _WAITING_MAX:
            reason = change.reason.encode("utf-8", "replace").decode()[:REASON_MAX]
            self._changes.append((change.at_ms, deployment, change.state, reason, int(is_edge)))
            known = self._history.setdefault(deployment, deque(maxlen=CHANGES_MAX))
            known.append(BreakerChange(change.at_ms, change.state, reason))

    def history(self, deployment: str) -> Sequence[BreakerChange]:
        """The newest changes, newest last."""
        return list(self._history.get(deployment, ()))

    def probed(self, minutes: Iterable[tuple[str, bool]]) -> None:
        """Note a minute of aliases, each with whether it was answered. Nothing is written yet."""
        hour = self._now_ms() // HOUR_MS
        for alias, is_answered in minutes:
            if (alias, hour) in self._probes or len(self._probes) < _WAITING_MAX:
                sums = self._probes.setdefault((alias, hour), [0, 0])
                sums[0] += 1
                sums[1] += not is_answered

    async def flush(self) -> None:
        """Write what was noted. Raises `StoreUnavailable`; then it is kept for the next attempt."""
        probes, changes = self._probes, self._changes
        if not probes and not changes:
            return
        self._probes, self._changes = {}, []

        def write(database: Database) -> None:
            with database.writing("noting how deployments are", lasts=False):
                database.execute_many(_ADD_PROBES, [(*key, *sums) for key, sums in probes.items()])
                database.execute_many(_ADD_CHANGE, changes)
                for deployment in {each[1] for each in changes}:
                    for is_edge, most in ((1, EDGES_MAX), (0, CHANGES_MAX)):
                        bound = {"deployment": deployment, "is_edge": is_edge, "most": most}
                        database.execute(_KEEP_NEWEST, bound)

        try:
            await self._writer.run(write)
        except StoreUnavailable:
            for key, (came, failed) in probes.items():
                sums = self._probes.setdefault(key, [0, 0])
                sums[0] += came
                sums[1] += failed
            self._changes[:0] = changes
            raise

    async def forget_old(self) -> None:
        """Delete what no page shows any more. Raises `StoreUnavailable`."""
        before_ms = self._now_ms() - KEEP_MS

        def forget(database: Database) -> None:
            with database.writing("forgetting old health checks", lasts=False):
                database.execute("DELETE FROM probe_hours WHERE hour < ?", (before_ms // HOUR_MS,))
                # An outage that is still open keeps its beginning.
                database.execute(
                    "DELETE FROM breaker_changes WHERE at_ms < ? AND id NOT IN"
                    " (SELECT max(id) FROM breaker_changes WHERE is_edge GROUP BY deployment)",
                    (before_ms,),
                )

        await self._writer.run(forget)

    async def probes(self, since_ms: int) -> Mapping[str, Probes]:
        """By alias. The hour around `since_ms` counts as a whole."""
        await self.flush()
        hour = since_ms // HOUR_MS

        def read(database: Database) -> dict[str, Probes]:
            rows: list[tuple[Any, ...]] = database.execute(_PROBES, (hour,)).fetchall()
            return {row[0]: Probes(row[1], row[2]) for row in rows}

        return await self._read(read)

    async def outages(self, limit: int) -> Sequence[Outage]:
        """Newest first."""
        await self.flush()

        def read(database: Database) -> list[tuple[Any, ...]]:
            return database.execute(_EDGES, (EDGES_MAX,)).fetchall()

        began: dict[str, tuple[int, str]] = {}
        found: list[Outage] = []
        for deployment, state, at_ms, reason in reversed(await self._read(read)):
            if state != "closed":
                began[deployment] = (at_ms, reason)
            elif deployment in began:
                begun_ms, why = began.pop(deployment)
                found.append(Outage(deployment, begun_ms, at_ms, why))
        found += [Outage(name, at_ms, None, why) for name, (at_ms, why) in began.items()]
        return sorted(found, key=lambda each: -each.began_ms)[:limit]
