"""Calls whose deployments have all they may have, waiting for room instead of being refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

from merino.domain.errors import LimitExceeded
from merino.resilience.fair_queue import FairQueue

T = TypeVar("T")
LOOK_S = 0.05
"""How often who is first looks for room: nobody is told when a call in flight ends."""


class _Waiting:
    __slots__ = ("woken",)

    def __init__(self) -> None:
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def sleep(self, seconds: float) -> None:
        """Until it becomes the first, but not longer."""
        await asyncio.wait((self.woken,), timeout=seconds)
        if self.woken.done():
            self.woken = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class Turns:
    """A queue for each alias: first come, first served within an account, accounts in turn."""

    def __init__(self) -> None:
        self._queues: dict[str, FairQueue[_Waiting]] = {}

    def __len__(self) -> int:
        """Calls that wait."""
        return sum(len(queue) for queue in self._queues.values())

    def are_awaited(self, alias_name: str) -> bool:
        """Whether whoever comes now would overtake somebody."""
        return bool(self._queues) and alias_name in self._queues

    async def wait(
        self, alias_name: str, account_id: str, within_s: float, look: Callable[[], T]
    ) -> T:
        """What `look` finds when it is this call's turn. Raises its last `LimitExceeded` when there
        was no room in time."""
        queue = self._queues.get(alias_name)
        if queue is None:
            queue = self._queues[alias_name] = FairQueue()
        waiting = _Waiting()
        queue.push(account_id, None, waiting)
        until = perf_counter() + within_s
        try:
            while True:
                left_s = until - perf_counter()
                _, _, first = next(queue.heads())
                if first is waiting or left_s <= 0:
                    try:
                        found = look()
                    except LimitExceeded:
                        if left_s <= 0:
                            raise
                    else:
                        if first is waiting:
                            queue.serve(account_id, None)
                        return found
                    left_s = min(left_s, LOOK_S)
                await waiting.sleep(left_s)
        finally:
            queue.remove(account_id, None, waiting)
            if not len(queue):
                self._queues.pop(alias_name, None)
            else:
                _, _, first = next(queue.heads())
                first.wake()
