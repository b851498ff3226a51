"""Something that happens once, and resumes who waits for it in the same turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Protocol


class _Waiting(Protocol):
    def go_on(self, happened: object, /) -> None: ...

    def get_name(self) -> str: ...


class Signal:
    """Something that happens once. Everybody who waits goes on as soon as it does, in order, inside
    the call of `set` or `fail`.

    May be awaited in a `Runner` and in an `asyncio.Task`. One that is shared keeps who is cancelled
    waiting until it happens: what others wait for must not go away with one of them. Nor does a
    fault in one of them keep the others from going on, or reach who calls `set`: it is told to the
    loop's exception handler.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_error",
        "_is_set",
        "_is_shared",
        "_loop",
        "_waiting",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, *, is_shared: bool = False) -> None:
        self._loop = loop
        self._is_shared = is_shared
        self._is_set = False
        self._error: BaseException | None = None
        self._waiting: list[_Waiting] = []
        self._asyncio_future_blocking = False

    def set(self) -> None:
        self._is_set = True
        waiting = self._waiting
        if waiting:
            self._waiting = []
            for each in waiting:
                try:
                    each.go_on(self)
                except Exception as error:  # noqa: BLE001 - whose it is, is not known here
                    self._loop.call_exception_handler(
                        {
                            "message": f"{each.get_name()}: could not go on after it had waited",
                            "exception": error,
                        }
                    )

    def fail(self, error: BaseException) -> None:
        """Everybody who waits, or will, gets this error."""
        self._error = error
        self.set()

    def done(self) -> bool:
        return self._is_set

    def __await__(self) -> Generator[Any, None, None]:
        if not self._is_set:
            self._asyncio_future_blocking = True
            yield self
        if self._error is not None:
            raise self._error

    def add(self, waiting: _Waiting) -> None:
        """Have this one go on when it happens."""
        self._waiting.append(waiting)

    def cancel(self, msg: Any | None = None) -> bool:
        """False if whoever waits has to wait on."""
        if self._is_set or self._is_shared:
            return False
        self.fail(asyncio.CancelledError())
        return True

    # What an `asyncio.Task` asks besides of a future that it waits for.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(
        self, go_on: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        waiting = _WaitingTask(go_on, self._loop, context)
        if self._is_set:
            waiting.go_on(self)
        else:
            self._waiting.append(waiting)

    def result(self) -> None:
        if self._error is not None:
            raise self._error


class _WaitingTask:
    __slots__ = ("_context", "_go_on", "_loop")

    def __init__(
        self,
        go_on: Callable[[Any], object],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        self._go_on = go_on
        self._loop = loop
        self._context = context

    def get_name(self) -> str:
        return "A task"

    def go_on(self, happened: object, /) -> None:
        self._loop.call_soon(self._go_on, happened, context=self._context)
