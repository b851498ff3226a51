"""Transports for calls that may be sent twice at a time, under the `openai` package's own client.
Only a client with a hedge policy has them.

The package moved from `httpx` to its successor `httpx2` with version 3; the two have the same
transport interface, and whichever the installed package uses is used here.
"""

# pyright: reportUntypedBaseClass=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# Which of the two it is, is known only when it runs.
from __future__ import annotations

import uuid
from collections.abc import Callable
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Literal
from urllib.request import getproxies, proxy_bypass

import openai

from merino.client.background import Background, Chunks
from merino.client.engine import Attempt, Engine
from merino.client.hedging import Sent, race
from merino.client.requests import Replay, send_to
from merino.client.steps import Outcome, Send
from merino.client.waiting import running_trio

_http: Any = import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])

_LIMITS = _http.Limits(max_connections=1000, max_keepalive_connections=100)
_ERRORS = (_http.TransportError,)


class Sending:
    """The attempt that is being sent in this context."""

    __slots__ = ("client", "engine", "replay", "response", "send", "timeouts")

    def __init__(self, engine: Engine, send: Send, client: Any) -> None:
        self.engine = engine
        self.send = send
        self.client = client
        self.response: Any = None
        self.replay: Replay | None = None
        self.timeouts: dict[str, float | None] | None = None

    @property
    def retries(self) -> int:
        """Attempts before this one."""
        return self.send.call.attempts - 1

    def fail(self, outcome: Outcome) -> Outcome:
        """No answer: the call goes on only if its body can be sent again."""
        call = self.send.call
        if call.attempts <= call.max_retries and not (self.replay is None or self.replay.rewind()):
            call.max_retries = 0
        return outcome

    def free(self) -> None:
        """The head came in time: what follows has its own time-outs back."""
        if self.timeouts is not None:
            self.response.request.extensions["timeout"].update(self.timeouts)

    def close(self) -> None:
        """The head came too late."""
        if self.response is not None:
            self.response.close()


SENDING: ContextVar[Sending | None] = ContextVar("merino_sending", default=None)


class HedgingTransport(_http.BaseTransport):
    """For the synchronous client. Calls that may be hedged go over `background`: only there can the
    slower attempt be cancelled."""

    def __init__(self, inner: Any, background: Background) -> None:
        self._inner = inner
        self._background = background

    def handle_request(self, request: Any) -> Any:
        sending = SENDING.get()
        if sending is None or sending.engine.hedge_after_s(sending.send.call) is None:
            return self._inner.handle_request(request)
        body, background = request.read(), self._background

        async def send(each: Attempt) -> Any:
            sent = _request_of(request, body, each, sending)
            return await background.inner.handle_async_request(sent)

        async def raced() -> Sent:
            # Certificates are read when a way is made: that is no slowness of the first attempt.
            background.inner.prepare(request.url)
            return await _race(sending, send)

        found = _won(sending, background.run(raced()))
        return _http.Response(
            found.status_code,
            headers=found.headers,
            stream=_Chunks(background, found.stream),
            extensions=found.extensions,
        )

    def close(self) -> None:
        self._inner.close()
        self._background.close()


class AsyncHedgingTransport(_http.AsyncBaseTransport):
    """For the asynchronous client, on asyncio."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def handle_async_request(self, request: Any) -> Any:
        sending = SENDING.get()
        if (
            sending is None
            or sending.engine.hedge_after_s(sending.send.call) is None
            or running_trio() is not None
        ):
            return await self._inner.handle_async_request(request)
        body = await request.aread()

        async def send(each: Attempt) -> Any:
            return await self._inner.handle_async_request(_request_of(request, body, each, sending))

        return _won(sending, await _race(sending, send))

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Chunks(Chunks, _http.SyncByteStream):
    """As the package's own streams are."""


async def _race(sending: Sending, send: Callable[[Attempt], Any]) -> Sent:
    step = sending.send
    return await race(sending.engine, step.call, step.attempt, send, _ERRORS)


def _won(sending: Sending, sent: Sent) -> Any:
    sending.send.attempt = sent.attempt
    if sent.failure is not None:
        raise sent.failure
    return sent.response


def _request_of(request: Any, body: bytes, attempt: Attempt, sending: Sending) -> Any:
    """The request of one attempt.

    A hedge has an idempotency key of its own: under the first attempt's, a relay would refuse it
    while that one runs (409), and two relays would each hold half of what happened to one key.
    """
    if attempt is sending.send.attempt:
        return request
    made = _http.Request(
        request.method,
        request.url,
        headers=request.headers.copy(),
        content=body,
        extensions=dict(request.extensions),
    )
    made.headers["idempotency-key"] = uuid.uuid4().hex
    if attempt.endpoint is not sending.send.attempt.endpoint:
        send_to(made, attempt.endpoint, _base_of(sending))
    return made


def _base_of(sending: Sending) -> Any:
    first = sending.send.attempt
    return sending.client.base_url if first.is_primary else _http.URL(first.endpoint.base_url)


class _Ways:
    """One transport for each proxy of the environment, and one for no proxy."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._proxies = getproxies()
        self._made: dict[str | None, Any] = {}

    def to(self, url: Any) -> Any:
        """Each address has its own way: the next endpoint may be one that needs no proxy."""
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all")
        if proxy and proxy_bypass(url.netloc.decode("ascii").rpartition("@")[2]):
            proxy = None
        made = self._made.get(proxy)
        if made is None:
            made = self._made.setdefault(proxy, self._make(limits=_LIMITS, proxy=proxy))
        return made

    @property
    def all(self) -> list[Any]:
        return list(self._made.values())


class _WayTransport(_http.BaseTransport):
    def __init__(self) -> None:
        self._ways = _Ways(_http.HTTPTransport)

    def handle_request(self, request: Any) -> Any:
        return self._ways.to(request.url).handle_request(request)

    def close(self) -> None:
        for each in self._ways.all:
            each.close()


class _AsyncWayTransport(_http.AsyncBaseTransport):
    def __init__(self) -> None:
        self._ways = _Ways(_http.AsyncHTTPTransport)

    def prepare(self, url: Any) -> None:
        """Make what requests to this address need."""
        self._ways.to(url)

    async def handle_async_request(self, request: Any) -> Any:
        return await self._ways.to(request.url).handle_async_request(request)

    async def aclose(self) -> None:
        for each in self._ways.all:
            await each.aclose()


def http_transport(kind: Literal["sync", "async"]) -> Any:
    """The package's own transport, through the proxies of the environment."""
    return _WayTransport() if kind == "sync" else _AsyncWayTransport()


def no_auth() -> Any:
    """Leaves a request as it is, where `None` would have the HTTP client sign it."""
    return _http.Auth()
