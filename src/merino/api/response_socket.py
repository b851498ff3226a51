"""The Responses API over a WebSocket: each `response.create` is a call like any other, and what
would be a stream's events are messages.

The last answer stays with the connection, so that one that is kept nowhere can be gone on from.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Coroutine
from time import perf_counter, time
from typing import Any, NamedTuple

import msgspec

from merino.api.errors import body_of, headers_of, status_of
from merino.domain.errors import InvalidCall, LimitExceeded, MerinoError
from merino.gateway.call import new_call_id
from merino.wire.errors import error_object
from merino.wire.exchange import Cancellable, Exchange, Headers, Socket, render_headers
from merino.wire.fields import Fields, encode_fields, parse_fields
from merino.wire.lenient import decode_lenient
from merino.wire.response_events import EMPTY_RESPONSE, ENDINGS, parts_of
from merino.wire.sealed import as_next_input
from merino.wire.splitting import EVENT_BYTES_MAX, Event, EventKind, EventSplitter

LIFE_S = 3600.0
WAITING_MAX = 8
"""Messages that may wait for their turn."""
_TARGET = b"/v1/responses"
_CREATE = b'"response.create"'
_OF_SOCKET = ("type", "generate", "stream_id", "stream")
_UNSEEN = ("previous_response_id", "conversation", "prompt")
"""Input that lies with the upstream."""
_NOT_FOR_SOCKETS = frozenset((b"idempotency-key", b"upgrade", b"connection"))
_RESTART = 1012
_NORMAL = 1000
_FAULT = 1011
_TRUE = msgspec.Raw(b"true")


class Handle(NamedTuple):
    """What a socket asks of its front."""

    call: Callable[[Exchange], Coroutine[Any, Any, None] | None]
    """Answers an exchange."""
    check: Callable[[Exchange], None]
    """Raises what a call would be refused with before anybody is asked."""
    failed: Callable[[Exchange, BaseException], None]
    bytes_max: Callable[[], int]


class SocketHead:
    """The head of the handshake, without what is of one request only."""

    def __init__(self, headers: Headers, address: str = "") -> None:
        self.address = address
        self.headers = [each for each in headers if each[0] not in _NOT_FOR_SOCKETS]
        self.header = dict(reversed(self.headers)).get
        self.notes: Any = None


class _Kept(NamedTuple):
    """The answer that the next message may go on from; `items` are the conversation so far."""

    id: str
    items: list[msgspec.Raw]


class _Ended(msgspec.Struct, gc=False):
    id: str | None = None
    store: bool | None = None
    output: list[msgspec.Raw] = []


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    response: msgspec.Raw = msgspec.Raw()


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_ended = msgspec.json.Decoder(_Ended).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_response = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


class _Splitter(EventSplitter):
    __slots__ = ()

    def feed_one(self, data: bytes) -> EventKind | None:
        return None

    def _read(self, raw: bytes) -> Event:
        return Event(raw, "other")


class ResponseSocket:
    """`wire.exchange.Session` of this API: one call at a time, the others wait."""

    def __init__(self, socket: Socket, head: SocketHead, handle: Handle) -> None:
        self._socket = socket
        self._head = head
        self._handle = handle
        self._waiting: deque[bytes] = deque()
        self._running: SocketExchange | None = None
        self._kept: _Kept | None = None
        self._is_over = self._is_stopping = False
        self._call_off = socket.later(LIFE_S, self._end_of_life)

    @property
    def message_bytes_max(self) -> int:
        return self._handle.bytes_max()

    # -- what the socket tells -------------------------------------------------------------------

    def received(self, text: bytes) -> None:
        if self._is_over:
            return
        if self._running is None:
            self._begin(text)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting.append(text)
        else:
            self._refuse(
                LimitExceeded(
                    f"{WAITING_MAX} messages wait for their turn: a connection makes one response "
                    "at a time. Wait for the last event, or open another connection.",
                    code="websocket_busy",
                    retry_after_s=1.0,
                )
            )

    def writable(self, is_writable: bool) -> None:
        running = self._running
        if running is not None and running.on_writable is not None:
            running.on_writable(is_writable)

    def lost(self) -> None:
        self._is_over = True
        self._call_off()
        self._waiting.clear()
        self._kept = None
        if self._running is not None:
            self._running.lost()

    def drain(self) -> None:
        self._is_stopping = True
        if self._running is None:
            self._close(_RESTART, "The relay restarts.")

    def _end_of_life(self) -> None:
        self._is_over = True
        self._waiting.clear()
        if self._running is None:
            self._say_over()

    def _say_over(self) -> None:
        self._refuse(
            InvalidCall(
                f"A connection lives for {LIFE_S / 60:.0f} minutes. Open a new one to go on.",
                code="websocket_connection_limit_reached",
            )
        )
        self._close(_NORMAL, "The connection has reached its age.")

    def _close(self, code: int, reason: str) -> None:
        self._is_over = True
        self._socket.close(code, reason)

    # -- one message -----------------------------------------------------------------------------

    def _begin(self, text: bytes) -> None:
        try:
            exchange = self._exchange_of(text)
        except MerinoError as error:
            self._refuse(error)
            return
        self._running = exchange
        try:
            if exchange.is_warm_up:
                self._handle.check(exchange)
                self._warm_up(exchange)
                return
            work = self._handle.call(exchange)
        except MerinoError as error:
            exchange.refuse(error)
            return
        if work is not None:

            def ended(error: BaseException | None) -> None:
                if error is not None:
                    self._handle.failed(exchange, error)

            self._socket.run(work, exchange, ended)

    def _exchange_of(self, text: bytes) -> SocketExchange:
        """What a message asks for. Raises `InvalidCall`."""
        fields = parse_fields(text)
        if bytes(fields.get("type", b"")) != _CREATE:
            raise InvalidCall(
                "A message must be an object of type 'response.create'.",
                param="type",
                code="invalid_value",
            )
        stream_id = fields.get("stream_id")
        is_warm_up = bytes(fields.get("generate", b"")) == b"false"
        for name in _OF_SOCKET:
            fields.pop(name, None)
        fields["stream"] = _TRUE
        if bytes(fields.get("background", b"")) == b"true":
            raise InvalidCall(
                "Over a WebSocket responses do not run in the background. POST them.",
                param="background",
                code="unsupported_parameter",
            )
        given = _items(fields.get("input"))
        before = self._before(fields, given)
        exchange = SocketExchange(self, self._head, encode_fields(fields))
        exchange.lane = b"" if stream_id is None else b'"stream_id":%b,' % bytes(stream_id)
        exchange.is_warm_up = is_warm_up
        exchange.before = before
        if not any(bytes(fields.get(name, b"null")) != b"null" for name in _UNSEEN):
            exchange.items = given
        exchange.is_stored = bytes(fields.get("store", b"")) != b"false"
        return exchange

    def _before(self, fields: Fields, given: list[msgspec.Raw]) -> str | None:
        """Put what the connection knows of an answer before the input that goes on from it, and
        return its id; `None` if the upstream has to know it."""
        named = fields.get("previous_response_id")
        kept = self._kept
        if named is None or kept is None or decode_lenient(bytes(named)) != kept.id:
            return None
        del fields["previous_response_id"]
        given[:0] = kept.items
        fields["input"] = msgspec.Raw(b"[%b]" % b",".join([bytes(each) for each in given]))
        if len(fields["input"]) > self.message_bytes_max:
            self._kept = None
            raise InvalidCall(
                "The conversation has become larger than a request may be. Begin a new one.",
                param="input",
                code="request_too_large",
            )
        return kept.id

    def _warm_up(self, exchange: SocketExchange) -> None:
        """Take what the next message goes on from, without asking anybody: nothing is billed."""
        response = {
            **EMPTY_RESPONSE,
            **_echoed(exchange.body),
            "id": f"resp_{new_call_id().removeprefix('req_')}",
            "created_at": int(time()),
            "usage": {
                "input_tokens": 0,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": 0,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 0,
            },
        }
        begun = {**response, "status": "in_progress", "usage": None}
        ended = {**response, "status": "completed", "completed_at": int(time())}
        events = (("response.created", begun), ("response.completed", ended))
        data = b"".join(
            [
                b"data: %b\n\n" % _encode({"type": name, "sequence_number": at, "response": each})
                for at, (name, each) in enumerate(events)
            ]
        )
        exchange.is_stored = False
        exchange.start(200, b"")
        exchange.finish(data)

    # -- what an exchange tells ------------------------------------------------------------------

    def send(self, text: bytes) -> None:
        self._socket.send(text)

    @property
    def is_writable(self) -> bool:
        return self._socket.is_writable

    def keep(self, kept: _Kept | None) -> None:
        """What the next message may go on from."""
        self._kept = kept

    def done(self) -> None:
        """The running exchange was answered."""
        self._running = None
        if self._is_stopping:
            self._close(_RESTART, "The relay restarts.")
        elif self._is_over:
            self._say_over()
        while self._waiting and self._running is None:
            self._begin(self._waiting.popleft())

    def abort(self) -> None:
        self._running = None
        self._close(_FAULT, "The answer broke off.")

    def _refuse(self, error: MerinoError) -> None:
        self.send(_envelope(status_of(error), render_headers(headers_of(error)), body_of(error)))


class SocketExchange:
    """`wire.exchange.Exchange` over one message."""

    method = b"POST"
    target = _TARGET
    has_started = False
    is_disconnected = False
    on_writable: Callable[[bool], None] | None = None
    on_disconnect: Callable[[], None] | None = None
    task: Cancellable | None = None

    items: list[msgspec.Raw] | None = None
    """The whole input, if it is known."""
    before: str | None = None
    """The answer that it goes on from, where the upstream is not to know."""
    is_stored = True
    """Unless the response says otherwise."""
    is_warm_up = False
    lane = b""

    def __init__(self, session: ResponseSocket, head: SocketHead, body: bytes) -> None:
        self._session = session
        self.head = head
        self.headers = head.headers
        self.header = head.header
        self.address = head.address
        self.body = body
        self.received_at = perf_counter()
        self._events = _Splitter(EVENT_BYTES_MAX)
        self._is_finished = False

    @property
    def is_writable(self) -> bool:
        return self._session.is_writable

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        """Only what went wrong is answered whole."""
        self._say(_envelope(status, head, body))
        if self.before is not None:
            self._session.keep(None)
        self._end()

    def refuse(self, error: MerinoError) -> None:
        self.respond(status_of(error), render_headers(headers_of(error)), body_of(error))

    def start(self, status: int, head: bytes, data: bytes = b"") -> None:
        self.has_started = True
        self.write(data)

    def write(self, data: bytes, /) -> None:
        if not self.is_disconnected and data:
            self._pass_on(self._events.feed(data))

    def finish(self, data: bytes = b"") -> None:
        self._pass_on([*self._events.feed(data), *self._events.finish()])
        self._end()

    def abort(self) -> None:
        self._is_finished = True
        self._session.abort()

    def lost(self) -> None:
        self.is_disconnected = True
        if not self._is_finished and self.on_disconnect is not None:
            self.on_disconnect()

    def _end(self) -> None:
        if self._is_finished:
            return
        self._is_finished = True
        self.on_disconnect = self.on_writable = None
        self._session.done()

    # -- events ----------------------------------------------------------------------------------

    def _pass_on(self, events: list[Event]) -> None:
        said = [payload for each in events if (payload := parts_of(each.raw)[1].strip())]
        for number, payload in enumerate(said):
            if not payload.startswith(b"{"):
                continue  # the end mark
            if b'"response"' not in payload and b'"error"' not in payload:
                self._say(payload)
            elif told := self._about_response(payload, said[number + 1 :]):
                self._say(told)

    def _about_response(self, payload: bytes, behind: list[bytes]) -> bytes:
        """Of an event that tells of the response itself: what it means for the next message.
        Nothing if the event behind it says the same."""
        try:
            event = _decode_event(payload)
        except (msgspec.DecodeError, ValueError):
            return payload
        if event.type == "error":
            is_told = any(b'"response.failed"' in each for each in behind)
            if self.before is not None:
                self._session.keep(None)
            return b"" if is_told else payload
        if bytes(event.response)[:1] != b"{":
            return payload
        if event.type in ENDINGS:
            self._keep(event)
        return payload if self.before is None else self._with_before(payload)

    def _keep(self, event: _Event) -> None:
        if event.type in ("response.failed", "response.cancelled"):
            if self.before is not None:
                self._session.keep(None)
            return
        try:
            ended = _decode_ended(event.response)
        except (msgspec.DecodeError, ValueError):
            return
        is_stored = self.is_stored if ended.store is None else ended.store
        if ended.id is None or is_stored or self.items is None:
            self._session.keep(None)  # if at all, it lies with the upstream
        else:
            output = as_next_input(ended.output)
            self._session.keep(_Kept(ended.id, [*self.items, *output]))

    def _with_before(self, payload: bytes) -> bytes:
        """An event whose response names the one that it goes on from: the upstream does not."""
        try:
            members = _decode_response(payload)
            response = _decode_response(members["response"])
        except (msgspec.DecodeError, ValueError):
            return payload
        response["previous_response_id"] = msgspec.Raw(_encode(self.before))
        members["response"] = msgspec.Raw(encode_fields(response))
        return encode_fields(members)

    def _say(self, payload: bytes) -> None:
        self._session.send(b"{%b%b" % (self.lane, payload[1:]) if self.lane else payload)


def _items(raw: msgspec.Raw | None) -> list[msgspec.Raw]:
    """An input as items. Raises `InvalidCall`."""
    given = b"" if raw is None else bytes(raw)
    if given in (b"", b"null"):
        return []
    if given.startswith(b'"'):
        item = b'{"type":"message","role":"user","content":%b}' % given
        return [msgspec.Raw(item)]
    try:
        return _decode_items(given)
    except msgspec.DecodeError:
        raise InvalidCall(
            "Invalid type for 'input': expected a string or an array.",
            param="input",
            code="invalid_type",
        ) from None


def _echoed(body: bytes) -> dict[str, Any]:
    """What a response repeats of its request."""
    fields = parse_fields(body)
    return {name: raw for name, raw in fields.items() if name in EMPTY_RESPONSE and raw}


def _envelope(status: int, head: bytes, body: bytes) -> bytes:
    """An error as a message, with what an HTTP answer would have had for headers."""
    told: dict[str, Any] = error_object(body).get("error") or {"message": "The call failed."}
    lines = [line.split(": ", 1) for line in head.decode("latin-1").splitlines()]
    headers = {line[0]: line[1] for line in lines if len(line) == 2 and line[0] != "content-type"}
    error = {"type": "invalid_request_error", "code": None, "param": None, **told}
    said = {"type": "error", "status": status, "error": {**error, "headers": headers}}
    return json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass")
