"""Deadlines of running calls, kept by one sweep instead of a timer per call.

A sweep costs the same however many calls come and go; its interval is the precision of every
timeout here.
"""

from __future__ import annotations

from time import perf_counter
from typing import Protocol

from merino.running.every import every
from merino.running.standstill import Standstill

SWEEP_S = 0.2


class Watched(Protocol):
    def check(self, now: float) -> None:
        """`now` is `time.perf_counter()`. Must not raise."""
        ...

    def grant(self, lost_s: float, now: float) -> None:
        """The relay stood still for so long until now: its limits are that much later."""
        ...


class Watchdog:
    """Its sweeps are also what `standstill` is kept by."""

    def __init__(self, sweep_s: float = SWEEP_S, standstill: Standstill | None = None) -> None:
        self._sweep_s = sweep_s
        self._standstill = standstill or Standstill()
        self._standstill.subscribe(self._grant)
        self._watched: set[Watched] = set()
        self.watch = self._watched.add
        self.forget = self._watched.discard

    @property
    def count(self) -> int:
        """Calls in flight."""
        return len(self._watched)

    async def run(self) -> None:
        """Sweep until cancelled."""
        self._standstill.begin(perf_counter())
        try:
            await every(self._sweep_s, self.sweep)
        finally:
            self._standstill.end()

    async def sweep(self) -> None:
        """Visit everybody, once."""
        now = perf_counter()
        if self._standstill.note(now):
            return  # what arrived meanwhile is read before anything is judged
        for watched in tuple(self._watched):
            watched.check(now)

    def _grant(self, lost_s: float, now: float) -> None:
        for watched in tuple(self._watched):
            watched.grant(lost_s, now)
