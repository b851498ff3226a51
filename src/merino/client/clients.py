"""`OpenAI` and `AsyncOpenAI`: the `openai` package's clients with limits, one retry loop, breakers
and failover around every call. Everything else is the package's own.

A call's `request` is driven by `steps`; each attempt is the package's own `request` without its
retries, so that keys, addresses, redirects, authentication, the body and its parsing are as the
package has them.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
# The package's internals differ between its versions; what is relied on is tested with each.
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from types import FunctionType
from typing import Any, Self

import openai
from openai._base_client import SyncHttpxClientWrapper

from merino.client.answers import is_out_of_credits
from merino.client.background import Background
from merino.client.calls import (
    WAITED_S,
    answer,
    attempt_options,
    call_of,
    failure,
    idempotency_key_of,
    options_of,
    refusal,
    retries_of,
    tokens_of,
)
from merino.client.connections import Connections, LoopConnections
from merino.client.engine import Engine
from merino.client.errors import OutOfCredits
from merino.client.metrics import ClientMetrics, MetricsSink
from merino.client.policy import DEFAULT_POLICY, ClientPolicy, Endpoint
from merino.client.requests import Replay, end_within, send_to
from merino.client.steps import DEADLINE, Outcome, Refused, Send, steps
from merino.client.transports import (
    SENDING,
    AsyncHedgingTransport,
    HedgingTransport,
    Sending,
    http_transport,
    no_auth,
)
from merino.client.waiting import TimeIsUp, wait, wait_async, within, within_async
from merino.client.watching import Lease, watch_bytes, watch_events

_FAILURES = (openai.APIStatusError, openai.APIConnectionError)


class _Resilient:
    """What both clients share."""

    _engine: Engine
    _connections: Connections

    def _set_up(
        self, policy: ClientPolicy, fallbacks: Sequence[Endpoint], sinks: Sequence[MetricsSink]
    ) -> None:
        client: Any = self
        own = Endpoint(str(client.base_url).rstrip("/"), client.api_key or "")
        self._engine = Engine([own, *fallbacks], policy, sinks)
        self._idempotency_header = "Idempotency-Key"

    @property
    def metrics(self) -> ClientMetrics:
        """What this client and its copies did so far; printing it shows a table."""
        return self._engine.metrics

    @property
    def breakers(self) -> dict[str, str]:
        """The state of the breaker of each base URL: `closed`, `open` or `half_open`."""
        return self._engine.breaker_states()

    def share(self, other: _Resilient) -> None:
        """Use the limits, breakers and metrics of another client from now on."""
        self._engine = other._engine

    def copy(
        self,
        *,
        api_key: Any = None,
        max_retries: Any = openai.NOT_GIVEN,
        policy: ClientPolicy | None = None,
        fallbacks: Sequence[Endpoint] | None = None,
        sinks: Sequence[MetricsSink] | None = None,
        **options: Any,
    ) -> Self:
        """The package's `copy`: a client with some options changed. It shares limits, breakers,
        metrics and connections with this one, unless it is given some of its own."""
        given, old = options.get("http_client"), self._engine
        wanted = old.policy if policy is None else policy
        _check_hedge(wanted, is_given=given is not None or self._connections.is_given)
        copied: Any = super().copy(  # type: ignore[misc]
            api_key=api_key, max_retries=max_retries, **options
        )
        if given is None:
            connections = self._connections
            if (wanted.hedge is None) != (old.policy.hedge is None):
                # Only connections of a client that hedges can be cut off.
                make = _maker(wanted, "sync" if isinstance(self, OpenAI) else "async")
                connections = type(connections)(make(), make)
            copied._connections = connections  # noqa: SLF001 - of its own class
        if policy is None and fallbacks is None and sinks is None:
            copied._engine = old  # noqa: SLF001
            return copied
        if policy is not None and isinstance(max_retries, openai.NotGiven):
            copied.max_retries = policy.max_retries
        copied._set_up(  # noqa: SLF001
            policy if policy is not None else old.policy,
            old.fallbacks if fallbacks is None else fallbacks,
            old.sinks if sinks is None else sinks,
        )
        return copied

    with_options = copy

    # What the package asks of its client for each attempt.

    def _build_request(self, options: Any, **given: Any) -> Any:
        sending = SENDING.get()
        if sending is None:
            return super()._build_request(options, **given)  # type: ignore[misc]
        given["retries_taken"] = sending.retries
        sending.replay = Replay(options)
        request: Any = super()._build_request(options, **given)  # type: ignore[misc]
        step = sending.send
        if not step.attempt.is_primary:
            send_to(request, step.attempt.endpoint, sending.client.base_url)
        if step.seconds != float("inf"):
            sending.timeouts = end_within(request, step.seconds)
        return request

    def _custom_auth(self, *security: Any) -> Any:
        return _own_auth(super()._custom_auth(*security))  # type: ignore[misc]

    @property
    def custom_auth(self) -> Any:
        return _own_auth(super().custom_auth)  # type: ignore[misc]

    def _process_response(self, *, response: Any, **given: Any) -> Any:
        sending = SENDING.get()
        if sending is not None:
            given["retries_taken"] = sending.retries
            sending.response = response
        return super()._process_response(response=response, **given)  # type: ignore[misc]

    def _make_status_error(self, err_msg: str, *, body: object, response: Any) -> Any:
        error = super()._make_status_error(err_msg, body=body, response=response)  # type: ignore[misc]
        if isinstance(error, openai.RateLimitError) and is_out_of_credits(body):
            return OutOfCredits(error.message, response=response, body=error.body)
        return error

    def _result(self, engine: Engine, last: Send | None, outcome: Outcome) -> Any:
        """What the caller gets, and who hears of its end."""
        if last is not None:
            WAITED_S.set(last.call.waited_s)
        if outcome.failure is not None:
            raise outcome.failure
        if outcome.is_open:
            assert last is not None
            lease = Lease(engine, last.call, last.attempt, outcome.status)
            watch_bytes(outcome.response, lease)
            watch_events(outcome.result, lease)
        elif (tokens := tokens_of(outcome.result)) is not None:
            engine.metrics.observe_tokens(tokens)
        return outcome.result


class OpenAI(_Resilient, openai.OpenAI):
    """`openai.OpenAI` with the same arguments, and these:

    Args:
        policy: Limits, retries, deadline and breaker. The package's own `max_retries` wins over
            the policy's; there is one retry loop.
        fallbacks: Further endpoints, tried in order when the first fails, each with its own key.
        sinks: Who hears of every attempt and call.

    `base_url` and `api_key` come from `MERINO_BASE_URL` and `MERINO_API_KEY` if they are not given,
    else from the package's own variables.

    Raises what the package raises, and the errors of `merino.client.errors`.
    """

    def __init__(
        self,
        *,
        api_key: str | Callable[[], str] | None = None,
        base_url: Any = openai.NOT_GIVEN,
        max_retries: Any = openai.NOT_GIVEN,
        policy: ClientPolicy | None = None,
        fallbacks: Sequence[Endpoint] = (),
        sinks: Sequence[MetricsSink] = (),
        **options: Any,
    ) -> None:
        policy = policy or DEFAULT_POLICY
        options = _options(options, api_key, base_url, max_retries, policy)
        given = options.get("http_client")
        _check_hedge(policy, is_given=given is not None)
        make = _maker(policy, "sync")
        if given is None:
            options["http_client"] = make()
        _construct(super().__init__, options)
        self._connections = Connections(self._client, make if given is None else None)
        self._set_up(policy, fallbacks, sinks)

    @property
    def _client(self) -> Any:
        return self._connections.current()

    @_client.setter
    def _client(self, client: Any) -> None:
        self._connections = Connections(client, None)

    def request(self, *args: Any, **kwargs: Any) -> Any:
        cast_to, options, rest = options_of(args, kwargs)
        retries = retries_of(self, options)
        if retries is None:
            return super().request(*args, **kwargs)
        engine = self._engine
        call = call_of(engine, self, options, retries)
        key = idempotency_key_of(self, options)
        plan, last = steps(engine, call), None
        try:
            step = next(plan)
            while True:
                if not isinstance(step, Send):
                    wait(step)
                    step = next(plan)
                    continue
                last = step
                made = attempt_options(options, key)
                step = plan.send(self._sent(engine, last, cast_to, made, rest))
        except StopIteration as ended:
            outcome: Outcome = ended.value
        except Refused as refused:
            raise refusal(refused, self, options) from None
        except BaseException as broken:
            plan.throw(broken)  # gives back what the call took, and raises it again
            raise
        return self._result(engine, last, outcome)

    def _send_request(self, request: Any, **given: Any) -> Any:
        try:
            return super()._send_request(request, **given)
        except openai.OpenAIError:
            _end_here()
            raise

    def _sent(
        self, engine: Engine, step: Send, cast_to: Any, options: Any, rest: dict[str, Any]
    ) -> Outcome:
        sending = Sending(engine, step, self)
        token = SENDING.set(sending)
        request = super().request
        try:
            if step.seconds == float("inf"):
                result = request(cast_to, options, **rest)
            else:
                ask = partial(request, cast_to, options, **rest)
                result = within(step.seconds, ask, sending.close)
        except TimeIsUp:
            return Outcome(0, error=DEADLINE)
        except _FAILURES as error:
            return sending.fail(failure(error))
        finally:
            SENDING.reset(token)
        sending.free()
        return answer(result, sending.response)


class AsyncOpenAI(_Resilient, openai.AsyncOpenAI):
    """`openai.AsyncOpenAI` with what `OpenAI` adds. Nothing here blocks the event loop. One client
    serves any number of loops, one after the other and at once."""

    _connections: LoopConnections

    def __init__(
        self,
        *,
        api_key: str | Callable[[], Any] | None = None,
        base_url: Any = openai.NOT_GIVEN,
        max_retries: Any = openai.NOT_GIVEN,
        policy: ClientPolicy | None = None,
        fallbacks: Sequence[Endpoint] = (),
        sinks: Sequence[MetricsSink] = (),
        **options: Any,
    ) -> None:
        policy = policy or DEFAULT_POLICY
        options = _options(options, api_key, base_url, max_retries, policy)
        given = options.get("http_client")
        _check_hedge(policy, is_given=given is not None)
        make = _maker(policy, "async")
        if given is None:
            options["http_client"] = make()
        _construct(super().__init__, options)
        self._connections = LoopConnections(self._client, make if given is None else None)
        self._set_up(policy, fallbacks, sinks)

    @property
    def _client(self) -> Any:
        return self._connections.current()

    @_client.setter
    def _client(self, client: Any) -> None:
        self._connections = LoopConnections(client, None)

    async def request(self, *args: Any, **kwargs: Any) -> Any:
        cast_to, options, rest = options_of(args, kwargs)
        retries = retries_of(self, options)
        if retries is None:
            return await super().request(*args, **kwargs)
        await self._connections.enter()
        engine = self._engine
        call = call_of(engine, self, options, retries)
        key = idempotency_key_of(self, options)
        plan, last = steps(engine, call), None
        try:
            step = next(plan)
            while True:
                if not isinstance(step, Send):
                    await wait_async(step)
                    step = next(plan)
                    continue
                last = step
                made = attempt_options(options, key)
                step = plan.send(await self._sent(engine, last, cast_to, made, rest))
        except StopIteration as ended:
            outcome: Outcome = ended.value
        except Refused as refused:
            raise refusal(refused, self, options) from None
        except BaseException as broken:
            plan.throw(broken)  # gives back what the call took, and raises it again
            raise
        return self._result(engine, last, outcome)

    async def _send_request(self, request: Any, **given: Any) -> Any:
        try:
            return await super()._send_request(request, **given)
        except openai.OpenAIError:
            _end_here()
            raise

    async def _sent(
        self, engine: Engine, step: Send, cast_to: Any, options: Any, rest: dict[str, Any]
    ) -> Outcome:
        sending = Sending(engine, step, self)
        token = SENDING.set(sending)
        request = super().request
        try:
            if step.seconds == float("inf"):
                result = await request(cast_to, options, **rest)
            else:
                ask = partial(request, cast_to, options, **rest)
                result = await within_async(step.seconds, ask)
        except TimeIsUp:
            return Outcome(0, error=DEADLINE)
        except _FAILURES as error:
            return sending.fail(failure(error))
        finally:
            SENDING.reset(token)
        sending.free()
        return answer(result, sending.response)

    async def close(self) -> None:
        """Close the connections of the running loop. Those of a loop that has ended are closed."""
        await self._connections.aclose()


def _own_auth(auth: Any) -> Any:
    """How the package has a request signed. A fallback is asked under its own key, whoever the HTTP
    client says it is."""
    sending = SENDING.get()
    return auth if sending is None or sending.send.attempt.is_primary else no_auth()


def _options(
    options: dict[str, Any],
    api_key: Any,
    base_url: Any,
    max_retries: Any,
    policy: ClientPolicy,
) -> dict[str, Any]:
    """The arguments of the package's constructor. What is not given is left to it, except what
    Merino's own variables say."""
    environ = os.environ
    has_own_way = any(options.get(name) is not None for name in ("provider", "workload_identity"))
    if api_key is None and not has_own_way and not options.get("admin_api_key"):
        api_key = environ.get("MERINO_API_KEY") or None
    is_told = base_url is not None and not isinstance(base_url, openai.NotGiven)
    if not is_told and not has_own_way and options.get("data_residency") is None:
        base_url = environ.get("MERINO_BASE_URL") or base_url
    if (
        isinstance(base_url, str)
        and not base_url.startswith(("http://", "https://"))
        and not has_own_way  # then the package has stricter words
    ):
        raise openai.OpenAIError(f"base_url {base_url!r} must begin with http:// or https://.")
    made = dict(options)
    if api_key is not None:
        made["api_key"] = api_key
    if not isinstance(base_url, openai.NotGiven):
        # `None` was said, too: the package tells it from nothing beside `data_residency`.
        made["base_url"] = base_url
    made["max_retries"] = (
        policy.max_retries if isinstance(max_retries, openai.NotGiven) else max_retries
    )
    return made


