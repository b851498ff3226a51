"""What was asked and answered, as a conversation: of whichever dialect, also as a stream.

Nothing here trusts what callers and upstreams sent: what is no conversation stays text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, cast

PartKind = Literal["text", "reasoning", "refusal", "image", "file", "audio", "call", "result"]
PARTS_MAX = 400
TEXT_MAX = 200_000
_IMAGE_TYPES = ("data:image/png", "data:image/jpeg", "data:image/webp", "data:image/gif")


@dataclass(slots=True)
class Part:
    """`name` is a tool's or a file's, `text` what is said, called with, or where a picture is."""

    kind: PartKind
    text: str
    name: str = ""

    @property
    def is_shown(self) -> bool:
        """A picture that came with the call; one elsewhere is not fetched."""
        return self.kind == "image" and self.text.startswith(_IMAGE_TYPES)


@dataclass(slots=True)
class Message:
    """`role` as the dialect names it; several answers have a number each."""

    role: str
    parts: list[Part] = field(default_factory=list[Part])


@dataclass(slots=True)
class Conversation:
    """`tools` are those that were offered, `options` what else was asked for. The raw texts are as
    they were kept, the answer's merged if it was a stream."""

    asked: list[Message]
    answered: list[Message]
    tools: list[str]
    options: dict[str, str]
    request: str
    response: str
    is_stream: bool


def conversation_of(request: str, response: str) -> Conversation:
    """Of the texts that were kept."""
    asked = _object(request)
    is_stream = response.lstrip().startswith(("data:", "event:", ":"))
    if is_stream:
        merged = _merged(_events(response))
        answered = _answers(merged)
        shown = _pretty(merged)
    else:
        body = _object(response)
        answered = _answers(body)
        shown = _pretty(body) if body else response[:TEXT_MAX]
    if not answered and response.strip():
        answered = [Message("answer", [Part("text", response[:TEXT_MAX])])]
    return Conversation(
        _questions(asked),
        answered,
        _tools(asked),
        _options(asked),
        _pretty(asked) if asked else request[:TEXT_MAX],
        shown,
        is_stream,
    )


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _pretty(body: dict[str, Any]) -> str:
    return json.dumps(_short(body), indent=2, ensure_ascii=False)[:TEXT_MAX] if body else ""


def _short(value: object, depth: int = 0) -> object:
    """Without the bulk of pictures and sound."""
    if isinstance(value, str):
        is_bulk = len(value) > 400 and (value.startswith("data:") or " " not in value[:400])
        return f"{value[:60]}… ({len(value):,} characters)" if is_bulk else value
    if depth > 40:
        return "…"
    if isinstance(value, list):
        return [_short(each, depth + 1) for each in cast("list[object]", value)]
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value)
        return {name: _short(each, depth + 1) for name, each in pairs.items()}
    return value


