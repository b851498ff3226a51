"""The words in which a simulated model speaks: what is asked, the steps of an answer, and what all
endpoints share of them: refusals, failures, whole JSON bodies."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from merino.simulator.options import Options

Headers = list[tuple[bytes, bytes]]


class Wait(NamedTuple):
    """Time passes while tokens are read (counted at once) and made (counted as it passes)."""

    seconds: float
    input_tokens: int = 0
    output_tokens: int = 0


class Head(NamedTuple):
    """`length` is `None` for a stream."""

    status: int
    headers: Headers
    length: int | None


class Bytes(NamedTuple):
    """A piece of the body, and the tokens made to produce it."""

    data: bytes
    output_tokens: int = 0


class Cut(NamedTuple):
    """The connection is lost."""


class Hang(NamedTuple):
    """Nothing ever follows."""


class End(NamedTuple):
    """The body is complete."""


Step = Wait | Head | Bytes | Cut | Hang | End

CHAT = "chat/completions"
RESPONSES = "responses"
COMPACT = "responses/compact"
COUNTED = "responses/input_tokens"
EMBEDDINGS = "embeddings"
MESSAGES = "messages"
COUNT_TOKENS = "messages/count_tokens"
PIECE_BYTES = 64 * 1024
GARBAGE = b"<html><body>502 Bad Gateway (simulated)</body></html>\n"

_JSON = b"application/json"
_encode = msgspec.json.encode


@dataclass(slots=True)
class Asked:
    """One request, and all the outside decides about it. `model` is the name without its suffix;
    `number` counts the requests of the same full name from 1; `pace` stretches every duration."""

    endpoint: str
    body: dict[str, Any]
    model: str
    options: Options
    id: str
    number: int
    created_s: int
    pace: float = 1.0
    ttft_factor: float = 1.0
    gap_chance: random.Random | None = None

    def ttft_s(self) -> float:
        """Time before reasoning and content begin."""
        return self.pace * self.options.ttft_s * self.ttft_factor

    def gap_s(self, tokens: int) -> float:
        """Time that so many tokens take after the ones before."""
        seconds = self.pace * _seconds(tokens, self.options)
        if self.gap_chance is not None:
            sigma = self.options.gap_sigma
            seconds *= self.gap_chance.lognormvariate(-sigma * sigma / 2, sigma)  # of mean 1
        return seconds


def _seconds(tokens: int, options: Options) -> float:
    return tokens / options.tps if options.tps else 0.0


# -- refusals and failures ------------------------------------------------------------------------


class Refused(Exception):  # a decision, carried to the one place that answers it
    def __init__(
        self, message: str, param: str | None, code: str | None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.steps = refusal(message, param, code, status)


def refusal(
    message: str, param: str | None = None, code: str | None = None, status: int = 400
) -> tuple[Step, ...]:
    """The vendor's refusal of a wrong request."""
    return whole(status, error_body(message, "invalid_request_error", param, code))


_FAILURES: dict[int, tuple[str, str, str | None]] = {
    401: (
        "Incorrect API key provided: sk-simu*****ated.",
        "invalid_request_error",
        "invalid_api_key",
    ),
    403: ("You are not allowed to use this model.", "invalid_request_error", "model_not_allowed"),
    404: ("The model does not exist.", "invalid_request_error", "model_not_found"),
    429: ("Rate limit reached for requests.", "requests", "rate_limit_exceeded"),
    503: ("The engine is currently overloaded, please try again later.", "server_error", None),
}


def failure(status: int, retry_after_s: float | None) -> tuple[Step, ...]:
    """A failure with this status, in the vendor's form."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    message, kind, code = _FAILURES.get(status, (f"A failure with status {status}.", kind, None))
    headers: Headers = []
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(retry_after_s)))
        headers.append((b"retry-after-ms", b"%d" % round(retry_after_s * 1000)))
    return whole(status, error_body(f"Simulated failure: {message}", kind, None, code), headers)


def error_body(message: str, kind: str, param: str | None, code: str | None) -> bytes:
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def whole(status: int, body: bytes, headers: Headers | None = None) -> tuple[Step, ...]:
    return (
        Head(status, [(b"content-type", _JSON), *(headers or ())], len(body)),
        Bytes(body),
        End(),
    )


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole_number(body: dict[str, Any], name: str, low: int, high: int) -> int | None:
    value: object = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(f"Invalid type for '{name}': expected an integer.", name, "invalid_type")
    if not low <= value <= high:
        raise Refused(
            f"Invalid '{name}': expected a value from {low} to {high}, but got {value} instead.",
            name,
            "integer_below_min_value" if value < low else "integer_above_max_value",
        )
    return value


# -- whole answers --------------------------------------------------------------------------------


def headers_of(content_type: bytes, asked: Asked) -> Headers:
    if asked.options.wrong_content_type:
        content_type = b"text/html; charset=utf-8"
    return [(b"content-type", content_type), (b"x-request-id", b"req_" + asked.id.encode())]


def deliver(data: bytes, asked: Asked) -> Iterator[Step]:
    """Send a whole JSON answer, with what shall go wrong with it."""
    options = asked.options
    if options.error_in_stream or options.error_after is not None:
        yield from failure(500, None)
        return
    if options.garbage:
        data = GARBAGE
    elif options.malformed:
        data = data[: len(data) * 2 // 3]
    yield Head(200, headers_of(_JSON, asked), len(data))
    if options.cut_after is not None or options.hang_after is not None:
        yield Bytes(data[: len(data) // 2])
        yield Hang() if options.cut_after is None else Cut()
        return
    for at in range(0, len(data), PIECE_BYTES):
        yield Bytes(data if len(data) <= PIECE_BYTES else data[at : at + PIECE_BYTES])
    yield End()
