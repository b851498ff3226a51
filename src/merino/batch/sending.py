"""Sends items over HTTP, with the client's limits, retries and breaker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Protocol, cast
from urllib.parse import urlsplit

from merino.batch.answers import NOT_JSON, Answer, read_answer
from merino.batch.failures import may_pass_soon, verdict_of
from merino.batch.items import Item, encoded
from merino.batch.results import Result
from merino.client.answers import codes_of
from merino.client.engine import Engine
from merino.client.steps import Outcome, Send, Wait, steps
from merino.client.waiting import wait_async
from merino.domain.errors import UpstreamFailed
from merino.domain.money import parse_nanos
from merino.domain.usage import NO_USAGE, Usage

ANSWER_BYTES_MAX = 64 * 1024 * 1024


class Response(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> list[tuple[bytes, bytes]]: ...
    async def read(self, bytes_max: int) -> bytes: ...
    def close(self) -> None: ...


SendBytes = Callable[[bytes], Awaitable[Response]]
"""Sends a rendered HTTP/1.1 request to the server."""
CostOf = Callable[[Item, Usage, str | None], int | None]
"""What an answer to an item cost at a service tier, in nano-units; `None` without a price."""


class HttpSender:
    """`batch.runner.Sender` for one base URL. `timeout_s` is per attempt."""

    def __init__(
        self,
        send: SendBytes,
        base_url: str,
        api_key: str,
        engine: Engine,
        *,
        timeout_s: float = 600.0,
        cost_of: CostOf | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        self._send = send
        self._engine = engine
        self._timeout_s = timeout_s
        self._cost_of = cost_of
        self._under_way: dict[int, float] = {}
        self._waits: set[asyncio.Future[None]] = set()
        self._is_stopping = False
        self._attempts = 0
        self._path = parts.path.rstrip("/")
        self._fields = (
            f"host: {parts.netloc.rpartition('@')[2]}\r\nauthorization: Bearer {api_key}\r\n"
            "content-type: application/json\r\naccept: application/json\r\n"
            "accept-encoding: identity\r\n"
        )

    async def send(
        self, item: Item, idempotency_key: str, on_overload: Callable[[], None]
    ) -> Result | None:
        engine = self._engine
        body = encoded(item.body)
        path = self._path + item.url.removeprefix("/v1")
        data = (
            f"POST {path} HTTP/1.1\r\n{self._fields}idempotency-key: {idempotency_key}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode("latin-1") + body
        call = engine.call(body)
        call.is_patient = True
        plan = steps(engine, call)
        try:
            step = next(plan)
            while True:
                if isinstance(step, Send):
                    outcome = await self._sent(item, data, body)
                    if outcome.status == 429 or outcome.status >= 500:
                        on_overload()
                    step = plan.send(outcome)
                    continue
                if step.is_rest:
                    on_overload()
                if not await self._waited(step):
                    plan.close()
                    return None
                step = next(plan)
        except StopIteration as ended:
            outcome = cast("Outcome", ended.value)
        except BaseException as broken:
            plan.throw(broken)  # gives back what the call took, and raises it again
            raise
        return self._result(item, outcome)

    async def _waited(self, step: Wait) -> bool:
        """Whether the call may go on: it had its time, and nobody stopped it meanwhile."""
        if self._is_stopping:
            return False
        waiting = asyncio.ensure_future(wait_async(step))
        self._waits.add(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            if not self._is_stopping or not waiting.cancelled():
                waiting.cancel()
                raise
        finally:
            self._waits.discard(waiting)
        return not self._is_stopping

    def stop(self) -> None:
        """Calls that wait (for a limit, or to be tried again) are given up; those that are under
        way are not."""
        self._is_stopping = True
        for waiting in self._waits:
            waiting.cancel()

    async def _sent(self, item: Item, data: bytes, body: bytes) -> Outcome:
        """One attempt."""
        try:
            async with asyncio.timeout(self._timeout_s):
                status, pairs, found = await self._exchange(data)
        except UpstreamFailed as failure:
            return Outcome(0, error=failure.code or type(failure).__name__)
        except TimeoutError:
            return Outcome(0, error="timeout")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
        answer = read_answer(item.url, status, found)
        if 200 <= status < 300 and not answer.code:
            return Outcome(status, headers, result=answer)
        verdict = verdict_of(status, found, pairs, body)
        answer = answer._replace(verdict=verdict)
        if answer.code == NOT_JSON:
            # A page of somebody in between, or half an answer.
            return Outcome(0, headers, answer.code, result=answer)
        if status < 300 and may_pass_soon(verdict):
            return Outcome(status, headers, answer.code, result=answer)
        codes = () if status < 400 else codes_of(answer.body)
        is_final = not may_pass_soon(verdict)
        return Outcome(status, headers, codes=codes, is_final=is_final, result=answer)

    @property
    def longest_s(self) -> float:
        began_s = next(iter(self._under_way.values()), None)
        return 0.0 if began_s is None else monotonic() - began_s

    async def _exchange(self, data: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        self._attempts += 1
        attempt = self._attempts
        self._under_way[attempt] = monotonic()
        try:
            return await self._answer(data)
        finally:
            del self._under_way[attempt]

    async def _answer(self, data: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        response = await self._send(data)
        try:
            answer = await response.read(ANSWER_BYTES_MAX)
            return response.status, list(response.headers), answer
        finally:
            response.close()

    def _result(self, item: Item, outcome: Outcome) -> Result:
        answer: Answer = outcome.result or Answer()
        status, headers = outcome.status, outcome.headers
        error = outcome.error or answer.code
        used = answer.usage or NO_USAGE
        cost: int | None = None
        if 200 <= status < 300:
            told = headers.get("x-merino-cost")
            if told is not None:
                cost = _nanos(told)
            elif self._cost_of is not None and not error and answer.usage is not None:
                cost = self._cost_of(item, used, answer.served_at)
        return Result(
            item,
            status,
            answer.body,
            headers.get("x-request-id", ""),
            error,
            cost,
            used.input_tokens,
            used.output_tokens,
            answer.message,
            answer.verdict,
        )


def _nanos(told: str) -> int | None:
    try:
        return parse_nanos(told)
    except ValueError:
        return None
