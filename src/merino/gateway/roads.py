"""By which road a call reaches a deployment: in its own dialect, or carried over into another.

Which APIs an upstream has cannot be asked. The operator may say it (`endpoints`); otherwise calls
go out as they came, and what is refused is learned once the other road was answered. No list of
names says which model takes what.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from merino.domain.deployment import Alias, Deployment
from merino.domain.errors import (
    CannotTranslate,
    InvalidCall,
    StreamBroken,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRefused,
)
from merino.gateway.call import Call
from merino.gateway.on_the_way import ResponseOnTheWay
from merino.gateway.ports import UpstreamResponse
from merino.wire.endpoints import Endpoint
from merino.wire.request import ModelRequest

REMEMBERED_S = 3600.0
KNOWN_MAX = 1000
_POINTED_MAX = 5

_ANYWHERE = ("chat/completions", "responses")
"""What an upstream may have of which nobody said anything; other APIs it is not asked for unless
somebody did."""
_NO_SUCH_PATH = frozenset((404, 405, 501))
_REFUSING = frozenset((400, 404, 422))
_ABOUT_MODEL = re.compile(
    r"model[_ ]not[_ ]found|model .{0,80}(?:does not exist|not found)", re.IGNORECASE
)
_ELSEWHERE = re.compile(
    r"v1/(?:responses|chat/completions)|responses (?:api|endpoint)", re.IGNORECASE
)
"""The words with which vendors say that a model is asked through another API."""
_ABOUT_PATH = re.compile(
    r'"detail": ?"(?:not found|method not allowed)"|(?:page|route|url|path|endpoint) not found'
    r"|cannot post|invalid url|(?:no|unknown|unrecogni[sz]ed) (?:such )?(?:route|request url|url)",
    re.IGNORECASE,
)
"""The words with which servers say that they have no such path."""


class StreamTranslator(Protocol):
    @property
    def has_finished(self) -> bool:
        """Whether the model has ended its answer, though its stream may go on."""
        ...

    def feed(self, data: bytes, /) -> bytes: ...
    def finish(self) -> bytes: ...


class Carried(Protocol):
    """A call in the upstream's dialect, and what becomes of its answers."""

    body: bytes
    told: tuple[str, ...]

    @property
    def dispensable(self) -> Mapping[str, tuple[str, msgspec.Raw | None]]:
        """By field: what is inside that an upstream may refuse, and the field without it."""
        ...

    def answer(self, body: bytes, /) -> bytes: ...
    def stream(self) -> StreamTranslator: ...


class Translation(Protocol):
    target: Endpoint

    def carry(self, request: ModelRequest, made: Any, /) -> Carried:
        """Raises `InvalidCall` that names what cannot be carried."""
        ...


Translations = Mapping[tuple[str, str], Translation]
"""By the caller's endpoint and the upstream's."""


class Road(NamedTuple):
    """`request` is what the upstream gets."""

    request: ModelRequest
    carried: Carried


def has_endpoint(declared: tuple[str, ...], name: str) -> bool:
    """Whether an endpoint, or the one that it belongs to (`responses/compact`), is declared."""
    return name in declared or any(name.startswith(f"{each}/") for each in declared)


def _as_told(*said: object) -> Any:
    return said


