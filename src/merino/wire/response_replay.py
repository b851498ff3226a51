"""The stream of a response that has ended, made of its object: what a client would have seen, in as
few events as make it whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec

from merino.wire.response_events import event_of

_IN_PROGRESS: dict[str, Any] = {
    "completed_at": None,
    "status": "in_progress",
    "usage": None,
    "output": [],
}
_NOTHING: dict[str, Any] = {"content": [], "summary": [], "arguments": "", "input": ""}
_ENDINGS = ("completed", "incomplete", "failed", "cancelled")


def replayed(response: bytes, after: int = -1) -> bytes:
    """The events of it whose numbers are above `after`, and the end of the stream."""
    found: dict[str, Any] = msgspec.json.decode(response)
    events = [
        event_of(name, {"type": name, "sequence_number": number, **members})
        for number, (name, members) in enumerate(_events(found))
        if number > after
    ]
    return b"".join([*events, b"data: [DONE]\n\n"])


def ending_event(response: bytes, number: int) -> bytes:
    """The event that ends the stream of it."""
    found: dict[str, Any] = msgspec.json.decode(response)
    name = _ending_of(found)
    return event_of(name, {"type": name, "sequence_number": number, "response": found})


def _ending_of(response: dict[str, Any]) -> str:
    status: object = response.get("status")
    return f"response.{status if status in _ENDINGS else 'completed'}"


def _events(response: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    begun = {**response, **_IN_PROGRESS, "error": None, "incomplete_details": None}
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for index, item in enumerate(cast("list[dict[str, Any]]", response.get("output") or [])):
        yield from _item(index, item)
    yield _ending_of(response), {"response": response}


def _item(index: int, item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    at = {"item_id": item.get("id") or "", "output_index": index}
    kind: object = item.get("type")
    empty = {**item}
    if "status" in item:
        empty["status"] = "in_progress"
    empty.update({name: nothing for name, nothing in _NOTHING.items() if name in item})
    yield "response.output_item.added", {"output_index": index, "item": empty}
    if kind == "message":
        for place, part in enumerate(item.get("content") or []):
            yield from _part({**at, "content_index": place}, part)
    elif kind == "reasoning":
        for place, part in enumerate(item.get("summary") or []):
            yield from _summary({**at, "summary_index": place}, part)
    elif kind == "function_call":
        text = item.get("arguments") or ""
        kind_of = "response.function_call_arguments"
        yield f"{kind_of}.delta", {**at, "delta": text}
        yield f"{kind_of}.done", {**at, "arguments": text, "name": item.get("name") or ""}
    elif kind == "custom_tool_call":
        text = item.get("input") or ""
        yield "response.custom_tool_call_input.delta", {**at, "delta": text}
        yield "response.custom_tool_call_input.done", {**at, "input": text}
    yield "response.output_item.done", {"output_index": index, "item": item}


def _part(at: dict[str, Any], part: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    field = "refusal" if part.get("type") == "refusal" else "text"
    text = part.get(field) or ""
    kind = "response.refusal" if field == "refusal" else "response.output_text"
    more: dict[str, Any] = {} if field == "refusal" else {"logprobs": []}
    empty = {**part, field: ""}
    if "annotations" in part:
        empty["annotations"] = []
    yield "response.content_part.added", {**at, "part": empty}
    if text:
        yield f"{kind}.delta", {**at, "delta": text, **more}
    yield f"{kind}.done", {**at, field: text, **more}
    yield "response.content_part.done", {**at, "part": part}


def _summary(at: dict[str, Any], part: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    text = part.get("text") or ""
    kind = "response.reasoning_summary"
    yield f"{kind}_part.added", {**at, "part": {**part, "text": ""}}
    if text:
        yield f"{kind}_text.delta", {**at, "delta": text}
    yield f"{kind}_text.done", {**at, "text": text}
    yield f"{kind}_part.done", {**at, "part": part}
