"""The `/v1` endpoints: from an HTTP exchange to a call, and everything that is not one.

Nothing under `/v1` is passed on unmetered: a path that is not here is answered with 404.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import structlog

from merino.api.anthropic import (
    COUNT_PATH,
    HELLO_PATH,
    counted,
    is_anthropics,
    model_page,
    model_told,
    say_hello,
)
from merino.api.batches import PREFIXES
from merino.api.call_object import call_object
from merino.api.elsewhere import foreign_answer, is_foreign, not_served
from merino.api.errors import body_of, headers_of, status_of
from merino.api.head_says import HeadSays, address_of, authorization_of, passed_along
from merino.api.refused import refused_record
from merino.api.reply import JSON, HttpReply
from merino.api.response_socket import Handle as SocketHandle
from merino.api.response_socket import ResponseSocket, SocketHead
from merino.api.state import StateFront
from merino.domain.call import CallRecord
from merino.domain.clock import epoch_ms
from merino.domain.deployment import Alias
from merino.domain.errors import (
    CallRefused,
    InvalidCall,
    KeyRejected,
    MerinoError,
    NotFound,
    ShuttingDown,
)
from merino.domain.key import VirtualKey
from merino.domain.money import format_nanos
from merino.gateway.call import Call, new_call_id
from merino.gateway.kept import Counting
from merino.gateway.keys import Gatekeeper, alias_for, bearer_secret
from merino.gateway.pipeline import Pipeline
from merino.gateway.ports import Limiter
from merino.pricing.price import Price
from merino.settings import ServerSettings
from merino.wire.catalogue import model_body, model_list, model_object
from merino.wire.compaction import COUNTED
from merino.wire.endpoints import Endpoint
from merino.wire.errors import error_body
from merino.wire.exchange import Exchange, Headers, OpenSession, render_headers
from merino.wire.fields import parse_fields
from merino.wire.message_errors import error_answer
from merino.wire.messages import COUNT_TOKENS
from merino.wire.request import ModelRequest
from merino.wire.response_state import NO_STATE
from merino.wire.responses import RESPONSES
from merino.wire.served import PATHS, endpoint_meant
from merino.wire.state_paths import PREFIXES as STATE_PREFIXES
from merino.wire.state_paths import state_path

log = structlog.get_logger("merino.api")

_CODES_OF_NO_REQUEST = {
    408: "request_timeout",
    413: "request_too_large",
    426: "upgrade_required",
}
_NO_SOCKET = "There are no WebSockets here. Send POST requests; with stream = true answers stream."
STATE_PATHS = (b"/v1/responses", b"/v1/conversations")
_NO_SUCH_SOCKET = (
    "WebSockets are served at /v1/responses only. Send the request there, or as a POST."
)
Answer = Callable[[Exchange], "Coroutine[Any, Any, None] | None"]


class CallFinder(Protocol):
    """Looks up the record of a call."""

    async def find(self, call_id: str, account_id: str) -> CallRecord | None: ...


class OpenAIFront:
    """`wire.exchange.Front` for the OpenAI-compatible API."""

    def __init__(
        self,
        *,
        gatekeeper: Gatekeeper,
        pipeline: Pipeline,
        limits: Limiter,
        calls: CallFinder,
        started_at_s: int,
        state: StateFront,
        counting: Counting,
        endpoints: Mapping[str, Endpoint] = PATHS,
    ) -> None:
        self._state = state
        self._counting = counting
        self._gatekeeper = gatekeeper
        self.pipeline = pipeline
        self._limits = limits
        self._calls = calls
        self.configure({}, ServerSettings())
        self._started_at_s = started_at_s
        self.is_draining = False
        self._endpoints: dict[bytes, tuple[bytes, Answer]] = {
            **{
                path.encode(): (b"POST", partial(self._relay, endpoint))
                for path, endpoint in endpoints.items()
            },
            b"/v1/models": (b"GET", self._models),
            b"/v1/estimate": (b"POST", self._estimate),
            b"/v1/responses/input_tokens": (b"POST", self._count),
            b"/v1/conversations": (b"POST", self._conversation),
            COUNT_PATH: (b"POST", self._count_tokens),
            HELLO_PATH: (b"", say_hello),
        }

    def configure(self, aliases: Mapping[str, Alias], server: ServerSettings) -> None:
        """What is offered from now on, and how large bodies may be; a running call keeps what it
        began with."""
        self.aliases = aliases
        self._state.configure(aliases)
        self.body_bytes_max_of_key = server.body_bytes_max
        self.body_bytes_max_of_stranger = server.unauthenticated_body_bytes_max

    def drain(self) -> None:
        """Take no new calls; those that run go on."""
        self.is_draining = True

    # -- what the fast lane asks -----------------------------------------------------------------

    def takes(self, target: bytes) -> bool:
        if target.startswith(PREFIXES):
            return False  # uploads and orders go the ASGI way
        if target.startswith((b"/v1/", b"/v1?")) or target == b"/v1":
            return True
        if target == HELLO_PATH:
            return True
        return target.startswith(b"/v1") and is_foreign(target)

    def body_bytes_max(self, exchange: Exchange) -> int:
        """Large bodies only for those who have a key: strangers could fill the memory."""
        length = exchange.header(b"content-length")
        if length is not None and int(length) <= self.body_bytes_max_of_stranger:
            return self.body_bytes_max_of_stranger  # nobody needs to be asked for these
        try:
            if is_foreign(exchange.target):
                self._gatekeeper.admit(_foreign_secret(exchange))
            else:
                self._gatekeeper.authenticate(authorization_of(exchange))
        except KeyRejected:
            return self.body_bytes_max_of_stranger
        return self.body_bytes_max_of_key

    def owner(self, exchange: Exchange) -> str | None:
        try:
            return self._gatekeeper.authenticate(authorization_of(exchange)).account_id
        except KeyRejected:
            return None

    def malformed(self, status: int, message: str) -> tuple[bytes, bytes]:
        code = _CODES_OF_NO_REQUEST.get(status, "malformed_http")
        self.pipeline.refused.count(status, code)
        body = error_body(message, "invalid_request_error", None, code)
        headers: Headers = [JSON, (b"x-request-id", new_call_id().encode())]
        if status == 426:
            headers.append((b"upgrade", b"HTTP/1.1"))  # HTTP wants the protocol to use named
        return render_headers(headers), body

    def handle(self, exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        try:
            method, endpoint = self._endpoints.get(exchange.target) or self._route(exchange.target)
            if method and exchange.method != method:
                if b"websocket" in (exchange.header(b"upgrade") or b"").lower():
                    head, body = self.malformed(426, _NO_SOCKET)
                    exchange.respond(426, head, body)
                    return None
                error = _method_not_allowed(exchange, method)
                self._respond_error(exchange, error, status=405, more=[(b"allow", method)])
                return None
            self._check_draining()
            return endpoint(exchange)
        except Exception as error:  # noqa: BLE001 - the rim
            self.failed(exchange, error)
            return None

    def connect(self, exchange: Exchange) -> OpenSession | None:
        try:
            if exchange.target.partition(b"?")[0].rstrip(b"/") != b"/v1/responses":
                raise InvalidCall(_NO_SUCH_SOCKET, code="malformed_http")
            self._check_draining()
            self._gatekeeper.admit(bearer_secret(authorization_of(exchange)))
        except MerinoError as error:
            self._respond_error(exchange, error)
            return None
        head = SocketHead(exchange.headers, exchange.address)
        handle = SocketHandle(
            self.handle, self._check, self.failed, lambda: self.body_bytes_max_of_key
        )
        return lambda socket: ResponseSocket(socket, head, handle)

    def _check(self, exchange: Exchange) -> None:
        """Raises what a response would be refused with before anybody is asked."""
        self._check_draining()
        self._call(exchange, RESPONSES)

    def _check_draining(self) -> None:
        if self.is_draining:
            raise ShuttingDown(
                "The relay is restarting. Try again.", code="shutting_down", retry_after_s=1.0
            )

    def failed(self, exchange: Exchange, error: BaseException) -> None:
        """The rim: a fault of ours must end this exchange, not the connection's other ones."""
        if not isinstance(error, MerinoError):
            log.error(
                "call failed unexpectedly",
                target=exchange.target[:200].decode("latin-1"),
                exc_info=error,
            )
            error = MerinoError("The relay failed; its log says why.")
        if exchange.has_started:
            exchange.abort()
        elif not exchange.is_disconnected:
            self._respond_error(exchange, error)

    # -- endpoints -------------------------------------------------------------------------------

    def _relay(self, endpoint: Endpoint, exchange: Exchange) -> Coroutine[Any, Any, None]:
        call = self._call(exchange, endpoint)
        state = call.request.state
        if state is not None and state.background:
            return self._state.start(exchange, call)
        return self.pipeline.run(call, HttpReply(exchange, self._limits))

    def _call(self, exchange: Exchange, endpoint: Endpoint) -> Call:
        said = exchange.head.notes
        if said is None:
            said = exchange.head.notes = HeadSays(exchange.head)
        key = self._gatekeeper.admit(said.secret)
        body = exchange.body
        request: ModelRequest = endpoint.parse(body)
        alias = self.aliases.get(request.model)
        if alias is None or key.aliases:
            alias = alias_for(key, request.model, self.aliases)
        call = Call(
            new_call_id(),
            key,
            request,
            alias,
            exchange.received_at,
            body,
            said.secret,
            said.idempotency_key,
            said.max_cost_nanos,
            said.timeout_s(alias, request),
        )
        if request.stream and said.reads_s:
            call.reads_s = said.reads_s
        if endpoint.passes:
            request.passed = passed_along(exchange.headers, endpoint.passes)
            request.query = exchange.target.partition(b"?")[2]
        if said.traceparent is not None:
            call.traceparent, call.tracestate = said.traceparent, said.tracestate
        if said.tags:
            call.tags = said.tags
        call.address = said.address(exchange.address)
        return call

    def _models(self, exchange: Exchange) -> None:
        key = self._gatekeeper.authenticate(authorization_of(exchange))
        objects = [
            self._model_object(alias, key)
            for alias in self.aliases.values()
            if key.may_call(alias.name)
        ]
        if is_anthropics(exchange):
            self._respond_json(exchange, model_page(objects, exchange.target))
        else:
            self._respond(exchange, model_list(objects))

    def _model(self, exchange: Exchange) -> None:
        key = self._gatekeeper.authenticate(authorization_of(exchange))
        name = _last_part(exchange, b"/v1/models/")
        alias = alias_for(key, name, self.aliases)
        found = self._model_object(alias, key)
        self._respond(exchange, model_body(model_told(found) if is_anthropics(exchange) else found))

    def _model_object(self, alias: Alias, key: VirtualKey) -> dict[str, Any]:
        """With what the account of this key would be billed now."""
        return model_object(
            alias.name,
            self._started_at_s,
            _owner(alias),
            context_tokens_max=alias.context_tokens_max,
            output_tokens_max=alias.output_tokens_max,
            price=self._price_object(alias, key.account_id),
        )

    def _price_object(self, alias: Alias, account_id: str) -> dict[str, Any] | None:
        price: Price | None = None
        if alias.deployments:
            with contextlib.suppress(InvalidCall):  # there is no rate for the account's currency
                price = self.pipeline.tariff(alias.deployments[0], epoch_ms(), None, account_id)
        if price is None:
            return None
        rates = price.account
        return {
            "per_million_input_tokens": format_nanos(price.account_rate(rates.input)),
            "per_million_cached_tokens": format_nanos(price.account_rate(rates.cached)),
            "per_million_output_tokens": format_nanos(price.account_rate(rates.output)),
            "per_call": format_nanos(price.account_rate(rates.per_call_nanos) + price.fixed_nanos),
            "price_id": price.id,
        }

    async def _call_record(self, exchange: Exchange) -> None:
        key = self._gatekeeper.authenticate(authorization_of(exchange))
        call_id = _last_part(exchange, b"/v1/calls/")
        record = await self._calls.find(call_id, key.account_id)
        if record is None:
            raise NotFound(
                f"No call '{call_id[:100]}' of this account. Its id is the x-request-id header of "
                "the answer."
            )
        self._respond_json(exchange, call_object(record))

    async def _estimate(self, exchange: Exchange) -> None:
        query = exchange.target.partition(b"?")[2].decode("latin-1")
        self._gatekeeper.authenticate(authorization_of(exchange))
        call = self._call(exchange, endpoint_meant(query, parse_fields(exchange.body)))
        call.started_at = perf_counter()
        asked = call.request.state
        if asked is not None and asked is not NO_STATE:
            self._limits.take_request(call.key)  # what it goes on from is looked up
            await self.pipeline.go_on(call, asked)
        plan = self.pipeline.planner.plan(call)
        worst = plan.quote.worst_nanos(plan.quote.output_tokens)
        expected = self.pipeline.planner.expected_nanos(call, plan)
        self._respond_json(
            exchange,
            {
                "object": "estimate",
                "model": call.alias.name,
                "endpoint": f"/v1/{call.request.endpoint.name}",
                "input_tokens": call.input_tokens,
                "output_tokens_max": plan.quote.output_tokens,
                "worst_case": format_nanos(worst),
                "worst_case_nanos": worst,
                "expected": None if expected is None else format_nanos(expected),
                "expected_nanos": expected,
                "price_id": plan.price.id,
            },
        )

    async def _count(self, exchange: Exchange) -> None:
        call = self._call(exchange, COUNTED)
        self._limits.take_request(call.key)
        self._respond(exchange, await self._counting.count(call))

    async def _count_tokens(self, exchange: Exchange) -> None:
        call = self._call(exchange, COUNT_TOKENS)
        self._limits.take_request(call.key)
        body, told = await counted(self._counting, call)
        headers = [*self._headers(exchange), *told]
        exchange.respond(200, render_headers(headers), body)

    def _conversation(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        key = self._gatekeeper.authenticate(authorization_of(exchange))
        return self._state.make_conversation(exchange, key)

    def _kept(self, exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        found = state_path(exchange.target)
        if found is None:
            raise NotFound(not_served(_path_of(exchange)), code="unknown_path")
        key = self._gatekeeper.authenticate(authorization_of(exchange))
        path, methods = found
        if exchange.method not in methods:
            allowed = b", ".join(methods)
            error = _method_not_allowed(exchange, allowed)
            self._respond_error(exchange, error, status=405, more=[(b"allow", allowed)])
            return None
        return self._state.answer(exchange, path, key)

    def _foreign(self, exchange: Exchange) -> None:
        """Another vendor's dialect: refused in its own shape, so that its clients show why."""
        message, body = foreign_answer(exchange.target)
        request_id = new_call_id()
        key: VirtualKey | None = None
        with contextlib.suppress(KeyRejected):
            key = self._gatekeeper.admit(_foreign_secret(exchange))
        error = InvalidCall(message, code="other_dialect")
        self._remember_refused(exchange, request_id, key, error, 400)
        headers: Headers = [JSON, (b"x-request-id", request_id.encode())]
        exchange.respond(400, render_headers([*headers, *headers_of(error)]), body)

    # -- answers that are no call's --------------------------------------------------------------

    def _respond_json(self, exchange: Exchange, body: object) -> None:
        self._respond(exchange, json.dumps(body, ensure_ascii=False).encode())

    def _respond(self, exchange: Exchange, body: bytes) -> None:
        exchange.respond(200, render_headers(self._headers(exchange)), body)

    def _respond_error(
        self,
        exchange: Exchange,
        error: MerinoError,
        status: int | None = None,
        more: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        status = status or status_of(error)
        request_id = new_call_id()
        key = self._key_of(exchange)
        self._remember_refused(exchange, request_id, key, error, status)
        headers: Headers = [JSON, (b"x-request-id", request_id.encode())]
        if key is not None:
            headers += self._limits.headers(key, None)
        headers += [*more, *headers_of(error)]
        body = body_of(error)
        if is_anthropics(exchange):
            status, body = error_answer(status, body, request_id)
            headers.append((b"request-id", request_id.encode()))
        exchange.respond(status, render_headers(headers), body)

    def _remember_refused(
        self,
        exchange: Exchange,
        request_id: str,
        key: VirtualKey | None,
        error: MerinoError,
        status: int,
    ) -> None:
        """A record of a request that never became a call: the caller's own mistakes."""
        endpoint = self._endpoint_name(exchange.target)
        if not isinstance(error, CallRefused) or not 400 <= status < 500:
            return
        if status == 404 and endpoint == "calls":
            return  # whoever asks for the record of a call that still runs asks again
        if exchange.method == b"GET" and error.code == "missing_api_key":
            # A look whether an API is there, as `merino doctor` and probes take: nothing was tried.
            self.pipeline.refused.count(status, error.code)
            return
        if isinstance(error, KeyRejected):
            key = error.key
        took_ms = (perf_counter() - exchange.received_at) * 1000
        record = refused_record(
            request_id, key, endpoint, error, status, self.pipeline.refused.told(error), took_ms
        )
        if self.pipeline.keeps_addresses:
            record.address = address_of(exchange.head, exchange.address) or None
        self.pipeline.refused.keep(record)

    def _endpoint_name(self, target: bytes) -> str:
        """Of the paths that there are; what callers make up is in the message only."""
        path = target.partition(b"?")[0]
        for known in (b"/v1/models", b"/v1/calls", *STATE_PATHS):
            if path.startswith(known + b"/") and path not in self._endpoints:
                path = known
        known = path in self._endpoints or path in (b"/v1/calls", *STATE_PATHS)
        return path.removeprefix(b"/v1/").decode() if known else ""

    def _headers(self, exchange: Exchange) -> Headers:
        headers: Headers = [JSON, (b"x-request-id", new_call_id().encode())]
        key = self._key_of(exchange)
        return headers if key is None else headers + self._limits.headers(key, None)

    def _key_of(self, exchange: Exchange) -> VirtualKey | None:
        try:
            return self._gatekeeper.authenticate(authorization_of(exchange))
        except KeyRejected:
            return None

    def _route(self, target: bytes) -> tuple[bytes, Answer]:
        path = target.partition(b"?")[0]
        if path in self._endpoints:
            return self._endpoints[path]
        if is_foreign(target):
            return b"", self._foreign
        if path.startswith(b"/v1/models/") and len(path) > len(b"/v1/models/"):
            return b"GET", self._model
        if path.startswith(b"/v1/calls/") and len(path) > len(b"/v1/calls/"):
            return b"GET", self._call_record
        if path.startswith(STATE_PREFIXES):
            return b"", self._kept
        raise NotFound(not_served(path), code="unknown_path")


def _foreign_secret(exchange: Exchange) -> bytes:
    """The key where other vendors' clients put it. Raises `KeyRejected`."""
    return exchange.header(b"x-goog-api-key") or bearer_secret(authorization_of(exchange))


def _path_of(exchange: Exchange) -> bytes:
    return exchange.target.partition(b"?")[0]


def _last_part(exchange: Exchange, prefix: bytes) -> str:
    """What follows `prefix` in the path, percent-decoded; it may contain slashes."""
    raw = exchange.target.partition(b"?")[0][len(prefix) :]
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise InvalidCall("The path is not valid percent-encoded UTF-8.") from None


def _owner(alias: Alias) -> str:
    return alias.deployments[0].provider if alias.deployments else "merino"


def _method_not_allowed(exchange: Exchange, allowed: bytes) -> MerinoError:
    return InvalidCall(
        f"{exchange.method.decode('latin-1')} is not allowed here; use {allowed.decode()}.",
        code="method_not_allowed",
    )
