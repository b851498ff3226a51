"""How a simulated chat model's answer goes out: whole, or as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from merino.simulator.answer import Answer, answer_of, is_reasoning, refuse_unsupported
from merino.simulator.schema import as_object
from merino.simulator.steps import (
    GARBAGE,
    PIECE_BYTES,
    Asked,
    Bytes,
    Cut,
    End,
    Hang,
    Head,
    Refused,
    Step,
    Wait,
    deliver,
    error_body,
    headers_of,
)

_FINGERPRINT = "fp_simulated"
_SSE = b"text/event-stream; charset=utf-8"
_encode = msgspec.json.encode


def chat(asked: Asked) -> Iterator[Step]:
    model = asked.model
    if model.rpartition("/")[2].startswith("text-embedding-"):
        raise Refused(
            "This is not a chat model and thus not supported in the v1/chat/completions endpoint.",
            "model",
            None,
            404,
        )
    if asked.options.responses_only:
        raise Refused(
            "This model is only supported in v1/responses and not in v1/chat/completions.",
            "model",
            None,
            404,
        )
    if asked.options.strict and is_reasoning(model):
        refuse_unsupported(asked.body)
    answer = answer_of(asked.body, model, asked.options)
    if asked.body.get("stream") is True:
        return _chat_stream(asked, answer)
    return _chat_whole(asked, answer)


def _service_tier(body: dict[str, Any]) -> str:
    tier = body.get("service_tier")
    return tier if tier in ("flex", "priority") else "default"


def _chat_whole(asked: Asked, answer: Answer) -> Iterator[Step]:
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
    yield from deliver(_encode(completion), asked)


class _Chunks:
    """What surrounds the deltas of one stream."""

    def __init__(self, asked: Asked) -> None:
        stream_options = as_object(asked.body.get("stream_options"))
        self.wants_usage = stream_options.get("include_usage") is True
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
        self.start = b"data: " + start[:-1] + b',"choices":['
        self._end = b"]" + (b',"usage":null' if self.wants_usage else b"") + b"}\n\n"

    def of(self, index: int, delta: bytes, finish_reason: bytes = b"null") -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":null,"finish_reason":%b}%b' % (
            self.start,
            index,
            delta,
            finish_reason,
            self._end,
        )


def _chat_stream(asked: Asked, answer: Answer) -> Iterator[Step]:
    options = asked.options
    yield Wait(0, answer.input_tokens)
    yield Head(200, headers_of(_SSE, asked), None)
    if options.garbage:
        yield Bytes(GARBAGE)
        yield End()
        return
    chunks = _Chunks(asked)
    for index in range(answer.choices):
        yield Bytes(chunks.of(index, _encode(_opening(asked, answer, index))))
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
    yield from _pieces(asked, answer, chunks, stop_at)
    if stop_at < 0:
        yield from _ending(asked, answer, chunks)
    elif stop_at == options.cut_after:
        yield Cut()
    elif stop_at == options.hang_after:
        yield Hang()
    else:
        yield from _stream_error()


def _opening(asked: Asked, answer: Answer, index: int) -> dict[str, Any]:
    """A choice's first delta."""
    first: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
    if answer.tool_name is not None:
        call = {"index": 0, "id": f"call_{asked.id}{index}", "type": "function"}
        first["content"] = None
        first["tool_calls"] = [{**call, "function": {"name": answer.tool_name, "arguments": ""}}]
    return first


def _pieces(asked: Asked, answer: Answer, chunks: _Chunks, stop_at: int) -> Iterator[Step]:
    """The answer's text, piece by piece, up to where it is to stop (-1: nowhere)."""
    options, pieces = asked.options, answer.pieces
    count = len(pieces) if options.chunks is None else min(options.chunks, len(pieces))
    for number in range(count):
        if number == stop_at:
            return
        low, high = number * len(pieces) // count, (number + 1) * len(pieces) // count
        tokens = high - low
        if number and options.tps:
            yield Wait(asked.gap_s(tokens))
        text = _encode("".join(pieces[low:high]))
        delta = (
            b'{"content":%b}' % text
            if answer.tool_name is None
            else b'{"tool_calls":[{"index":0,"function":{"arguments":%b}}]}' % text
        )
        for index in range(answer.choices):
            yield Bytes(chunks.of(index, delta), tokens)
        if number == 0:
            yield from _oddities(asked, chunks)


def _oddities(asked: Asked, chunks: _Chunks) -> Iterator[Step]:
    """What no client expects behind the first piece."""
    options = asked.options
    if options.malformed:
        yield Bytes(chunks.start + b'{"index":0,"delta":{"cont\n\n')
    if options.huge_line_bytes is not None:
        opening, _, closing = chunks.of(0, b'{"content":"\0"}').partition(b"\0")
        yield Bytes(opening)
        for at in range(0, options.huge_line_bytes, PIECE_BYTES):
            yield Bytes(b"x" * min(PIECE_BYTES, options.huge_line_bytes - at))
        yield Bytes(closing)


def _ending(asked: Asked, answer: Answer, chunks: _Chunks) -> Iterator[Step]:
    options = asked.options
    finish_reason = _encode(answer.finish_reason)
    usage = _encode(answer.usage(options.cached))
    has_usage = chunks.wants_usage and not options.no_usage
    for index in range(answer.choices):
        last = chunks.of(index, b"{}", finish_reason)
        if has_usage and options.usage_in_last_chunk and index == answer.choices - 1:
            last = last.removesuffix(b"null}\n\n") + usage + b"}\n\n"
        yield Bytes(last)
    if has_usage and not options.usage_in_last_chunk:
        yield Bytes(chunks.start + b'],"usage":' + usage + b"}\n\n")
    if not options.no_done:
        yield Bytes(b"data: [DONE]\n\n")
    yield End()


def _stream_error() -> Iterator[Step]:
    message = "Simulated failure: The server had an error while processing your request."
    yield Bytes(b"data: " + error_body(message, "server_error", None, None) + b"\n\n")
    yield End()
