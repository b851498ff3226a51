"""One attempt: a call sent to one deployment, and what that says of the deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Protocol, Self

from merino.domain.deployment import Deployment
from merino.domain.errors import UpstreamFailed, UpstreamRefused, UpstreamTimedOut
from merino.domain.limits import Demand
from merino.domain.usage import Usage
from merino.gateway.blame import is_our_own, was_hurried
from merino.gateway.call import Call
from merino.gateway.fleet import Fleet, Member
from merino.gateway.issuers import for_one_vendor, is_about_sealed, is_same_home, unsealed
from merino.gateway.output_limits import Naming, OutputLimits
from merino.gateway.parameters import Mend, Parameters
from merino.gateway.ports import Provider, UpstreamRequest, UpstreamResponse
from merino.gateway.refusals import redact_error, refusal_of, rest_s_of
from merino.gateway.rewriting import RewrittenResponse
from merino.gateway.roads import (
    Carried,
    Road,
    Roads,
    TranslatedResponse,
    is_about_road,
    no_such_api,
)
from merino.gateway.verdicts import Sent
from merino.resilience.breaker import Outcome
from merino.running.standstill import Standstill
from merino.wire.fields import encode_fields
from merino.wire.redaction import Secrets
from merino.wire.request import ModelRequest

_MENDS_MAX = 5
"""An upstream names only one parameter at a time that it does not take."""
_TIMEOUTS = frozenset(("first_token_timeout", "answer_timeout", "idle_timeout", "total_timeout"))


class Consumer(Protocol):
    """Takes an answer whose status is 2xx to its end. What it raises while nothing is committed to
    the caller counts as a failed attempt."""

    on_win: Callable[[], None] | None
    """Called when this one is the answer, before anything of it reaches the caller."""
    deployment: Deployment | None
    """Who is answering, as the provider says."""
    secrets: Secrets
    """What must be taken out of its error messages."""

    @property
    def is_committed(self) -> bool:
        """Part of this answer, or of the one that beat it, has reached the caller."""
        ...

    @property
    def used_tokens(self) -> int | None:
        """LLM tokens the answer used, if it reported them."""
        ...

    @property
    def arrived(self) -> Usage | None:
        """What the answer has used so far: as reported, otherwise as counted; `None` if neither is
        known."""
        ...

    async def consume(self, response: UpstreamResponse) -> None: ...

    def rival(self) -> Self:
        """Another consumer for the same call: only one of the two can win."""
        ...


class OneAttempt:
    """Makes attempts, one at a time and of any number of calls at once."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        fleet: Fleet,
        standstill: Standstill,
        roads: Roads | None = None,
    ) -> None:
        self._providers = providers
        self._fleet = fleet
        self._standstill = standstill
        self.roads = roads or Roads()
        self.parameters = Parameters()
        self.output_limits = OutputLimits()

    async def make(
        self,
        call: Call,
        member: Member,
        demand: Demand,
        consumer: Consumer,
        begun: int | None = None,
    ) -> None:
        """Return once the whole answer was consumed. `begun`: an attempt that has already begun.
        Raises `UpstreamFailed`."""
        if begun is None:
            begun = member.begin(demand)
        call.deployment = member.deployment
        call.first_content_at = 0.0
        told = call.request.adjusted
        lost_before_s = call.lost_s
        call.sent_at = began_at = perf_counter()
        outcome: Outcome = "ignored"
        reason = ""
        unused = demand
        try:
            await self._ask(call, member, consumer)
            outcome = "success"
            unused = demand.less(Demand(tokens=consumer.used_tokens or demand.tokens))
            first_at = call.first_content_at if call.request.stream else perf_counter()
            if first_at and call.background is None:
                began_s = first_at - began_at - (call.lost_s - lost_before_s)
                outcome, reason = self._learn_pace(call, member, max(0.0, began_s))
        except UpstreamFailed as error:
            call.request.adjusted = told  # what was mended for it is not what is answered
            redact_error(error, self._fleet.secrets)
            outcome, reason = self._blame(call, member, error, began_at, lost_before_s)
            raise
        finally:
            member.end(begun, outcome, self._fleet.clock(), unused=unused, reason=reason)

    async def _ask(self, call: Call, member: Member, consumer: Consumer) -> None:
        """Ask in the caller's dialect, or in another one if that is not taken there."""
        deployment, clock, roads = member.deployment, self._fleet.clock, self.roads
        if not roads.is_native(call, deployment, clock()):
            road = roads.other(call, deployment, clock())
            if road is not None:
                await self._ask_over(call, member, consumer, road)
                return
        try:
            await self._ask_mended(call, member, consumer, call.request, None)
        except UpstreamRefused as error:
            if not is_about_road(error, call.request, call.body, deployment.endpoints):
                raise
            error.verdict = "unclear"  # of this API, not of the deployment
            road = None if consumer.is_committed else roads.other(call, deployment, clock())
            if road is None:
                if error.status == 400:
                    raise
                roads.learn(deployment, call.request, clock())
                raise no_such_api(deployment, call.request, error) from error
            await self._ask_over(call, member, consumer, road)
            roads.learn(deployment, call.request, clock())

    async def _ask_over(self, call: Call, member: Member, consumer: Consumer, road: Road) -> None:
        told, said = road.request.adjusted, call.request.adjusted
        try:
            over = f"carried over to /v1/{road.request.endpoint.name}"
            call.request.tell(over, *road.carried.told)
            await self._ask_mended(call, member, consumer, road.request, road.carried)
        except UpstreamRefused as error:
            deployment, clock, roads = member.deployment, self._fleet.clock, self.roads
            request = road.request
            if consumer.is_committed or not is_about_road(
                error, request, call.body, deployment.endpoints
            ):
                raise
            error.verdict = "unclear"
            roads.learn(deployment, request, clock())
            other = roads.other(call, deployment, clock())
            if other is None or other is road:
                raise
            call.request.adjusted = said
            await self._ask_over(call, member, consumer, other)
        finally:
            road.request.adjusted = told

    async def _ask_mended(
        self,
        call: Call,
        member: Member,
        consumer: Consumer,
        request: ModelRequest,
        carried: Carried | None,
    ) -> None:
        """Ask with the thinking that the call brings along, or without it where it cannot be
        read."""
        if request.has_sealed and carried is None:
            request = for_one_vendor(request)
        if not request.has_sealed:
            await self._ask_named(call, member, consumer, request, carried)
            return
        issuer = call.issuer
        if issuer is not None and not is_same_home(issuer, member.deployment):
            request = unsealed(request) or request
        try:
            await self._ask_named(call, member, consumer, request, carried)
        except UpstreamRefused as error:
            if consumer.is_committed or not is_about_sealed(error):
                raise
            opened = unsealed(request)
            if opened is None:
                raise
            await self._ask_named(call, member, consumer, opened, carried)

    async def _ask_named(
        self,
        call: Call,
        member: Member,
        consumer: Consumer,
        request: ModelRequest,
        carried: Carried | None,
    ) -> None:
        limit_names = self.output_limits.names(
            request, member.deployment, self._fleet.clock, reasoning=call.alias.reasoning
        )
        if limit_names:
            request.name_limits(limit_names)
        try:
            await self._send(call, member, consumer, (), request, carried)
        except UpstreamRefused as error:
            declared = member.deployment.endpoints
            if carried is not None and is_about_road(error, request, call.body, declared):
                raise  # another API takes it as it is
            await self._ask_otherwise(call, member, consumer, limit_names, error, request, carried)

    async def _ask_otherwise(
        self,
        call: Call,
        member: Member,
        consumer: Consumer,
        limit_names: tuple[str, ...],
        refusal: UpstreamRefused,
        request: ModelRequest,
        carried: Carried | None,
    ) -> None:
        """Ask again, without what the upstream does not take. Raises the last refusal."""
        deployment, clock = member.deployment, self._fleet.clock
        naming = Naming(
            self.output_limits, request, deployment, limit_names, reasoning=call.alias.reasoning
        )
        mends: tuple[Mend, ...] = ()
        for _ in range(_MENDS_MAX):
            if consumer.is_committed:
                break
            now = clock()
            if not naming.mend(refusal, now):
                found = self.parameters.mend_for(
                    refusal, deployment, request, mends, now, is_carried=carried is not None
                )
                if not found:
                    break
                mends = (*mends, *found)
            if naming.names:
                request.name_limits(naming.names)
            call.sent_at = perf_counter()
            try:
                await self._send(call, member, consumer, mends, request, carried)
            except UpstreamRefused as error:
                refusal = error
            else:
                naming.answered(clock())
                return
        raise refusal

    async def _send(
        self,
        call: Call,
        member: Member,
        consumer: Consumer,
        mends: tuple[Mend, ...],
        asked: ModelRequest,
        carried: Carried | None,
    ) -> None:
        deployment = member.deployment
        response: UpstreamResponse | None = None
        try:
            request = UpstreamRequest(
                call.id,
                asked.endpoint.name,
                self._body(asked, deployment, mends),
                deployment,
                asked.stream,
                asked.passed,
                asked.query,
                b"" if call.trace is None else call.trace.next_attempt(),
            )
            response = await self._providers[deployment.provider].send(request)
            call.deployment = consumer.deployment = request.deployment
            consumer.secrets = self._fleet.secrets
            if response.status >= 300:
                raise await self._refused(call, response, member)
            if mends:
                self.parameters.remember(deployment, mends, self._fleet.clock())
            if response.header_like(b"x-ratelimit-remaining-"):
                self._heed(response, member)
            answer: UpstreamResponse = response
            if asked is not call.request:
                call.request.tell(*asked.adjusted)
            if carried is not None:
                answer = TranslatedResponse(response, carried)
            if call.keeping is not None:
                answer = RewrittenResponse(answer, call.keeping.changes)
            await consumer.consume(answer)
        except asyncio.CancelledError:
            raise timed_out(call, deployment) or asyncio.CancelledError from None
        finally:
            if response is not None:
                response.close()

    def _blame(
        self,
        call: Call,
        member: Member,
        error: UpstreamFailed,
        began_at: float,
        lost_before_s: float,
    ) -> tuple[Outcome, str]:
        """What a failure says of the deployment."""
        outcome: Outcome = "ignored"
        reason = ""
        if not is_our_own(error):
            outcome, reason = member.failed(error, call.key.account_id, self._fleet.clock())
        self._standstill.note(perf_counter())
        if call.lost_s != lost_before_s:
            outcome = "ignored"  # the relay itself stood still
        if call.cancel_cause == "total_timeout" and was_hurried(call, member, began_at):
            outcome = "ignored"
        return outcome, reason

    def _learn_pace(self, call: Call, member: Member, began_s: float) -> tuple[Outcome, str]:
        streamed = call.request.stream
        pace = member.pace(streamed=streamed)
        pace.observe(began_s, self._fleet.clock(), is_ranked=call.alias.hedging)
        if streamed and 0 < self._fleet.policy.slow_first_token_s < began_s:
            return "failure", f"first token after {began_s:.1f} s"
        return "success", ""

    def _body(
        self, request: ModelRequest, deployment: Deployment, mends: tuple[Mend, ...]
    ) -> bytes:
        request.set_model(deployment.upstream_model)
        if not mends and not self.parameters.has_any:
            return request.render()
        mended = self.parameters.mended(request, deployment, mends, self._fleet.clock())
        if mended is None:
            return request.render()
        fields, changed = mended
        request.tell(*changed)
        return encode_fields(fields)

    def _heed(self, response: UpstreamResponse, member: Member) -> None:
        """Rest an upstream that reports nothing left, before it has to refuse."""
        reset_s = rest_s_of(response)
        if reset_s is not None:
            member.throttled(reset_s, self._fleet.clock())

    async def _refused(
        self, call: Call, response: UpstreamResponse, member: Member
    ) -> UpstreamFailed:
        sent = Sent(call.body or call.request.render(), call.input_tokens)
        error = await refusal_of(response, member.deployment, sent)
        if response.header_like(b"x-ratelimit-remaining-"):
            self._heed(response, member)
        return error


def timed_out(call: Call, deployment: Deployment) -> UpstreamTimedOut | None:
    """The cancellation as an error, if the watchdog caused it; the call may then `go_on`."""
    limits_s = {
        "first_token_timeout": (deployment.first_token_timeout_s, "sent no content within"),
        "answer_timeout": (deployment.answer_timeout_s, "did not answer within"),
        "idle_timeout": (deployment.idle_timeout_s, "went silent for"),
        "total_timeout": (call.timeout_s - call.lost_s, "did not finish within"),
    }
    cause = call.cancel_cause
    if cause not in limits_s or call.task is None:
        return None
    seconds, what = limits_s[cause]
    return UpstreamTimedOut(
        f"Deployment '{deployment.name}' {what} {seconds:g} s.", code="upstream_timeout"
    )


def go_on(call: Call) -> None:
    """The watchdog's cancellation, if any, ended an attempt, not the call."""
    if call.cancel_cause in _TIMEOUTS and call.task is not None:
        call.cancel_cause = None
        call.task.uncancel()
