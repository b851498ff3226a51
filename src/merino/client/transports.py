"""The engine's decisions as HTTP transports, under the `openai` package's own client.

The package moved from `httpx` to its successor `httpx2` with version 3; the two have the same
transport interface, and whichever the installed package uses is used here.
"""

# pyright: reportUntypedBaseClass=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# Which of the two it is, is known only when it runs.
from __future__ import annotations

import asyncio
import threading
import time
import uuid
from importlib import import_module
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import openai

from merino.client.engine import Attempt, Call, Endpoint, Engine
from merino.client.errors import CircuitOpen, DeadlineExceeded

_http: Any = import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])

_LIMITS = _http.Limits(max_connections=1000, max_keepalive_connections=100)
_ERRORS = (_http.TransportError,)
_PAUSE_MAX_S = 1.0


class ResilientTransport(_http.BaseTransport):
    """For the synchronous client. Waits in the calling thread."""

    def __init__(self, engine: Engine, inner: Any) -> None:
        self.engine = engine
        self._inner = inner
        count = engine.policy.max_concurrency
        self._places = None if count is None else threading.Semaphore(count)

    def handle_request(self, request: Any) -> Any:
        engine = self.engine
        body = request.read()
        call = engine.call(body)
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
                try:
                    response = self._inner.handle_request(
                        prepared(request, body, attempt.endpoint, engine.base_path)
                    )
                except _ERRORS as failure:
                    error = type(failure).__name__
                    after_s = engine.failed(call, attempt, error)
                    if after_s is None:
                        raise
                else:
                    error, status = "", response.status_code
                    after_s = engine.answered(call, attempt, status, response.headers)
                    if after_s is None:
                        return response
                    response.close()
                previous = attempt
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

    def _wait(self, call: Call, seconds: float, request: Any) -> None:
        check_deadline(self.engine, call, seconds, request)
        if seconds > 0:
            call.waited_s += seconds
            time.sleep(seconds)


class AsyncResilientTransport(_http.AsyncBaseTransport):
    """For the asynchronous client. Never blocks the loop."""

    def __init__(self, engine: Engine, inner: Any) -> None:
        self.engine = engine
        self._inner = inner
        count = engine.policy.max_concurrency
        self._places = None if count is None else asyncio.Semaphore(count)

    async def handle_async_request(self, request: Any) -> Any:
        engine = self.engine
        body = await request.aread()
        call = engine.call(body)
        status, error = 0, ""
        attempt: Attempt | float | None = None
        if self._places is not None:
            await self._places.acquire()
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
                try:
                    sent = prepared(request, body, attempt.endpoint, engine.base_path)
                    response = await self._inner.handle_async_request(sent)
                except _ERRORS as failure:
                    error = type(failure).__name__
                    after_s = engine.failed(call, attempt, error)
                    if after_s is None:
                        raise
                else:
                    error, status = "", response.status_code
                    after_s = engine.answered(call, attempt, status, response.headers)
                    if after_s is None:
                        return response
                    await response.aclose()
                previous = attempt
                attempt = None
                await self._wait(call, after_s, request)
        except (CircuitOpen, DeadlineExceeded) as refused:
            error = type(refused).__name__
            raise
        except asyncio.CancelledError:
            error = "cancelled"
            if isinstance(attempt, Attempt):
                engine.left(attempt)
            raise
        finally:
            if self._places is not None:
                self._places.release()
            engine.ended(call, status, error)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _wait(self, call: Call, seconds: float, request: Any) -> None:
        check_deadline(self.engine, call, seconds, request)
        if seconds > 0:
            call.waited_s += seconds
            await asyncio.sleep(seconds)


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


def prepared(request: Any, body: bytes, endpoint: Endpoint, base_path: str) -> Any:
    """The request for one attempt: same body, same idempotency key, the endpoint's own address and
    key. `base_path` is the path of the client's own base URL, which the endpoint's replaces."""
    headers = request.headers.copy()
    if "idempotency-key" not in headers:
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
