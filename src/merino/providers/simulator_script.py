"""What a simulated model does, as a sequence of steps: no clock, no socket, no state.

`simulator.py` plays the steps inside the process, `simulator_server.py` over sockets.
"""

from __future__ import annotations

import base64
import math
import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, cast
from zlib import crc32

import msgspec

from merino.providers.simulator_options import Options
from merino.providers.simulator_schema import as_list, as_object, example_of

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
EMBEDDINGS = "embeddings"
MODEL_NAMES = ("o3", "o3-mini", "o4", "o4-mini", "text-embedding-3-small", "text-embedding-3-large")

_REASONING_FAMILIES = ("o3", "o4")
_EFFORTS = {
    "none": 0.0,
    "minimal": 0.125,
    "low": 0.25,
    "medium": 1.0,
    "high": 4.0,
    "xhigh": 8.0,
}
_FINGERPRINT = "fp_simulated"
_CHOICES_MAX = 128
_EMBEDDING_INPUTS_MAX = 2048
_DIMENSIONS_MAX = 8192
_PIECE_BYTES = 64 * 1024
_IMAGE_TOKENS = {"low": 85}
_IMAGE_TOKENS_DETAILED = 765
_UNSUPPORTED_WHEN_STRICT = {
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logprobs": False,
    "top_logprobs": 0,
    "logit_bias": None,
}
_FILLER_TEXT = (
    "Its words are made up from a fixed list, so that tests and demos can run anywhere. "
    "The number of tokens, the time they take and every failure can be chosen by name. "
    "Nothing here was thought, looked up or learned; only the bytes are like the real ones."
)
_FILLER = tuple(f" {word}" for word in _FILLER_TEXT.split())
_JSON = b"application/json"
_SSE = b"text/event-stream; charset=utf-8"
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


def script(asked: Asked, rng: random.Random) -> Iterator[Step]:
    """The steps that answer one request."""
    options = asked.options
    # Chance is drawn before anything else, so that the order of requests alone decides.
    is_unlucky = options.fail_rate > 0 and rng.random() < options.fail_rate
    if options.jitter:
        asked.pace = 1 + options.jitter * rng.uniform(-1, 1)
    if options.slow_share and rng.random() < options.slow_share:
        asked.pace *= options.slow_factor
    if options.ttft_sigma:
        asked.ttft_factor = rng.lognormvariate(0, options.ttft_sigma)  # of median 1
    if options.gap_sigma:
        asked.gap_chance = random.Random(rng.getrandbits(64))  # noqa: S311 - reproducible
    if options.hang:
        return iter((Hang(),))
    if options.cut:
        return iter((Cut(),))
    is_conditional = options.fail_rate > 0 or options.fail_first > 0
    is_failing = is_unlucky or asked.number <= options.fail_first
    if is_failing or (options.status is not None and not is_conditional):
        steps = failure(options.status or 503, options.retry_after_s)
        return chain((Wait(asked.ttft_s()),), steps)
    try:
        steps = _embeddings(asked) if asked.endpoint == EMBEDDINGS else _chat(asked)
    except _Refused as refusal:
        return iter(refusal.steps)
    return steps if options.slow_drip_s is None else _drip(steps, options.slow_drip_s)


# -- errors ---------------------------------------------------------------------------------------


