"""The answer to a call that its upstream works on in the background: taken once that has ended, so
that it is billed whether or not anybody comes back for it."""

from __future__ import annotations

import asyncio
import contextlib

from merino.domain.errors import UpstreamBroken, UpstreamFailed, UpstreamTimedOut
from merino.gateway.call import Call
from merino.gateway.expectations import Expectations
from merino.gateway.outcome import Failure, Outcome, settled
from merino.gateway.ports import Background, UpstreamResponse
from merino.gateway.used import reckoned
from merino.gateway.whole_answer import WholeAnswer, parsed
from merino.wire.response_events import ResponseReader
from merino.wire.response_object import UNFINISHED, decode_ending

FAILED_STATUS = 502


class FollowedAnswer(WholeAnswer):
    """The first answer begins it. From then on no other attempt may follow."""

    def __init__(self, call: Call, bytes_max: int, background: Background) -> None:
        super().__init__(call, bytes_max)
        self._background = background
        self._reader = ResponseReader()
        self._begun = asyncio.Event()
        self.has_begun = False
        self._status = ""

    @property
    def is_committed(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.has_begun

    def outcome(self, expectations: Expectations | None, failure: Failure | None) -> Outcome:
        """What it used is what its upstream says in the end. If that is never known, what was seen
        of its stream is billed, and nothing else."""
        call, reader, result = self._call, self._reader, self.result
        if failure is None and result.usage is None and self._status in ("failed", "cancelled"):
            code = result.error_code or f"response_{self._status}"
            call.error_message = result.error_message
            ended = Outcome("voided", FAILED_STATUS, error_code=code)
            ended.response_id, ended.response = result.id, self.body
            return ended
        if failure is None:
            return super().outcome(expectations, None)
        if not reader.has_content and reader.usage is None:
            return Outcome("voided", failure.status, error_code=failure.code)
        found = reckoned(
            call,
            reader.usage,
            reader.output_bytes,
            reader.reasoning_bytes,
            reader.wide_bytes,
            has_content=reader.has_content,
            is_whole=False,
        )
        return settled(failure.status, found, reader.usage, produced=True, error_code=failure.code)

    async def consume(self, response: UpstreamResponse) -> None:
        """Raises `UpstreamFailed` while the upstream has not taken it."""
        try:
            await self._consume(response)
        except asyncio.CancelledError:
            self._call.is_left_open = self.has_begun  # the next process goes on with it
            raise

    async def _consume(self, response: UpstreamResponse) -> None:
        kind = response.header(b"content-type") or b""
        if kind.lower().startswith(b"text/event-stream"):
            await self._streamed(response)
            return
        body = response.whole(self._bytes_max) or await response.read(self._bytes_max)
        self.result = parsed(self._call, body)
        if not self.result.id:
            raise UpstreamBroken(
                "The upstream took a background response and did not say which one.",
                code="upstream_invalid_response",
            )
        await self._begin(self.result.id, body)
        if not self._take(body):
            await self.follow(self.result.id)

    async def _streamed(self, response: UpstreamResponse) -> None:
        """Pass its events on as long as they come. Where they break off, it is asked for."""
        piping = asyncio.ensure_future(response.pipe(self._feed))
        beginning = asyncio.ensure_future(self._begun.wait())
        try:
            await asyncio.wait((piping, beginning), return_when=asyncio.FIRST_COMPLETED)
            if not self._begun.is_set():
                await piping
                raise UpstreamBroken(
                    "The upstream ended the stream before it was complete.",
                    code="upstream_stream_broken",
                )
            assert self._reader.id is not None
            await self._begin(self._reader.id, self._reader.begun)
            with contextlib.suppress(UpstreamFailed):
                await piping
        finally:
            piping.cancel()
            beginning.cancel()
        if not self._reader.final or not self._take(self._reader.final):
            await self.follow(self._reader.id)

    def _feed(self, data: bytes) -> None:
        for event in self._reader.feed(data):
            if event.kind == "error" and not self.has_begun:
                raise UpstreamBroken("The upstream reported an error.", code="upstream_error")
        if self._reader.id is not None:
            self._begun.set()
        self._background.said(data)

    async def _begin(self, response_id: str, body: bytes) -> None:
        self._claim()
        self.has_begun = True
        await self._background.begun(self._call, response_id, body)

    async def follow(self, response_id: str) -> None:
        """Ask for it until it has ended. Raises `UpstreamTimedOut` when its time is over."""
        self.has_begun = True
        call = self._call
        while call.remaining_s() > 0:
            body = await self._background.look(response_id)
            if body is not None and self._take(body):
                return
        raise UpstreamTimedOut(
            f"The response did not end within {call.timeout_s:g} s.", code="upstream_timeout"
        )

    def _take(self, body: bytes) -> bool:
        """Whether this is the end of it."""
        status = decode_ending(body).status or "completed"
        if status in UNFINISHED:
            return False
        self._status = status
        self.body = body
        self.result = self._call.request.endpoint.read_answer(body)
        return True

    def check(self, now: float) -> None:
        """The watchdog's visit: what was begun is followed until its own time is over."""
        if not self.has_begun:
            super().check(now)