def _list(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [
        cast("dict[str, Any]", each)
        for each in cast("list[object]", value)[:PARTS_MAX]
        if isinstance(each, dict)
    ]


def _text(value: object) -> str:
    if isinstance(value, str):
        return value[:TEXT_MAX]
    return "" if value is None else json.dumps(value, ensure_ascii=False)[:TEXT_MAX]


def _questions(body: dict[str, Any]) -> list[Message]:
    found = [Message("system", _parts(body.get(name))) for name in ("instructions", "system")]
    found += [_message(each) for each in _list(body.get("messages"))]
    given = body.get("input")
    if isinstance(given, str):
        found.append(Message("user", [Part("text", given[:TEXT_MAX])]))
    elif isinstance(given, list):
        texts = [each for each in cast("list[object]", given) if isinstance(each, str)]
        found += [Message("input", [Part("text", text[:TEXT_MAX])]) for text in texts[:PARTS_MAX]]
        found += [_item(each) for each in _list(cast("object", given))]
    if isinstance(prompt := body.get("prompt"), str):
        found.append(Message("user", [Part("text", prompt[:TEXT_MAX])]))
    return [each for each in found if each.parts]


def _message(each: dict[str, Any]) -> Message:
    """Of a chat completion, asked or answered."""
    role = _text(each.get("role")) or "assistant"
    parts: list[Part] = []
    for name in ("reasoning_content", "reasoning"):
        if isinstance(text := each.get(name), str) and text:
            parts.append(Part("reasoning", text[:TEXT_MAX]))
            break
    if role in ("tool", "function"):
        name = _text(each.get("name") or each.get("tool_call_id"))
        return Message(role, [Part("result", _content_text(each.get("content")), name)])
    parts += _parts(each.get("content"))
    if isinstance(text := each.get("refusal"), str) and text:
        parts.append(Part("refusal", text[:TEXT_MAX]))
    for call in _list(each.get("tool_calls")):
        function: object = call.get("function") or call.get("custom")
        if isinstance(function, dict):
            named = cast("dict[str, Any]", function)
            arguments = named.get("arguments", named.get("input"))
            parts.append(Part("call", _json_text(arguments), _text(named.get("name"))))
    return Message(role, parts)


def _item(each: dict[str, Any]) -> Message:
    """Of a response's input or output."""
    kind = each.get("type")
    if kind in ("function_call", "custom_tool_call"):
        arguments = each.get("arguments", each.get("input"))
        call = Part("call", _json_text(arguments), _text(each.get("name")))
        return Message("assistant", [call])
    if kind in ("function_call_output", "custom_tool_call_output"):
        result = Part("result", _content_text(each.get("output")), _text(each.get("call_id")))
        return Message("tool", [result])
    if kind == "reasoning":
        texts = [
            _text(part.get("text"))
            for name in ("summary", "content")
            for part in _list(each.get(name))
        ]
        return Message("assistant", [Part("reasoning", text) for text in texts if text])
    return Message(_text(each.get("role")) or "assistant", _parts(each.get("content")))


def _parts(content: object) -> list[Part]:
    if isinstance(content, str):
        return [Part("text", content[:TEXT_MAX])] if content else []
    found: list[Part] = []
    for each in _list(content):
        kind = _text(each.get("type"))
        if kind in ("text", "input_text", "output_text"):
            found.append(Part("text", _text(each.get("text"))))
        elif kind in ("image_url", "input_image", "image"):
            found.append(Part("image", _image(each)))
        elif kind in ("input_audio", "audio"):
            found.append(Part("audio", "", _text(each.get("format"))))
        elif kind in ("file", "input_file", "document"):
            inner = each.get("file")
            about = cast("dict[str, Any]", inner) if isinstance(inner, dict) else each
            found.append(Part("file", "", _text(about.get("filename") or about.get("file_id"))))
        elif kind == "refusal":
            found.append(Part("refusal", _text(each.get("refusal"))))
        elif kind == "thinking":
            found.append(Part("reasoning", _text(each.get("thinking"))))
        elif kind == "tool_use":
            found.append(Part("call", _json_text(each.get("input")), _text(each.get("name"))))
        elif kind == "tool_result":
            result = _content_text(each.get("content"))
            found.append(Part("result", result, _text(each.get("tool_use_id"))))
        else:
            found.append(Part("text", _text(each)))
    return found


def _image(each: dict[str, Any]) -> str:
    given = each.get("image_url") or each.get("source") or ""
    if isinstance(given, dict):
        about = cast("dict[str, Any]", given)
        if about.get("data"):
            return f"data:{_text(about.get('media_type'))};base64,{about['data']}"
        given = about.get("url") or ""
    # As it is: a picture cut off is none.
    return given if isinstance(given, str) else ""


def _content_text(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(part.text for part in _parts(cast("object", content)))
    return _json_text(content)


def _json_text(value: object) -> str:
    """Indented if it is JSON, in a text or not."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return _text(value)
        if isinstance(value, str | int | float) or value is None:
            return _text(value)
    return json.dumps(value, indent=2, ensure_ascii=False)[:TEXT_MAX]


def _answers(body: dict[str, Any]) -> list[Message]:
    choices = _list(body.get("choices"))
    found: list[Message] = []
    for number, each in enumerate(choices):
        inner = each.get("message")
        if isinstance(inner, dict):
            message = _message(cast("dict[str, Any]", inner))
            if len(choices) > 1:
                message.role += f" {number + 1}"
            found.append(message)
        elif isinstance(each.get("text"), str):
            found.append(Message("assistant", [Part("text", _text(each["text"]))]))
    found += [_item(each) for each in _list(body.get("output"))]
    if isinstance(body.get("content"), list):
        found.append(Message("assistant", _parts(body["content"])))
    error = body.get("error")
    if isinstance(error, dict):
        about = cast("dict[str, Any]", error)
        found.append(Message("error", [Part("text", _text(about.get("message") or about))]))
    if data := _list(body.get("data")):
        if all("embedding" in each for each in data):
            texts = f"{len(data)} vector{'' if len(data) == 1 else 's'}"
            found.append(Message("assistant", [Part("text", texts)]))
    return [each for each in found if each.parts]


def _events(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if line.startswith("data:"):
            event = _object(line[5:].strip())
            if event:
                yield event


def _merged(events: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """A stream as the answer that it would have been."""
    merged: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        response = event.get("response")
        if isinstance(response, dict) and _text(event.get("type")).startswith("response."):
            merged = cast("dict[str, Any]", response)
            continue
        for name, value in event.items():
            if name != "choices" and value is not None:
                merged[name] = value
        for each in _list(event.get("choices")):
            index = each.get("index")
            choice = choices.setdefault(index if isinstance(index, int) else 0, {"message": {}})
            if each.get("finish_reason"):
                choice["finish_reason"] = each["finish_reason"]
            delta = each.get("delta")
            if isinstance(delta, dict):
                _add(choice["message"], cast("dict[str, Any]", delta))
    if choices:
        merged["choices"] = [choices[index] for index in sorted(choices)]
    merged.pop("object", None)
    return merged


def _add(message: dict[str, Any], delta: dict[str, Any]) -> None:
    """What one event of a chat stream adds to its message."""
    for name, value in delta.items():
        if name == "tool_calls":
            calls = message.setdefault("tool_calls", [])
            for each in _list(value):
                index = each.get("index")
                place = index if isinstance(index, int) and 0 <= index <= len(calls) else len(calls)
                if place == len(calls):
                    calls.append({"function": {"name": "", "arguments": ""}})
                function = each.get("function")
                if isinstance(function, dict):
                    _extend(calls[place]["function"], cast("dict[str, Any]", function))
        elif name == "role":
            message["role"] = value
        else:
            _extend(message, {name: value})


def _extend(texts: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, str):
            before = texts.get(name)
            texts[name] = (before if isinstance(before, str) else "") + value
        elif value is not None and name not in texts:
            texts[name] = value


def _tools(body: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for each in _list(body.get("tools")):
        function = each.get("function")
        about = cast("dict[str, Any]", function) if isinstance(function, dict) else each
        found.append(_text(about.get("name") or each.get("type"))[:100])
    return [each for each in found if each]


_SAID = frozenset(("model", "messages", "input", "instructions", "system", "prompt", "tools"))


def _options(body: dict[str, Any]) -> dict[str, str]:
    return {
        name[:60]: _text(value)[:200]
        for name, value in list(body.items())[:40]
        if name not in _SAID
    }
