"""Watches answers pass: what was used, how fast, and whether it is still paid for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import NoReturn, Self

from msgspec.structs import replace

from merino.domain.errors import StreamBroken, UpstreamBroken, UpstreamFailed
from merino.domain.usage import Usage
from merino.gateway.call import CALLER_LEFT_STATUS, Call
from merino.gateway.expectations import Expectations
from merino.gateway.hedge import Contender
from merino.gateway.outcome import Failure, Outcome, settled
from merino.gateway.ports import Reply, UpstreamResponse
from merino.gateway.reckoning import (
    CHARACTERS_PER_TOKEN_MAX,
    Reckoned,
    least_tokens,
    runaway_tokens,
)
from merino.gateway.refusals import (
    after_content,
    hold_outgrown,
    limit_ignored,
    refusal_in_answer,
)
from merino.gateway.used import reckoned
from merino.wire.endpoints import EventReader
from merino.wire.reported_units import most_units, with_units
from merino.wire.sse import BOM, Event, comment, comment_lines, terminated

KEEP_ALIVE = comment("keep-alive")
_ODDLY_DONE = re.compile(rb'data: ?(?:\[done\]|"\[DONE\]")\s*$').search
_NAMED = b"event: response."
_MAY_TELL = frozenset(("other", "comment"))
"""Kinds of events in which an upstream may report its own troubles; no part of the answer."""

END_AFTER_S = 0.1
"""How long an upstream may take to end the body after its last event. The answer is complete
anyway."""
FINISHED_AFTER_S = 5.0
"""How long it may be silent once every choice has its finish reason: usage and `[DONE]` may
follow."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Sizes in bytes, times in seconds."""

    event_bytes_max: int = 8 * 1024 * 1024
    keep_alive_s: float = 15.0
    answer_bytes_max: int = 160 * 1024 * 1024
    kept_bytes_max: int = 4 * 1024 * 1024