class _Refused(Exception):  # a decision, carried to the one place that answers it
    def __init__(
        self, message: str, param: str | None, code: str | None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.steps = refusal(message, param, code, status)


def refusal(
    message: str, param: str | None = None, code: str | None = None, status: int = 400
) -> tuple[Step, ...]:
    """The vendor's refusal of a wrong request."""
    return _whole(status, _error_body(message, "invalid_request_error", param, code))


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
    return _whole(status, _error_body(f"Simulated failure: {message}", kind, None, code), headers)


def _error_body(message: str, kind: str, param: str | None, code: str | None) -> bytes:
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def _whole(status: int, body: bytes, headers: Headers | None = None) -> tuple[Step, ...]:
    return (
        Head(status, [(b"content-type", _JSON), *(headers or ())], len(body)),
        Bytes(body),
        End(),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole_number(body: dict[str, Any], name: str, low: int, high: int) -> int | None:
    value: object = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Refused(f"Invalid type for '{name}': expected an integer.", name, "invalid_type")
    if not low <= value <= high:
        raise _Refused(
            f"Invalid '{name}': expected a value from {low} to {high}, but got {value} instead.",
            name,
            "integer_below_min_value" if value < low else "integer_above_max_value",
        )
    return value


# -- chat -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Answer:
    """What a chat model says: `pieces` are its visible tokens, for each of `choices` the same."""

    pieces: list[str]
    finish_reason: str
    input_tokens: int
    reasoning_tokens: int
    choices: int
    tool_name: str | None = None

    def usage(self, cached_tokens: int) -> dict[str, Any]:
        output_tokens = (len(self.pieces) + self.reasoning_tokens) * self.choices
        return {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": self.input_tokens + output_tokens,
            "prompt_tokens_details": {"cached_tokens": cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning_tokens * self.choices,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


def is_reasoning(model: str) -> bool:
    """Whether a model of this name thinks unseen: `o3`, `o4-mini`, also with a path before it."""
    name = model.rpartition("/")[2]
    return any(name == family or name.startswith(f"{family}-") for family in _REASONING_FAMILIES)


def _chat(asked: Asked) -> Iterator[Step]:
    model = asked.model
    if model.rpartition("/")[2].startswith("text-embedding-"):
        raise _Refused(
            "This is not a chat model and thus not supported in the v1/chat/completions endpoint.",
            "model",
            None,
            404,
        )
    if asked.options.strict and is_reasoning(model):
        _refuse_unsupported(asked.body)
    answer = _answer(asked.body, model, asked.options)
    if asked.body.get("stream") is True:
        return _chat_stream(asked, answer)
    return _chat_whole(asked, answer)


def _refuse_unsupported(body: dict[str, Any]) -> None:
    if body.get("max_tokens") is not None:
        raise _Refused(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "max_tokens",
            "unsupported_parameter",
        )
    for name, default in _UNSUPPORTED_WHEN_STRICT.items():
        if body.get(name) is not None and body[name] != default:
            raise _Refused(
                f"Unsupported parameter: '{name}' is not supported with this model.",
                name,
                "unsupported_parameter",
            )


def _answer(body: dict[str, Any], model: str, options: Options) -> _Answer:
    messages = as_list(body.get("messages"))
    if not messages:
        raise _Refused(
            "Missing required parameter: 'messages'."
            if body.get("messages") is None
            else "Invalid 'messages': expected an array with at least one message.",
            "messages",
            "missing_required_parameter" if body.get("messages") is None else "invalid_value",
        )
    for number, item in enumerate(messages):
        _check_message(number, item)
    limit = _whole_number(body, "max_completion_tokens", 1, 100_000_000)
    if limit is None:
        limit = _whole_number(body, "max_tokens", 1, 100_000_000)
    choices = _whole_number(body, "n", 1, _CHOICES_MAX) or 1
    input_tokens, prompt = _read_prompt(messages)
    tools = as_list(body.get("tools"))
    if tools:
        input_tokens += len(_encode(tools)) // 4

    finish_reason = "stop"
    tool = _called_tool(body, tools, messages)
    if tool is not None:
        finish_reason = "tool_calls"
        pieces = _json_pieces(tool.get("parameters", {}), "tools")
    elif (wanted := as_object(body.get("response_format"))).get("type") == "json_schema":
        schema = as_object(wanted.get("json_schema")).get("schema", {})
        pieces = _json_pieces(schema, "response_format")
    elif wanted.get("type") == "json_object":
        pieces = _split('{"simulated":true,"answer":"This is a simulated answer."}')
    else:
        pieces = _text_pieces(prompt, model, options)

    reasoning = options.reasoning
    effort: object = body.get("reasoning_effort")
    if effort is None:
        effort = "medium"
    if not isinstance(effort, str) or effort not in _EFFORTS:
        raise _Refused(
            f"Invalid value for 'reasoning_effort'. Supported values are: {', '.join(_EFFORTS)}.",
            "reasoning_effort",
            "invalid_value",
        )
    if reasoning is None:
        reasoning = 0
        if is_reasoning(model):
            scale = _EFFORTS[effort]
            reasoning = int(64 * (1 + crc32(prompt.encode("utf-8", "replace")) % 4) * scale)
    if limit is not None and not options.ignore_limit and reasoning + len(pieces) > limit:
        finish_reason = "length"
        reasoning = min(reasoning, limit)
        del pieces[limit - reasoning :]
    return _Answer(
        pieces,
        finish_reason,
        input_tokens if options.input is None else options.input,
        reasoning,
        choices,
        None if tool is None else str(tool.get("name", "")),
    )


def _check_message(number: int, item: object) -> None:
    name, expected = f"messages[{number}]", "an object"
    if isinstance(item, dict):
        role = cast("dict[str, object]", item).get("role", "user")
        if isinstance(role, str):
            return
        name, expected = f"{name}.role", "a string"
    raise _Refused(f"Invalid type for '{name}': expected {expected}.", name, "invalid_type")


def _read_prompt(messages: list[Any]) -> tuple[int, str]:
    """Its tokens (about four bytes each, like English text), and the last thing a user said."""
    text_bytes = tokens = 0
    last = ""
    for item in messages:
        message = as_object(item)
        content = message.get("content")
        tokens += 4
        if isinstance(content, str):
            texts = [content]
        else:
            texts: list[str] = []
            for each in as_list(content):
                part = as_object(each)
                kind = part.get("type")
                if kind == "image_url":
                    detail = as_object(part.get("image_url")).get("detail")
                    tokens += _IMAGE_TOKENS.get(str(detail), _IMAGE_TOKENS_DETAILED)
                elif isinstance(part.get("text"), str):
                    texts.append(part["text"])
        for text in texts:
            text_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        if texts and message.get("role") == "user":
            last = " ".join(texts) if len(texts) > 1 else texts[0]
    return tokens + (text_bytes + 3) // 4, last


def _called_tool(
    body: dict[str, Any], tools: list[Any], messages: list[Any]
) -> dict[str, Any] | None:
    """The function to call: a named one; else the first, unless a tool just answered."""
    functions = [
        as_object(tool.get("function")) for tool in map(as_object, tools) if "function" in tool
    ]
    choice: object = body.get("tool_choice", "auto")
    if not functions or choice == "none":
        return None
    named = as_object(as_object(choice).get("function")).get("name")
    if named is not None:
        for function in functions:
            if function.get("name") == named:
                return function
        raise _Refused(
            f"Tool choice '{named}' not found in 'tools' parameter.", "tool_choice", None
        )
    if choice != "required" and as_object(messages[-1]).get("role") == "tool":
        return None
    return functions[0]


def _text_pieces(prompt: str, model: str, options: Options) -> list[str]:
    excerpt = " ".join(prompt[:200].split())[:60]
    text = f"This is a simulated answer from {model}; no real model was asked."
    if excerpt:
        text += f' You wrote: "{excerpt}".'
    words = text.split(" ")
    pieces = [words[0], *[f" {word}" for word in words[1:]]]
    seed = crc32(prompt.encode("utf-8", "replace"))
    count = options.output
    if count is None:
        count = max(len(pieces) + 8 + seed % 24, options.chunks or 0)
    missing = count - len(pieces)
    if missing <= 0:
        return pieces[:count]
    pieces += (_FILLER * (missing // len(_FILLER) + 1))[:missing]
    return pieces


def _json_pieces(schema: object, param: str) -> list[str]:
    try:
        return _split(_encode(example_of(schema)).decode())
    except ValueError as error:
        raise _Refused(f"Invalid schema in '{param}': {error}.", param, "invalid_schema") from None


def _split(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]


def _seconds(tokens: int, options: Options) -> float:
    return tokens / options.tps if options.tps else 0.0


def _service_tier(body: dict[str, Any]) -> str:
    tier = body.get("service_tier")
    return tier if tier in ("flex", "priority") else "default"


def _headers(content_type: bytes, asked: Asked) -> Headers:
    if asked.options.wrong_content_type:
        content_type = b"text/html; charset=utf-8"
    return [(b"content-type", content_type), (b"x-request-id", b"req_" + asked.id.encode())]


def _chat_whole(asked: Asked, answer: _Answer) -> Iterator[Step]:
    options = asked.options
    text = "".join(answer.pieces)
    if options.huge_line_bytes is not None:
        text = "x" * options.huge_line_bytes
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if answer.tool_name is not None:
        message["content"] = None
    message["annotations"] = []
    choices: list[dict[str, Any]] = []
    for index in range(answer.choices):
        spoken = message
        if answer.tool_name is not None:
            call = {"id": f"call_{asked.id}{index}", "type": "function"}
            function = {"name": answer.tool_name, "arguments": text}
            spoken = {**message, "tool_calls": [{**call, "function": function}]}
        choices.append(
            {
                "index": index,
                "message": spoken,
                "logprobs": None,
                "finish_reason": answer.finish_reason,
            }
        )
    completion: dict[str, Any] = {
        "id": f"chatcmpl-{asked.id}",
        "object": "chat.completion",
        "created": asked.created_s,
        "model": asked.model,
        "choices": choices,
        "usage": answer.usage(options.cached),
        "service_tier": _service_tier(asked.body),
        "system_fingerprint": _FINGERPRINT,
    }
    if options.no_usage:
        del completion["usage"]
    tokens = answer.reasoning_tokens + len(answer.pieces)
    yield Wait(
        asked.ttft_s() + asked.gap_s(tokens),
        answer.input_tokens,
        tokens * answer.choices,
    )
    yield from _deliver(_encode(completion), asked)


def _deliver(data: bytes, asked: Asked) -> Iterator[Step]:
    """Send a whole JSON answer, with what shall go wrong with it."""
    options = asked.options
    if options.error_in_stream or options.error_after is not None:
        yield from failure(500, None)
        return
    if options.garbage:
        data = _GARBAGE
    elif options.malformed:
        data = data[: len(data) * 2 // 3]
    yield Head(200, _headers(_JSON, asked), len(data))
    if options.cut_after is not None or options.hang_after is not None:
        yield Bytes(data[: len(data) // 2])
        yield Hang() if options.cut_after is None else Cut()
        return
    for at in range(0, len(data), _PIECE_BYTES):
        yield Bytes(data if len(data) <= _PIECE_BYTES else data[at : at + _PIECE_BYTES])
    yield End()


_GARBAGE = b"<html><body>502 Bad Gateway (simulated)</body></html>\n"


def _chat_stream(asked: Asked, answer: _Answer) -> Iterator[Step]:
    options = asked.options
    wants_usage = as_object(asked.body.get("stream_options")).get("include_usage") is True
    usage_null = b',"usage":null' if wants_usage else b""
    start = _encode(
        {
            "id": f"chatcmpl-{asked.id}",
            "object": "chat.completion.chunk",
            "created": asked.created_s,
            "model": asked.model,
            "service_tier": _service_tier(asked.body),
            "system_fingerprint": _FINGERPRINT,
        }
    )
    start = b"data: " + start[:-1] + b',"choices":['
    end = b"]" + usage_null + b"}\n\n"

    def chunk(index: int, delta: bytes, finish_reason: bytes = b"null") -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":null,"finish_reason":%b}%b' % (
            start,
            index,
            delta,
            finish_reason,
            end,
        )

    yield Wait(0, answer.input_tokens)
    yield Head(200, _headers(_SSE, asked), None)
    if options.garbage:
        yield Bytes(_GARBAGE)
        yield End()
        return
    tool_name = answer.tool_name
    for index in range(answer.choices):
        first: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        if tool_name is not None:
            call = {"index": 0, "id": f"call_{asked.id}{index}", "type": "function"}
            function = {"name": tool_name, "arguments": ""}
            first["content"] = None
            first["tool_calls"] = [{**call, "function": function}]
        yield Bytes(chunk(index, _encode(first)))
    if options.error_in_stream:
        yield Wait(asked.ttft_s())
        yield from _stream_error()
        return
    yield Wait(
        asked.ttft_s() + asked.gap_s(answer.reasoning_tokens),
        0,
        answer.reasoning_tokens * answer.choices,
    )

    stops = (options.cut_after, options.hang_after, options.error_after)
    stop_at = min((stop for stop in stops if stop is not None), default=-1)
    pieces = answer.pieces
    chunks = len(pieces) if options.chunks is None else min(options.chunks, len(pieces))
    for number in range(chunks):
        if number == stop_at:
            break
        low, high = number * len(pieces) // chunks, (number + 1) * len(pieces) // chunks
        tokens = high - low
        if number and options.tps:
            yield Wait(asked.gap_s(tokens))
        text = _encode("".join(pieces[low:high]))
        delta = (
            b'{"content":%b}' % text
            if tool_name is None
            else b'{"tool_calls":[{"index":0,"function":{"arguments":%b}}]}' % text
        )
        for index in range(answer.choices):
            yield Bytes(chunk(index, delta), tokens)
        if number == 0:
            if options.malformed:
                yield Bytes(start + b'{"index":0,"delta":{"cont\n\n')
            if options.huge_line_bytes is not None:
                opening, _, closing = chunk(0, b'{"content":"\0"}').partition(b"\0")
                yield Bytes(opening)
                for at in range(0, options.huge_line_bytes, _PIECE_BYTES):
                    yield Bytes(b"x" * min(_PIECE_BYTES, options.huge_line_bytes - at))
                yield Bytes(closing)
    if stop_at >= 0:
        if stop_at == options.cut_after:
            yield Cut()
        elif stop_at == options.hang_after:
            yield Hang()
        else:
            yield from _stream_error()
        return

    finish_reason = _encode(answer.finish_reason)
    usage = _encode(answer.usage(options.cached))
    has_usage = wants_usage and not options.no_usage
    for index in range(answer.choices):
        last = chunk(index, b"{}", finish_reason)
        if has_usage and options.usage_in_last_chunk and index == answer.choices - 1:
            last = last.removesuffix(b"null}\n\n") + usage + b"}\n\n"
        yield Bytes(last)
    if has_usage and not options.usage_in_last_chunk:
        yield Bytes(start + b'],"usage":' + usage + b"}\n\n")
    if not options.no_done:
        yield Bytes(b"data: [DONE]\n\n")
    yield End()


def _stream_error() -> Iterator[Step]:
    message = "Simulated failure: The server had an error while processing your request."
    yield Bytes(b"data: " + _error_body(message, "server_error", None, None) + b"\n\n")
    yield End()


def _drip(steps: Iterator[Step], gap_s: float) -> Iterator[Step]:
    """The same, one byte at a time."""
    for step in steps:
        if not isinstance(step, Bytes):
            yield step
            continue
        for at in range(len(step.data)):
            is_last = at == len(step.data) - 1
            yield Bytes(step.data[at : at + 1], step.output_tokens if is_last else 0)
            yield Wait(gap_s)


# -- embeddings -----------------------------------------------------------------------------------


def _embeddings(asked: Asked) -> Iterator[Step]:
    body, options = asked.body, asked.options
    inputs = _embedding_inputs(body.get("input"))
    default = 3072 if asked.model.endswith("-large") else 1536
    dimensions = _whole_number(body, "dimensions", 1, _DIMENSIONS_MAX) or default
    encoding: object = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise _Refused(
            "Invalid value for 'encoding_format'. Supported values are: 'float' and 'base64'.",
            "encoding_format",
            "invalid_value",
        )
    tokens = sum(count for count, _ in inputs) if options.input is None else options.input
    data: list[dict[str, Any]] = []
    for index, (_, text) in enumerate(inputs):
        vector = _vector(text, dimensions)
        value = (
            vector.tolist() if encoding == "float" else base64.b64encode(vector.tobytes()).decode()
        )
        data.append({"object": "embedding", "index": index, "embedding": value})
    answer: dict[str, Any] = {
        "object": "list",
        "data": data,
        "model": asked.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    if options.no_usage:
        del answer["usage"]
    wait = Wait(asked.ttft_s(), tokens)
    return chain((wait,), _deliver(_encode(answer), asked))


def _embedding_inputs(value: object) -> list[tuple[int, bytes]]:
    """Each input's tokens and bytes: a text, texts, token numbers, or lists of token numbers."""
    items = as_list(value) or [value]
    if items and all(_is_number(item) for item in items):
        items = [items]
    if not items or len(items) > _EMBEDDING_INPUTS_MAX:
        raise _Refused(
            f"Invalid 'input': expected from 1 to {_EMBEDDING_INPUTS_MAX} inputs.", "input", None
        )
    inputs: list[tuple[int, bytes]] = []
    for item in items:
        if isinstance(item, str) and item:
            data = item.encode("utf-8", "replace")
            inputs.append(((len(data) + 3) // 4, data))
        elif (numbers := as_list(item)) and all(_is_number(number) for number in numbers):
            inputs.append((len(numbers), _encode(numbers)))
        else:
            raise _Refused(
                "Invalid 'input': expected a non-empty text, texts, or token numbers.",
                "input",
                "invalid_type" if value is not None else "missing_required_parameter",
            )
    return inputs


def _vector(text: bytes, dimensions: int) -> array[float]:
    """Unit length, the same for the same text, unrelated for others."""
    # Not for secrets: the same text must give the same numbers on every machine.
    noise = random.Random(crc32(text)).randbytes(dimensions)  # noqa: S311
    numbers = [byte - 127.5 for byte in noise]
    length = math.sqrt(sum(number * number for number in numbers))
    return array("f", [number / length for number in numbers])