class Roads:
    """What is known of the APIs that deployments have."""

    def __init__(
        self,
        translations: Translations | None = None,
        made: Callable[[str, int, int, int], Any] = _as_told,
    ) -> None:
        self._translations = translations or {}
        self._made = made
        self._lacks: dict[tuple[str, str, str, str], float] = {}
        self._offered: Mapping[str, Alias] = {}

    def configure(self, offered: Mapping[str, Alias]) -> None:
        """What callers may be pointed to."""
        self._offered = offered

    @property
    def has_any(self) -> bool:
        """Whether anything was refused that is remembered."""
        return bool(self._lacks)

    def is_native(self, call: Call, deployment: Deployment, now: float) -> bool:
        """Whether a call goes there as it came."""
        name = call.request.endpoint.name
        if deployment.endpoints and not has_endpoint(deployment.endpoints, name):
            return False
        return not self._lacks or not self._is_lacking(deployment, name, _kind(call.request), now)

    def is_open(self, call: Call, deployment: Deployment, now: float) -> bool:
        """Whether there is any road for such a call."""
        return self.is_native(call, deployment, now) or bool(
            self._translation(call, deployment, now)
        )

    def other(self, call: Call, deployment: Deployment, now: float) -> Road | None:
        """The road over another dialect, if there is one. Raises `UpstreamRefused` for a call that
        cannot be carried over: another deployment may take it."""
        translation = self._translation(call, deployment, now)
        if translation is None:
            return None
        known = call.roads.get(translation.target.name)
        if known is None:
            try:
                made = self._made(
                    call.id, call.at_ms // 1000, call.asked_input_tokens, call.output_tokens
                )
                carried = translation.carry(call.request, made)
                request: ModelRequest = translation.target.parse(carried.body)
            except InvalidCall as error:
                raise _cannot_go(error, self._pointer(call, now)) from error
            if request.stream:
                request.request_usage()
            for name, (member, without) in carried.dispensable.items():
                request.added = {**request.added, name: without}
                request.added_members = {**request.added_members, name: member}
            known = Road(request, carried)
            call.roads = {**call.roads, translation.target.name: known}
        return known

    def limit_min(self, call: Call, deployments: Sequence[Deployment], now: float) -> int:
        """The least output limit that such a call may be sent with to some of them."""
        least = [1]
        for each in deployments:
            if not self.is_native(call, each, now):
                translation = self._translation(call, each, now)
                least.append(1 if translation is None else translation.target.limit_min)
        return max(least)

    def learn(self, deployment: Deployment, request: ModelRequest, now: float) -> None:
        """It does not take such calls as they came."""
        if len(self._lacks) >= KNOWN_MAX:
            self._lacks.clear()
        key = (deployment.name, deployment.upstream_model, request.endpoint.name, _kind(request))
        self._lacks[key] = now + REMEMBERED_S

    def _pointer(self, call: Call, now: float) -> str:
        """Which models take natively what another road does not; those that are said to have the
        API, otherwise those of which nothing is known."""
        name = call.request.endpoint.name
        declared: list[str] = []
        unknown: list[str] = []
        for alias in self._offered.values():
            if alias.name == call.alias.name or not call.key.may_call(alias.name):
                continue
            if any(name in each.endpoints for each in alias.deployments):
                declared.append(alias.name)
            elif any(
                not each.endpoints and self.is_native(call, each, now) for each in alias.deployments
            ):
                unknown.append(alias.name)
        names = (declared or unknown)[:_POINTED_MAX]
        if not names:
            return " No model here is known to take it."
        return (
            f" {'Models that take it' if declared else 'It may be taken by'}: {', '.join(names)}."
        )

    def _translation(self, call: Call, deployment: Deployment, now: float) -> Translation | None:
        for (caller, target), translation in self._translations.items():
            if caller != call.request.endpoint.name:
                continue
            if target not in (deployment.endpoints or _ANYWHERE):
                continue
            if not self._is_lacking(deployment, target, _kind_as(target, call.request), now):
                return translation
        return None

    def _is_lacking(self, deployment: Deployment, name: str, kind: str, now: float) -> bool:
        key = (deployment.name, deployment.upstream_model, name, "")
        if self._lacks.get(key, 0.0) > now:
            return True
        return bool(kind) and self._lacks.get((*key[:3], kind), 0.0) > now


