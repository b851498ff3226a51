"""Runs calls: coroutines that are resumed at once by whoever has what they wait for.

An `asyncio.Task` is resumed by the loop, one turn later, through two or three objects made for the
purpose; a call waits three times, and all that would be a seventh of what it costs. A `Runner` is
what a task is to the rest of asyncio, except that it is not the current task of anything: code that
needs one (`asyncio.timeout`, task groups) runs in a task of its own, which can be awaited here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, TypeVar

from merino.running.signal import Signal

T = TypeVar("T")


class Runner:
    """Runs one coroutine to its end, beginning with `go_on`. `on_end` hears of the end: with what
    the runner is for, and the exception that ended it, if one did. Its name, like a task's, is for
    who reads of it: a call's id, once there is one.

    It runs in a context of its own, a copy of `context`: context variables set in one call are not
    seen in that of who resumes it, nor the other way round.
    """

    __slots__ = (
        "_context",
        "_coroutine",
        "_is_cancelled",
        "_is_for",
        "_loop",
        "_name",
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
        self._name = ""
        self._waits_for: Any = None

    def get_name(self) -> str:
        return self._name or self._coroutine.__qualname__

    def set_name(self, name: str, /) -> None:
        self._name = name

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