def _end_here() -> None:
    """An error of the package's own while it sends, as of its exchange of credentials, was tried
    often enough by whoever raised it: the package takes it as the answer."""
    sending = SENDING.get()
    if sending is not None:
        sending.send.call.max_retries = 0


def _tell_arguments(own: Any, package: Any) -> None:
    """Have `help`, editors and whoever reads annotations find the package's arguments, too, where
    ours takes them as the rest."""
    for name in ("__init__", "copy"):
        ours, theirs = getattr(own, name), getattr(package, name)
        made = FunctionType(
            ours.__code__, ours.__globals__, name, ours.__defaults__, ours.__closure__
        )
        made.__kwdefaults__ = ours.__kwdefaults__
        made.__qualname__, made.__doc__ = f"{own.__qualname__}.{name}", ours.__doc__
        added = {
            each.name: each.replace(annotation=_OWN_ARGUMENTS[each.name])
            for each in signature(ours).parameters.values()
            if each.name in _OWN_ARGUMENTS
        }
        told = signature(theirs)
        kept = [each for each in told.parameters.values() if each.kind is not each.VAR_KEYWORD]
        made.__signature__ = told.replace(  # pyright: ignore[reportFunctionMemberAccess]
            parameters=[*kept, *added.values()]
        )
        made.__annotations__ = theirs.__annotations__ | {
            name: each.annotation for name, each in added.items()
        }
        made.__wrapped__ = theirs  # pyright: ignore[reportFunctionMemberAccess] - annotations are of its module
        setattr(own, name, made)
    own.with_options = own.copy


