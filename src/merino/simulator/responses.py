"""How a simulated model answers over the Responses API: whole, or as a stream of events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec

from merino.simulator.answer import Answer, answer_of, is_reasoning, refuse_unsupported
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
_SUMMARY = ("**Simulating.**", " No", " real", " thought", " was", " had.")
_REFUSAL = ("I", " cannot", " help", " with", " that", " (simulated).")
_SEALED = "simulated-reasoning-"
_ECHOED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "background": False,
    "store": True,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_logprobs": 0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "truncation": "disabled",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "metadata": {},
}
_encode = msgspec.json.encode


def responses(asked: Asked) -> Iterator[Step]:
    options = asked.options
    answer = _answer(asked)
    if options.refusal:
        answer.pieces = list(_REFUSAL)
        answer.tool_name = None
    making = _Making(asked, answer)
    return _stream(making) if asked.body.get("stream") is True else _whole(making)


def compact(asked: Asked) -> Iterator[Step]:
    """What was said so far, made short and sealed."""
    return _compacted(asked, _answer(asked))


def _compacted(asked: Asked, answer: Answer) -> Iterator[Step]:
    sealed = {
        "id": f"cmp_{asked.id}",
        "type": "compaction",
        "encrypted_content": f"{_SEALED}{asked.id}",
    }
    tokens = answer.reasoning_tokens + len(answer.pieces)
    yield Wait(asked.ttft_s() + asked.gap_s(tokens), answer.input_tokens, tokens)
    compaction = {
        "id": f"resp_{asked.id}",
        "object": "response.compaction",
        "created_at": asked.created_s,
        "output": [sealed],
        "usage": _Making(asked, answer).usage(),
    }
    yield from deliver(_encode(compaction), asked)


def count_input(asked: Asked) -> Iterator[Step]:
    counted = {"object": "response.input_tokens", "input_tokens": _answer(asked).input_tokens}
    return deliver(_encode(counted), asked)


def _answer(asked: Asked) -> Answer:
    """What the model says. Raises `Refused`."""
    model, options = asked.model, asked.options
    if options.no_responses:
        raise Refused(f"Invalid URL (POST /v1/{asked.endpoint})", None, None, 404)
    if model.rpartition("/")[2].startswith("text-embedding-"):
        raise Refused(
            "This model is not supported in the v1/responses endpoint.", "model", None, 404
        )
    body = _as_chat(asked.body)
    if options.strict and is_reasoning(model):
        refuse_unsupported(body)
    return answer_of(body, model, options)


# -- what was asked -------------------------------------------------------------------------------


def _as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """What a simulated model reads of the body, in the words of a chat."""
    messages: list[Any] = []
    if isinstance(body.get("instructions"), str):
        messages.append({"role": "system", "content": body["instructions"]})
    given: object = body.get("input")
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    elif isinstance(given, list):
        messages += [
            _as_message(number, each) for number, each in enumerate(cast("list[object]", given))
        ]
    elif given is not None:
        raise Refused("Invalid type for 'input': expected a string or an array.", "input", None)
    if not messages and body.get("previous_response_id") is None:
        raise Refused("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    whole_number(body, "max_output_tokens", 16, 100_000_000)
    found: dict[str, Any] = {"messages": messages or [{"role": "user", "content": ""}]}
    if body.get("max_output_tokens") is not None:
        found["max_completion_tokens"] = body["max_output_tokens"]
    effort: object = as_object(body.get("reasoning")).get("effort")
    if effort is not None:
        found["reasoning_effort"] = effort
    tools = [as_object(each) for each in as_list(body.get("tools"))]
    functions = [{"function": each} for each in tools if each.get("type") in ("function", "custom")]
    if functions:
        found["tools"] = functions
    choice: object = body.get("tool_choice")
    if isinstance(choice, dict) and cast("dict[str, Any]", choice).get("name"):
        choice = {"function": {"name": cast("dict[str, Any]", choice)["name"]}}
    if choice is not None:
        found["tool_choice"] = choice
    form = as_object(as_object(body.get("text")).get("format"))
    if form.get("type") == "json_schema":
        found["response_format"] = {"type": "json_schema", "json_schema": form}
    elif form.get("type") == "json_object":
        found["response_format"] = form
    return found


def _as_message(number: int, item: object) -> dict[str, Any]:
    if not isinstance(item, dict):
        name = f"input[{number}]"
        raise Refused(f"Invalid type for '{name}': expected an object.", name, "invalid_type")
    its = cast("dict[str, Any]", item)
    kind: object = its.get("type", "message")
    if kind == "message":
        content: object = its.get("content")
        if isinstance(content, list):
            content = [_as_part(as_object(each)) for each in cast("list[object]", content)]
        return {"role": its.get("role", "user"), "content": content}
    if isinstance(kind, str) and kind.endswith("_output"):
        output: object = its.get("output")
        return {"role": "tool", "content": output if isinstance(output, str) else ""}
    return {"role": "assistant", "content": str(its.get("arguments") or its.get("input") or "")}


def _as_part(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") == "input_image":
        return {"type": "image_url", "image_url": {"detail": part.get("detail")}}
    return part


# -- what it says ---------------------------------------------------------------------------------


class _Making:
    """One response while it is made. `items` are its finished output."""

    def __init__(self, asked: Asked, answer: Answer) -> None:
        self.asked = asked
        self.answer = answer
        self.items: list[dict[str, Any]] = []
        self.id = f"resp_{asked.id}"
        self.number = -1
        self._known = self._object()

    def _object(self) -> dict[str, Any]:
        body, asked = self.asked.body, self.asked
        given = {
            name: default if body.get(name) is None else body[name]
            for name, default in _ECHOED.items()
        }
        reasoning = as_object(body.get("reasoning"))
        tier: object = body.get("service_tier")
        conversation: object = body.get("conversation")
        if isinstance(conversation, str):
            conversation = {"id": conversation}
        return {
            "id": self.id,
            "object": "response",
            "created_at": asked.created_s,
            "completed_at": None,
            "conversation": conversation,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": asked.model,
            "output": [],
            "usage": None,
            "tools": [_tool(as_object(each)) for each in as_list(body.get("tools"))],
            "text": {"format": {"type": "text"}, **as_object(body.get("text"))},
            "reasoning": {
                "effort": reasoning.get("effort"),
                "summary": reasoning.get("summary"),
            },
            "service_tier": tier if tier in ("flex", "priority") else "default",
            **given,
        }

    def object(self, status: str, **more: Any) -> dict[str, Any]:
        return {**self._known, "status": status, "output": list(self.items), **more}

    def finished(self) -> dict[str, Any]:
        answer, options = self.answer, self.asked.options
        is_cut = answer.finish_reason == "length"
        return self.object(
            "incomplete" if is_cut else "completed",
            completed_at=None if is_cut else self.asked.created_s,
            incomplete_details={"reason": "max_output_tokens"} if is_cut else None,
            usage=None if options.no_usage else self.usage(),
        )

    def failed(self) -> dict[str, Any]:
        return self.object(
            "failed",
            error={
                "code": "server_error",
                "message": "Simulated failure: The server had an error while processing your "
                "request.",
            },
        )

    def usage(self) -> dict[str, Any]:
        answer = self.answer
        output = len(answer.pieces) + answer.reasoning_tokens
        return {
            "input_tokens": answer.input_tokens,
            "input_tokens_details": {
                "cached_tokens": self.asked.options.cached,
                "cache_write_tokens": 0,
            },
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
            "total_tokens": answer.input_tokens + output,
        }

    def event(self, name: str, /, **members: Any) -> bytes:
        self.number += 1
        data = _encode({"type": name, "sequence_number": self.number, **members})
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)

    # -- items -----------------------------------------------------------------------------------

    def reasoning(self) -> dict[str, Any] | None:
        """The item of its reasoning, if it thought."""
        if not self.answer.reasoning_tokens:
            return None
        item: dict[str, Any] = {"id": f"rs_{self.asked.id}", "type": "reasoning", "summary": []}
        wanted: object = self.asked.body.get("include")
        if isinstance(wanted, list) and "reasoning.encrypted_content" in wanted:
            item["encrypted_content"] = f"{_SEALED}{self.asked.id}"
        return item

    @property
    def has_summary(self) -> bool:
        asked = as_object(self.asked.body.get("reasoning")).get("summary")
        return asked is not None and self.answer.reasoning_tokens > 0

    def spoken(self) -> dict[str, Any]:
        """The message or the call, without its text."""
        asked, answer = self.asked, self.answer
        if answer.tool_name is None:
            return {
                "id": f"msg_{asked.id}",
                "type": "message",
                "status": "in_progress",
                "role": "assistant",
                "content": [],
            }
        kinds = {
            as_object(each).get("name"): as_object(each).get("type")
            for each in as_list(asked.body.get("tools"))
        }
        is_custom = kinds.get(answer.tool_name) == "custom"
        item: dict[str, Any] = {
            "id": f"{'ctc' if is_custom else 'fc'}_{asked.id}",
            "type": "custom_tool_call" if is_custom else "function_call",
            "status": "in_progress",
            "call_id": f"call_{asked.id}",
            "name": answer.tool_name,
        }
        return {**item, ("input" if is_custom else "arguments"): ""}

    def with_text(self, item: dict[str, Any], text: str) -> dict[str, Any]:
        status = "incomplete" if self.answer.finish_reason == "length" else "completed"
        if item["type"] == "function_call":
            return {**item, "status": status, "arguments": text}
        if item["type"] == "custom_tool_call":
            return {**item, "status": status, "input": text}
        return {**item, "status": status, "content": [self.part(text)]}

    def part(self, text: str) -> dict[str, Any]:
        if self.asked.options.refusal:
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        return tool
    return {"strict": True, "parameters": None, **tool}


# -- how it goes out ------------------------------------------------------------------------------


def _whole(making: _Making) -> Iterator[Step]:
    asked, answer = making.asked, making.answer
    text = "".join(answer.pieces)
    if asked.options.huge_line_bytes is not None:
        text = "x" * asked.options.huge_line_bytes
    thought = making.reasoning()
    if thought is not None:
        if making.has_summary:
            thought["summary"] = [{"type": "summary_text", "text": "".join(_SUMMARY)}]
        making.items.append(thought)
    if text or thought is None:
        making.items.append(making.with_text(making.spoken(), text))
    tokens = answer.reasoning_tokens + len(answer.pieces)
    yield Wait(asked.ttft_s() + asked.gap_s(tokens), answer.input_tokens, tokens)
    yield from deliver(_encode(making.finished()), asked)


def _stream(making: _Making) -> Iterator[Step]:
    asked, answer = making.asked, making.answer
    options = asked.options
    yield Wait(0, answer.input_tokens)
    yield Head(200, headers_of(_SSE, asked), None)
    if options.garbage:
        yield Bytes(GARBAGE)
        yield End()
        return
    event = making.event
    yield Bytes(event("response.created", response=making.object("in_progress")))
    yield Bytes(event("response.in_progress", response=making.object("in_progress")))
    if options.error_in_stream:
        yield Wait(asked.ttft_s())
        yield from _failed(making)
        return
    yield from _thoughts(making)
    if answer.pieces or not answer.reasoning_tokens:
        is_over = False
        for step in _spoken(making):
            is_over = is_over or type(step) in (Cut, Hang, End)
            yield step
        if is_over:
            return
    finished = making.finished()
    yield Bytes(event(f"response.{finished['status']}", response=finished))
    if not options.no_done:
        yield Bytes(b"data: [DONE]\n\n")
    yield End()


def _thoughts(making: _Making) -> Iterator[Step]:
    asked, answer, event = making.asked, making.answer, making.event
    item = making.reasoning()
    thinking = Wait(
        asked.ttft_s() + asked.gap_s(answer.reasoning_tokens), 0, answer.reasoning_tokens
    )
    if item is None:
        yield thinking
        return
    yield Bytes(event("response.output_item.added", output_index=0, item={**item, "summary": []}))
    yield thinking
    if making.has_summary:
        at = {"item_id": item["id"], "output_index": 0, "summary_index": 0}
        text = "".join(_SUMMARY)
        empty = {"type": "summary_text", "text": ""}
        yield Bytes(event("response.reasoning_summary_part.added", **at, part=empty))
        for piece in _SUMMARY:
            yield Bytes(event("response.reasoning_summary_text.delta", **at, delta=piece))
        yield Bytes(event("response.reasoning_summary_text.done", **at, text=text))
        whole = {**empty, "text": text}
        yield Bytes(event("response.reasoning_summary_part.done", **at, part=whole))
        item = {**item, "summary": [whole]}
    making.items.append(item)
    yield Bytes(event("response.output_item.done", output_index=0, item=item))


def _spoken(making: _Making) -> Iterator[Step]:
    """The message or the call, piece by piece. A cut, a hang or an end is its last step."""
    asked, answer, options, event = making.asked, making.answer, making.asked.options, making.event
    item = making.spoken()
    index = len(making.items)
    at: dict[str, Any] = {"item_id": item["id"], "output_index": index}
    yield Bytes(event("response.output_item.added", output_index=index, item=item))
    kind = "response.output_text"
    field = "text"
    if item["type"] == "function_call":
        kind, field = "response.function_call_arguments", "arguments"
    elif item["type"] == "custom_tool_call":
        kind, field = "response.custom_tool_call_input", "input"
    else:
        at["content_index"] = 0
        if options.refusal:
            kind, field = "response.refusal", "refusal"
        yield Bytes(event("response.content_part.added", **at, part=making.part("")))
    more: dict[str, Any] = {"logprobs": []} if field == "text" else {}
    padding = as_object(asked.body.get("stream_options")).get("include_obfuscation") is not False
    stops = (options.cut_after, options.hang_after, options.error_after)
    stop_at = min((stop for stop in stops if stop is not None), default=-1)
    pieces = answer.pieces
    chunks = len(pieces) if options.chunks is None else min(options.chunks, len(pieces))
    for number in range(chunks):
        if number == stop_at:
            break
        low, high = number * len(pieces) // chunks, (number + 1) * len(pieces) // chunks
        if number and options.tps:
            yield Wait(asked.gap_s(high - low))
        told = {**at, "delta": "".join(pieces[low:high]), **more}
        if padding:
            told["obfuscation"] = "simulated"[: 1 + number % 9]
        yield Bytes(event(f"{kind}.delta", **told), high - low)
        if number == 0 and options.malformed:
            yield Bytes(b'event: response.output_text.delta\ndata: {"type":"response.out\n\n')
        if number == 0 and options.huge_line_bytes is not None:
            huge = event(f"{kind}.delta", **at, delta="\0").partition(b"\\u0000")
            yield Bytes(huge[0])
            for begin in range(0, options.huge_line_bytes, PIECE_BYTES):
                yield Bytes(b"x" * min(PIECE_BYTES, options.huge_line_bytes - begin))
            yield Bytes(huge[2])
    if stop_at >= 0:
        if stop_at == options.cut_after:
            yield Cut()
        elif stop_at == options.hang_after:
            yield Hang()
        else:
            yield from _failed(making)
        return
    text = "".join(pieces)
    named = {"name": item["name"]} if field == "arguments" else {}
    yield Bytes(event(f"{kind}.done", **at, **{field: text}, **more, **named))
    if item["type"] == "message":
        yield Bytes(event("response.content_part.done", **at, part=making.part(text)))
    item = making.with_text(item, text)
    making.items.append(item)
    yield Bytes(event("response.output_item.done", output_index=index, item=item))


def _failed(making: _Making) -> Iterator[Step]:
    failed = making.failed()
    yield Bytes(
        making.event("error", code="server_error", message=failed["error"]["message"], param=None)
    )
    yield Bytes(making.event("response.failed", response=failed))
    yield End()
