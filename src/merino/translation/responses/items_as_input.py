"""Input items of `responses`, written from items."""

from __future__ import annotations

from merino.translation.asked import (
    Asked,
    Audio,
    Call,
    File,
    Image,
    Message,
    Part,
    Refusal,
    Result,
    Text,
)
from merino.translation.values import Members
from merino.wire.seals import OPENAI


def write_items(asked: Asked) -> list[Members]:
    """Thinking goes back only to who sealed it; readable thinking has no place in the input."""
    written: list[Members] = []
    sealed: list[Members] = []
    for item in asked.items:
        if isinstance(item, Message | Call):
            is_said_by_model = isinstance(item, Call) or item.role == "assistant"
            if is_said_by_model:
                written += sealed
            sealed = []  # thinking that nothing follows is refused
            if isinstance(item, Message) and item.name is not None:
                asked.tell(f"{item.where}.name removed")
            written.append(_call(item) if isinstance(item, Call) else _message(item))
        elif isinstance(item, Result):
            sealed = []
            written.append(_result(item))
        elif item.sealed is not None and item.maker == OPENAI:
            thought: Members = {"type": "reasoning", "summary": []}
            if item.id is not None:
                thought["id"] = item.id
            sealed.append({**thought, "encrypted_content": item.sealed})
        elif item.sealed is not None:
            asked.tell(f"{item.where} removed (another maker's thinking)")
    return written


def _message(item: Message) -> Members:
    said: Members = {"type": "message", "role": item.role}
    if item.role == "assistant":
        # Its parts would need the id and the state of an item that nobody has.
        said["content"] = "".join(
            part.text for part in item.parts if isinstance(part, Text | Refusal)
        )
    elif item.is_plain and len(item.parts) == 1 and isinstance(item.parts[0], Text):
        said["content"] = item.parts[0].text
    else:
        said["content"] = [_part(part) for part in item.parts]
    if item.phase is not None:
        said["phase"] = item.phase
    return said


def _part(part: Part) -> Members:
    written: Members
    match part:
        case Text() | Refusal():
            written = {"type": "input_text", "text": part.text}
        case Image():
            written = {"type": "input_image", "detail": part.detail or "auto"}
            written |= _given(image_url=part.url, file_id=part.file_id)
        case File():
            written = {"type": "input_file"}
            named = {"file_data": part.data, "file_url": part.url, "filename": part.name}
            written |= _given(file_id=part.file_id, **named)
        case Audio():
            sound = {"data": part.data, "format": part.format}
            return {"type": "input_audio", "input_audio": sound}
    cache = None if isinstance(part, Refusal) else part.cache
    if cache is not None:
        written["prompt_cache_breakpoint"] = cache
    return written


def _given(**members: str | None) -> Members:
    return {name: value for name, value in members.items() if value is not None}


def _call(item: Call) -> Members:
    kind, payload = (
        ("custom_tool_call", "input") if item.is_custom else ("function_call", "arguments")
    )
    said: Members = {"type": kind, "call_id": item.id, "name": item.name, payload: item.payload}
    if item.namespace is not None:
        said["namespace"] = item.namespace
    return said


def _result(item: Result) -> Members:
    kind = "custom_tool_call_output" if item.is_custom else "function_call_output"
    said: Members = {"type": kind, "call_id": item.call_id}
    if all(isinstance(part, Text) for part in item.parts):
        said["output"] = "".join(part.text for part in item.parts if isinstance(part, Text))
    else:
        said["output"] = [_part(part) for part in item.parts]
    return said
