"""How a stream ends: read to its end, closed by its reader, or broken. Only then is its call over.

A stream's bytes are watched, and, where the openai package reads events of them, its events: an
error among those breaks the stream, too.
"""

# pyright: reportUntypedBaseClass=false, reportUnknownMemberType=false, reportPrivateUsage=false
# pyright: reportUnknownArgumentType=false
# Which HTTP client's streams they are is known only when it runs.
from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any

import openai

from merino.client.engine import Attempt, Call, Engine


class Lease:
    """A stream's hold on its call: ends once, the first word counts. While an event
    `is_being_read`, the end of its bytes is not the last word: the event may be an error."""

    __slots__ = (
        "_attempt",
        "_call",
        "_engine",
        "_is_over",
        "_status",
        "_was_closed",
        "is_being_read",
    )

    def __init__(self, engine: Engine, call: Call, attempt: Attempt, status: int) -> None:
        self._engine = engine
        self._call = call
        self._attempt = attempt
        self._status = status
        self._is_over = False
        self._was_closed = False
        self.is_being_read = False

    def end(self, error: str = "") -> None:
        if self.is_being_read and not error:
            self._was_closed = True
        elif not self._is_over:
            self._is_over = True
            status = 0 if error else self._status
            self._engine.streamed(self._call, self._attempt, status, error)

    def has_read(self) -> None:
        """The event was none."""
        self.is_being_read = False
        if self._was_closed:
            self.end()

    def drop(self) -> None:
        """Nobody holds the stream any more."""
        if not self._is_over:
            self._engine.drop(self.end)


def watch_bytes(response: Any, lease: Lease) -> None:
    """Have the lease end with the body of an HTTP response."""
    library = type(response).__module__.partition(".")[0]
    sync_class, async_class = _classes(library)
    is_async = hasattr(response.stream, "__aiter__")
    response.stream = (async_class if is_async else sync_class)(response.stream, lease)


def watch_events(stream: Any, lease: Lease) -> None:
    """Have the lease end with an error among the events of an `openai.Stream`."""
    if isinstance(stream, openai.Stream):
        stream._iterator = _events(stream._iterator, lease)  # noqa: SLF001 - the package's own name
    elif isinstance(stream, openai.AsyncStream):
        stream._iterator = _async_events(stream._iterator, lease)  # noqa: SLF001


def _events(events: Iterator[Any], lease: Lease) -> Iterator[Any]:
    while True:
        lease.is_being_read = True
        try:
            event = next(events)
        except StopIteration:
            return
        except openai.APIError as error:
            lease.end(_named(error))
            raise
        finally:
            lease.has_read()
        yield event


async def _async_events(events: AsyncIterator[Any], lease: Lease) -> AsyncIterator[Any]:
    while True:
        lease.is_being_read = True
        try:
            event = await anext(events)
        except StopAsyncIteration:
            return
        except openai.APIError as error:
            lease.end(_named(error))
            raise
        finally:
            lease.has_read()
        yield event


def _named(error: openai.APIError) -> str:
    return str(error.code or error.type or type(error).__name__)


class _Watched:
    def __init__(self, stream: Any, lease: Lease) -> None:
        self._stream = stream
        self._lease = lease

    def __del__(self) -> None:
        self._lease.drop()


def _broken(failure: BaseException) -> str:
    name = type(failure).__name__
    return "cancelled" if not isinstance(failure, Exception) else name


@cache
def _classes(library: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    http = import_module(library)

    class Watched(_Watched, http.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from self._stream
            except GeneratorExit:
                raise
            except BaseException as failure:
                self._lease.end(_broken(failure))
                raise
            self._lease.end()

        def close(self) -> None:
            try:
                self._stream.close()
            finally:
                self._lease.end()

    class AsyncWatched(_Watched, http.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in self._stream:
                    yield chunk
            except GeneratorExit:
                raise
            except BaseException as failure:
                self._lease.end(_broken(failure))
                raise
            self._lease.end()

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                self._lease.end()

    return Watched, AsyncWatched
