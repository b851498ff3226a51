"""Takes an answer that comes whole: what it used, and whether it is an answer at all."""

from __future__ import annotations

import re
from typing import Self

from merino.domain.errors import UpstreamBroken
from merino.domain.usage import Usage
from merino.gateway.call import Call
from merino.gateway.expectations import Expectations
from merino.gateway.hedge import Contender
from merino.gateway.outcome import Failure, Outcome, settled
from merino.gateway.ports import Reply, UpstreamResponse
from merino.gateway.refusals import refusal_in_answer
from merino.gateway.used import reckoned
from merino.wire.errors import error_object
from merino.wire.usage import ChatResult

_NOTHING = ChatResult()
_NO_ERROR = re.compile(rb'"error": ?null[,}]').search
_PLAIN_TYPES = frozenset(
    (b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8")
)
"""The content type of nearly all answers; it holds no secret."""


class WholeAnswer(Contender):
    """Takes an answer that is not streamed, and reads what it used."""

    is_committed = False
    """Nothing reaches the caller before the whole answer is here."""

    def __init__(self, call: Call, bytes_max: int) -> None:
        self._call = call
        self._bytes_max = bytes_max
        self.body = b""
        self.content_type = b"application/json"
        self.result = _NOTHING

    @property
    def used_tokens(self) -> int | None:
        usage = self.result.usage
        return None if usage is None else usage.input_tokens + usage.output_tokens

    @property
    def arrived(self) -> Usage | None:
        return self.result.usage

    def outcome(self, expectations: Expectations | None, failure: Failure | None) -> Outcome:
        """How the call ended: with this answer, or without one."""
        result, request = self.result, self._call.request
        found = reckoned(
            self._call,
            result.usage,
            result.content_bytes,
            result.reasoning_bytes,
            result.wide_bytes,
            has_content=result.has_content,
            expectations=expectations,
        )
        if failure is not None:
            return settled(failure.status, found, error_code=failure.code)
        return settled(
            200,
            found,
            result.usage,
            produced=result.has_content,
            finish_reason=result.finish_reason,
            service_tier=result.service_tier,
            answer=self.body,
            content_type=self.content_type,
            response_id=result.id
            if request.is_stored and request.endpoint.answers_are_named
            else None,
            response=self.body,
            sealed=result.sealed,
        )

    def finish(self, reply: Reply) -> None:
        """The answer, once the call is settled."""
        reply.answer(self._call, self.content_type, self.body)

    def rival(self) -> Self:
        return self._compete(type(self)(self._call, self._bytes_max))

    async def consume(self, response: UpstreamResponse) -> None:
        """Raises `UpstreamBroken` for what is no answer."""
        body = response.whole(self._bytes_max)
        self.body = await response.read(self._bytes_max) if body is None else body
        self.result = parsed(self._call, self.body)
        if b'"error"' in self.body and _NO_ERROR(self.body) is None:
            # One of several choices failed: its error is no content.
            self.body = self.secrets.redact_bytes(self.body)
        content_type = response.header(b"content-type")
        if content_type is not None and b"json" in content_type.lower():
            # Otherwise it gets the right one: SDKs decode only what is declared as JSON.
            self.content_type = (
                content_type
                if content_type in _PLAIN_TYPES
                else self.secrets.redact_bytes(content_type)
            )
        self._claim()

    def grant(self, lost_s: float, now: float) -> None:
        self._call.grant(lost_s, now)

    def check(self, now: float) -> None:
        """The watchdog's visit: the total time is limited, and each attempt's time may be."""
        call = self._call
        if now - call.received_at > call.timeout_s:
            call.cancel("total_timeout")
        elif (
            call.deployment is not None
            and call.sent_at
            and 0 < call.deployment.answer_timeout_s < now - call.sent_at
            and not call.is_between_attempts
        ):
            call.cancel("answer_timeout")


def parsed(call: Call, body: bytes) -> ChatResult:
    """What an answer says of itself. Raises `UpstreamFailed` if it is none."""
    try:
        result = call.request.endpoint.read_answer(body)
    except ValueError as error:
        name = call.deployment.name if call.deployment else ""
        raise UpstreamBroken(
            f"Deployment '{name}' answered 200 with a body that is not a JSON object.",
            code="upstream_invalid_response",
        ) from error
    if result.is_error:
        raise refusal_in_answer(error_object(body), call, result.error_message)
    return result
