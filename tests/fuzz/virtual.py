"""A world without sockets, threads and waiting: an event loop whose time jumps to whatever is due
next, and connections in memory.

Import this before anything of Merino: what is imported after it reads this clock.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from typing import Any


class Clock:
    """Seconds. Moves a little each time it is read, so that nothing takes no time at all."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.until = float("inf")
        """When an input must be done with."""

    def read(self) -> float:
        self.now += 1e-7
        return self.now


CLOCK = Clock()
time.perf_counter = CLOCK.read
time.monotonic = CLOCK.read


class Hung(Exception):
    """Something waits for what does not happen."""


class _NoSelector(selectors.SelectSelector):
    """Nothing is ever ready but what the loop itself has scheduled."""

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or CLOCK.now > CLOCK.until:
            raise Hung
        if timeout > 0:
            CLOCK.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`on_connect` is asked for every connection that is opened: it gets our transport to it.
    `failures` get what nobody catches."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__(_NoSelector())
        # Or else, once its time is a large number, what is due now would never be.
        self._clock_resolution = 1e-6
        self.on_connect: Callable[[Pipe], None] = lambda pipe: None
        self._failures = failures
        self.set_exception_handler(self._failed)

    def time(self) -> float:
        return CLOCK.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """At once and here: the same input must do the same each time."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - goes to who waits for it
            done.set_exception(error)
        return done

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        await asyncio.sleep(0)
        protocol = protocol_factory()
        pipe = Pipe(self, protocol)
        protocol.connection_made(pipe)
        self.on_connect(pipe)
        return pipe, protocol

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        return [(2, 1, 6, "", ("127.0.0.1", port))]

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._failures.append(f"{context.get('message')}: {context.get('exception')!r}")


class Pipe(asyncio.Transport):
    """The relay's end of a connection. The far end writes with `feed`, and reads what `on_write`
    and `on_closed` are called with."""

    def __init__(self, loop: VirtualLoop, protocol: Any = None) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self.written = bytearray()
        self.on_write: Callable[[bytes], None] = lambda data: None
        self.on_closed: Callable[[], None] = lambda: None
        self.is_closed = False
        self.is_lost = False
        self.is_ended = False
        """We said that no more will be written; the far end may still write."""
        self._is_paused = False
        self._unread: list[bytes] = []
        self._has_eof = False

    # The far end

    def feed(self, data: bytes) -> None:
        """Bytes arrive."""
        if self.is_lost or self.is_closed or self._has_eof or not data:
            return
        if self._is_paused:
            self._unread.append(data)
        else:
            self._protocol.data_received(data)

    def feed_eof(self) -> None:
        """The far end writes no more."""
        if self.is_lost or self._has_eof:
            return
        if self._unread:
            self._loop.call_later(0.01, self.feed_eof)  # in its turn
            return
        self._has_eof = True
        if self.is_closed:
            return
        if not self._protocol.eof_received():
            self.close()

    def reset(self) -> None:
        """The far end is gone."""
        self._lose(ConnectionResetError("reset by the far end"))

    # asyncio.Transport, as far as it is used

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        addresses = {"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 8080)}
        return addresses.get(name, default)

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self.is_closed

    def write(self, data: Any) -> None:
        data = bytes(data)
        assert not self.is_ended, "written after the end was told"
        if self.is_closed:
            return
        self.written += data
        self.on_write(data)

    def write_eof(self) -> None:
        self.is_ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._loop.call_soon(self._deliver)

    def is_reading(self) -> bool:
        return not self._is_paused

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def _deliver(self) -> None:
        while self._unread and not self._is_paused and not self.is_closed:
            self._protocol.data_received(self._unread.pop(0))

    def _lose(self, error: Exception | None) -> None:
        if self.is_lost:
            return
        self.is_closed = self.is_lost = True
        self._protocol.connection_lost(error)
        self.on_closed()
