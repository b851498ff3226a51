"""Deadlines of running calls, kept by one sweep instead of a timer per call.

A sweep costs the same however many calls come and go; its interval is the precision of every
timeout here.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Protocol

SWEEP_S = 0.2


class Watched(Protocol):
    def check(self, now: float) -> None:
        """`now` is `time.perf_counter()`. Must not raise."""
        ...


class Watchdog:
    def __init__(self, sweep_s: float = SWEEP_S) -> None:
        self._sweep_s = sweep_s
        self._watched: set[Watched] = set()
        self.watch = self._watched.add
        self.forget = self._watched.discard

    @property
    def count(self) -> int:
        """Calls in flight."""
        return len(self._watched)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(self._sweep_s)
            now = perf_counter()
            for watched in tuple(self._watched):
                watched.check(now)
