"""Things that are sent elsewhere in batches, beside the calls: bounded, tried again, never waited
for. What cannot be sent is given up in the end, and counted."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import structlog

log = structlog.get_logger("merino.telemetry")
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

PERIOD_S = 1.0
BATCH = 512
WAITING_MAX = 20_000
RETRY_S_MAX = 60.0
LAST_S = 5.0
"""How long the last batch may take when a relay stops, or its settings change."""


class NotSent(Exception):
    """`is_final`: trying the same again is of no use."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class Sink(Protocol[T_contra]):
    """Takes batches; called on a thread, one batch at a time. Raises `NotSent`."""

    def send(self, batch: Sequence[T_contra]) -> None: ...

    def close(self) -> None: ...


class Shipper(Generic[T]):
    """One sink's queue. `put` is cheap, and may be called from any place of the loop."""

    def __init__(
        self, name: str, sink: Sink[T], on_lost: Callable[[str, int], None] = lambda _n, _c: None
    ) -> None:
        self.name = name
        self._sink = sink
        self._on_lost = on_lost
        self._waiting: deque[T] = deque()
        self._wait_s = 0.0
        self._is_failing = False
        self._stopping = asyncio.Event()

    def put(self, item: T) -> None:
        waiting = self._waiting
        if len(waiting) >= WAITING_MAX:  # the oldest goes: the newest is looked at first
            waiting.popleft()
            self._on_lost(self.name, 1)
        waiting.append(item)

    async def run(self) -> None:
        """Until it is told to stop; then what waits is sent once more."""
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s or PERIOD_S):
                    await self._stopping.wait()
                    break
            await self.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self.flush()
        await asyncio.to_thread(self._sink.close)

    def stop(self) -> None:
        self._stopping.set()

    async def flush(self) -> bool:
        """Send what waits; false if that did not work."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            try:
                await asyncio.to_thread(self._sink.send, batch)
            except NotSent as error:
                self._failed(batch, error)
                return False
            except (TypeError, ValueError) as error:  # as a text that is no Unicode
                self._failed(batch, NotSent(f"cannot be written: {error}", is_final=True))
                return False
            except asyncio.CancelledError:  # its time is up
                self._waiting.extendleft(reversed(batch))
                raise
            self._wait_s = 0.0
            if self._is_failing:
                self._is_failing = False
                log.info("telemetry is sent again", sink=self.name)
        return True

    def _failed(self, batch: list[T], error: NotSent) -> None:
        if not self._is_failing:
            self._is_failing = True
            log.warning("telemetry could not be sent", sink=self.name, reason=str(error))
        if error.is_final:
            self._on_lost(self.name, len(batch))
            return
        self._wait_s = min(RETRY_S_MAX, max(PERIOD_S, self._wait_s * 2))
        room = WAITING_MAX - len(self._waiting)
        if room < len(batch):
            self._on_lost(self.name, len(batch) - room)
            batch = batch[len(batch) - room :]
        self._waiting.extendleft(reversed(batch))


class Shipping:
    """All shippers of a relay, as the settings have them now."""

    def __init__(self) -> None:
        self.lost: dict[str, int] = {}
        """By sink, what was given up."""
        self._shippers: tuple[Shipper[Any], ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_running = False

    def count_lost(self, name: str, count: int) -> None:
        self.lost[name] = self.lost.get(name, 0) + count

    def follow(self, shippers: Sequence[Shipper[Any]]) -> None:
        """Use these from now on; those before send what they have, and end."""
        for each in self._shippers:
            each.stop()
        self._shippers = tuple(shippers)
        if self._is_running:
            self.start()

    def start(self) -> None:
        self._is_running = True
        loop = asyncio.get_running_loop()
        for each in self._shippers:
            task = loop.create_task(each.run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """All send what waits, and end."""
        self._is_running = False
        for each in self._shippers:
            each.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
