"""Sends items over HTTP, with the client's limits, retries and breaker."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar, cast
from urllib.parse import urlsplit

from merino.batch.items import Item
from merino.batch.results import Result
from merino.client.engine import Attempt, Engine, is_retryable
from merino.domain.errors import UpstreamFailed
from merino.domain.money import parse_nanos
from merino.wire.retry_after import parse_retry_after

ANSWER_BYTES_MAX = 64 * 1024 * 1024
_REFUSED_WAIT_S = 0.1
_REFUSED_WAIT_MAX_S = 2.0
_TOLD_WAIT_MAX_S = 0.25
_FOR_GOOD = frozenset(("insufficient_quota", "max_cost_exceeded"))

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
        await _pause(engine.reserve(call))
        previous: Attempt | None = None
        status, error, refusals = 0, "", 0
        try:
            while True:
                attempt = engine.attempt(call, previous)
                if not isinstance(attempt, Attempt):
                    # A batch has time: it waits for a breaker, too.
                    on_overload()
                    await asyncio.sleep(min(max(attempt, 0.05), 5.0))
                    continue
                status, error, headers, answer = 0, "", dict[str, str](), b""
                try:
                    async with asyncio.timeout(self._timeout_s):
                        status, headers, answer = await self._exchange(data)
                except UpstreamFailed as failure:
                    error = failure.code or type(failure).__name__
                except TimeoutError:
                    error = "timeout"
                if error:
                    wait_s = engine.failed(call, attempt, error)
                else:
                    if status == 429 or status >= 500:
                        on_overload()
                    wait_s = engine.answered(call, attempt, status, headers)
                    if status == 429 and _may_pass(headers, answer):
                        # "Too much" is no failure of the call: fewer at once are the answer, and
                        # it comes again as often as it takes.
                        call.attempts -= 1
                        refusals += 1
                        wait_s = _refused_wait_s(headers, refusals)
                if wait_s is None:
                    return self._result(item, status, error, headers, answer)
                previous = attempt
                await _pause(wait_s)
        finally:
            engine.ended(call, status, error)

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


def _may_pass(headers: dict[str, str], answer: bytes) -> bool:
    if not is_retryable(429, headers):
        return False
    try:
        return _code_of(json.loads(answer)) not in _FOR_GOOD
    except ValueError:
        return True


def _refused_wait_s(headers: dict[str, str], refusals: int) -> float:
    """Not sooner than told, and spread out, so that those who were refused together do not come
    back together. Not much later either: a call that waits is one less at once."""
    told_s = parse_retry_after(
        _bytes(headers.get("retry-after-ms")), _bytes(headers.get("retry-after"))
    )
    most_s = _REFUSED_WAIT_MAX_S if told_s is None else _TOLD_WAIT_MAX_S
    spread_s = min(most_s, _REFUSED_WAIT_S * 2 ** min(refusals - 1, 10))
    return (told_s or 0.0) + random.uniform(0, spread_s)  # noqa: S311 - jitter, no secret


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("latin-1", "replace")


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


def _code_of(body: Any) -> str | None:
    try:
        code = body["error"]["code"]
    except (KeyError, TypeError):
        return None
    return code if isinstance(code, str) else None


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0
