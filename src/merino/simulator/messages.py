"""How a simulated model answers over the Messages API: whole, or as a stream of events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec

from merino.simulator.answer import Answer, answer_of
from merino.simulator.schema import as_list, as_object
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
    headers_of,
    whole_number,
)

_SSE = b"text/event-stream; charset=utf-8"
_THOUGHT = ("Simulating.", " No", " real", " thought", " was", " had.")
SIGNATURE = "c2ltdWxhdGVk"
"""How the signatures of simulated thinking begin; the request's id follows."""
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_BUDGETS = ((2_000, "low"), (8_000, "medium"), (24_000, "high"))
_encode = msgspec.json.encode


def messages(asked: Asked) -> Iterator[Step]:
    making = _Making(asked)
    return _stream(making) if asked.body.get("stream") is True else _whole(making)


def count_tokens(asked: Asked) -> Iterator[Step]:
    return deliver(_encode({"input_tokens": _answer(asked).input_tokens}), asked)


def _answer(asked: Asked) -> Answer:
    """What the model says. Raises `Refused`."""
    if asked.options.no_messages:
        raise Refused(f"Invalid URL (POST /v1/{asked.endpoint})", None, None, 404)
    return answer_of(_as_chat(asked.body), asked.model, asked.options)


_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def in_its_shape(steps: Iterator[Step]) -> Iterator[Step]:
    """The same, with a refusal or failure said as this vendor says it."""
    status = 200
    head: Head | None = None
    for step in steps:
        if isinstance(step, Head) and step.status >= 400:
            head, status = step, step.status
        elif head is not None and isinstance(step, Bytes):
            told = as_object(as_object(msgspec.json.decode(step.data)).get("error"))
            kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
            error = {"type": kind, "message": told.get("message")}
            data = _encode({"type": "error", "error": error, "request_id": "req_simulated"})
            yield Head(status, head.headers, len(data))
            yield Bytes(data)
            head = None
        else:
            yield step


# -- what was asked -------------------------------------------------------------------------------


def _as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """What a simulated model reads of the body, in the words of a chat."""
    messages: list[Any] = []
    if body.get("system") is not None:
        messages.append({"role": "system", "content": _content(body["system"])})
    given = as_list(body.get("messages"))
    if not given:
        raise Refused("messages: Field required", "messages", None)
    for number, each in enumerate(given):
        message = as_object(each)
        if message.get("role") not in ("user", "assistant", "system"):
            what = "Input should be 'user' or 'assistant'"
            raise Refused(f"messages.{number}.role: {what}", f"messages.{number}.role", None)
        blocks = [as_object(block) for block in as_list(message.get("content"))]
        role = message["role"]
        if any(block.get("type") == "tool_result" for block in blocks):
            role = "tool"
        messages.append({"role": role, "content": _content(message.get("content"))})
    limit = whole_number(body, "max_tokens", 0, 100_000_000)
    found: dict[str, Any] = {"messages": messages}
    if limit:
        found["max_completion_tokens"] = limit
    effort = _effort(body)
    if effort is not None:
        found["reasoning_effort"] = effort
    tools = [
        {
            "function": {
                "name": tool.get("name"),
                "description": tool.get("description"),
                "parameters": tool.get("input_schema", {}),
            }
        }
        for tool in map(as_object, as_list(body.get("tools")))
        if "input_schema" in tool
    ]
    if tools:
        found["tools"] = tools
    choice = as_object(body.get("tool_choice"))
    if choice.get("type") == "tool":
        found["tool_choice"] = {"function": {"name": choice.get("name")}}
    elif choice.get("type") in ("any", "none"):
        found["tool_choice"] = "required" if choice["type"] == "any" else "none"
    form = as_object(as_object(body.get("output_config")).get("format"))
    if form.get("type") == "json_schema":
        found["response_format"] = {"type": "json_schema", "json_schema": form}
    return found


