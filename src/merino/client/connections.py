"""The HTTP clients under one client: one for each process and each event loop it is used in.

Connections belong to the loop they were made in, and after a fork to the parent. A client that was
given to us is its giver's: it is used everywhere as it is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from typing import Any

from merino.client.waiting import running_loop


class Connections:
    """`current` is the HTTP client to use here. `first` was made with the openai client; `make`
    makes further ones, and is `None` if `first` was given by the user."""

    def __init__(self, first: Any, make: Callable[[], Any] | None) -> None:
        self.first = first
        self._make = make
        self._process_id = os.getpid()
        self._parents: list[Any] = []

    @property
    def is_given(self) -> bool:
        return self._make is None

    def current(self) -> Any:
        if self._make is not None and os.getpid() != self._process_id:
            # Forked: the connections are the parent's. They are kept, untouched: closing them would
            # take a lock that some thread of the parent held when it forked.
            self._parents.append(self.first)
            self.first = self._make()
            self._process_id = os.getpid()
        return self.first


class LoopConnections(Connections):
    """`enter` before use: it makes what the running loop needs. That is closed when the loop ends
    (`asyncio.run` and trio end the generators that ran in them)."""

    def __init__(self, first: Any, make: Callable[[], Any] | None) -> None:
        super().__init__(first, make)
        self._is_first_free = True
        self._homes: dict[Any, tuple[Any, AsyncGenerator[None]]] = {}

    def current(self) -> Any:
        if self._make is None:
            return self.first
        home = self._homes.get(running_loop())
        return self.first if home is None else home[0]

    async def enter(self) -> None:
        if self._make is None:
            return
        loop = running_loop()
        if loop in self._homes and os.getpid() == self._process_id:
            return
        if os.getpid() != self._process_id:
            self._parents.append((self.first, self._homes))
            self._homes = {}
            self._process_id = os.getpid()
            self._is_first_free = False
        for other in list(self._homes):
            if isinstance(other, asyncio.AbstractEventLoop) and other.is_closed():
                self._homes.pop(other, None)  # it ended without its generators
        client = self.first if self._is_first_free else self._make()
        self._is_first_free = False
        keeper = _kept(self._homes, loop, client)
        self._homes[loop] = client, keeper
        await anext(keeper)

    async def aclose(self) -> None:
        """Close what belongs to the running loop, and the first client if no loop used it."""
        home = self._homes.get(running_loop())
        if home is not None:
            await home[0].aclose()
        elif self._is_first_free or self._make is None:
            await self.first.aclose()


async def _kept(homes: dict[Any, Any], loop: Any, client: Any) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        homes.pop(loop, None)
        await client.aclose()
