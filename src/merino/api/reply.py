"""Writes one call's answer to its HTTP exchange: JSON or SSE, headers, errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from merino.api.errors import body_of, headers_of, status_of
from merino.domain.deployment import Deployment
from merino.domain.errors import MerinoError
from merino.domain.money import format_nanos
from merino.gateway.call import Call, FirstAnswer
from merino.gateway.ports import Limiter
from merino.wire.exchange import Cancellable, Exchange, Headers, render_headers
from merino.wire.sse import comment

JSON = (b"content-type", b"application/json")
_SSE = render_headers(
    [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    ]
)


class HttpReply:
    """`gateway.ports.Reply` over an `Exchange`."""

    __slots__ = ("_exchange", "_limits", "_told", "send")

    def __init__(self, exchange: Exchange, limits: Limiter) -> None:
        self._exchange = exchange
        self._limits = limits
        self._told: Deployment | None = None
        self.send = exchange.write

    @property
    def task(self) -> Cancellable | None:
        return self._exchange.task

    @property
    def has_begun(self) -> bool:
        return self._exchange.has_started

    @property
    def is_writable(self) -> bool:
        return self._exchange.is_writable

    @property
    def is_disconnected(self) -> bool:
        return self._exchange.is_disconnected

    def watch(
        self, on_disconnect: Callable[[], None], on_writable: Callable[[bool], None] | None
    ) -> None:
        self._exchange.on_disconnect = on_disconnect
        self._exchange.on_writable = on_writable
        if self._exchange.is_disconnected:
            on_disconnect()

    def answer(self, call: Call, content_type: bytes, body: bytes) -> None:
        record = call.record
        assert record is not None, "what is answered was settled"
        head = b"%bcontent-type: %b\r\nx-merino-cost: %b\r\nx-merino-usage-source: %b\r\n" % (
            self._head(call),
            content_type,
            format_nanos(record.charged_nanos).encode(),
            record.usage_source.encode(),
        )
        self._exchange.respond(200, head, body)

    def repeat(self, call: Call, first: FirstAnswer) -> None:
        headers: Headers = [
            (b"x-request-id", first.call_id.encode()),
            (b"x-merino-replayed", b"true"),
            (b"content-type", first.content_type.encode("latin-1")),
        ]
        if first.charged_nanos is not None:
            headers.append((b"x-merino-cost", format_nanos(first.charged_nanos).encode()))
        self._exchange.respond(first.status, render_headers(headers), first.body)

    def begin(self, call: Call, data: bytes = b"") -> None:
        self._told = call.deployment
        self._exchange.start(200, self._head(call) + _SSE, data)

    def end(self, call: Call, last: bytes) -> None:
        if not self.has_begun:
            self.begin(call)
        cost = format_nanos(call.record.charged_nanos) if call.record else "0.00"
        if call.deployment is not self._told:
            last = _correction(call) + last
        self._exchange.finish(comment(f"x-merino-cost: {cost}") + last)

    def fail(self, call: Call, error: MerinoError) -> None:
        if self._exchange.is_disconnected:
            return
        if self._exchange.has_started:
            # The status is out. The event makes every SDK raise; where it is no proper end, cutting
            # the connection makes sure that none takes what it has for complete.
            endpoint = call.request.endpoint
            last = endpoint.error_event(body_of(error), call.reader)
            if endpoint.error_event_ends:
                self._exchange.finish(last)
            else:
                self._exchange.write(last)
                self._exchange.abort()
            return
        head = self._head(call) + render_headers([JSON, *headers_of(error)])
        answer = call.request.endpoint.error_answer
        status, body = answer(status_of(error), body_of(error), call.id)
        self._exchange.respond(status, head, body)

    def _head(self, call: Call) -> bytes:
        """The header lines of every answer to a call."""
        times = call.record or call.timing()
        # In whole microseconds: formatting a float costs several times as much.
        queue_us, relay_us, upstream_us = (
            int(times.queue_ms * 1000),
            int(times.relay_ms * 1000),
            int(times.upstream_ms * 1000),
        )
        queue = b"%d.%03d" % (queue_us // 1000, queue_us % 1000)
        relay = b"%d.%03d" % (relay_us // 1000, relay_us % 1000)
        upstream = b"%d.%03d" % (upstream_us // 1000, upstream_us % 1000)
        timed = told = b""
        if call.backoff_s:
            backoff = b"%.3f" % (call.backoff_s * 1000)
            timed, told = b", backoff;dur=" + backoff, b", backoff=" + backoff
        deployment = call.deployment
        head = _TIMES % (
            call.id.encode(),
            queue,
            relay,
            upstream,
            timed,
            queue,
            relay,
            upstream,
            told,
            b"" if deployment is None else _told_of(deployment.name, deployment.provider),
        )
        headers: Headers = []
        if id_header := call.request.endpoint.id_header:
            headers.append((id_header, call.id.encode()))
        if call.request.adjusted:
            headers.append((b"x-merino-adjusted", ", ".join(call.request.adjusted).encode()))
        if call.attempts:
            headers.append((b"x-merino-attempts", _told(call)))
        headers += self._limits.headers(call.key, call.alias)
        return head + render_headers(headers) if headers else head


_TIMES = (
    b"x-request-id: %b\r\n"
    b"server-timing: queue;dur=%b, relay;dur=%b, upstream;dur=%b%b\r\n"
    b"x-merino-overhead-ms: queue=%b, relay=%b, upstream=%b%b\r\n%b"
)


@lru_cache(maxsize=1024)
def _told_of(name: str, provider: str) -> bytes:
    headers: Headers = [(b"x-merino-deployment", name.encode())]
    if provider == "simulator":
        headers.append((b"x-merino-simulated", b"true"))
    return render_headers(headers)


def _correction(call: Call) -> bytes:
    """Comments for a stream whose head was out, with a sign of life, before another deployment took
    over: what the head would say now."""
    deployment = call.deployment
    assert deployment is not None, "a stream that ends was answered"
    lines = _told_of(deployment.name, deployment.provider).decode().splitlines()
    return b"".join([comment(line) for line in lines])


def _told(call: Call) -> bytes:
    """Every attempt and its outcome, in order: ``a;503;12ms, b;200``."""
    told = [
        f"{each.deployment};{each.status or each.outcome};{each.duration_ms:.0f}ms"
        for each in call.attempts
    ]
    if call.upstream_done_at or call.first_content_at:
        name = call.deployment.name if call.deployment else ""
        told.append(f"{name};200")
    return ", ".join(told).encode()
