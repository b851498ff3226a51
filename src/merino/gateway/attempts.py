"""Try the candidates of a call until one answers, as long as nothing reached the caller.

The only retry loop of the relay. What it knows of deployments is `fleet.py`; how long it may go on
is the call's deadline; how often, the retry budget of the deployment it would go to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, Self

from merino.domain.deployment import Deployment
from merino.domain.errors import (
    LimitExceeded,
    NoDeploymentAvailable,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimedOut,
)
from merino.domain.usage import Usage
from merino.gateway.blame import is_our_own, is_too_large, was_hurried
from merino.gateway.call import Call
from merino.gateway.fleet import Fleet, Member
from merino.gateway.limits import LIMIT_WORDS, format_reset, tokens_wanted
from merino.gateway.output_limits import Naming, OutputLimits
from merino.gateway.parameters import Mend, Parameters
from merino.gateway.ports import Provider, UpstreamRequest, UpstreamResponse
from merino.gateway.refusals import (
    may_ask_again,
    may_fail_over,
    most_telling,
    redact_error,
    refusal_of,
    rest_s_of,
)
from merino.gateway.remembering import (
    forget_next,
    remember_backoff,
    remember_failed,
    remember_loser,
)
from merino.gateway.turns import Turns
from merino.gateway.verdicts import Sent
from merino.resilience.backoff import wait_s
from merino.resilience.breaker import Outcome
from merino.resilience.retry_budget import RetryBudget
from merino.running.standstill import Standstill
from merino.wire.redaction import Secrets
from merino.wire.request import encode_fields

_UNAVAILABLE_RETRY_S_MAX = 300.0
"""When only an operator can help, nobody knows; what callers are told is the API's business."""
_TIMEOUTS = frozenset(("first_token_timeout", "answer_timeout", "idle_timeout", "total_timeout"))
_MENDS_MAX = 5
"""An upstream names one parameter at a time that it does not take."""


