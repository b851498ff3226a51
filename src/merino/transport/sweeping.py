"""How much and how long clients may take, and the one timer that sees to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Sizes in bytes, times in seconds. Times are kept to the precision of `sweep_s`.

    `body_timeout_s` is how long a body may take; each `BODY_BYTES_PER_S_MIN` that come give it one
    second more. `arriving_bytes_max` bounds what all unfinished bodies hold together.
    """

    head_bytes_max: int = 32 * 1024
    headers_max: int = 100
    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    keep_alive_s: float = 75.0
    write_timeout_s: float = 300.0
    buffer_bytes: int = 64 * 1024
    pipelined_max: int = 16
    arriving_bytes_max: int = 256 * 1024 * 1024
    sweep_s: float = 1.0


class Swept(Protocol):
    """A connection, as the sweep sees it."""

    def forgive(self, late_s: float) -> None:
        """So long nobody could read or write."""
        ...

    def check(self, now: float) -> None: ...


class Sweeper:
    """One timer for all connections: cheaper than arming and cancelling one per request."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._connections: set[Swept] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0

    def add(self, connection: Swept, loop: asyncio.AbstractEventLoop) -> None:
        self._connections.add(connection)
        if self._timer is None:
            self._wait(loop)

    def discard(self, connection: Swept) -> None:
        self._connections.discard(connection)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = perf_counter()
        late_s = now - self._due_at
        if late_s > self._limits.sweep_s:
            # The relay stood still (a stopped process, a paused machine). What the clients sent
            # meanwhile has not been read yet: the time is nobody's fault.
            for connection in self._connections:
                connection.forgive(late_s)
        for connection in tuple(self._connections):
            connection.check(now)
        self._timer = None
        if self._connections:
            self._wait(loop)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_at = perf_counter() + self._limits.sweep_s
        self._timer = loop.call_later(self._limits.sweep_s, self._sweep, loop)
