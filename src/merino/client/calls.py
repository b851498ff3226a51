"""What a client's request is to the engine: a call, its outcomes, and the errors it ends with."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false
# The package's options differ between its versions.
from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import openai

from merino.client.answers import codes_of
from merino.client.engine import Call, Engine
from merino.client.errors import CircuitOpen, DeadlineExceeded
from merino.client.policy import Endpoint
from merino.client.steps import OPEN, Outcome, Refused

WAITED_S: ContextVar[float] = ContextVar("merino_waited_s", default=0.0)
"""How long the last call of this context waited before and between its attempts."""

HEDGED_PATHS = ("/chat/completions", "/completions", "/embeddings")
"""Calls that may be sent twice: what they make is in the answer and nowhere else."""


def options_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """What `request` was given: the kind of answer, the options, and the rest."""
    rest = dict(kwargs)
    given = list(args)
    cast_to = given.pop(0) if given else rest.pop("cast_to")
    options = given.pop(0) if given else rest.pop("options")
    return cast_to, options, rest


def retries_of(client: Any, options: Any) -> int | None:
    """How often the request may be tried again; `None`: it is not said rightly, and the package
    has an error for that."""
    retries = options.get_max_retries(client.max_retries)
    return retries if isinstance(retries, int) and retries >= 0 else None


def call_of(engine: Engine, client: Any, options: Any, retries: int) -> Call:
    policy = engine.policy
    is_absolute = options.url.startswith(("http://", "https://"))
    return engine.call(
        lambda: _body_of(options),
        primary=Endpoint(str(client.base_url).rstrip("/"), _key_of(client, options)),
        max_retries=retries,
        may_hedge=policy.hedge is not None and _may_hedge(client, options),
        has_fallbacks=not is_absolute,
    )


def idempotency_key_of(client: Any, options: Any) -> str | None:
    """A key for all attempts of a call; `None` for a reading one, and `""`, which is never sent,
    where the caller removed the header (`Omit` or `None` in the request's headers, or in the
    client's)."""
    if options.method.lower() == "get":
        return None
    for headers in (options.headers, client._custom_headers):  # noqa: SLF001 - as its copy does
        if isinstance(headers, Mapping):
            for name, value in headers.items():
                if name.lower() == "idempotency-key":
                    return client._idempotency_key() if isinstance(value, str) else ""  # noqa: SLF001
    return client._idempotency_key()  # noqa: SLF001


def attempt_options(options: Any, idempotency_key: str | None) -> Any:
    """The options of one attempt: the package tries nothing again, and every attempt is sent under
    the same key."""
    made = copy.copy(options)
    made.max_retries = 0
    if made.idempotency_key is None:
        made.idempotency_key = idempotency_key
    return made


def answer(result: Any, response: Any) -> Outcome:
    return Outcome(
        response.status_code,
        response.headers,
        is_open=not response.is_closed,
        result=result,
        response=response,
    )


def failure(error: openai.APIStatusError | openai.APIConnectionError) -> Outcome:
    if isinstance(error, openai.APIStatusError):
        return Outcome(
            error.status_code, error.response.headers, codes=codes_of(error.body), failure=error
        )
    cause = error.__cause__
    return Outcome(0, error=type(error if cause is None else cause).__name__, failure=error)


def refusal(refused: Refused, client: Any, options: Any) -> openai.APIError:
    """The error of a call that ends by our own decision."""
    request = client._build_request(options)  # noqa: SLF001 - its error names the request
    if refused.name == OPEN:
        return CircuitOpen(refused.message, request=request, retry_after_s=refused.retry_after_s)
    return DeadlineExceeded(refused.message, request=request)


def tokens_of(result: Any) -> int | None:
    """LLM tokens that a parsed answer says it used."""
    total = getattr(getattr(result, "usage", None), "total_tokens", None)
    return total if isinstance(total, int) else None


def _key_of(client: Any, options: Any) -> str:
    """What tells one customer of this program from another: the key their request is sent with."""
    for headers in (options.headers, client._custom_headers):  # noqa: SLF001 - as its copy does
        if isinstance(headers, Mapping):
            for name, value in headers.items():
                if name.lower() == "authorization":
                    return str(value)
    key = client.api_key
    return key if isinstance(key, str) else ""


def _may_hedge(client: Any, options: Any) -> bool:
    """Whether sending a call twice does no harm. Whoever gave an idempotency key wants it once."""
    if options.method.lower() != "post" or not (
        options.url.endswith(HEDGED_PATHS) or _is_kept_nowhere(options)
    ):
        return False
    return not any(
        name.lower() == "idempotency-key"
        for headers in (options.headers, client._custom_headers)  # noqa: SLF001
        if isinstance(headers, Mapping)
        for name in headers
    )


def _is_kept_nowhere(options: Any) -> bool:
    """Whether it makes a response that is in the answer only."""
    data = options.json_data
    return (
        options.url.endswith("/responses")
        and isinstance(data, Mapping)
        and data.get("store") is False
        and not data.get("background")
    )


def _body_of(options: Any) -> bytes:
    data = options.json_data
    if data is None:
        return b""
    return data if isinstance(data, bytes) else json.dumps(data, default=str).encode()