def _content(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    parts: list[Any] = []
    for block in map(as_object, as_list(cast("object", content))):
        if block.get("type") == "tool_result":
            inner: object = _content(block.get("content"))
            parts += as_list(inner) or [{"type": "text", "text": inner or ""}]
        elif block.get("type") == "image":
            parts.append({"type": "image_url", "image_url": {}})
        elif isinstance(block.get("text"), str):
            parts.append({"type": "text", "text": block["text"]})
    return parts


def _effort(body: dict[str, Any]) -> object:
    """How much it thinks: as it is told, otherwise only if thinking is on."""
    thinking = as_object(body.get("thinking"))
    effort: object = as_object(body.get("output_config")).get("effort")
    if thinking.get("type") == "enabled":
        budget = whole_number(thinking, "budget_tokens", 1024, 100_000_000) or 1024
        limit: object = body.get("max_tokens")
        if isinstance(limit, int) and budget >= limit:
            raise Refused("`max_tokens` must be greater than `thinking.budget_tokens`.", None, None)
        return next((name for above, name in _BUDGETS if budget < above), "xhigh")
    if thinking.get("type") == "disabled":
        return "none"
    return "xhigh" if effort == "max" else effort


# -- what it says ---------------------------------------------------------------------------------


class _Making:
    """One message while it is made."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.answer = _answer(asked)
        if asked.options.refusal:
            self.answer.pieces.clear()
            self.answer.tool_name = None
        thinking = as_object(asked.body.get("thinking"))
        is_on = thinking.get("type") not in (None, "disabled")
        self.has_thought = is_on and self.answer.reasoning_tokens > 0
        self.thought = () if thinking.get("display") == "omitted" else _THOUGHT
        self.signature = f"{SIGNATURE}{asked.id}"

    @property
    def stop_reason(self) -> str:
        if self.asked.options.refusal:
            return "refusal"
        return _STOPS[self.answer.finish_reason]

    def message(self, content: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": f"msg_{self.asked.id}",
            "type": "message",
            "role": "assistant",
            "model": self.asked.model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }

    def usage(self, output_tokens: int) -> dict[str, Any]:
        options, answer = self.asked.options, self.answer
        cached = min(options.cached, answer.input_tokens)
        return {
            "input_tokens": answer.input_tokens - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": output_tokens,
            "service_tier": "standard",
        }

    def spoken(self, text: str) -> dict[str, Any]:
        if self.answer.tool_name is None:
            return {"type": "text", "text": text}
        try:
            given: object = msgspec.json.decode(text)
        except msgspec.DecodeError:
            given = {}
        return {**self.called(), "input": given}

    def called(self) -> dict[str, Any]:
        return {
            "type": "tool_use",
            "id": f"toolu_{self.asked.id}",
            "name": self.answer.tool_name,
            "input": {},
        }

    def final(self) -> dict[str, Any]:
        answer = self.answer
        used = self.usage(answer.reasoning_tokens + len(answer.pieces))
        used["output_tokens_details"] = {"thinking_tokens": answer.reasoning_tokens}
        return used


def _whole(making: _Making) -> Iterator[Step]:
    asked, answer = making.asked, making.answer
    content: list[dict[str, Any]] = []
    if making.has_thought:
        thinking = {"type": "thinking", "thinking": "".join(making.thought)}
        content.append({**thinking, "signature": making.signature})
    text = "".join(answer.pieces)
    if asked.options.huge_line_bytes is not None:
        text = "x" * asked.options.huge_line_bytes
    if text or answer.tool_name is not None:
        content.append(making.spoken(text))
    message = making.message(content, making.final())
    message["stop_reason"] = making.stop_reason
    if asked.options.no_usage:
        del message["usage"]
    tokens = answer.reasoning_tokens + len(answer.pieces)
    yield Wait(asked.ttft_s() + asked.gap_s(tokens), answer.input_tokens, tokens)
    yield from deliver(_encode(message), asked)


def _event(kind: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **members}))


def _stream(making: _Making) -> Iterator[Step]:
    asked, answer, options = making.asked, making.answer, making.asked.options
    yield Wait(0, answer.input_tokens)
    yield Head(200, headers_of(_SSE, asked), None)
    if options.garbage:
        yield Bytes(GARBAGE)
        yield End()
        return
    begun = making.message([], making.usage(1))
    if options.no_usage:
        del begun["usage"]
    yield Bytes(_event("message_start", message=begun))
    yield Bytes(_event("ping"))
    yield Wait(asked.ttft_s() + asked.gap_s(answer.reasoning_tokens), 0, answer.reasoning_tokens)
    if options.error_in_stream:
        yield from _failed()
        return
    index = 0
    if making.has_thought:
        yield from _thought(making)
        index = 1
    if answer.pieces or answer.tool_name is not None:
        stops = (options.cut_after, options.hang_after, options.error_after)
        stop_at = min((stop for stop in stops if stop is not None), default=-1)
        yield from _spoken(making, index, stop_at)
        if stop_at >= 0:
            if stop_at == options.cut_after:
                yield Cut()
            elif stop_at == options.hang_after:
                yield Hang()
            else:
                yield from _failed()
            return
    delta = {"stop_reason": making.stop_reason, "stop_sequence": None}
    usage = {"output_tokens": 0} if options.no_usage else making.final()
    yield Bytes(_event("message_delta", delta=delta, usage=usage))
    if not options.no_done:
        yield Bytes(_event("message_stop"))
    yield End()


def _thought(making: _Making) -> Iterator[Step]:
    begun = {"type": "thinking", "thinking": "", "signature": ""}
    yield Bytes(_event("content_block_start", index=0, content_block=begun))
    for piece in making.thought:
        delta = {"type": "thinking_delta", "thinking": piece}
        yield Bytes(_event("content_block_delta", index=0, delta=delta))
    sealed = {"type": "signature_delta", "signature": making.signature}
    yield Bytes(_event("content_block_delta", index=0, delta=sealed))
    yield Bytes(_event("content_block_stop", index=0))


def _spoken(making: _Making, index: int, stop_at: int) -> Iterator[Step]:
    """The text or the call, piece by piece, up to where it is to stop (-1: nowhere)."""
    asked, answer, options = making.asked, making.answer, making.asked.options
    is_call = answer.tool_name is not None
    begun = making.called() if is_call else {"type": "text", "text": ""}
    yield Bytes(_event("content_block_start", index=index, content_block=begun))
    kind, field = ("input_json_delta", "partial_json") if is_call else ("text_delta", "text")
    pieces = answer.pieces
    chunks = len(pieces) if options.chunks is None else min(options.chunks, len(pieces))
    for number in range(chunks):
        if number == stop_at:
            return
        low, high = number * len(pieces) // chunks, (number + 1) * len(pieces) // chunks
        if number and options.tps:
            yield Wait(asked.gap_s(high - low))
        delta = {"type": kind, field: "".join(pieces[low:high])}
        yield Bytes(_event("content_block_delta", index=index, delta=delta), high - low)
        if number == 0 and options.malformed:
            yield Bytes(b'event: content_block_delta\ndata: {"type":"content_blo\n\n')
        if number == 0 and options.huge_line_bytes is not None:
            delta = {"type": kind, field: "\0"}
            huge = _event("content_block_delta", index=index, delta=delta).partition(b"\\u0000")
            yield Bytes(huge[0])
            for begin in range(0, options.huge_line_bytes, PIECE_BYTES):
                yield Bytes(b"x" * min(PIECE_BYTES, options.huge_line_bytes - begin))
            yield Bytes(huge[2])
    yield Bytes(_event("content_block_stop", index=index))


def _failed() -> Iterator[Step]:
    error = {"type": "overloaded_error", "message": "Simulated failure: Overloaded"}
    yield Bytes(_event("error", error=error))
    yield End()