class StreamRelay(Contender):
    """Carries one stream from an upstream to the caller, event by event, and meters it.

    Nothing is sent before the first content event, so an attempt may fail until then; what is held
    back meanwhile has the same bound as one event. The usage event is withheld from a caller who
    did not ask for it, `[DONE]` until the settlement is durable; of events without data only the
    comments are passed on. `grow` buys more output tokens; it returns false when the balance has no
    more. The lower bound of what was used comes from text alone: an event may be less than a token.
    """

    def __init__(
        self,
        call: Call,
        reply: Reply,
        limits: StreamLimits,
        grow: Callable[[int], bool],
        *,
        keep: bool,
    ) -> None:
        self._call = call
        self._reply = reply
        self._limits = limits
        self._grow = grow
        self._send = reply.send
        self._keep_alive_s = limits.keep_alive_s
        if call.reads_s and call.reads_s < 2 * limits.keep_alive_s:
            self._keep_alive_s = call.reads_s / 2
            self._last_sent_at = call.received_at
        self._drop_usage = not call.request.include_usage
        self._response: UpstreamResponse | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._is_done = False
        self._is_stopped = False
        self._done_at = 0.0
        self._is_flowing = False
        """Content was sent, and nothing is held back: more content may follow at once."""
        self._last_read_at = self._last_sent_at = perf_counter()
        self._is_paused = False
        self._kept: list[bytes] | None = [] if keep else None
        self._kept_bytes = 0
        self._has_won = False
        self._keep_answer = keep
        self._tokens_held = call.output_tokens * call.request.n
        self._text_bytes_held = self._tokens_held * CHARACTERS_PER_TOKEN_MAX
        self._tokens_max = runaway_tokens(self._tokens_held)
        self._is_runaway = False
        self._is_faulty = False
        """An event failed the stream: that counts even if the whole stream came in the same
        read."""
        self.reader = self._new_reader()
        self._has_content = False
        self.last_event = b""

    def _new_reader(self) -> EventReader:
        new = self._call.request.endpoint.new_reader
        assert new is not None, "a request for a stream is made of an endpoint that has them"
        return new(self._limits.event_bytes_max)

    @property
    def is_committed(self) -> bool:
        """Content reached the caller: no other attempt may follow."""
        return self._has_won or self._has_winner()

    @property
    def used_tokens(self) -> int | None:
        usage = self.reader.usage
        return None if usage is None else usage.input_tokens + usage.output_tokens

    @property
    def arrived(self) -> Usage | None:
        reader = self.reader
        if reader.usage is None and not reader.has_content:
            return None
        return self.reckoned(None, is_whole=False).usage

    def reckoned(self, expectations: Expectations | None, *, is_whole: bool) -> Reckoned:
        """What the stream has used so far."""
        reader, call = self.reader, self._call
        found = reckoned(
            call,
            reader.usage,
            reader.output_bytes,
            reader.reasoning_bytes,
            reader.wide_bytes,
            has_content=reader.has_content,
            expectations=expectations,
            is_whole=is_whole,
            paid_tokens=call.output_tokens * call.request.n if self._is_stopped else None,
        )
        if units := reader.units:
            used = with_units(found.usage, most_units(found.usage.units, units))
            found = replace(found, usage=used or found.usage)
        return replace(found, oddity="runaway") if self._is_runaway else found

    def outcome(self, expectations: Expectations | None, failure: Failure | None) -> Outcome:
        """How the call ended: whole, or with `failure`. In both cases the caller pays for content
        that reached them."""
        reader = self.reader
        found = self.reckoned(expectations, is_whole=failure is None)
        request = self._call.request
        is_named = request.is_stored and request.endpoint.answers_are_named
        response_id = reader.id if is_named else None
        if failure is not None:
            status, code = failure
            status = 200 if self.is_committed and status != CALLER_LEFT_STATUS else status
            return settled(
                status,
                found,
                reader.usage,
                produced=reader.has_content,
                error_code=code,
                response_id=response_id,
                sealed=reader.sealed,
            )
        kept = self.kept()
        return settled(
            200,
            found,
            reader.usage,
            produced=reader.has_content,
            finish_reason=reader.finish_reason,
            service_tier=reader.service_tier,
            answer=None if kept is None else kept + self._last(),
            content_type=b"text/event-stream",
            response_id=response_id,
            response=reader.final,
            sealed=reader.sealed,
        )

    def finish(self, reply: Reply) -> None:
        """The last event, once the call is settled."""
        reply.end(self._call, self._last())

    def _last(self) -> bytes:
        return self.last_event or self._call.request.endpoint.last_event

    def heard(self, data: bytes) -> None:
        """Count what had reached the caller before, in another process."""
        self.reader.feed(data)
        self._has_won = self._has_content = self.reader.has_content

    def rival(self) -> Self:
        rival = type(self)(
            self._call, self._reply, self._limits, self._grow, keep=self._keep_answer
        )
        return self._compete(rival, has_won=self._has_won)

    async def consume(self, response: UpstreamResponse) -> None:
        """Relay a whole stream. Raises `UpstreamBroken` before, `StreamBroken` after content."""
        self._response = response
        self._pending.clear()
        self._pending_bytes = 0
        self._is_done = self._is_flowing = self._is_faulty = False
        self.reader = self._new_reader()
        self._last_read_at = perf_counter()
        content_type = response.header(b"content-type") or b""
        if not content_type.lower().startswith(b"text/event-stream"):
            shown = content_type.decode("latin-1")[:60]
            raise UpstreamBroken(
                f"The upstream answered a streaming request with '{shown}' instead of "
                "text/event-stream.",
                code="upstream_invalid_response",
            )
        try:
            await response.pipe(self._feed)
        except StreamBroken:
            raise
        except UpstreamFailed as error:
            if self._is_faulty or not (self._is_done or self.reader.is_complete):
                if error.verdict is not None:
                    raise
                raise self._broken(error.message, error.code) from error
            # Otherwise all that matters had arrived.
        reader = self.reader
        self._take([Event(terminated(event.raw), event.kind) for event in reader.finish()])
        if not self._is_done and not reader.is_complete:
            raise self._broken("The upstream ended the stream before it was complete.", None)
        if not self._has_content and reader.finish_reason is None:
            raise self._broken("The upstream ended the stream without an answer in it.", None)
        self._flush()

    def _feed(self, data: bytes) -> None:
        self._last_read_at = now = perf_counter()
        reader = self.reader
        try:
            kind = reader.feed_one(data)
            if kind is None:
                self._take(reader.feed(data))
                return
        except ValueError as error:
            raise self._broken(f"{error}.", "upstream_event_too_large") from error
        if kind != "content" or not self._is_flowing:
            self._take([Event(data, kind)])
            return
        # One event in the middle of an answer: all but a few reads of a stream.
        if reader.output_bytes + reader.reasoning_bytes > self._text_bytes_held:
            self._check_text()
        self._last_sent_at = now
        self._send(data)
        if self._kept is not None:
            self._keep(data)

    def _take(self, events: list[Event]) -> None:
        has_content, failure = self._gather(events)
        pending = self._pending
        if has_content and pending:
            # Also before a failure: it is mere chance whether content came in the same read.
            if self._has_content:
                self._check_text()
                self._flush()
            else:
                self._win()
                if self._reply.has_begun and pending:
                    # Behind a heartbeat of ours it would no longer be a byte order mark.
                    pending[0] = pending[0].removeprefix(BOM)
                self._flush()
                if failure is None:
                    self._check_text()
        elif self._pending_bytes > self._limits.event_bytes_max and failure is None:
            failure = UpstreamBroken(
                f"The upstream sent {self._pending_bytes} bytes of events before any content.",
                code="upstream_invalid_response",
            )
        self._is_flowing = self._has_content and not self._is_done and not pending
        if failure is not None:
            if failure.verdict is None:
                failure = self._broken(failure.message, failure.code)
            elif self._has_content:
                failure = after_content(failure)
            self._is_faulty = True
            raise failure

    def _gather(self, events: list[Event]) -> tuple[bool, UpstreamFailed | None]:
        """Hold back what may be passed on. Whether there was content so far, and what fails the
        stream."""
        pending = self._pending
        has_content = self._has_content
        for event in events:
            kind, raw = event.kind, event.raw
            if self._is_done:
                if kind == "done" and not self._call.request.endpoint.last_event:
                    self.last_event += terminated(raw)  # an end mark after the last event
                    continue
                break
            if kind == "content":
                has_content = True
            elif kind == "usage":
                if self._drop_usage:
                    continue
            elif kind == "comment":
                raw = comment_lines(raw)
                if not raw or not (has_content or self._reply.has_begun):
                    continue
            elif kind == "done":
                self._end_with(raw)
                continue
            elif kind == "error":
                reader = self.reader
                if reader.ending:
                    reader.ending = self.secrets.redact_bytes(terminated(reader.ending))
                return has_content, refusal_in_answer(reader.failure or {}, self._call)
            elif kind == "garbage":
                return has_content, UpstreamBroken(
                    "The upstream sent an event that is not JSON.",
                    code="upstream_invalid_response",
                )
            if raw.startswith(_NAMED):
                pass  # the answer's own events; those of errors have other names
            elif kind in _MAY_TELL and (b'"choices"' not in raw or b'"error' in raw):
                raw = self.secrets.redact_bytes(raw)
            elif raw.find(b"\n") < len(raw) - 2 or raw[:5] != b"data:":
                raw = self.secrets.redact_lines(raw)
            pending.append(raw)
            self._pending_bytes += len(raw)
        return has_content, None

    def _end_with(self, raw: bytes) -> None:
        """The event that ends the stream, which is kept until the settlement is durable."""
        self._is_done = True
        self._done_at = self._last_read_at
        # Without a line end before it, which would end the relay's comment.
        last = terminated(raw).lstrip(b"\r\n")
        if _ODDLY_DONE(last):
            last = self._call.request.endpoint.last_event
        self.last_event = last if last.startswith(_NAMED) else self.secrets.redact_bytes(last)

    def _win(self) -> None:
        """The first content: this is the answer, unless a rival has won already."""
        first_content_at = perf_counter()
        if not self._claim():
            raise self._broken("Another attempt was quicker.", None)
        self._has_won = self._has_content = True
        self._call.first_content_at = first_content_at
        self._call.reader = self.reader

    def _flush(self) -> None:
        if not self._pending:
            return
        data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        self._last_sent_at = self._last_read_at
        if self._reply.has_begun:
            self._send(data)
        else:
            self._reply.begin(self._call, data)
        if self._kept is not None:
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        self._kept_bytes += len(data)
        if self._kept is not None and self._kept_bytes <= self._limits.kept_bytes_max:
            self._kept.append(data)
        else:
            self._kept = None

    def _check_text(self) -> None:
        """Check, before text is passed on, whether more came than was paid for, or far more than
        was asked for."""
        reader = self.reader
        characters = reader.output_bytes + reader.reasoning_bytes - reader.wide_bytes
        least = least_tokens(characters, is_any=reader.has_content)
        while min(least, self._tokens_max) > self._tokens_held:
            if not self._buy_more():
                self._stop()
        if least > self._tokens_max:
            self._is_runaway = True
            self._cut(limit_ignored())

    def _buy_more(self) -> bool:
        more = max(256, self._call.output_tokens // 2)
        while not self._grow(more):
            more //= 4  # the last of the balance is bought in small pieces
            if not more:
                return False
        self._call.output_tokens += more
        self._tokens_held = self._call.output_tokens * self._call.request.n
        self._text_bytes_held = self._tokens_held * CHARACTERS_PER_TOKEN_MAX
        return True

    def _stop(self) -> NoReturn:
        self._cut(hold_outgrown())

    def _cut(self, why: StreamBroken) -> NoReturn:
        self._is_stopped = True
        self._pending.clear()
        raise why

    def _broken(self, message: str, code: str | None) -> UpstreamFailed:
        kind = StreamBroken if self._has_content else UpstreamBroken
        return kind(message, code=code or "upstream_stream_broken")

    def kept(self) -> bytes | None:
        """The events sent, if they are to be kept and are not too many."""
        return None if self._kept is None else b"".join(self._kept)

    # -- flow control and time -------------------------------------------------------------------

    def on_writable(self, is_writable: bool) -> None:
        if self.chosen is not self:
            self.chosen.on_writable(is_writable)
            return
        self._is_paused = not is_writable
        self._last_read_at = perf_counter()
        if self._response is not None:
            if is_writable:
                self._response.resume()
            else:
                self._response.pause()

    def grant(self, lost_s: float, now: float) -> None:
        """The relay stood still: the upstream was not silent, the relay did not listen."""
        if self.chosen is not self:
            self.chosen.grant(lost_s, now)
            return
        self._call.grant(lost_s, now)
        self._last_read_at = min(now, self._last_read_at + lost_s)

    def check(self, now: float) -> None:
        """The watchdog's visit: time limits, and a sign of life while the upstream is silent."""
        if self.chosen is not self:
            self.chosen.check(now)
            return
        call = self._call
        deployment = call.deployment
        if deployment is None or call.task is None or not call.sent_at:
            return
        silent_s = now - self._last_read_at
        reader = self.reader
        is_at_done = reader.is_at_done
        has_finished = reader.has_finished or (
            self._response is not None and self._response.has_finished
        )
        if self._is_done or is_at_done or (has_finished and not self._is_paused):
            patience_s = min(FINISHED_AFTER_S, deployment.idle_timeout_s / 2)
            if is_at_done:
                patience_s = END_AFTER_S
            if self._response is not None and (
                silent_s > patience_s or (self._is_done and now - self._done_at > END_AFTER_S)
            ):
                self._response.end()
                return
        if now - call.received_at > call.timeout_s:
            call.cancel("total_timeout")
        elif (
            not self._has_content
            and now - call.sent_at > deployment.first_token_timeout_s
            and not call.is_between_attempts
        ):
            call.cancel("first_token_timeout")
        elif (
            self._has_content
            and not self._is_paused
            and now - max(self._last_read_at, call.sent_at) > deployment.idle_timeout_s
        ):
            call.cancel("idle_timeout")
        elif (
            now - max(self._last_sent_at, call.started_at) > self._keep_alive_s
            and not self._is_done
            and self._reply.is_writable
            and not self._reply.is_disconnected
        ):
            if self._reply.has_begun:
                self._reply.send(KEEP_ALIVE)
            else:
                self._reply.begin(call, KEEP_ALIVE)
            self._last_sent_at = now
