"""Calls that pages make for who is signed in: the same pipeline, on no connection of the lane."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

from merino.api.errors import body_of, headers_of, status_of
from merino.domain.deployment import Alias, Deployment
from merino.domain.errors import InvalidCall, MerinoError
from merino.domain.key import VirtualKey
from merino.domain.money import format_nanos
from merino.gateway.call import Call, FirstAnswer, new_call_id
from merino.gateway.keys import Gatekeeper, alias_for
from merino.gateway.pipeline import Pipeline
from merino.wire.chat import CHAT
from merino.wire.errors import parse_error
from merino.wire.request import ModelRequest
from merino.wire.served import SERVED
from merino.wire.sse import comment

_SHORT = {
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_completion_tokens": 256,
}
_PIECES_MAX = 64
"""Pieces that wait for a slow reader before the upstream has to."""


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """`dashboard.parts.ChatAnswer`."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


class _PageReply:
    """`gateway.ports.Reply` into a queue."""

    task = None

    def __init__(self) -> None:
        self.head: asyncio.Future[tuple[int, dict[str, str]]] = (
            asyncio.get_running_loop().create_future()
        )
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.is_disconnected = False
        self._on_writable: Callable[[bool], None] | None = None
        self._on_disconnect: Callable[[], None] | None = None

    @property
    def has_begun(self) -> bool:
        return self.head.done()

    @property
    def is_writable(self) -> bool:
        return self.pieces.qsize() < _PIECES_MAX

    def watch(
        self, on_disconnect: Callable[[], None], on_writable: Callable[[bool], None] | None
    ) -> None:
        self._on_disconnect, self._on_writable = on_disconnect, on_writable

    def answer(self, call: Call, content_type: bytes, body: bytes) -> None:
        self._begin(200, call, content_type.decode("latin-1"))
        self.pieces.put_nowait(body)
        self.pieces.put_nowait(None)

    def repeat(self, call: Call, first: FirstAnswer) -> None:
        raise AssertionError("a page sends no idempotency key")

    def begin(self, call: Call, data: bytes = b"") -> None:
        self._begin(200, call, "text/event-stream; charset=utf-8")
        self.send(data)

    def send(self, data: bytes, /) -> None:
        if not data or self.is_disconnected:
            return
        self.pieces.put_nowait(data)
        if not self.is_writable and self._on_writable is not None:
            self._on_writable(False)

    def end(self, call: Call, last: bytes) -> None:
        if not self.has_begun:
            self.begin(call)
        cost = format_nanos(call.record.charged_nanos) if call.record else "0.00"
        self.pieces.put_nowait(comment(f"x-merino-cost: {cost}") + last)
        self.pieces.put_nowait(None)

    def fail(self, call: Call, error: MerinoError) -> None:
        if self.has_begun:
            self.pieces.put_nowait(call.request.endpoint.error_event(body_of(error), call.reader))
        else:
            headers = {name.decode(): value.decode() for name, value in headers_of(error)}
            self._begin(status_of(error), call, "application/json", headers)
            self.pieces.put_nowait(body_of(error))
        self.pieces.put_nowait(None)

    async def read(self) -> AsyncIterator[bytes]:
        """What was sent, until its end; leaving early hangs up."""
        is_whole = False
        try:
            while (piece := await self.pieces.get()) is not None:
                was_full = self.pieces.qsize() == _PIECES_MAX - 1
                yield piece
                if was_full and self._on_writable is not None:
                    self._on_writable(True)
            is_whole = True
        finally:
            if not is_whole:
                self.is_disconnected = True
                if self._on_disconnect is not None:
                    self._on_disconnect()

    def _begin(
        self, status: int, call: Call, content_type: str, more: dict[str, str] | None = None
    ) -> None:
        headers = {"content-type": content_type, "x-request-id": call.id, **(more or {})}
        if not self.head.done():
            self.head.set_result((status, headers))


class PageCalls:
    """Callable as `dashboard.parts.Chat`."""

    def __init__(
        self,
        pipeline: Pipeline,
        gatekeeper: Gatekeeper,
        aliases: Callable[[], Mapping[str, Alias]],
    ) -> None:
        self._pipeline = pipeline
        self._gatekeeper = gatekeeper
        self._aliases = aliases
        self._tasks: set[asyncio.Task[None]] = set()

    async def try_out(
        self, key: VirtualKey, deployment: Deployment
    ) -> tuple[int, float, str | None]:
        """A short call to this deployment alone: its status, how long it took in milliseconds, and
        what was wrong."""
        began = perf_counter()
        body = json.dumps({**_SHORT, "model": deployment.name}).encode()
        answer = await self(key, body, deployment)
        said = b"".join([piece async for piece in answer.pieces])
        took_ms = (perf_counter() - began) * 1000
        if answer.status == 200:
            return 200, took_ms, None
        problem = parse_error(said)
        return answer.status, took_ms, problem[0] if problem else f"status {answer.status}"

    async def __call__(
        self,
        key: VirtualKey,
        body: bytes,
        only: Deployment | None = None,
        *,
        api: str = CHAT.name,
    ) -> PageAnswer:
        """With `only`, to that deployment and no other, whatever the model is called. `api` is the
        endpoint that the body is for."""
        self._gatekeeper.check(key)
        if api not in SERVED:
            raise InvalidCall("There is no such API.", param="api")
        request: ModelRequest = SERVED[api].parse(body)
        if only is None:
            alias = alias_for(key, request.model, self._aliases())
        else:
            alias = Alias(request.model, (only,))
        call = Call(
            id=new_call_id(),
            key=key,
            request=request,
            alias=alias,
            received_at=perf_counter(),
            body=body,
            timeout_s=alias.timeout_s,
        )
        reply = _PageReply()
        task = asyncio.create_task(self._pipeline.run(call, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        status, headers = await reply.head
        return PageAnswer(status, headers, reply.read())
