"""Read this file first: one call from a parsed request to its settled cost.

Stages, in order: idempotency, plan (prices and candidates), limits, hold, attempts, settle, reply.
The `finally` blocks give back whatever a stage takes, also on error, hang-up and shutdown: success
is `keys record permit hold upstream settle ~permit ~record`, a failed call ends its hold with
`void`, a broken stream with a `settle` of what it used.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter

from merino.domain.call import CallRecord, RunningCall
from merino.domain.deployment import Deployment
from merino.domain.errors import (
    InvalidCall,
    LimitExceeded,
    MerinoError,
    ShuttingDown,
)
from merino.domain.kept import KeptResponse
from merino.domain.limits import Demand
from merino.domain.usage import TOOL_UNITS, Usage
from merino.gateway.attempts import Attempts
from merino.gateway.call import CALLER_LEFT_STATUS, Call
from merino.gateway.expectations import Expectations
from merino.gateway.following import FollowedAnswer
from merino.gateway.hedge import book_losers
from merino.gateway.holds import Holds
from merino.gateway.idempotency import Idempotency
from merino.gateway.issuers import Issuers, sealed_by_whom
from merino.gateway.labels import are_said, label
from merino.gateway.metering import StreamLimits, StreamRelay
from merino.gateway.nobody import NOBODY
from merino.gateway.oddities import Oddities, elsewhere_json, usage_json
from merino.gateway.origins import Origins
from merino.gateway.outcome import Failure, Outcome
from merino.gateway.planning import Plan, Planner, PricedQuote, Tariff, tariff_of, with_others
from merino.gateway.ports import (
    Ledger,
    Limiter,
    Permit,
    Recorder,
    Replay,
    Reply,
    Tracer,
)
from merino.gateway.refused import RefusedRequests
from merino.gateway.state import RelayState, with_kept
from merino.gateway.whole_answer import WholeAnswer
from merino.pricing.cost import Cost, cost, has_cost
from merino.pricing.estimate import worst_case
from merino.pricing.price import Price
from merino.running.registry import Registry
from merino.running.watchdog import Watchdog
from merino.wire.response_state import NO_STATE, ResponseState

CALLER_LEFT = "caller_left"
SHUTTING_DOWN = ShuttingDown(
    "The relay is restarting. Try again.", code="shutting_down", retry_after_s=1.0
)


class Pipeline:
    def __init__(
        self,
        *,
        tariff: Tariff,
        planner: Planner,
        limits: Limiter,
        holds: Holds,
        ledger: Ledger,
        attempts: Attempts,
        idempotency: Idempotency,
        recorder: Recorder,
        watchdog: Watchdog,
        expectations: Expectations,
        status_of: Callable[[MerinoError], int],
        stream_limits: StreamLimits | None = None,
        store_content: bool = False,
        refused: RefusedRequests | None = None,
        origins: Origins | None = None,
        state: RelayState | None = None,
    ) -> None:
        self.tariff = tariff
        self.planner = planner
        self._limits = limits
        self._holds = holds
        self._ledger = ledger
        self._attempts = attempts
        self._idempotency = idempotency
        self.recorder = recorder
        self._tracer: Tracer | None = None
        self._watchdog = watchdog
        self._expectations = expectations
        self._stream_limits = stream_limits or StreamLimits()
        self._status_of = status_of
        self.origins = origins or Origins()
        self.state = state
        self._issuers = Issuers()
        self.oddities = Oddities()
        self.running: Registry[Call] = Registry()
        self._store_content = store_content
        self._keeps_labels = self.keeps_addresses = True
        self.refused = refused or RefusedRequests(ledger)

    def configure(
        self,
        recorder: Recorder,
        stream_limits: StreamLimits,
        *,
        store_content: bool,
        tracer: Tracer | None = None,
        keeps_labels: bool = True,
        keeps_addresses: bool = True,
    ) -> None:
        """Use these for calls that begin from now on."""
        self.recorder = recorder
        self._tracer = tracer
        self._stream_limits = stream_limits
        self._store_content = store_content
        self._keeps_labels = keeps_labels
        self.keeps_addresses = keeps_addresses

    def running_calls(self) -> list[RunningCall]:
        """Oldest first."""
        return [call.as_running() for call in self.running]

    async def run(self, call: Call, reply: Reply) -> None:
        """Answer one call through `reply`. Raises nothing but `CancelledError`."""
        call.started_at = perf_counter()
        call.task = reply.task or asyncio.current_task()
        if call.task is not None:
            call.task.set_name(call.id)
        self.running.begin(call.id, call)
        self.recorder.call_started()
        tracer = self._tracer
        if tracer is not None:
            call.trace = tracer.begin(call.traceparent, call.tracestate)
        try:
            if call.idempotency_key is None:
                await self._admit(call, reply)
            else:
                await self._once(call, reply)
        except MerinoError as error:
            self._refuse(call, reply, error)
        except asyncio.CancelledError:
            if call.is_left_open:
                pass
            elif call.cancel_cause != "hang_up":  # the server stops and cuts what still runs
                self._refuse(call, reply, SHUTTING_DOWN)
            elif call.record is None:  # they left while they waited for their turn
                self._record_refused(call, SHUTTING_DOWN)
        finally:
            call.task = None
            self.running.end(call.id)
            if call.record is not None:
                self.recorder.call_finished(call.record)
                if tracer is not None and call.trace is not None:
                    tracer.ended(call.trace, call.record)
            else:
                self.recorder.call_repeated()

    async def _once(self, call: Call, reply: Reply) -> None:
        first = await self._idempotency.begin(call)
        if first is not None:
            return reply.repeat(call, first)
        try:
            await self._admit(call, reply)
        finally:
            self._idempotency.end(call)

    async def _admit(self, call: Call, reply: Reply) -> None:
        asked, background = call.request.state, call.background
        if asked is not None and asked.background and background is None:
            raise InvalidCall(
                "A response in the background is asked for with POST /v1/responses, and by nothing "
                "else. Leave `background` out.",
                param="background",
                code="unsupported_parameter",
            )
        if asked is not None:
            await self.go_on(call, asked)
        plan = self.planner.plan(call)
        reply.watch(partial(self._hung_up, call), None)
        permit = await self._permit(call, plan.quote)
        status, code = 500, "internal_error"
        try:
            if permit.tokens_max is not None and plan.quote.limit_output(permit.tokens_max):
                call.request.set_output_tokens_max(plan.quote.output_tokens, reason="tpm")
            durable = self._holds.take_now(call, plan.quote)
            if durable is not None:
                call.output_tokens = plan.quote.output_tokens
                await durable
            else:
                grant = await self._holds.take(call, plan.quote)
                held = grant.held_tokens
                call.output_tokens = grant.output_tokens if held is None else held
                if grant.is_clamped:
                    call.request.set_output_tokens_max(grant.output_tokens, reason=grant.clamped_by)
            if background is not None:
                await background.held(call)
            await self._carry(call, reply, plan)
        except (MerinoError, asyncio.CancelledError) as error:
            status, code = self._ending(call, error)
            raise
        finally:
            hold = call.hold
            is_open = call.record is None and not call.is_left_open
            if hold is not None and is_open and not hold.is_undone:
                self._settle(call, plan, Outcome("voided", status, error_code=code))
            record = call.record
            if call.sent_at:
                used = record.input_tokens + record.output_tokens if record else 0
                permit.release(Demand(tokens=used))
            else:
                permit.undo()

    async def go_on(self, call: Call, asked: ResponseState) -> None:
        """Put what a call goes on from into it, or find out who has it. Raises `InvalidCall`,
        `NotFound`."""
        request, state = call.request, self.state
        if state is not None and (asked is not NO_STATE or state.keeps):
            await state.prepare(call, asked)
        if request.previous_id is not None:
            call.origin = origin = await self.origins.find(request.previous_id, call.key.account_id)
            request.prior_tokens = origin.tokens
        elif asked.has_references and call.origin is None:
            given = bytes(request.fields.get("input", b""))
            call.origin = self.origins.of_items(call.key.account_id, given)
        if request.has_sealed:
            call.issuer = self._issuer(call)

    def _issuer(self, call: Call) -> Deployment | None:
        """Who made the sealed thinking that a call brings along, if that is known."""
        name = self._issuers.find(call.key.account_id, sealed_by_whom(call.request))
        return None if name is None else self.planner.deployment(name)

    async def _permit(self, call: Call, quote: PricedQuote) -> Permit:
        demand = Demand(tokens=call.input_tokens + quote.output_tokens * call.request.n)
        asked = call.asked_tokens
        try:
            return self._limits.take(call.key, call.alias, demand, asked)
        except LimitExceeded as error:
            if call.batch_item is not None:
                raise  # its turn comes after the callers that wait for an answer
            began = perf_counter()
            try:
                return await self._limits.wait(
                    call.key, call.alias, demand, error, call.patience_s(), asked
                )
            finally:
                call.waited_s += perf_counter() - began

    # -- attempts and settlement -----------------------------------------------------------------

    async def _carry(self, call: Call, reply: Reply, plan: Plan) -> None:
        """From the first attempt to the last byte, which waits for the settlement to be durable."""
        carrier = self._carrier(call, reply, plan)
        self._watchdog.watch(carrier)
        try:
            await self._attempts.run(call, plan.candidates, carrier, self._guard(call, plan))
        except (MerinoError, asyncio.CancelledError) as error:
            chosen = carrier.chosen
            # Content that reached the caller is billed, and so is an answer they asked for and
            # left.
            has_left = isinstance(error, asyncio.CancelledError) and _is_billed(call)
            if (chosen.is_committed or has_left) and not call.is_left_open:
                failure = Failure(*self._ending(call, error))
                self._settle(call, plan, chosen.outcome(self._expectations, failure))
            raise
        finally:
            self._watchdog.forget(carrier)
            call.task = None  # answered: a caller who leaves now changes nothing

        chosen = carrier.chosen
        outcome = chosen.outcome(self._expectations, None)
        await self._settle(call, plan, outcome)
        chosen.finish(reply)

    async def resume(self, call: Call, reply: Reply, response_id: str) -> None:
        """Go on with a response that an earlier process followed in its upstream's background.
        Raises nothing but `CancelledError`."""
        call.task = asyncio.current_task()
        call.started_at = call.sent_at = perf_counter()
        self.running.begin(call.id, call)
        self.recorder.call_started()
        followed = FollowedAnswer(call, self._stream_limits.answer_bytes_max, call.background)
        failure: Failure | None = None
        try:
            try:
                await followed.follow(response_id)
            except MerinoError as error:
                failure = Failure(*self._ending(call, error))
            await self._settle_again(call, lambda: followed.outcome(self._expectations, failure))
            followed.finish(reply)
        except MerinoError as error:
            reply.fail(call, error)
        finally:
            self.running.end(call.id)
            if call.record is not None:
                self.recorder.call_finished(call.record)
            else:
                self.recorder.call_repeated()

    async def give_up(self, call: Call, said: bytes, failure: Failure) -> None:
        """End a response that an earlier process was making when it died, with what it had said by
        then. Raises `StoreUnavailable`."""
        call.sent_at = perf_counter()
        relay = StreamRelay(call, NOBODY, self._stream_limits, lambda _: False, keep=False)

        def outcome() -> Outcome:
            relay.heard(said)
            if relay.is_committed:
                return relay.outcome(self._expectations, failure)
            return Outcome("voided", failure.status, error_code=failure.code)

        await self._settle_again(call, outcome)
        self.recorder.call_started()
        assert call.record is not None
        self.recorder.call_finished(call.record)

    async def _settle_again(self, call: Call, outcome: Callable[[], Outcome]) -> None:
        """Settle a call that an earlier process had begun. One whose model has no price any more
        is paid by nobody."""
        output_tokens = call.output_tokens
        try:
            plan = self.planner.plan(call)
        except InvalidCall as error:
            assert call.hold is not None
            ended = Outcome("voided", 503, error_code=error.code)
            call.record = self._record(call, ended, Cost(0, 0), call.hold.amount_nanos, None)
            await self._ledger.void(call.hold, call.key, call.record)
            return
        call.output_tokens = output_tokens
        await self._settle(call, plan, outcome())

    def _carrier(self, call: Call, reply: Reply, plan: Plan) -> StreamRelay | WholeAnswer:
        if call.background is not None and call.background.is_native:
            return FollowedAnswer(call, self._stream_limits.answer_bytes_max, call.background)
        if not call.request.stream:
            return WholeAnswer(call, self._stream_limits.answer_bytes_max)
        relay = StreamRelay(
            call,
            reply,
            self._stream_limits,
            lambda tokens: self._grow(call, plan, tokens),
            keep=call.idempotency_key is not None or self._store_content,
        )
        reply.watch(partial(self._hung_up, call), relay.on_writable)
        return relay

    def _guard(self, call: Call, plan: Plan) -> Callable[[Deployment], bool] | None:
        return partial(self.planner.may_use, call, plan) if plan.standins else None

    def _settle(self, call: Call, plan: Plan, outcome: Outcome) -> Awaitable[None]:
        """End the hold, once. Synchronous in memory: cancelling the caller cannot undo it."""
        hold = call.hold
        assert hold is not None
        assert call.record is None
        price = plan.price
        if call.deployment is not None:
            asked = call.request.service_tier
            tier = outcome.service_tier or asked
            # Otherwise it is the planned price.
            if tier != asked or len(plan.candidates) > 1 or call.deployment.is_free:
                account_id = call.key.account_id
                # The planned price holds if the exchange rate was removed meanwhile.
                with contextlib.suppress(InvalidCall):
                    found = tariff_of(call, self.tariff)
                    price = found(call.deployment, call.at_ms, tier, account_id) or price
        if outcome.usage.elsewhere:
            tier = outcome.service_tier or call.request.service_tier
            spent = with_others(call, outcome.usage, price, self.tariff, tier)
        else:
            spent = cost(outcome.usage, price)
        lost_nanos = book_losers(call, plan.prices) if call.attempts else 0
        if lost_nanos:
            spent = Cost(spent.account_nanos, spent.upstream_nanos + lost_nanos)
        call.record = record = self._record(call, outcome, spent, hold.amount_nanos, price)
        if (
            outcome.said is not None
            or outcome.oddity is not None
            or not spent.account_nanos
            or outcome.usage.units
        ):
            self._note_odd(call, outcome, record, price)
        kept: KeptResponse | None = None
        if call.keeping is not None and self.state is not None:
            kept = self.state.kept(call, outcome)
        if outcome.resolution != "settled":
            if kept is not None:
                return self._ledger.void(hold, call.key, record, with_kept(call, None, kept))
            return self._ledger.void(hold, call.key, record)
        if outcome.source == "reported":
            self._expectations.learn(
                call.tag,
                outcome.usage.output_tokens,
                outcome.usage.reasoning_tokens,
                call.upstream_s,
            )
        replay: Replay | None = None
        if call.batch_item is not None and outcome.answer is not None:
            replay = _item_ended(call, outcome.status, outcome.answer)
        elif call.background is not None and call.idempotency_key is not None:
            if outcome.response:  # whoever asks again gets the response, streamed or not
                replay = self._idempotency.seal(call, 200, "application/json", outcome.response)
        elif call.idempotency_key is not None and outcome.answer is not None:
            replay = self._idempotency.seal(
                call, outcome.status, outcome.content_type.decode("latin-1"), outcome.answer
            )
        if kept is not None:
            replay = with_kept(call, replay, kept)
        return self._ledger.settle(hold, call.key, record, replay)

    def _note_odd(
        self, call: Call, outcome: Outcome, record: CallRecord, price: Price | None
    ) -> None:
        """A reported usage that is not billed stays with the call; the relay's operator is told."""
        said = "" if outcome.said is None else usage_json(outcome.said)
        if outcome.source in ("raised", "disbelieved") or outcome.oddity is not None:
            record.reported_usage = said or None
        oddity = outcome.oddity
        if (
            not record.charged_nanos
            and outcome.produced
            and price is not None
            and has_cost(price)
            and not (call.deployment and call.deployment.is_free)
        ):
            oddity = "zero_charge"
        elif outcome.usage.units and price is not None and _has_unpriced(outcome.usage, price):
            oddity = "unpriced_unit"
            said = said or usage_json(outcome.usage)
        if oddity is not None:
            self.oddities.note(record.deployment, oddity, record.id, said)

    def _record(
        self, call: Call, outcome: Outcome, spent: Cost, held_nanos: int, price: Price | None
    ) -> CallRecord:
        usage = outcome.usage
        deployment = call.deployment
        timing = call.timing()
        ttft_ms = None
        if call.first_content_at:
            ttft_ms = (call.first_content_at - call.received_at) * 1000
        key, request = call.key, call.request
        charged_nanos = spent.account_nanos
        # By position, in the order of the fields: naming thirty of them costs as much again.
        record = CallRecord(
            call.id,
            key.account_id,
            key.id,
            call.alias.name,
            request.endpoint.name,
            call.at_ms,
            outcome.status,
            deployment.name if deployment else "",
            deployment.upstream_model if deployment else "",
            request.stream,
            outcome.error_code,
            outcome.finish_reason,
            outcome.resolution,
            timing.elapsed_ms,
            ttft_ms,
            timing.queue_ms,
            timing.relay_ms,
            timing.upstream_ms,
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
            outcome.source,
            held_nanos,
            charged_nanos,
            charged_nanos - held_nanos if charged_nanos > held_nanos else 0,
            spent.upstream_nanos,
            price.id if price else None,
            call.idempotency_key,
            call.attempts,
        )
        if usage.image_input_tokens or usage.audio_input_tokens or usage.audio_output_tokens:
            record.image_input_tokens = usage.image_input_tokens
            record.audio_input_tokens = usage.audio_input_tokens
            record.audio_output_tokens = usage.audio_output_tokens
        if usage.units:
            record.units = json.dumps(dict(usage.units))
        if usage.elsewhere:
            record.elsewhere = elsewhere_json(usage)
        if outcome.response_id is not None and not (call.keeping and call.keeping.is_stored):
            record.response_id = outcome.response_id
            self.origins.note(record)
            if len(call.alias.deployments) > 1:
                self.origins.note_items(key.account_id, record.deployment, outcome.response)
        if outcome.sealed and deployment is not None:
            self._issuers.note(key.account_id, outcome.sealed, deployment.name)
        if call.attempts:
            record.attempts = self.refused.redacted(call.attempts)
        if outcome.error_code is not None:
            record.error_message = call.error_message
        if call.address and self.keeps_addresses:
            record.address = call.address
        if self._keeps_labels and (call.tags or are_said(request.fields)):
            label(record, request.fields, call.tags)
        if self._store_content:
            record.request_json = call.body.decode()
            if outcome.answer is not None:
                record.response_text = outcome.answer.decode(errors="replace")
        return record

    def _grow(self, call: Call, plan: Plan, tokens: int) -> bool:
        assert call.hold is not None
        wanted = call.output_tokens + tokens
        worst_nanos = plan.quote.worst_nanos(wanted)
        if call.deployment is not None and call.deployment.name in plan.standins:
            price = plan.prices[call.deployment.name]
            worst_nanos = worst_case(call.request, price, call.input_tokens, wanted)
        more_nanos = worst_nanos - call.hold.amount_nanos
        return more_nanos <= 0 or self._ledger.grow(call.hold, more_nanos, call.key)

    def _hung_up(self, call: Call) -> None:
        deployment = call.deployment
        drains = deployment is not None and deployment.on_disconnect == "drain"
        # A keyed answer is worth finishing: the repeat fetches it without a second bill.
        if drains or (call.idempotency_key is not None and not call.request.stream):
            return
        call.cancel("hang_up")

    def _ending(self, call: Call, error: MerinoError | asyncio.CancelledError) -> tuple[int, str]:
        """Status and error code for the record of a call that `error` ended."""
        if call.cancel_cause == "hang_up":
            return CALLER_LEFT_STATUS, CALLER_LEFT
        if isinstance(error, asyncio.CancelledError):
            error = SHUTTING_DOWN
        call.error_message = self.refused.told(error)
        return self._status_of(error), error.code or type(error).__name__

    def _refuse(self, call: Call, reply: Reply, error: MerinoError) -> None:
        # A batch item that finds no room was not refused: it goes back into its queue.
        is_put_off = call.batch_item is not None and isinstance(error, LimitExceeded)
        if call.record is None and not is_put_off:
            self._record_refused(call, error)
        reply.fail(call, error)

    def _record_refused(self, call: Call, error: MerinoError) -> None:
        status, code = self._ending(call, error)
        outcome = Outcome("voided", status, error_code=code)
        call.record = self._record(call, outcome, Cost(0, 0), 0, None)
        self.refused.keep(call.record, is_bounded=call.batch_item is None)


def _item_ended(call: Call, status: int, answer: bytes) -> Replay:
    """Ends the item in the transaction that books its call."""
    return Replay(
        id=call.id.encode(),
        body_hash=b"",
        call_id=call.id,
        status=status,
        content_type="application/json",
        body=answer,
        at_ms=call.at_ms,
        item=call.batch_item,
    )


def _has_unpriced(usage: Usage, price: Price) -> bool:
    """Whether a vendor's tool did something that nobody is billed for. An explicit rate of nothing
    is a price."""
    known = dict(price.account.units)
    return any(unit in TOOL_UNITS and unit not in known for unit, _ in usage.units)


def _is_billed(call: Call) -> bool:
    """Whether a call that was cut short is still the caller's to pay: they left after an upstream
    had started on it. What we or the upstream failed to deliver is not."""
    is_with_upstream = bool(call.sent_at) and not call.is_between_attempts
    return call.cancel_cause == "hang_up" and is_with_upstream
