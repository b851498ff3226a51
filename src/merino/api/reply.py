"""Writes one call's answer to its HTTP exchange: JSON or SSE, headers, errors."""

from __future__ import annotations

from collections.abc import Callable

from merino.api.errors import body_of, headers_of, status_of
from merino.domain.errors import MerinoError
from merino.domain.money import format_nanos
from merino.gateway.call import Call, FirstAnswer
from merino.gateway.ports import Limits
from merino.wire.exchange import Exchange, Headers
from merino.wire.sse import error_event

JSON = (b"content-type", b"application/json")
_SSE: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class HttpReply:
    """`gateway.ports.Reply` over an `Exchange`."""

    __slots__ = ("_exchange", "_limits", "send")

    def __init__(self, exchange: Exchange, limits: Limits) -> None:
        self._exchange = exchange
        self._limits = limits
        self.send = exchange.write

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
        headers = self._headers(call)
        headers.append((b"content-type", content_type))
        record = call.record
        if record is not None:
            headers.append((b"x-merino-cost", format_nanos(record.charged_nanos).encode()))
            headers.append((b"x-merino-usage-source", record.usage_source.encode()))
        self._exchange.respond(200, headers, body)

    def repeat(self, call: Call, first: FirstAnswer) -> None:
        headers: Headers = [
            (b"x-request-id", first.call_id.encode()),
            (b"x-merino-replayed", b"true"),
            (b"content-type", first.content_type.encode("latin-1")),
        ]
        self._exchange.respond(first.status, headers, first.body)

    def begin(self, call: Call, data: bytes = b"") -> None:
        self._exchange.start(200, self._headers(call) + _SSE, data)

    def end(self, call: Call, last: bytes) -> None:
        if not self.has_begun:
            self.begin(call)
        cost = format_nanos(call.record.charged_nanos) if call.record else "0.00"
        self._exchange.finish(b": x-merino-cost: %b\n\n%b" % (cost.encode(), last))

    def fail(self, call: Call, error: MerinoError) -> None:
        if self._exchange.is_disconnected:
            return
        if self._exchange.has_started:
            # The status is out. The event makes every SDK raise; cutting the connection makes sure
            # that none takes what it has for complete.
            self._exchange.write(error_event(body_of(error)))
            self._exchange.abort()
            return
        headers = self._headers(call)
        headers.append(JSON)
        headers += headers_of(error)
        self._exchange.respond(status_of(error), headers, body_of(error))

    def _headers(self, call: Call) -> Headers:
        headers: Headers = [(b"x-request-id", call.id.encode())]
        deployment = call.deployment
        if deployment is not None:
            headers.append((b"x-merino-deployment", deployment.name.encode()))
            if deployment.provider == "simulator":
                headers.append((b"x-merino-simulated", b"true"))
        timing = call.timing()
        shown = (
            b"%.3f" % timing.queue_ms,
            b"%.3f" % timing.relay_ms,
            b"%.3f" % timing.upstream_ms,
        )
        headers.append((b"server-timing", b"queue;dur=%b, relay;dur=%b, upstream;dur=%b" % shown))
        headers.append((b"x-merino-overhead-ms", b"queue=%b, relay=%b, upstream=%b" % shown))
        if call.request.adjusted:
            headers.append((b"x-merino-adjusted", ", ".join(call.request.adjusted).encode()))
        if call.attempts:
            headers.append((b"x-merino-attempts", _told(call)))
        headers += self._limits.headers(call.key, call.alias)
        return headers


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
