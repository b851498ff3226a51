"""`OpenAI` and `AsyncOpenAI`: the `openai` package's clients with limits, one retry loop, breakers
and failover underneath. Everything else is the package's own."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportIncompatibleMethodOverride=false
# The package's internals differ between its versions; what is relied on is tested with each.
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import openai

from merino.client.background import Background
from merino.client.engine import ClientPolicy, Endpoint, Engine
from merino.client.errors import OURS, OutOfCredits
from merino.client.metrics import ClientMetrics, MetricsSink
from merino.client.transports import (
    AsyncResilientTransport,
    ResilientTransport,
    http_transport,
)

_OUT_OF_CREDITS = frozenset(("insufficient_quota", "max_cost_exceeded"))
_DEFAULT_BASE_URL = "https://api.openai.com/v1"


class _Resilient:
    """What both clients share."""

    _engine: Engine
    _transport: ResilientTransport | AsyncResilientTransport

    @property
    def metrics(self) -> ClientMetrics:
        """What this client did so far; printing it shows a table."""
        return self._engine.metrics

    @property
    def breakers(self) -> dict[str, str]:
        """The state of the breaker of each base URL: `closed`, `open` or `half_open`."""
        return self._engine.breaker_states()

    def share(self, other: _Resilient) -> None:
        """Use the limits, breakers and metrics of another client from now on."""
        self._engine = self._transport.engine = other._engine

    def _make_status_error(self, err_msg: str, *, body: object, response: Any) -> Any:
        error = super()._make_status_error(err_msg, body=body, response=response)  # type: ignore[misc]
        if isinstance(error, openai.RateLimitError) and error.code in _OUT_OF_CREDITS:
            return OutOfCredits(error.message, response=response, body=error.body)
        return error


class OpenAI(_Resilient, openai.OpenAI):
    """`openai.OpenAI` with the same arguments, and these:

    Args:
        policy: Limits, retries, deadline and breaker; `max_retries` of the package's own argument
            goes into it, so that there is one retry loop.
        fallbacks: Further endpoints, tried in order when the first fails, each with its own key.
        sinks: Who hears of every attempt and call.

    `base_url` and `api_key` come from `MERINO_BASE_URL` and `MERINO_API_KEY` if they are not given,
    else from the package's own variables.

    Raises what the package raises, and the errors of `merino.client.errors`.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        max_retries: int = 2,
        policy: ClientPolicy | None = None,
        fallbacks: Sequence[Endpoint] = (),
        sinks: Sequence[MetricsSink] = (),
        **options: Any,
    ) -> None:
        api_key, base_url = _from_environment(api_key, base_url)
        self._engine = _engine(api_key, base_url, max_retries, policy, fallbacks, sinks)
        self._transport = ResilientTransport(
            self._engine,
            lambda: http_transport(base_url, "sync"),
            Background(lambda: http_transport(base_url, "async")),
        )
        options.setdefault("http_client", openai.DefaultHttpxClient(transport=self._transport))
        super().__init__(api_key=api_key, base_url=base_url, max_retries=0, **options)

    def request(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().request(*args, **kwargs)
        except openai.APIConnectionError as error:
            raise _unwrapped(error) from None


class AsyncOpenAI(_Resilient, openai.AsyncOpenAI):
    """`openai.AsyncOpenAI` with what `OpenAI` adds. Nothing here blocks the event loop."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        max_retries: int = 2,
        policy: ClientPolicy | None = None,
        fallbacks: Sequence[Endpoint] = (),
        sinks: Sequence[MetricsSink] = (),
        **options: Any,
    ) -> None:
        api_key, base_url = _from_environment(api_key, base_url)
        self._engine = _engine(api_key, base_url, max_retries, policy, fallbacks, sinks)
        self._transport = AsyncResilientTransport(
            self._engine, lambda: http_transport(base_url, "async")
        )
        options.setdefault("http_client", openai.DefaultAsyncHttpxClient(transport=self._transport))
        super().__init__(api_key=api_key, base_url=base_url, max_retries=0, **options)

    async def request(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().request(*args, **kwargs)
        except openai.APIConnectionError as error:
            raise _unwrapped(error) from None


def _engine(
    api_key: str,
    base_url: str,
    max_retries: int,
    policy: ClientPolicy | None,
    fallbacks: Sequence[Endpoint],
    sinks: Sequence[MetricsSink],
) -> Engine:
    if policy is None:
        policy = ClientPolicy(max_retries=max_retries)
    return Engine([Endpoint(base_url, api_key), *fallbacks], policy, sinks)


def _from_environment(api_key: str | None, base_url: str | None) -> tuple[str, str]:
    environ = os.environ
    base_url = (
        base_url
        or environ.get("MERINO_BASE_URL")
        or environ.get("OPENAI_BASE_URL")
        or _DEFAULT_BASE_URL
    )
    api_key = api_key or environ.get("MERINO_API_KEY") or environ.get("OPENAI_API_KEY")
    if not api_key:
        raise openai.OpenAIError(
            "No API key: give api_key, or set MERINO_API_KEY (or OPENAI_API_KEY)."
        )
    if urlsplit(base_url).scheme not in ("http", "https"):
        raise openai.OpenAIError(f"base_url {base_url!r} must begin with http:// or https://.")
    return api_key, base_url


def _unwrapped(error: openai.APIConnectionError) -> Exception:
    """Older packages wrap what a transport raises; the caller gets ours."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OURS):
            return cause
        cause = cause.__cause__
    return error
