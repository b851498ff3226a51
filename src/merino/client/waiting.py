"""How the steps of a call are waited for: in a thread, on asyncio, on trio."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from merino.client.steps import Wait

T = TypeVar("T")

_SECONDS_MAX = 86_400.0


class TimeIsUp(Exception):
    """The attempt's time was over before it had ended."""


def wait(step: Wait) -> None:
    """Wait in the calling thread."""
    waiter = step.waiter
    if waiter is None:
        time.sleep(step.seconds)
        return
    roused = threading.Event()
    waiter.wake = roused.set
    if not waiter.is_due:
        roused.wait(min(step.seconds, _SECONDS_MAX))


async def wait_async(step: Wait) -> None:
    """Wait on the running loop."""
    waiter, seconds = step.waiter, min(step.seconds, _SECONDS_MAX)
    trio = running_trio()
    if waiter is None:
        await (asyncio.sleep(seconds) if trio is None else trio.sleep(seconds))
        return
    if trio is not None:
        event = trio.Event()
        token = trio.lowlevel.current_trio_token()
        waiter.wake = lambda: _told(token.run_sync_soon, event.set)
        if not waiter.is_due:
            with trio.move_on_after(seconds):
                await event.wait()
        return
    loop = asyncio.get_running_loop()
    roused = asyncio.Event()
    waiter.wake = lambda: _told(loop.call_soon_threadsafe, roused.set)
    if not waiter.is_due:
        try:
            async with asyncio.timeout(seconds):
                await roused.wait()
        except TimeoutError:
            return


def within(seconds: float, work: Callable[[], T], close: Callable[[], None]) -> T:
    """The result of `work`, or `TimeIsUp`. It runs in a thread of its own, because nothing else can
    leave a thread that waits for a socket; one that is left ends with its own time-outs, and
    `close`s what comes too late."""
    ended = threading.Event()
    found: list[Any] = []
    context = contextvars.copy_context()
    lock = threading.Lock()
    is_left = False

    def run() -> None:
        try:
            found.append((True, context.run(work)))
        except BaseException as failure:  # noqa: BLE001 - raised again in the thread that waits
            found.append((False, failure))
        finally:
            with lock:
                ended.set()
                is_late = is_left
            if is_late:
                close()

    threading.Thread(target=run, name="merino-attempt", daemon=True).start()
    try:
        ended.wait(max(0.0, seconds))
    finally:
        with lock:
            is_left = not ended.is_set()
    if is_left:
        raise TimeIsUp
    is_good, value = found[0]
    if not is_good:
        raise value
    return value


async def within_async(seconds: float, work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`, or `TimeIsUp`; then it is cancelled."""
    trio = running_trio()
    if trio is not None:
        with trio.move_on_after(max(0.0, seconds)) as scope:
            return await work()
        assert scope.cancelled_caught
        raise TimeIsUp
    # A time-out inside the work must not be taken for this one.
    timeout = asyncio.timeout(max(0.0, seconds))
    try:
        async with timeout:
            return await work()
    except TimeoutError:
        if timeout.expired():
            raise TimeIsUp from None
        raise


def running_trio() -> Any:
    """The trio module, if its loop runs here and asyncio's does not."""
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return trio
    return None


def running_loop() -> Any:
    """What tells the running event loop from others; `None` where none runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        trio = sys.modules.get("trio")
        if trio is None:
            return None
        try:
            return trio.lowlevel.current_trio_token()
        except RuntimeError:
            return None


def _told(tell: Callable[[Callable[[], None]], Any], what: Callable[[], None]) -> None:
    try:
        tell(what)
    except RuntimeError:
        return  # its loop has ended, and with it whoever waited