def _construct(construct: Callable[..., None], options: dict[str, Any]) -> None:
    try:
        construct(**options)
    except openai.OpenAIError as error:
        if "api_key" in str(error) and options.get("api_key") is None:
            raise openai.OpenAIError(
                "No API key: give api_key, or set MERINO_API_KEY (or OPENAI_API_KEY). "
                f"The openai package says: {error}"
            ) from None
        raise


def _check_hedge(policy: ClientPolicy, *, is_given: bool) -> None:
    if policy.hedge is not None and is_given:
        raise openai.OpenAIError(
            "hedge and http_client exclude each other: the slower of two requests is cut off in "
            "connections of the client's own. Leave one of them out."
        )


def _maker(policy: ClientPolicy, kind: str) -> Callable[[], Any]:
    """Makes an HTTP client as the package would."""
    is_sync = kind == "sync"
    # The package's own closes itself when it is dropped. Its asynchronous twin does so, too, but
    # not where it was used: ours is closed by what `LoopConnections` keeps in each loop.
    default: Any = SyncHttpxClientWrapper if is_sync else openai.DefaultAsyncHttpxClient

    def make() -> Any:
        if policy.hedge is None:
            return default()
        inner = http_transport("sync" if is_sync else "async")
        if not is_sync:
            return default(transport=AsyncHedgingTransport(inner))
        background = Background(lambda: http_transport("async"))
        return default(transport=HedgingTransport(inner, background))

    return make


_OWN_ARGUMENTS: dict[str, Any] = {
    "policy": ClientPolicy | None,
    "fallbacks": Sequence[Endpoint] | None,
    "sinks": Sequence[MetricsSink] | None,
}
_tell_arguments(OpenAI, openai.OpenAI)
_tell_arguments(AsyncOpenAI, openai.AsyncOpenAI)