def is_about_road(
    error: UpstreamRefused, request: ModelRequest, sent: bytes, declared: tuple[str, ...] = ()
) -> bool:
    """Whether a refusal says that such calls are not taken here at all. Words that the caller may
    have written are no evidence, and a status alone is none where the endpoint is `declared`."""
    said = f"{error.message} {error.body[:4096].decode('utf-8', 'replace')}"
    if error.status in _REFUSING and (found := _ELSEWHERE.search(said)) is not None:
        return found.group().lower().encode() not in sent.lower()
    name = request.endpoint.name
    if error.status not in _NO_SUCH_PATH:
        return False
    if name == "chat/completions" and _ABOUT_PATH.search(said) is None:
        return False  # nearly every server has chat: there it is the model
    if has_endpoint(declared, name) or error.verdict == "call":
        return False  # an object that the call names is not there
    return _ABOUT_MODEL.search(f"{error.code} {said}") is None


def no_road(call: Call, names: list[str]) -> InvalidCall:
    """No deployment of the alias takes calls of this endpoint."""
    told = ", ".join(names)
    return InvalidCall(
        f"No deployment of '{call.alias.name}' takes calls to /v1/{call.request.endpoint.name} "
        f"(asked were: {told or 'none'}). The relay's operator can add one whose `endpoints` "
        "name it.",
        param="model",
        code="endpoint_not_supported",
    )


def no_such_api(
    deployment: Deployment, request: ModelRequest, error: UpstreamRefused
) -> UpstreamRefused:
    """A path that an upstream does not have, and no way around: its bare words would tell nobody
    what was missing."""
    name = request.endpoint.name
    refused = UpstreamRefused(
        f"The upstream of deployment '{deployment.name}' has no /v1/{name} (it answered "
        f"{error.status}), and such calls cannot be carried over to an API that it has.",
        status=400,
        error_type="invalid_request_error",
        param="model",
        code="endpoint_not_supported",
    )
    refused.verdict, refused.refused_with, refused.said = "unclear", error.status, error.message
    return refused


def _kind(request: ModelRequest) -> str:
    """Newer models refuse tools together with effort in a chat, and nothing else."""
    return _kind_as(request.endpoint.name, request)


def _kind_as(target: str, request: ModelRequest) -> str:
    """The same of a call that is carried over into a chat."""
    if target == "chat/completions" and "tools" in request.fields:
        return "tools" if request.reasoning_effort in (None, "none") else "tools with effort"
    return ""


def _cannot_go(error: InvalidCall, pointer: str) -> UpstreamRefused:
    refused = UpstreamRefused(
        error.message + pointer if isinstance(error, CannotTranslate) else error.message,
        status=400,
        error_type="invalid_request_error",
        param=error.param,
        code=error.code,
    )
    refused.verdict, refused.refused_with = "unclear", 400
    return refused


class TranslatedResponse(ResponseOnTheWay):
    """An upstream's answer in the caller's dialect."""

    def __init__(self, response: UpstreamResponse, carried: Carried) -> None:
        super().__init__(response)
        self._carried = carried
        self._translator: StreamTranslator | None = None

    @property
    def has_finished(self) -> bool:
        return self._translator is not None and self._translator.has_finished

    def whole(self, bytes_max: int) -> bytes | None:
        body = self._response.whole(bytes_max)
        return None if body is None else self._answer(body)

    async def read(self, bytes_max: int) -> bytes:
        return self._answer(await self._response.read(bytes_max))

    def _answer(self, body: bytes) -> bytes:
        try:
            return self._carried.answer(body)
        except ValueError:
            return body  # no answer in any dialect; whoever reads it finds that out, and says so

    async def pipe(self, sink: Callable[[bytes], None]) -> None:
        translator = self._translator = self._carried.stream()

        def feed(data: bytes) -> None:
            try:
                translated = translator.feed(data)
            except ValueError as error:
                raise UpstreamBroken(f"{error}.", code="upstream_event_too_large") from error
            if translated:
                sink(translated)

        try:
            await self._response.pipe(feed)
        except StreamBroken:
            raise
        except UpstreamFailed:
            # It may have broken behind the last word of a whole answer.
            if rest := translator.finish():
                sink(rest)
            raise
        if rest := translator.finish():
            sink(rest)
