"""Calls that wait for their turn: for money that others hold, or for room at deployments.

Limits have a queue of their own (`limits.py`): there a call waits for several limits at once, and
calls that wait for other limits may go first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

from merino.domain.errors import LimitExceeded
from merino.resilience.fair_queue import FairQueue

T = TypeVar("T")


class _Waiting:
    __slots__ = ("woken",)

    def __init__(self) -> None:
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def sleep(self, seconds: float) -> None:
        """Sleep until woken, at most this long."""
        await asyncio.wait((self.woken,), timeout=seconds)
        if self.woken.done():
            self.woken = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class Turns:
    """A queue for each thing that is waited for, by its name: first come, first served within an
    account, accounts in turn.

    `look_s`: how often the first call looks for itself, where nothing signals that there may be
    room.
    """

    def __init__(self, look_s: float = float("inf")) -> None:
        self._look_s = look_s
        self.queues: dict[str, FairQueue[_Waiting]] = {}
        """By name, as long as a call waits: one that arrives meanwhile would overtake it."""

    def __len__(self) -> int:
        """How many calls wait."""
        return sum(len(queue) for queue in self.queues.values())

    def wake(self, name: str) -> None:
        """There may be room: the first call looks."""
        queue = self.queues.get(name)
        if queue is not None:
            _first(queue).wake()

    async def wait(
        self, name: str, account_id: str, within_s: float, look: Callable[[bool], T]
    ) -> T:
        """What `look` finds when it is this call's turn. Raises its last `LimitExceeded` when there
        was no room in time, and whatever else it raises at once.

        `look` is told whether the call is the first. At the end of its time every call looks once
        more, even behind others; `look` decides whether it may have something then.
        """
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = FairQueue()
        waiting = _Waiting()
        queue.push(account_id, None, waiting)
        until = perf_counter() + within_s
        try:
            while True:
                left_s = until - perf_counter()
                is_first = _first(queue) is waiting
                if is_first or left_s <= 0:
                    try:
                        found = look(is_first)
                    except LimitExceeded:
                        if left_s <= 0:
                            raise
                    else:
                        if is_first:
                            queue.serve(account_id, None)
                        return found
                    left_s = min(left_s, self._look_s)
                await waiting.sleep(left_s)
        finally:
            queue.remove(account_id, None, waiting)
            if len(queue):
                _first(queue).wake()
            else:
                self.queues.pop(name, None)


def _first(queue: FairQueue[_Waiting]) -> _Waiting:
    _, _, first = next(queue.heads())
    return first
