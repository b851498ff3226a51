"""The engine's decisions as HTTP transports, under the `openai` package's own client.

The package moved from `httpx` to its successor `httpx2` with version 3; the two have the same
transport interface, and whichever the installed package uses is used here.
"""

# pyright: reportUntypedBaseClass=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# Which of the two it is, is known only when it runs.
from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakKeyDictionary

import openai

from merino.client.background import Background, Chunks
from merino.client.engine import HEDGED_PATHS, Attempt, Call, Engine
from merino.client.errors import CircuitOpen, DeadlineExceeded
from merino.client.hedging import Sent, race

_http: Any = import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])

_LIMITS = _http.Limits(max_connections=1000, max_keepalive_connections=100)
_ERRORS = (_http.TransportError,)
_PAUSE_MAX_S = 1.0


class ResilientTransport(_http.BaseTransport):
    """For the synchronous client. Waits in the calling thread. `background` sends the calls that
    may be hedged: only there can the slower attempt be cancelled."""

    def __init__(
        self, engine: Engine, make_inner: Callable[[], Any], background: Background
    ) -> None:
        self.engine = engine
        self._make_inner = make_inner
        self._background = background
        self._parents: list[Any] = []
        self._start()

    def _start(self) -> None:
        self._process_id = os.getpid()
        self._inner = self._make_inner()
        count = self.engine.policy.max_concurrency
        self._places = None if count is None else threading.Semaphore(count)

    def handle_request(self, request: Any) -> Any:
        if os.getpid() != self._process_id:
            # Forked: the connections are the parent's. They are kept, untouched: closing them would
            # take a lock that some thread of the parent held when it forked.
            self._parents.append(self._inner)
            self._start()
        engine = self.engine
        body = request.read()
        call = engine.call(body, may_hedge=may_hedge(request))
        status, error = 0, ""
        if self._places is not None:
            self._places.acquire()
        try:
            self._wait(call, engine.reserve(call), request)
            previous: Attempt | None = None
            while True:
                attempt = engine.attempt(call, previous)
                if not isinstance(attempt, Attempt):
                    self._wait(call, pause_s(engine, attempt, request), request)
                    continue
                previous, response, failure = self._send(call, attempt, request, body)
                if failure is not None:
                    error = type(failure).__name__
                    after_s = engine.failed(call, previous, error)
                    if after_s is None:
                        raise failure
                else:
                    error, status = "", response.status_code
                    after_s = engine.answered(call, previous, status, response.headers)
                    if after_s is None:
                        return response
                    response.close()
                self._wait(call, after_s, request)
        except (CircuitOpen, DeadlineExceeded) as refused:
            error = type(refused).__name__
            raise
        finally:
            if self._places is not None:
                self._places.release()
            engine.ended(call, status, error)

    def close(self) -> None:
        self._inner.close()
        self._background.close()

    def _send(self, call: Call, attempt: Attempt, request: Any, body: bytes) -> Sent:
        engine = self.engine
        if engine.hedge_after_s(call) is None:
            try:
                sent = prepared(request, body, attempt, engine.base_path)
                return Sent(attempt, response=self._inner.handle_request(sent))
            except _ERRORS as failure:
                return Sent(attempt, failure=failure)
        background = self._background

        async def send(each: Attempt) -> Any:
            sent = prepared(request, body, each, engine.base_path)
            return await background.inner.handle_async_request(sent)

        places = _ThreadPlaces(self._places)
        ended = background.run(race(engine, call, attempt, send, _ERRORS, places))
        if ended.response is None:
            return ended
        found = ended.response
        return ended._replace(
            response=_http.Response(
                found.status_code,
                headers=found.headers,
                stream=_Chunks(background, found.stream),
                extensions=found.extensions,
            )
        )

    def _wait(self, call: Call, seconds: float, request: Any) -> None:
        check_deadline(self.engine, call, seconds, request)
        if seconds > 0:
            call.waited_s += seconds
            time.sleep(seconds)


