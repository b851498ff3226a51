"""An event loop in the background, for what a synchronous client cannot do without one: cancel a
request that another thread waits for."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_JOIN_S = 5.0


class Background:
    """`run` runs a coroutine on the loop and waits for it in the calling thread. `inner` is what
    `make_inner` made on first use; it belongs to the loop, and to one process: a forked child gets
    a loop and an inner of its own. Threads may share it."""

    def __init__(self, make_inner: Callable[[], Any]) -> None:
        self._make_inner = make_inner
        self._lock = threading.Lock()
        self._process_id = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._parents: list[Any] = []
        self.inner: Any = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()  # the thread was interrupted; what it waited for is not wanted any more
            raise

    def close(self) -> None:
        """Close `inner` and end the loop. A later `run` starts anew."""
        if self._loop is None or os.getpid() != self._process_id:
            return
        self.run(self.inner.aclose())
        assert self._finalizer is not None
        self._finalizer()
        self._loop = None

    def _started(self) -> asyncio.AbstractEventLoop:
        if os.getpid() != self._process_id:  # forked: the thread stayed behind
            self._parents.append((self._loop, self.inner))
            if self._finalizer is not None:
                self._finalizer.detach()
            self._lock = threading.Lock()
            self._process_id = os.getpid()
            self._loop = None
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=loop.run_forever, name="merino-client", daemon=True
                )
                thread.start()
                self._loop = loop
                self.inner = self._make_inner()
                self._finalizer = weakref.finalize(self, _end, loop, thread)
            return self._loop


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    with suppress(RuntimeError):  # it is closed already
        loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(_JOIN_S)
        if not thread.is_alive():
            loop.close()


class Chunks:
    """A body that is read on the loop, for a reader in another thread."""

    def __init__(self, background: Background, stream: Any) -> None:
        self._background = background
        self._stream: Any = stream

    def __iter__(self) -> Iterator[bytes]:
        chunks = aiter(self._stream)

        async def following() -> bytes | None:
            return await anext(chunks, None)

        while (chunk := self._background.run(following())) is not None:
            yield chunk

    def close(self) -> None:
        async def closed() -> None:
            await self._stream.aclose()

        self._background.run(closed())
