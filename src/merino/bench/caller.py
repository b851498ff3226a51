"""Makes one call and notes when what arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from merino.bench.reading import TimedReader, note_usage, pieces_of, shown
from merino.bench.samples import INTERRUPTED, CallSample, is_too_long
from merino.bench.targets import Target
from merino.domain.errors import UpstreamFailed, UpstreamTimedOut, UpstreamUnreachable
from merino.domain.money import parse_nanos
from merino.domain.usage import Usage
from merino.gateway.parameters import REFUSING, refused_of
from merino.wire.chat import CHAT
from merino.wire.errors import NOTHING_SAID, parse_error, read_error
from merino.wire.lenient import decode_lenient
from merino.wire.produced import visible_text
from merino.wire.served import SERVED
from merino.wire.splitting import EVENT_BYTES_MAX

ANSWER_BYTES_MAX = 64 * 1024 * 1024
_DETAIL_MAX = 200
_RETRY_S = 0.5


class Response(Protocol):
    """`connect_s` is how long its connection took to open; `None` for one that was open."""

    connect_s: float | None

    @property
    def status(self) -> int: ...
    def header(self, name: bytes) -> bytes | None: ...
    async def read(self, bytes_max: int) -> bytes: ...
    async def pipe(self, sink: Callable[[bytes], None]) -> None: ...
    def close(self) -> None: ...


SendBytes = Callable[[bytes], Awaitable[Response]]
"""Sends a rendered HTTP/1.1 request to the server."""
CostOf = Callable[[str, str | None, Usage], int | None]
"""What an answer of a model cost at a service tier, in nano-units; `None` without a price."""

_to_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_LIMIT = "max_completion_tokens"
_OTHER_NAMES: dict[str, str | None] = {
    _LIMIT: "max_tokens",
    "stream_options": None,
}
"""Fields that some servers refuse, and what means the same there; in the order in which they are
suspected where a refusal names none."""


@dataclass(slots=True)
class Asked:
    """A call to be made. `keeps_text` for those whose answer the next turn needs."""

    number: int
    body: bytes
    scheduled_s: float
    input_tokens_estimate: int = 0
    output_tokens_max: int | None = None
    scenario: str = ""
    block: int = 0
    is_warmup: bool = False
    keeps_text: bool = False
    text: str = ""


@dataclass(slots=True)
class CallerPolicy:
    """`api` is the endpoint that is asked; `timeout_s` for the whole call; `retries` after 429, 5xx
    and lost connections, in one sample: what is measured is then what a caller with that many
    retries sees."""

    is_streamed: bool = True
    timeout_s: float = 600.0
    retries: int = 0
    api: str = CHAT.name
    headers: tuple[tuple[str, str], ...] = field(default=())


class Caller:
    """Calls one target. `began` is the run's zero, a reading of `time.perf_counter()`."""

    def __init__(
        self,
        send: SendBytes,
        target: Target,
        policy: CallerPolicy,
        cost_of: CostOf | None = None,
    ) -> None:
        parts = urlsplit(target.base_url)
        self._send = send
        self.target = target
        self._policy = policy
        self._cost_of = cost_of
        key = f"authorization: Bearer {target.key}\r\n" if target.key else ""
        more = "".join(f"{name}: {value}\r\n" for name, value in policy.headers)
        accept = "text/event-stream" if policy.is_streamed else "application/json"
        self._head = (
            f"POST {parts.path.rstrip('/')}/{policy.api} HTTP/1.1\r\n"
            f"host: {parts.netloc}\r\n{key}{more}content-type: application/json\r\n"
            f"accept: {accept}\r\naccept-encoding: identity\r\ncontent-length: "
        ).encode("latin-1")
        self._endpoint = SERVED[policy.api]
        self.began = 0.0
        self._has_tried_older = False
        self._refused: frozenset[str] = frozenset()
        """What this server does not know: the usual name of the output limit, `stream_options`."""

    async def call(self, asked: Asked) -> CallSample:
        """Make it and tell what was seen. Raises nothing; an error is in the sample."""
        began = self.began
        now = perf_counter() - began
        sample = CallSample(
            number=asked.number,
            target=self.target.name,
            scheduled_s=asked.scheduled_s,
            sent_s=now,
            end_s=now,
            block=asked.block,
            scenario=asked.scenario,
            is_warmup=asked.is_warmup,
            output_tokens_max=asked.output_tokens_max,
        )
        try:
            async with asyncio.timeout(self._policy.timeout_s):
                while not await self._attempt(asked, sample):
                    await asyncio.sleep(_RETRY_S * 2**sample.retries)
                    sample.retries += 1
        except TimeoutError:
            sample.error = "timeout"
        except asyncio.CancelledError:
            sample.error = INTERRUPTED
        sample.end_s = perf_counter() - began
        if sample.error is None and sample.last_token_s is None and not self._policy.is_streamed:
            sample.last_token_s = sample.end_s
        return sample

    def _request(self, body: bytes, refused: frozenset[str]) -> bytes:
        """The request, without what this server is known not to know."""
        if refused:
            fields = _to_fields(body)
            for name in refused & fields.keys():
                value = fields.pop(name)
                if (other := _OTHER_NAMES[name]) is not None:
                    fields[other] = value
            body = _encode(fields)
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    def _respell(
        self, asked: Asked, sample: CallSample, told: bytes, refused: frozenset[str]
    ) -> bool:
        """Whether the refusal is about what the server does not know, and the call can be made
        anew. `refused`: what was left out of the request, which may have been sent before another
        one taught more."""
        if sample.status not in REFUSING:
            return False
        if self._takes_it_back(told, refused):
            return True
        fields = _to_fields(asked.body)
        ours = [name for name in _OTHER_NAMES if name in fields and name not in refused]
        name = refused_of(told, ours, fields)
        if name is None:
            return False
        self._refused |= {name}
        # Finding out how a server is spoken to is none of its time.
        sample.scheduled_s = sample.sent_s = perf_counter() - self.began
        return True

    def _heed_length(self, sample: CallSample) -> None:
        """A server that passes over the limit's name may know the older one."""
        if is_too_long(sample) and not self._has_tried_older:
            self._has_tried_older = True
            self._refused |= {_LIMIT}

    def _takes_it_back(self, told: bytes, refused: frozenset[str]) -> bool:
        """Whether the older name is refused that was only tried."""
        older = _OTHER_NAMES[_LIMIT]
        if not self._has_tried_older or _LIMIT not in refused or older is None:
            return False
        if refused_of(told, [older], [older]) is None:
            return False
        self._refused -= {_LIMIT}
        return True

    async def _attempt(self, asked: Asked, sample: CallSample) -> bool:
        """Whether it is over: answered, or failed for good."""
        sample.error = sample.detail = None
        refused = self._refused
        data = self._request(asked.body, refused)
        try:
            response = await self._send(data)
        except UpstreamUnreachable as error:
            sample.error, sample.detail = "connect", error.message
            return sample.retries >= self._policy.retries
        except UpstreamTimedOut as error:
            sample.error, sample.detail = "connect_timeout", error.message
            return sample.retries >= self._policy.retries
        except UpstreamFailed as error:
            sample.error, sample.detail = "cut", error.message
            return sample.retries >= self._policy.retries
        try:
            sample.first_byte_s = perf_counter() - self.began
            if response.connect_s is not None:
                sample.connect_ms = response.connect_s * 1000
            sample.status = response.status
            sample.overhead_ms = _relay_ms(response.header(b"server-timing"))
            cost = response.header(b"x-merino-cost")
            if cost is not None:
                sample.cost_nanos = _nanos(cost)
            if response.status != 200:
                told = await self._tell_refusal(response, sample)
                if self._respell(asked, sample, told, refused):
                    response.close()
                    return await self._attempt(asked, sample)
                may_retry = response.status in (408, 409, 429) or response.status >= 500
                return not may_retry or sample.retries >= self._policy.retries
            kind = response.header(b"content-type") or b""
            if self._policy.is_streamed:
                await self._stream(response, asked, sample, kind)
            else:
                await self._whole(response, asked, sample)
        except UpstreamFailed as error:
            sample.error, sample.detail = "cut", error.message
        finally:
            response.close()
        return True

    async def _tell_refusal(self, response: Response, sample: CallSample) -> bytes:
        sample.error = f"http_{response.status}"
        body = await response.read(ANSWER_BYTES_MAX)
        parts = parse_error(body)
        if parts is None:
            sample.detail = shown(body)
            return body
        sample.detail = parts[0][:_DETAIL_MAX]
        sample.error = _with_code(sample.error, parts[3])
        return body

    async def _whole(self, response: Response, asked: Asked, sample: CallSample) -> None:
        body = await response.read(ANSWER_BYTES_MAX)
        try:
            answer = self._endpoint.read_answer(body)
        except ValueError:
            sample.error, sample.detail = "not_json", shown(body)
            return
        if answer.is_error:
            sample.error = _with_code("error_body", answer.error_code)
            sample.detail = (answer.error_message or shown(body))[:_DETAIL_MAX]
            return
        if asked.keeps_text:
            asked.text = "".join(map(visible_text, pieces_of(decode_lenient(body))))
        characters = answer.content_bytes + answer.reasoning_bytes - answer.wide_bytes
        counted = max(1, characters // 4)
        self._count(asked, sample, answer.usage, counted, answer.service_tier)

    async def _stream(
        self, response: Response, asked: Asked, sample: CallSample, kind: bytes
    ) -> None:
        if kind and b"event-stream" not in kind.lower():
            sample.error = "not_sse"
            sample.detail = shown(await response.read(ANSWER_BYTES_MAX))
            return
        new_stream = self._endpoint.new_reader
        assert new_stream is not None, "what is measured has streams"
        stream = new_stream(EVENT_BYTES_MAX)
        reader = TimedReader(stream, sample, self.began, keeps_text=asked.keeps_text)
        await response.pipe(reader.feed)
        reader.finish()
        if stream.failure is not None:
            message, _, _, code = read_error(stream.failure) or NOTHING_SAID
            sample.error = _with_code("error_event", code)
            sample.detail = message[:_DETAIL_MAX]
        elif reader.garbage is not None:
            sample.error, sample.detail = "error_event", reader.garbage
        elif not reader.tokens and stream.usage is None:
            sample.error = "empty"
            sample.detail = "the stream ended without a token"
            if reader.rest.strip():
                sample.detail += f"; it said: {shown(reader.rest)}"
        elif not stream.is_complete:
            sample.error = "truncated"
            sample.detail = "the stream ended before its last event"
        else:
            if asked.keeps_text:
                asked.text = reader.text()
            if reader.cost is not None:
                sample.cost_nanos = _nanos(reader.cost)
            self._count(asked, sample, stream.usage, reader.tokens, stream.service_tier)

    def _count(
        self,
        asked: Asked,
        sample: CallSample,
        said: Usage | None,
        counted: int,
        tier: str | None,
    ) -> None:
        used = note_usage(
            sample, said, counted=counted, input_tokens_estimate=asked.input_tokens_estimate
        )
        self._heed_length(sample)
        if used is not None and sample.cost_nanos is None and self._cost_of is not None:
            sample.cost_nanos = self._cost_of(self.target.model, tier, used)


def _with_code(kind: str, code: str | None) -> str:
    return f"{kind} {code}" if code else kind


def _relay_ms(server_timing: bytes | None) -> float | None:
    for part in (server_timing or b"").split(b","):
        name, _, value = part.strip().partition(b";dur=")
        if name == b"relay":
            try:
                return float(value)
            except ValueError:
                return None
    return None


def _nanos(told: bytes) -> int | None:
    try:
        return parse_nanos(told.decode("latin-1").strip())
    except ValueError:
        return None