class Consumer(Protocol):
    """Takes an answer whose status is 2xx to its end. What it raises while nothing is committed to
    the caller counts as a failed attempt."""

    on_win: Callable[[], None] | None
    """Called when this one is the answer, before anything of it reaches the caller."""
    deployment: Deployment | None
    """Who is answering, as the provider says."""
    secrets: Secrets
    """What must not be in what it tells of its troubles."""

    @property
    def is_committed(self) -> bool:
        """Something of this answer, or of the one that won against it, reached the caller."""
        ...

    @property
    def used_tokens(self) -> int | None:
        """LLM tokens the answer used, if it said."""
        ...

    @property
    def arrived(self) -> Usage | None:
        """What the answer has used as far as it has come: as it says, else counted; `None` if
        nothing can be said."""
        ...

    async def consume(self, response: UpstreamResponse) -> None: ...

    def rival(self) -> Self:
        """Another consumer for the same call: only one of the two can win."""
        ...


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts_max` counts the first. Backoff before going back to the same deployment. `wait_s`
    is how long a call may wait for room at its deployments, 0 that it is refused at once."""

    attempts_max: int = 3
    backoff_base_s: float = 0.05
    backoff_throttled_s: float = 1.0
    backoff_max_s: float = 20.0
    hedge_delay_min_s: float = 1.0
    hedge_share: float = 0.05
    wait_s: float = 0.0
    waiting_max: int = 1000


class Attempts:
    def __init__(
        self,
        providers: Mapping[str, Provider],
        fleet: Fleet,
        policy: RetryPolicy | None = None,
        standstill: Standstill | None = None,
    ) -> None:
        self._providers = providers
        self._fleet = fleet
        self._standstill = standstill or Standstill()
        self.policy = policy or RetryPolicy()
        self.parameters = Parameters()
        self._output_limits = OutputLimits()
        self._hedges: dict[str, RetryBudget] = {}
        self.turns = Turns()

    async def run(
        self,
        call: Call,
        candidates: Sequence[Deployment],
        consumer: Consumer,
        may_use: Callable[[Deployment], bool] | None = None,
    ) -> None:
        """Return when one attempt was consumed whole. Raises the last attempt's `UpstreamFailed`.

        A deployment that fails before anything was committed to the caller is followed by the
        next one; an answer that says the call itself is wrong is not. `may_use` is asked before a
        deployment gets the call. Raises `LimitExceeded` if all of them have all they may have,
        `NoDeploymentAvailable` if none can be asked for other reasons.
        """
        fleet = self._fleet
        tokens = tokens_wanted(call, candidates)
        tried: list[Member] = []
        again: list[Member] = []
        telling: UpstreamFailed | None = None
        try:
            if self.turns.are_awaited(call.alias.name):
                raise _behind_others(call)
            member = self._first_usable(call, candidates, tokens, may_use)
        except LimitExceeded as refusal:
            member = await self._in_turn(call, candidates, tokens, may_use, refusal)
        member.budget.call()
        while True:
            began = perf_counter()
            try:
                if call.alias.hedging and not tried:
                    await self._hedged(call, member, candidates, tokens, consumer, may_use)
                else:
                    await self._attempt(call, member, tokens, consumer)
            except UpstreamFailed as error:
                _go_on(call)
                tried.append(member)
                if may_ask_again(error):
                    again.append(member)
                elif member in again:
                    again.remove(member)
                found = None
                answering = call.deployment if consumer.is_committed else None
                name = (answering or member.deployment).name
                may_go_on = may_fail_over(error) and not is_too_large(error)
                if not consumer.is_committed and may_go_on:
                    found = self._next(call, candidates, tokens, tried, again, error, may_use)
                    telling = most_telling(error, telling)
                if found is None:
                    remember_failed(call, name, began, error, None)
                    if telling is not None and telling is not error:
                        raise telling from error
                    raise
                following, after_s = found
                why = "retry" if following in tried else "fail over"
                remember_failed(call, name, began, error, why)
                member = following
                took_s = perf_counter() - began
                if after_s > 0:
                    await self._wait(call, member, after_s)
                    if member.why_not(tokens, fleet.clock()) is not None:
                        # Drained meanwhile, or others were quicker: there was no next one.
                        forget_next(call)
                        raise
                call.earlier_s += took_s
            else:
                call.upstream_done_at = perf_counter()
                return

    def _first_usable(
        self,
        call: Call,
        candidates: Sequence[Deployment],
        tokens: int,
        may_use: Callable[[Deployment], bool] | None,
    ) -> Member:
        fleet = self._fleet
        now = fleet.clock()
        soonest_s = float("inf")
        why: list[str] = []
        are_at_limits = bool(candidates)
        for deployment in candidates:
            member = fleet.of(deployment)
            unusable = member.why_not(tokens, now)
            if unusable is None:
                if may_use is None or may_use(deployment):
                    return member
                unusable = "too_dear"
            else:
                soonest_s = min(soonest_s, member.usable_in_s(tokens, now))
            are_at_limits = are_at_limits and unusable in {"busy", "rate_limited"}
            why.append(f"{deployment.name}: {_told(member, unusable, tokens, now)}")
        if are_at_limits:
            retry_after_s = min(max(soonest_s, 0.05), _UNAVAILABLE_RETRY_S_MAX)
            raise LimitExceeded(
                f"Limit reached: every deployment of '{call.alias.name}' has all it may have "
                f"({', '.join(why)}). Try again in {format_reset(retry_after_s)}.",
                code="rate_limit_exceeded",
                retry_after_s=retry_after_s,
            )
        raise NoDeploymentAvailable(
            f"No deployment of '{call.alias.name}' is available ({', '.join(why) or 'none'}).",
            code="no_deployment_available",
            retry_after_s=min(max(soonest_s, 1.0), _UNAVAILABLE_RETRY_S_MAX),
        )

    async def _in_turn(
        self,
        call: Call,
        candidates: Sequence[Deployment],
        tokens: int,
        may_use: Callable[[Deployment], bool] | None,
        refusal: LimitExceeded,
    ) -> Member:
        """Where to try first, once there is room and it is this call's turn; if it may wait."""

        def look() -> Member:
            return self._first_usable(call, candidates, tokens, may_use)

        policy = self.policy
        within_s = min(policy.wait_s, call.patience_s())
        # A batch's item has its turn when those who wait for an answer have had theirs.
        may_wait = call.batch_item is None and len(self.turns) < policy.waiting_max
        if within_s <= 0 or not may_wait or refusal.retry_after_s is None:
            raise refusal
        began_at = perf_counter()
        try:
            return await self.turns.wait(call.alias.name, call.key.account_id, within_s, look)
        finally:
            call.waited_s += perf_counter() - began_at

    def _next(
        self,
        call: Call,
        candidates: Sequence[Deployment],
        tokens: int,
        tried: Sequence[Member],
        again: Sequence[Member],
        error: UpstreamFailed,
        may_use: Callable[[Deployment], bool] | None,
    ) -> tuple[Member, float] | None:
        """Where to try next, and after how long; `None` to give up.

        Another deployment at once; the same ones again after a backoff, if there is no other and
        they may do better then (`again`, the last one tried last). An
        attempt at a deployment that is not known to answer is taken from its retry budget, so that
        an outage of all of them is not made worse.
        """
        policy, fleet = self.policy, self._fleet
        if len(tried) >= policy.attempts_max or call.cancel_cause is not None:
            return None
        if call.remaining_s() <= 0:
            return None  # whoever is asked now could not answer in time
        now = fleet.clock()
        for deployment in candidates:
            member = fleet.of(deployment)
            if member in tried or member.why_not(tokens, now) is not None:
                continue
            if may_use is not None and not may_use(deployment):
                continue
            if member.answers or member.budget.try_take(now):
                return member, 0.0
        if not again:
            return None
        member = again[-1]
        throttled = isinstance(error, UpstreamRefused) and error.status == 429
        after_s = wait_s(
            len(tried) - 1,
            base_s=policy.backoff_throttled_s if throttled else policy.backoff_base_s,
            max_s=policy.backoff_max_s,
            retry_after_s=error.retry_after_s,
            uniform=fleet.chance.uniform,
        )
        rest_s = member.throttled_until_s - now
        if rest_s > after_s:
            after_s += rest_s  # not all at once when its rest is over
        if after_s >= call.remaining_s():
            return None  # it would be too late
        if not member.may_be_used_after(after_s, tokens, now) or not member.budget.try_take(now):
            return None
        return member, after_s

    async def _wait(self, call: Call, member: Member, wait_s: float) -> None:
        """Before the same deployment is asked again. Nobody is asked meanwhile."""
        began_at = perf_counter()
        call.is_between_attempts = True
        try:
            await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            timed_out = _timed_out(call, member.deployment)
            _go_on(call)
            raise timed_out or asyncio.CancelledError from None
        finally:
            remember_backoff(call, perf_counter() - began_at)
        call.is_between_attempts = False

    async def _hedged(
        self,
        call: Call,
        first: Member,
        candidates: Sequence[Deployment],
        tokens: int,
        consumer: Consumer,
        may_use: Callable[[Deployment], bool] | None,
    ) -> None:
        """An attempt, and a second one elsewhere if the first is slower to begin than 95 of 100
        are there. Whichever begins first is the answer; the other is cancelled."""
        policy, fleet = self.policy, self._fleet
        budget = self._hedges.get(call.alias.name)
        if budget is None:
            budget = RetryBudget(policy.hedge_share, 0, fleet.clock())
            self._hedges[call.alias.name] = budget
        budget.call()
        usual_s = first.pace(streamed=call.request.stream).p95.value
        if usual_s is None:
            await self._attempt(call, first, tokens, consumer)
            return
        won = asyncio.get_running_loop().create_future()
        running: dict[asyncio.Task[None], tuple[Member, float, Consumer]] = {}
        began_at = perf_counter()

        def start(member: Member, rival: Consumer) -> asyncio.Task[None]:
            begun = member.begin(tokens)  # now: calls that come meanwhile must see it
            is_sent = False

            async def attempt() -> None:
                nonlocal is_sent
                is_sent = True
                await self._attempt(call, member, tokens, rival, begun)

            def ended(_: asyncio.Task[None]) -> None:
                if not is_sent:  # cancelled before it ran at all
                    member.end(begun, "ignored", fleet.clock(), unused_tokens=tokens)

            task = asyncio.create_task(attempt())
            task.add_done_callback(ended)
            running[task] = (member, perf_counter(), rival)

            def win() -> None:
                call.deployment = rival.deployment or member.deployment
                call.sent_at = running[task][1]
                call.earlier_s += call.sent_at - began_at
                # Remembered now: the reply that begins next tells of them.
                for other, (loser, began, its) in running.items():
                    if other is not task and not other.done():
                        other.cancel()
                        remember_loser(
                            call, loser.deployment.name, began, its.deployment, its.arrived
                        )
                if not won.done():
                    won.set_result(None)

            rival.on_win = win
            return task

        try:
            task = start(first, consumer)
            await asyncio.wait(
                (task, won),
                timeout=max(usual_s, policy.hedge_delay_min_s),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not task.done() and not won.done():
                now = fleet.clock()
                for deployment in candidates:
                    member = fleet.of(deployment)
                    if member is first or member.why_not(tokens, now) is not None:
                        continue
                    if may_use is not None and not may_use(deployment):
                        continue
                    if budget.try_take(now):
                        start(member, consumer.rival())
                    break
            await self._race(call, running)
        except asyncio.CancelledError:
            timed_out = _timed_out(call, first.deployment)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            raise timed_out or asyncio.CancelledError from None

    async def _race(
        self, call: Call, running: Mapping[asyncio.Task[None], tuple[Member, float, Consumer]]
    ) -> None:
        """Wait until one of the attempts has answered, or all have failed."""
        await asyncio.wait(running)
        failure: UpstreamFailed | None = None
        failed: list[tuple[Member, float, UpstreamFailed]] = []
        is_answered = False
        for task, (member, began, consumer) in running.items():
            if task.cancelled():
                continue
            error = task.exception()
            if error is None:
                is_answered = True
            elif not isinstance(error, UpstreamFailed):
                raise error
            else:
                failed.append((member, began, error))
                if consumer.is_committed or failure is None:
                    failure = error
        for member, began, error in failed:
            if is_answered or error is not failure:  # else whoever catches it remembers it
                remember_failed(call, member.deployment.name, began, error, "hedge")
        if not is_answered and failure is not None:
            raise failure

    async def _attempt(
        self,
        call: Call,
        member: Member,
        tokens: int,
        consumer: Consumer,
        begun: int | None = None,
    ) -> None:
        """One attempt, and what it says about the deployment. `begun`: of one that has begun."""
        if begun is None:
            begun = member.begin(tokens)
        deployment = member.deployment
        call.deployment = deployment
        call.first_content_at = 0.0
        outcome: Outcome = "ignored"
        reason = ""
        unused = tokens
        told = call.request.adjusted
        mends: tuple[Mend, ...] = ()
        mends_left = _MENDS_MAX
        call.sent_at = began_at = perf_counter()
        lost_before_s = call.lost_s
        limit_names = self._output_limits.names(call, deployment, self._fleet.clock)
        naming: Naming | None = None
        try:
            while True:
                response: UpstreamResponse | None = None
                if limit_names:
                    call.request.name_limits(limit_names)
                try:
                    request = UpstreamRequest(
                        call.id,
                        call.request.endpoint,
                        self._body(call, deployment, mends),
                        deployment,
                        call.request.stream,
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
                    await consumer.consume(response)
                    if naming is not None:
                        naming.answered(self._fleet.clock())
                    break
                except asyncio.CancelledError:
                    raise _timed_out(call, deployment) or asyncio.CancelledError from None
                except UpstreamRefused as error:
                    if not mends_left or consumer.is_committed:
                        raise
                    mends_left -= 1
                    now = self._fleet.clock()
                    naming = naming or Naming(self._output_limits, call, deployment, limit_names)
                    if naming.mend(error, now):
                        limit_names = naming.names
                        call.sent_at = perf_counter()
                        continue
                    mend = self.parameters.mend_for(error, deployment, call.request, mends, now)
                    if mend is None:
                        raise
                    mends = (*mends, mend)
                    call.sent_at = perf_counter()
                finally:
                    if response is not None:
                        response.close()
            outcome = "success"
            unused = tokens - (consumer.used_tokens or tokens)
            first_at = call.first_content_at if call.request.stream else perf_counter()
            if first_at:
                began_s = first_at - began_at - (call.lost_s - lost_before_s)
                outcome, reason = self._learn_pace(call, member, max(0.0, began_s))
        except UpstreamFailed as error:
            call.request.adjusted = told  # what was mended for it is not what is answered
            redact_error(error, self._fleet.secrets)
            outcome, reason = "ignored", ""
            if not is_our_own(error):
                outcome, reason = member.failed(error, call.key.account_id, self._fleet.clock())
            self._standstill.note(perf_counter())
            if call.lost_s != lost_before_s:
                outcome = "ignored"  # it was the relay that stood still
            if call.cancel_cause == "total_timeout" and was_hurried(call, member, began_at):
                outcome = "ignored"
            raise
        finally:
            member.end(begun, outcome, self._fleet.clock(), unused_tokens=unused, reason=reason)

    def _learn_pace(self, call: Call, member: Member, began_s: float) -> tuple[Outcome, str]:
        streamed = call.request.stream
        pace = member.pace(streamed=streamed)
        pace.observe(began_s, self._fleet.clock(), is_ranked=call.alias.hedging)
        if streamed and 0 < self._fleet.policy.slow_first_token_s < began_s:
            return "failure", f"first token after {began_s:.1f} s"
        return "success", ""

    def _body(self, call: Call, deployment: Deployment, mends: tuple[Mend, ...]) -> bytes:
        call.request.set_model(deployment.upstream_model)
        if not mends and not self.parameters.has_any:
            return call.request.render()
        mended = self.parameters.mended(call.request, deployment, mends, self._fleet.clock())
        if mended is None:
            return call.request.render()
        fields, changed = mended
        call.request.tell(*changed)
        return encode_fields(fields)

    def _heed(self, response: UpstreamResponse, member: Member) -> None:
        """An upstream that says that nothing is left gets a rest before it has to refuse."""
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


def _timed_out(call: Call, deployment: Deployment) -> UpstreamTimedOut | None:
    """The cancellation as an error, if the watchdog caused it; the call may then `_go_on`."""
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


def _go_on(call: Call) -> None:
    """The watchdog's cancellation, if there was one, ended an attempt and not the call."""
    if call.cancel_cause in _TIMEOUTS and call.task is not None:
        call.cancel_cause = None
        call.task.uncancel()


def _behind_others(call: Call) -> LimitExceeded:
    return LimitExceeded(
        f"Other calls wait for room at the deployments of '{call.alias.name}'. Try again in 1s.",
        code="rate_limit_exceeded",
        retry_after_s=1.0,
    )


def _told(member: Member, unusable: str, tokens: int, now: float) -> str:
    """Why a deployment is passed over; of a limit, which and how much."""
    refusal = member.limits.refusal(tokens, now) if unusable in {"busy", "rate_limited"} else None
    if unusable == "breaker_open" and member.trouble is not None:
        return f"breaker open: {member.breaker.reason}"
    if refusal is None:
        return unusable.replace("_", " ")
    return f"{refusal.limit:,} {LIMIT_WORDS[refusal.kind]}"