class AsyncResilientTransport(_http.AsyncBaseTransport):
    """For the asynchronous client. Never blocks the loop. Each loop has connections and places of
    its own, so that a client may serve several `asyncio.run` and several threads."""

    def __init__(self, engine: Engine, make_inner: Callable[[], Any]) -> None:
        self.engine = engine
        self._make_inner = make_inner
        self._homes: WeakKeyDictionary[asyncio.AbstractEventLoop, _Home] = WeakKeyDictionary()

    def _home(self) -> _Home:
        loop = asyncio.get_running_loop()
        home = self._homes.get(loop)
        if home is None:
            count = self.engine.policy.max_concurrency
            home = _Home(self._make_inner(), None if count is None else asyncio.Semaphore(count))
            self._homes[loop] = home
        return home

    async def handle_async_request(self, request: Any) -> Any:
        engine, home = self.engine, self._home()
        body = await request.aread()
        call = engine.call(body, may_hedge=may_hedge(request))
        status, error = 0, ""
        if home.places is not None:
            await home.places.acquire()
        try:
            reserved_s = engine.reserve(call)
            try:
                await self._wait(call, reserved_s, request)
            except BaseException:
                engine.give_back(call)
                raise
            previous: Attempt | None = None
            while True:
                attempt = engine.attempt(call, previous)
                if not isinstance(attempt, Attempt):
                    await self._wait(call, pause_s(engine, attempt, request), request)
                    continue
                previous, response, failure = await self._send(home, call, attempt, request, body)
                if failure is not None:
                    error = type(failure).__name__
                    after_s = engine.failed(call, previous, error)
                    if after_s is None:
                        raise failure
                else:
                    error, status = "", response.status_code
                    after_s = engine.answered(call, previous, status, response.headers)
                    if after_s is None:
                        return response
                    await response.aclose()
                await self._wait(call, after_s, request)
        except (CircuitOpen, DeadlineExceeded) as refused:
            error = type(refused).__name__
            raise
        except asyncio.CancelledError:
            error = "cancelled"
            raise
        finally:
            if home.places is not None:
                home.places.release()
            engine.ended(call, status, error)

    async def aclose(self) -> None:
        home = self._homes.pop(asyncio.get_running_loop(), None)
        if home is not None:
            await home.inner.aclose()

    async def _send(
        self, home: _Home, call: Call, attempt: Attempt, request: Any, body: bytes
    ) -> Sent:
        engine = self.engine

        async def send(each: Attempt) -> Any:
            sent = prepared(request, body, each, engine.base_path)
            return await home.inner.handle_async_request(sent)

        if engine.hedge_after_s(call) is not None:
            places = _LoopPlaces(home.places)
            return await race(engine, call, attempt, send, _ERRORS, places)
        try:
            return Sent(attempt, response=await send(attempt))
        except _ERRORS as failure:
            return Sent(attempt, failure=failure)
        except asyncio.CancelledError:
            engine.left(attempt)
            raise

    async def _wait(self, call: Call, seconds: float, request: Any) -> None:
        check_deadline(self.engine, call, seconds, request)
        if seconds > 0:
            call.waited_s += seconds
            await asyncio.sleep(seconds)


class _Home(NamedTuple):
    """What belongs to one event loop."""

    inner: Any
    places: asyncio.Semaphore | None


class _Chunks(Chunks, _http.SyncByteStream):
    """As the package's own streams are."""


class _ThreadPlaces:
    def __init__(self, places: threading.Semaphore | None) -> None:
        self._places = places

    async def try_take(self) -> bool:
        return self._places is None or self._places.acquire(blocking=False)

    def give_back(self) -> None:
        if self._places is not None:
            self._places.release()


class _LoopPlaces:
    def __init__(self, places: asyncio.Semaphore | None) -> None:
        self._places = places

    async def try_take(self) -> bool:
        if self._places is None:
            return True
        return not self._places.locked() and await self._places.acquire()

    def give_back(self) -> None:
        if self._places is not None:
            self._places.release()


def may_hedge(request: Any) -> bool:
    """Whether sending a call twice does no harm. Whoever gave an idempotency key wants it once."""
    path = request.url.path
    return (
        request.method == "POST"
        and path.endswith(HEDGED_PATHS)
        and "idempotency-key" not in request.headers
    )


def pause_s(engine: Engine, soonest_s: float, request: Any) -> float:
    """How long to wait for an endpoint that rests. Raises `CircuitOpen` if none merely rests."""
    if engine.is_open():
        raise CircuitOpen(
            f"Every endpoint failed too often and is left alone; try again in {soonest_s:.1f} s.",
            request=request,
            retry_after_s=soonest_s,
        )
    return min(max(soonest_s, 0.01), _PAUSE_MAX_S)


def check_deadline(engine: Engine, call: Call, seconds: float, request: Any) -> None:
    if seconds >= engine.remaining_s(call):
        raise DeadlineExceeded(
            f"The call's {engine.policy.deadline_s:g} s are over: {call.attempts} attempts, "
            f"{call.waited_s:.1f} s of waiting, and {seconds:.1f} s more would be needed.",
            request=request,
        )


def prepared(request: Any, body: bytes, attempt: Attempt, base_path: str) -> Any:
    """The request for one attempt: same body, same idempotency key, the endpoint's own address and
    key. `base_path` is the path of the client's own base URL, which the endpoint's replaces.

    A hedge has an idempotency key of its own: under the first attempt's, a relay would refuse it
    while that one runs (409), and two relays would each hold half of what happened to one key.
    """
    endpoint = attempt.endpoint
    headers = request.headers.copy()
    if attempt.is_hedge:
        headers["idempotency-key"] = uuid.uuid4().hex
    elif "idempotency-key" not in headers:
        if request.method == "POST":
            request.headers["idempotency-key"] = headers["idempotency-key"] = uuid.uuid4().hex
    parts = urlsplit(endpoint.base_url)
    path = request.url.raw_path.decode("ascii")
    below = path.removeprefix(base_path)
    url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}{below}"
    headers["host"] = parts.netloc.rpartition("@")[2]
    headers["authorization"] = f"Bearer {endpoint.api_key}"
    return _http.Request(
        request.method, url, headers=headers, content=body, extensions=request.extensions
    )


def http_transport(base_url: str, kind: Literal["sync", "async"]) -> Any:
    """The package's own transport, through the proxy of the environment if there is one."""
    parts = urlsplit(base_url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and proxy_bypass(parts.netloc.rpartition("@")[2]):
        proxy = None
    make = _http.HTTPTransport if kind == "sync" else _http.AsyncHTTPTransport
    return make(limits=_LIMITS, proxy=proxy)
