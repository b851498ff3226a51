"""Runs calls: coroutines that are resumed at once by whoever has what they wait for.

An `asyncio.Task` is resumed by the loop, one turn later, through two or three objects made for the
purpose; a call waits three times, and all that would be a seventh of what it costs. A `Runner` is
what a task is to the rest of asyncio, except that it is not the current task of anything: code that
needs one (`asyncio.timeout`, task groups) runs in a task of its own, which can be awaited here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class _Waiting(Protocol):
    def go_on(self, happened: object, /) -> None: ...


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
                            "message": "A call could not go on after what it waited for",
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

    def go_on(self, happened: object, /) -> None:
        self._loop.call_soon(self._go_on, happened, context=self._context)


class Runner:
    """Runs one coroutine to its end, beginning with `go_on`. `on_end` hears of the end: with what
    the runner is for, and the exception that ended it, if one did.

    It runs in a context of its own, a copy of `context`: context variables set in one call are not
    seen in that of who resumes it, nor the other way round.
    """

    __slots__ = (
        "_context",
        "_coroutine",
        "_is_cancelled",
        "_is_for",
        "_loop",
        "_on_end",
        "_waits_for",
    )

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, None],
        loop: asyncio.AbstractEventLoop,
        is_for: Any,
        on_end: Callable[[Runner, Any, BaseException | None], None],
        context: Context | None = None,
    ) -> None:
        self._context = copy_context() if context is None else context.copy()
        self._coroutine = coroutine
        self._loop = loop
        self._is_for = is_for
        self._on_end = on_end
        self._is_cancelled = False
        self._waits_for: Any = None

    def go_on(self, happened: object = None, /) -> None:
        """What it waited for has happened."""
        self._waits_for = None
        try:
            if self._is_cancelled:
                self._is_cancelled = False
                found = self._context.run(self._coroutine.throw, asyncio.CancelledError())
            else:
                found = self._context.run(self._coroutine.send, None)
        except StopIteration:
            self._end(None)
            return
        except BaseException as error:  # noqa: BLE001 - whose it is decides who hears of it
            self._end(error)
            return
        self._waits_for = found
        if found.__class__ is Signal:
            found._asyncio_future_blocking = False  # noqa: SLF001 - asyncio's protocol
            found.add(self)
        elif found is None:
            self._loop.call_soon(self.go_on)  # asyncio.sleep(0)
        else:
            found._asyncio_future_blocking = False  # noqa: SLF001 - as above
            found.add_done_callback(self.go_on)

    def _end(self, error: BaseException | None) -> None:
        is_for, self._is_for = self._is_for, None  # which knows of this runner
        self._on_end(self, is_for, error)

    def cancel(self, msg: Any | None = None) -> bool:
        """Have `CancelledError` raised where it waits, by the loop's next turn."""
        self._is_cancelled = True
        self._loop.call_soon(self._cancel)
        return True

    def uncancel(self) -> int:
        """The cancellation was somebody's business, and is dealt with."""
        self._is_cancelled = False
        return 0

    def _cancel(self) -> None:
        if self._is_cancelled and self._waits_for is not None:
            # It goes on, and finds that it was cancelled; or waits on for what is shared.
            self._waits_for.cancel()


async def apart(coroutine: Coroutine[Any, Any, T], context: Context | None = None) -> T:
    """Run in a task of its own what needs to be one; in the caller's context, or in that given."""
    return await asyncio.get_running_loop().create_task(coroutine, context=context)
