"""Makes responses in the background: calls that go on without a connection, with their cost held
until they have ended, and that survive the end of this process.

Where upstreams keep responses, they make them in their own background, and are asked how far they
are. Where the relay does, it makes the call itself, and keeps what was said so far as it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from time import perf_counter, time_ns
from typing import Any

import msgspec
import structlog

from merino.api.errors import body_of
from merino.api.event_log import EventLog, last_number
from merino.domain.deployment import Alias
from merino.domain.errors import (
    InvalidCall,
    MerinoError,
    NotFound,
    StoreUnavailable,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRefused,
)
from merino.domain.kept import BackgroundJob
from merino.domain.key import VirtualKey
from merino.domain.ledger import Hold
from merino.gateway.call import Call, FirstAnswer
from merino.gateway.kept import UpstreamsKept
from merino.gateway.origins import Origin, Origins
from merino.gateway.outcome import Failure, Outcome
from merino.gateway.pipeline import Pipeline
from merino.gateway.ports import Jobs
from merino.gateway.sealing import Sealer
from merino.gateway.state import Keeping, RelayState
from merino.running.every import every
from merino.translation.answered import Made
from merino.translation.asked import Asked
from merino.translation.responses.response_object import ResponseObject
from merino.wire.errors import error_object
from merino.wire.response_events import event_of
from merino.wire.response_replay import ending_event
from merino.wire.responses import RESPONSES
from merino.wire.state_paths import StatePath

log = structlog.get_logger("merino.background")

ENDED_MAX = 200
"""Responses that have ended and whose streams are still in memory."""
_SAY_S = 0.5
_LOOK_S, _LOOK_MAX_S, _LOOK_GROWTH = 0.25, 5.0, 1.3
_LOOK_BYTES_MAX = 64 * 1024 * 1024
_RESTARTED = Failure(503, "relay_restarted")
_TRUE = msgspec.Raw(b"true")
_CREATED = "response.created"
_encode = msgspec.json.encode


class _Sealed(msgspec.Struct):
    """What the next process needs to know."""

    body: msgspec.Raw
    response: msgspec.Raw
    keeping: Keeping | None = None


_decode_sealed = msgspec.json.Decoder(_Sealed).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Job:
    """`gateway.ports.Background` and `Reply` of one response. `accepted` tells when it is under
    way, or why it is not."""

    task = None
    has_begun = False
    is_writable = True
    is_disconnected = False

    def __init__(self, runs: BackgroundCalls, call: Call, *, is_native: bool) -> None:
        self._runs = runs
        self.call = call
        self.is_native = is_native
        self.response_id = "" if is_native else f"resp_{call.id.removeprefix('req_')}"
        self.log = EventLog()
        self.unsaid: list[bytes] = []
        self.response = b""
        """The object as it was last known."""
        self.first: FirstAnswer | None = None
        """The response of an earlier call with the same idempotency key."""
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended_at: asyncio.Event = asyncio.Event()
        self._poked = asyncio.Event()
        self._pause_s = _LOOK_S

    # -- what the pipeline asks ------------------------------------------------------------------

    @property
    def changes(self) -> Mapping[str, msgspec.Raw]:
        if self.is_native:
            return {}
        return {"id": msgspec.Raw(_encode(self.response_id)), "background": _TRUE}

    async def held(self, call: Call) -> None:
        if self.is_native:
            return
        keeping: Keeping | None = call.keeping
        if keeping is None or not keeping.is_stored:
            raise InvalidCall(
                "This response would not be kept, so nobody could ask for it: "
                f"{', '.join(call.request.adjusted) or 'store is false'}.",
                param="background",
                code="storage_full",
            )
        self.response = queued_object(call, keeping.changes)
        await self._runs.note(self, keeping)
        # Whoever follows the stream learns its id now; the upstream may think for minutes.
        event = {"type": _CREATED, "sequence_number": 0, "response": msgspec.Raw(self.response)}
        self.send(b"event: %b\ndata: %b\n\n" % (_CREATED.encode(), _encode(event)))
        self.accept()

    async def begun(self, call: Call, response_id: str, response: bytes) -> None:
        self.response_id, self.response = response_id, response
        await self._runs.note(self, None)
        self.accept()

    def said(self, data: bytes) -> None:
        self.log.append(data)

    async def look(self, response_id: str) -> bytes | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause_s):
                await self._poked.wait()
        self._poked.clear()
        self._pause_s = min(self._pause_s * _LOOK_GROWTH, _LOOK_MAX_S)
        return await self._runs.look(self)

    def poke(self) -> None:
        """Something was done to it: look at once."""
        self._pause_s = _LOOK_S
        self._poked.set()

    def ended(self, call: Call, outcome: Outcome) -> bytes:
        is_cancelled = call.cancel_cause == "hang_up"
        error = None
        if not is_cancelled:
            message = call.error_message or "The response failed."
            error = {"code": _code(outcome.error_code), "message": message}
        found = {
            **_decode_members(self.response),
            "status": "cancelled" if is_cancelled else "failed",
            "error": error,
            "usage": _usage(outcome) if outcome.resolution == "settled" else None,
        }
        self.response = _encode(found)
        return self.response

    # -- what the answer brings ------------------------------------------------------------------

    def watch(
        self, on_disconnect: Callable[[], None], on_writable: Callable[[bool], None] | None
    ) -> None:
        """Nobody can hang up."""

    def answer(self, call: Call, content_type: bytes, body: bytes) -> None:
        self.response = body
        self.close()

    def repeat(self, call: Call, first: FirstAnswer) -> None:
        self.first = first
        self.response = first.body
        self.accept()
        self.close()

    def begin(self, call: Call, data: bytes = b"") -> None:
        self.has_begun = True
        self.send(data if self.is_native else without_created(data))

    def send(self, data: bytes, /) -> None:
        if data.startswith(b":"):
            return  # signs of life are for whoever listens now
        self.log.append(data)
        self.unsaid.append(data)

    def end(self, call: Call, last: bytes) -> None:
        self.send(last)
        self.close()

    def fail(self, call: Call, error: MerinoError) -> None:
        if not self.accepted.done():
            self.accepted.set_exception(error)
            self.accepted.exception()  # whoever started it may be gone
        elif not self.is_native:
            number = last_number(self.log.pieces[-8:]) + 1
            if call.cancel_cause != "hang_up":
                told: dict[str, Any] = error_object(body_of(error)).get("error") or {}
                members = {name: told.get(name) for name in ("code", "message", "param")}
                event = {"type": "error", "sequence_number": number, **members}
                self.send(event_of("error", event))
                number += 1
            self.send(ending_event(self.response, number))
        self.close()

    def over(self) -> None:
        """The call has ended, in whatever way."""
        if not self.accepted.done():
            self.accepted.cancel()
        if not self.ended_at.is_set() and not self.call.is_left_open:
            if not self.is_native:
                self.send(ending_event(self.response, last_number(self.log.pieces[-8:]) + 1))
            self.close()

    def close(self) -> None:
        self.log.close()
        self.ended_at.set()
        self._runs.ended(self)

    def accept(self) -> None:
        """It is under way: whoever asked for it is told."""
        if not self.accepted.done():
            self.accepted.set_result(None)

    def now(self) -> bytes:
        """The response as it is now."""
        if self.ended_at.is_set() or not self.call.sent_at:
            return self.response
        return _encode({**_decode_members(self.response), "status": msgspec.Raw(b'"in_progress"')})


class BackgroundCalls:
    """`aliases` are asked for each call, since a reload may change them."""

    def __init__(
        self,
        pipeline: Pipeline,
        state: RelayState,
        jobs: Jobs,
        sealer: Sealer,
        upstreams: UpstreamsKept,
        origins: Origins,
        *,
        find_key: Callable[[str], VirtualKey],
        hold_of: Callable[[str], Hold | None],
        aliases: Callable[[], Mapping[str, Alias]],
    ) -> None:
        self._pipeline = pipeline
        self._state = state
        self._jobs = jobs
        self._sealer = sealer
        self._upstreams = upstreams
        self._origins = origins
        self._find_key = find_key
        self._hold_of = hold_of
        self._aliases = aliases
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[tuple[str, str], Job] = {}
        self._ended: OrderedDict[tuple[str, str], Job] = OrderedDict()
        self._has_gone_on = False
        self._going_on = asyncio.Lock()

    async def find(self, response_id: str, account_id: str) -> Job | None:
        """One that runs, or has ended a while ago. Raises `StoreUnavailable`."""
        await self._go_on()
        name = (account_id, response_id)
        return self._running.get(name) or self._ended.get(name)

    async def start(self, call: Call) -> Job:
        """Return once it is under way. Raises `MerinoError` if it cannot be."""
        asked = call.request.state
        if asked is not None and not asked.stored:
            raise InvalidCall(
                "A response in the background is kept until somebody asks for it: leave `store` "
                "out, or set it to true.",
                param="store",
                code="invalid_value",
            )
        job = self._same(call) or self._begin(call)
        await asyncio.shield(job.accepted)
        return job

    def _same(self, call: Call) -> Job | None:
        """A running one with the same idempotency key: the caller lost its answer."""
        if call.idempotency_key is None:
            return None
        for job in self._running.values():
            other = job.call
            if (
                other.idempotency_key == call.idempotency_key
                and other.key.account_id == call.key.account_id
                and other.secret == call.secret
                and other.body == call.body
            ):
                return job
        return None

    def _begin(self, call: Call) -> Job:
        request = call.request
        job = call.background = Job(self, call, is_native=not self._state.keeps)
        call.timeout_s = self._state.settings.background_timeout_s
        call.reads_s = 0.0
        if not job.is_native:
            request.change("background", None)
            if not request.stream:
                request.change("stream", _TRUE)
                request.stream = True
        self._run(self._made(job), call.id)
        return job

    async def _made(self, job: Job) -> None:
        try:
            await self._pipeline.run(job.call, job)
        finally:
            job.over()

    def _run(self, work: Any, name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def note(self, job: Job, keeping: Keeping | None) -> None:
        """From now on a process that dies leaves a job for the next one."""
        call = job.call
        hold = call.hold
        assert hold is not None, "it is paid for before it begins"
        deployment = "" if call.deployment is None else call.deployment.name
        account_id = call.key.account_id
        content = _Sealed(msgspec.Raw(call.request.render()), msgspec.Raw(job.response), keeping)
        await self._jobs.add(
            BackgroundJob(
                call.id,
                account_id,
                call.key.id,
                job.response_id,
                call.alias.name,
                deployment,
                job.is_native,
                call.at_ms,
                hold.amount_nanos,
                call.output_tokens,
                hold.expires_after_s,
                self._sealer.seal(account_id, call.id, _encode(content)),
            )
        )
        self._follow(job, deployment)

    def _follow(self, job: Job, deployment: str) -> None:
        account_id = job.call.key.account_id
        self._running[account_id, job.response_id] = job
        if job.is_native:
            origin = Origin(deployment, None, job.call.alias.name)
            self._origins.note_running(account_id, job.response_id, origin)

    def ended(self, job: Job) -> None:
        name = (job.call.key.account_id, job.response_id)
        if self._running.pop(name, None) is None:
            return
        self._ended[name] = job
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    def forget(self, response_id: str, account_id: str) -> None:
        """It was deleted."""
        self._ended.pop((account_id, response_id), None)

    # -- looking at upstreams --------------------------------------------------------------------

    async def look(self, job: Job) -> bytes | None:
        deployment = job.call.deployment
        if deployment is None:
            raise UpstreamBroken(
                "The deployment that makes this response is no longer one of this relay.",
                code="response_lost",
            )
        path = StatePath("responses", job.response_id)
        try:
            async with asyncio.timeout(deployment.idle_timeout_s):
                _, response = await self._upstreams.ask_at(deployment.name, path, "GET")
                try:
                    return await response.read(_LOOK_BYTES_MAX)
                finally:
                    response.close()
        except UpstreamRefused as error:
            if error.status == 404:
                raise UpstreamBroken(error.message, code="response_lost") from error
            return None
        except (UpstreamFailed, NotFound, TimeoutError):
            return None  # it may answer the next time

    async def cancel(self, job: Job) -> None:
        """End one that the relay makes itself; return once it is settled."""
        if not job.is_native and not job.ended_at.is_set():
            job.call.cancel("hang_up")
            await job.ended_at.wait()

    # -- beside the calls ------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. Goes on with what earlier processes have left first."""
        await every(_SAY_S, self._look_after, at_once=True)

    async def _look_after(self) -> None:
        with contextlib.suppress(StoreUnavailable):
            await self._go_on()
        await self.say()

    async def _go_on(self) -> None:
        """Take up what earlier processes have left, once."""
        if self._has_gone_on:
            return
        async with self._going_on:
            if self._has_gone_on:
                return
            for left in await self._jobs.left_over():
                if (left.account_id, left.response_id) not in self._running:
                    await self._resume(left)
            self._has_gone_on = True

    async def say(self) -> None:
        """Keep what was said since the last time. Streams that have ended are read from there."""
        said: list[tuple[str, str, bytes]] = []
        jobs = [*self._running.values(), *self._ended.values()]
        taken: list[tuple[Job, int]] = []
        for job in jobs:
            if job.unsaid and not job.is_native:
                account_id = job.call.key.account_id
                sealed = self._sealer.seal(account_id, job.response_id, b"".join(job.unsaid))
                said.append((account_id, job.response_id, sealed))
                taken.append((job, len(job.unsaid)))
        if said:
            try:
                await self._jobs.say(said)
            except StoreUnavailable:
                return  # the next time
        for job, pieces in taken:
            del job.unsaid[:pieces]
        for name, job in list(self._ended.items()):
            if not job.unsaid:
                del self._ended[name]

    async def said(self, response_id: str, account_id: str) -> list[bytes]:
        """The events of one that has ended, as far as they were kept."""
        sealed = await self._jobs.said(response_id, account_id)
        plain = [self._sealer.open(account_id, response_id, each) for each in sealed]
        return [each for each in plain if each is not None]

    def leave(self) -> None:
        """Follow nothing any more: the next process will."""
        for job in list(self._running.values()):
            if job.is_native and job.call.task is not None:
                job.call.task.cancel()

    async def stop(self) -> None:
        """What runs in an upstream is left to the next process; what runs here ends."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.say()

    # -- after another process -------------------------------------------------------------------

    async def _resume(self, left: BackgroundJob) -> None:
        try:
            job, content = self._job_of(left)
        except MerinoError as error:
            log.error(  # noqa: TRY400 - what was stored is the matter, not this code
                "a background response cannot be gone on with",
                call=left.call_id,
                reason=error.message,
            )
            return
        call = job.call
        if left.is_native:
            self._follow(job, left.deployment)
            self._run(self._pipeline.resume(call, job, left.response_id), call.id)
            log.info("a background response is followed again", call=call.id)
            return
        call.keeping = content.keeping
        said = b"".join(await self.said(left.response_id, left.account_id))
        call.error_message = "The relay was restarted while it made this response."
        try:
            await self._pipeline.give_up(call, said, _RESTARTED)
        except MerinoError as error:
            log.warning("a background response was not settled", call=call.id, reason=error.message)
            return
        log.info("a background response of a process that died has ended", call=call.id)

    def _job_of(self, left: BackgroundJob) -> tuple[Job, _Sealed]:
        plain = self._sealer.open(left.account_id, left.call_id, left.sealed)
        hold = self._hold_of(left.call_id)
        if plain is None or hold is None:
            raise NotFound("It was sealed with another secret, or its hold is over.")
        content = _decode_sealed(plain)
        try:
            key = self._find_key(left.key_id)
        except NotFound:
            key = VirtualKey(left.key_id, left.account_id, "", "", b"")
        body = bytes(content.body)
        request = RESPONSES.parse(body)
        request.previous_id = None
        alias = self._aliases().get(left.alias) or Alias(left.alias, ())
        call = Call(left.call_id, key, request, alias, perf_counter(), body)
        call.timeout_s = self._state.settings.background_timeout_s
        call.at_ms = left.at_ms
        call.hold, call.output_tokens = hold, left.output_tokens
        deployments = (*alias.deployments, *alias.standins)
        call.deployment = next((each for each in deployments if each.name == left.deployment), None)
        job = call.background = Job(self, call, is_native=left.is_native)
        job.response_id, job.response = left.response_id, bytes(content.response)
        job.accept()
        return job, content


def without_created(data: bytes) -> bytes:
    """The first events of a stream but for the one that says that it was created: its caller was
    told that before anybody was asked."""
    first, between, rest = data.partition(b"\n\n")
    return rest if between and b'"response.created"' in first[:120] else data


def queued_object(call: Call, changes: Mapping[str, msgspec.Raw]) -> bytes:
    """A response that nobody has begun with."""
    asked = Asked("", fields=call.request.fields)
    asked.model = call.request.model
    made = Made(call.id, time_ns() // 1_000_000_000)
    return _encode({**ResponseObject(asked, made).members("queued", []), **changes})


def _code(code: str | None) -> str:
    """Of the codes that responses have."""
    return "rate_limit_exceeded" if code and "rate_limit" in code else "server_error"


def _usage(outcome: Outcome) -> dict[str, Any]:
    usage = outcome.usage
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
