"""Sends items over HTTP, with the client's limits, retries and breaker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar, cast
from urllib.parse import urlsplit

from merino.batch.items import Item
from merino.batch.results import Result
from merino.client.answers import codes_of
from merino.client.engine import Engine
from merino.client.steps import Outcome, Send, steps
from merino.client.waiting import wait_async
from merino.domain.errors import UpstreamFailed
from merino.domain.money import parse_nanos

ANSWER_BYTES_MAX = 64 * 1024 * 1024

OriginT = TypeVar("OriginT")
OriginT_contra = TypeVar("OriginT_contra", contravariant=True)


class Response(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> list[tuple[bytes, bytes]]: ...
    async def read(self, bytes_max: int) -> bytes: ...
    def close(self) -> None: ...


class Http(Protocol[OriginT_contra]):
    """Sends rendered HTTP/1.1 requests; `transport.client.UpstreamClient` is one."""

    def send(self, origin: OriginT_contra, data: bytes, /) -> Awaitable[Response]: ...


CostOf = Callable[[Item, dict[str, Any]], int | None]
"""What an answer cost, from what it says, in nano-units; `None` if there is no price."""


class HttpSender(Generic[OriginT]):
    """`batch.runner.Sender` for one base URL. `timeout_s` is per attempt."""

    def __init__(
        self,
        http: Http[OriginT],
        origin: OriginT,
        base_url: str,
        api_key: str,
        engine: Engine,
        *,
        timeout_s: float = 600.0,
        cost_of: CostOf | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        self._http = http
        self._origin = origin
        self._engine = engine
        self._timeout_s = timeout_s
        self._cost_of = cost_of
        self._under_way: dict[int, float] = {}
        self._attempts = 0
        self._path = parts.path.rstrip("/")
        self._fields = (
            f"host: {parts.netloc.rpartition('@')[2]}\r\nauthorization: Bearer {api_key}\r\n"
            "content-type: application/json\r\naccept: application/json\r\n"
            "accept-encoding: identity\r\n"
        )

    async def send(
        self, item: Item, idempotency_key: str, on_overload: Callable[[], None]
    ) -> Result:
        engine = self._engine
        body = json.dumps(item.body, ensure_ascii=False, separators=(",", ":")).encode(
            errors="surrogatepass"
        )
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
                    outcome = await self._sent(data)
                    if outcome.status == 429 or outcome.status >= 500:
                        on_overload()
                    step = plan.send(outcome)
                    continue
                if step.is_rest:
                    on_overload()
                await wait_async(step)
                step = next(plan)
        except StopIteration as ended:
            outcome = cast("Outcome", ended.value)
        except BaseException as broken:
            plan.throw(broken)  # gives back what the call took, and raises it again
            raise
        return self._result(
            item, outcome.status, outcome.error, dict(outcome.headers), outcome.result or b""
        )

    async def _sent(self, data: bytes) -> Outcome:
        """One attempt."""
        try:
            async with asyncio.timeout(self._timeout_s):
                status, headers, answer = await self._exchange(data)
        except UpstreamFailed as failure:
            return Outcome(0, error=failure.code or type(failure).__name__)
        except TimeoutError:
            return Outcome(0, error="timeout")
        codes = () if status < 400 else codes_of(_decoded(answer))
        return Outcome(status, headers, codes=codes, result=answer)

    @property
    def longest_s(self) -> float:
        began_s = next(iter(self._under_way.values()), None)
        return 0.0 if began_s is None else monotonic() - began_s

    async def _exchange(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        self._attempts += 1
        attempt = self._attempts
        self._under_way[attempt] = monotonic()
        try:
            return await self._answer(data)
        finally:
            del self._under_way[attempt]

    async def _answer(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        response = await self._http.send(self._origin, data)
        try:
            answer = await response.read(ANSWER_BYTES_MAX)
            headers = {
                name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers
            }
            return response.status, headers, answer
        finally:
            response.close()

    def _result(
        self, item: Item, status: int, error: str, headers: dict[str, str], answer: bytes
    ) -> Result:
        body: Any = None
        if answer:
            try:
                body = json.loads(answer)
            except ValueError:
                status, error = 0, "the answer is not JSON"
        usage: dict[str, Any] = {}
        if isinstance(body, dict):
            found: object = cast("dict[str, Any]", body).get("usage")
            if isinstance(found, dict):
                usage = cast("dict[str, Any]", found)
        if status >= 400 and not error:
            error = _code_of(body) or ""
        cost: int | None = None
        if 200 <= status < 300:
            told = headers.get("x-merino-cost")
            if told is not None:
                cost = parse_nanos(told)
            elif self._cost_of is not None and isinstance(body, dict):
                cost = self._cost_of(item, cast("dict[str, Any]", body))
        return Result(
            item,
            status,
            body,
            headers.get("x-request-id", ""),
            error,
            cost,
            _count(usage, "prompt_tokens"),
            _count(usage, "completion_tokens"),
        )


def _decoded(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return None


def _code_of(body: Any) -> str | None:
    try:
        code = body["error"]["code"]
    except (KeyError, TypeError):
        return None
    return code if isinstance(code, str) else None


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0
