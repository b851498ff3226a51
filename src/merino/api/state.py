"""`/v1/responses/{id}`, `/v1/conversations` and what is below them, for who may see it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence

from merino.api.background_calls import BackgroundCalls, Job
from merino.api.event_log import last_number, later_than
from merino.api.reply import JSON, HttpReply
from merino.domain.deployment import Alias, Deployment
from merino.domain.errors import (
    InvalidCall,
    MerinoError,
    StreamBroken,
    UpstreamFailed,
    UpstreamTimedOut,
)
from merino.domain.kept import KeptConversation
from merino.domain.key import VirtualKey
from merino.gateway.call import Call, new_call_id
from merino.gateway.conversations import Conversations
from merino.gateway.kept import UpstreamsKept, not_found
from merino.gateway.keys import alias_for
from merino.gateway.metering import KEEP_ALIVE
from merino.gateway.ports import Limiter, UpstreamResponse
from merino.gateway.state import RelayState
from merino.running.runner import apart
from merino.wire.exchange import Exchange, Headers, render_headers
from merino.wire.kept_items import list_object, listed, page_of
from merino.wire.response_events import ENDINGS
from merino.wire.response_replay import ending_event, replayed
from merino.wire.sse import DONE
from merino.wire.state_paths import StatePath, query_of, query_passed_on

ANSWER_BYTES_MAX = 64 * 1024 * 1024
_EVENTS = b"text/event-stream"
_SSE = b"text/event-stream; charset=utf-8"
_IDLE_S = 60.0
_END_S = 10.0
_KEEP_ALIVE_S = 15.0
_DIGITS_MAX = 12


class StateFront:
    """All of it is free, but a request like any other to the limits of requests."""

    def __init__(
        self,
        upstreams: UpstreamsKept,
        relay: RelayState,
        conversations: Conversations,
        background: BackgroundCalls,
        limits: Limiter,
    ) -> None:
        self._background = background
        self._upstreams = upstreams
        self._relay = relay
        self._conversations = conversations
        self._limits = limits
        self._aliases: Mapping[str, Alias] = {}

    def configure(self, aliases: Mapping[str, Alias]) -> None:
        """What is offered from now on."""
        self._aliases = aliases

    async def answer(self, exchange: Exchange, path: StatePath, key: VirtualKey) -> None:
        """Answer what is asked of one response or conversation."""
        self._limits.take_request(key)
        if path.kind == "responses":
            job = await self._background.find(path.id, key.account_id)
            if job is not None and not key.may_call(job.call.alias.name):
                raise not_found(path)
            if job is not None and await self._of_job(exchange, path, key, job):
                return
            if not await self._of_response(exchange, path, key):
                await apart(self._pass_on(exchange, path, key, None))
                if job is not None:
                    job.poke()
            return
        kept = await self._conversations.find(path, key)
        if kept.deployment is None:
            self._respond(exchange, key, await self._of_conversation(exchange, path, kept))
            return
        await apart(self._pass_on(exchange, path, key, kept.deployment))
        if exchange.method == b"DELETE" and not path.part:
            await self._conversations.forget(kept)

    # -- what is made in the background ----------------------------------------------------------

    async def start(self, exchange: Exchange, call: Call) -> None:
        """Answer a call that asks for a response in the background: with the response as it is, or
        with its events as they come."""
        wants_events = call.request.stream
        try:
            job = await self._background.start(call)
        except MerinoError as error:
            if call.record is None:
                raise
            HttpReply(exchange, self._limits).fail(call, error)
            return
        if job.first is not None and not wants_events:
            HttpReply(exchange, self._limits).repeat(call, job.first)
        elif job.first is not None:
            head = render_headers(self._headers(call.key, _SSE, job.first.call_id))
            exchange.start(200, head, replayed(job.response))
            exchange.finish()
        elif wants_events:
            await apart(self._follow(exchange, call.key, job, -1, call.id))
        else:
            self._respond(exchange, call.key, job.response, call.id)

    async def _of_job(self, exchange: Exchange, path: StatePath, key: VirtualKey, job: Job) -> bool:
        """Answer what is asked of a response that is being made, or was until just now; false if
        whoever keeps it is to answer."""
        query = query_of(exchange.target)
        is_over = job.ended_at.is_set()
        if job.is_native:
            if exchange.method == b"DELETE" and not is_over:
                await self._end_native(path, job)
            return False
        if path.part == "cancel":
            await self._background.cancel(job)
            self._respond(exchange, key, job.response)
        elif path.part == "input_items" and not is_over:
            items = listed(job.call.keeping.items, path.id)
            self._respond(exchange, key, list_object(items, page_of(query)))
        elif exchange.method == b"DELETE":
            await self._background.cancel(job)
            self._background.forget(path.id, key.account_id)
            return False
        elif path.part:
            return False
        elif wants_stream(query):
            await apart(self._follow(exchange, key, job, starting_after(query)))
        elif is_over:
            return False
        else:
            self._respond(exchange, key, job.now())
        return True

    async def _end_native(self, path: StatePath, job: Job) -> None:
        """Have an upstream end it before it is deleted there, so that it says what it used."""
        name = "" if job.call.deployment is None else job.call.deployment.name
        _, response = await self._upstreams.ask_at(name, path._replace(part="cancel"), "POST")
        response.close()
        job.poke()
        with contextlib.suppress(TimeoutError):
            await apart(asyncio.wait_for(job.ended_at.wait(), _END_S))

    async def _follow(
        self, exchange: Exchange, key: VirtualKey, job: Job, after: int, request_id: str = ""
    ) -> None:
        exchange.start(200, render_headers(self._headers(key, _SSE, request_id)))
        changed = asyncio.Event()
        exchange.on_writable = lambda _: changed.set()
        exchange.on_disconnect = changed.set
        async for data in job.log.follow(after, _KEEP_ALIVE_S):
            while not exchange.is_writable and not exchange.is_disconnected:
                changed.clear()
                await changed.wait()
            if exchange.is_disconnected:
                return
            exchange.write(data or KEEP_ALIVE)
        exchange.on_writable = None
        if exchange.is_disconnected:
            return
        if job.log.is_overfull:
            exchange.abort()
        else:
            exchange.finish()

    # -- what the relay keeps --------------------------------------------------------------------

    async def _of_response(self, exchange: Exchange, path: StatePath, key: VirtualKey) -> bool:
        """Answer what is asked of a response that the relay keeps; false if it does not."""
        kept = await self._relay.find(path.id, key)
        if kept is None:
            return False
        query = query_of(exchange.target)
        if path.part == "input_items":
            items = listed(kept.items, path.id)
            self._respond(exchange, key, list_object(items, page_of(query)))
        elif path.part == "cancel":
            raise InvalidCall(
                "Cannot cancel a synchronous response.", param="response_id", code="not_cancellable"
            )
        elif exchange.method == b"DELETE":
            if not await self._relay.delete(path.id, key):
                raise not_found(path)
            gone = {"id": path.id, "object": "response", "deleted": True}
            self._respond(exchange, key, json.dumps(gone).encode())
        elif wants_stream(query):
            after = starting_after(query)
            said = await self._background.said(path.id, key.account_id)
            events = said_again(said, bytes(kept.response), after)
            exchange.start(200, render_headers(self._headers(key, _SSE)), events)
            exchange.finish()
        else:
            self._respond(exchange, key, bytes(kept.response))
        return True

    async def _of_conversation(
        self, exchange: Exchange, path: StatePath, kept: KeptConversation
    ) -> bytes:
        desk, method = self._conversations, exchange.method
        if path.item:
            if method == b"DELETE":
                return await desk.delete_item(kept, path)
            return await desk.item(kept, path)
        if path.part:
            if method == b"POST":
                return await desk.add_items(kept, exchange.body)
            return await desk.list_items(kept, query_of(exchange.target))
        if method == b"DELETE":
            return await desk.delete(kept)
        if method == b"POST":
            return await desk.update(kept, exchange.body)
        return desk.object(kept)

    async def make_conversation(self, exchange: Exchange, key: VirtualKey) -> None:
        """Answer `POST /v1/conversations`."""
        self._limits.take_request(key)
        if self._conversations.are_ours:
            self._respond(exchange, key, await self._conversations.create(key, exchange.body))
            return
        name = exchange.header(b"x-merino-model")
        aliases = [each for each in self._aliases.values() if key.may_call(each.name)]
        if name is not None:
            aliases = [alias_for(key, name.decode("latin-1"), self._aliases)]
        made_at, body = await apart(self._made(exchange.body, _deployments(aliases)))
        await self._conversations.note_upstreams(key, body, made_at.name)
        self._respond(exchange, key, body)

    async def _made(self, body: bytes, places: Iterator[Deployment]) -> tuple[Deployment, bytes]:
        response: UpstreamResponse | None = None
        try:
            async with asyncio.timeout(_IDLE_S):
                deployment, response = await self._upstreams.make_conversation(
                    body or b"{}", places
                )
                return deployment, await response.read(ANSWER_BYTES_MAX)
        except TimeoutError as error:
            raise _silent(_IDLE_S) from error
        finally:
            if response is not None:
                response.close()

    # -- what upstreams keep ---------------------------------------------------------------------

    async def _pass_on(
        self, exchange: Exchange, path: StatePath, key: VirtualKey, name: str | None
    ) -> None:
        """An upstream's answer, as it comes: of the deployment of that name, or of who made the
        response."""
        idle_s = _IDLE_S
        response: UpstreamResponse | None = None
        query = query_passed_on(exchange.target)
        body = exchange.body if exchange.method == b"POST" else b""
        method = exchange.method.decode()
        try:
            async with asyncio.timeout(idle_s) as timer:
                deployment, response = (
                    await self._upstreams.ask(path, key, method, query, body)
                    if name is None
                    else await self._upstreams.ask_at(name, path, method, query, body)
                )
                idle_s = deployment.idle_timeout_s
                kind = response.header(b"content-type") or JSON[1]
                head = render_headers(self._headers(key, kind))
                if kind.startswith(_EVENTS):
                    exchange.start(response.status, head)
                    await _stream(exchange, response, timer, idle_s)
                else:
                    exchange.respond(response.status, head, await response.read(ANSWER_BYTES_MAX))
        except TimeoutError as error:
            raise _silent(idle_s) from error
        finally:
            if response is not None:
                response.close()

    def _respond(
        self, exchange: Exchange, key: VirtualKey, body: bytes, request_id: str = ""
    ) -> None:
        exchange.respond(200, render_headers(self._headers(key, JSON[1], request_id)), body)

    def _headers(self, key: VirtualKey, kind: bytes, request_id: str = "") -> Headers:
        request_id = request_id or new_call_id()
        headers: Headers = [(b"content-type", kind), (b"x-request-id", request_id.encode())]
        return headers + self._limits.headers(key, None)


def _deployments(aliases: Sequence[Alias]) -> Iterator[Deployment]:
    """Of these aliases, those first that are known to have the API."""
    found = [each for alias in aliases for each in alias.deployments]
    yield from (each for each in found if "responses" in each.endpoints)
    yield from (each for each in found if not each.endpoints)


def _silent(seconds: float) -> UpstreamTimedOut:
    return UpstreamTimedOut(f"The upstream went silent for {seconds:g} s.", code="upstream_timeout")


def said_again(said: Sequence[bytes], response: bytes, after: int) -> bytes:
    """The stream of a response that has ended: as it was, or, if nobody kept that, made of what
    came of it."""
    if not said:
        return replayed(response, after)
    data = b"".join(said)
    events = later_than(data, after)
    if not any(b"event: %b\n" % each.encode() in data for each in ENDINGS):
        events += ending_event(response, last_number(said) + 1)
    return events if events.endswith(DONE) else events + DONE


def wants_stream(query: Mapping[str, Sequence[str]]) -> bool:
    return query.get("stream", [""])[-1].lower() in ("true", "1")


def starting_after(query: Mapping[str, Sequence[str]]) -> int:
    """The number of the last event that the caller has; -1 if they have none. Raises
    `InvalidCall`."""
    given = query.get("starting_after", [""])[-1]
    if not given:
        return -1
    if not given.isascii() or not given.isdigit() or len(given) > _DIGITS_MAX:
        raise InvalidCall(
            "Invalid 'starting_after': expected the sequence_number of an event.",
            param="starting_after",
            code="invalid_value",
        )
    return int(given)


async def _stream(
    exchange: Exchange, response: UpstreamResponse, timer: asyncio.Timeout, idle_s: float
) -> None:
    """Pass the events on as they come. A stream that breaks is cut, so that nobody takes what they
    have for complete."""
    now = asyncio.get_running_loop().time

    def sink(data: bytes) -> None:
        timer.reschedule(now() + idle_s)
        exchange.write(data)

    def on_writable(is_writable: bool) -> None:
        # While the reader does not keep up, the silence is not the upstream's.
        if is_writable:
            timer.reschedule(now() + idle_s)
            response.resume()
        else:
            timer.reschedule(None)
            response.pause()

    exchange.on_disconnect = response.end
    exchange.on_writable = on_writable
    timer.reschedule(now() + idle_s)
    if exchange.is_disconnected:
        return
    if not exchange.is_writable:
        on_writable(False)
    try:
        await response.pipe(sink)
    except UpstreamFailed as error:
        raise StreamBroken("The upstream's stream broke.", code="upstream_stream_broken") from error
    finally:
        exchange.on_writable = None
    if not exchange.is_disconnected:
        exchange.finish()
