"""What a simulated chat model says to a conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast
from zlib import crc32

import msgspec

from merino.simulator.options import Options
from merino.simulator.schema import as_list, as_object, example_of
from merino.simulator.sentences import said_in
from merino.simulator.steps import Refused, whole_number

_REASONING_FAMILIES = ("o3", "o4")
_EFFORTS = {
    "none": 0.0,
    "minimal": 0.125,
    "low": 0.25,
    "medium": 1.0,
    "high": 4.0,
    "xhigh": 8.0,
}
_CHOICES_MAX = 128
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
_encode = msgspec.json.encode


@dataclass(slots=True)
class Answer:
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


def refuse_unsupported(body: dict[str, Any]) -> None:
    if body.get("max_tokens") is not None:
        raise Refused(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "max_tokens",
            "unsupported_parameter",
        )
    for name, default in _UNSUPPORTED_WHEN_STRICT.items():
        if body.get(name) is not None and body[name] != default:
            raise Refused(
                f"Unsupported parameter: '{name}' is not supported with this model.",
                name,
                "unsupported_parameter",
            )


def answer_of(body: dict[str, Any], model: str, options: Options) -> Answer:
    messages = as_list(body.get("messages"))
    if not messages:
        raise Refused(
            "Missing required parameter: 'messages'."
            if body.get("messages") is None
            else "Invalid 'messages': expected an array with at least one message.",
            "messages",
            "missing_required_parameter" if body.get("messages") is None else "invalid_value",
        )
    for number, item in enumerate(messages):
        _check_message(number, item)
    limit = whole_number(body, "max_completion_tokens", 1, 100_000_000)
    if limit is None:
        limit = whole_number(body, "max_tokens", 1, 100_000_000)
    choices = whole_number(body, "n", 1, _CHOICES_MAX) or 1
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
        raise Refused(
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
    return Answer(
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
    raise Refused(f"Invalid type for '{name}': expected {expected}.", name, "invalid_type")


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
        raise Refused(f"Tool choice '{named}' not found in 'tools' parameter.", "tool_choice", None)
    if choice != "required" and as_object(messages[-1]).get("role") == "tool":
        return None
    return functions[0]


def _text_pieces(prompt: str, model: str, options: Options) -> list[str]:
    excerpt = " ".join(prompt[:200].split())[:60]
    opening = f"This is a simulated answer from {model}; no real model was asked."
    whole = f'{opening} You wrote: "{excerpt}".' if excerpt else opening
    count = options.output
    if count is None:
        seed = crc32(prompt.encode("utf-8", "replace"))
        count = max(len(whole.split(" ")) + 8 + seed % 24, options.chunks or 0)
    return said_in(count, whole, opening)


def _json_pieces(schema: object, param: str) -> list[str]:
    try:
        return _split(_encode(example_of(schema)).decode())
    except ValueError as error:
        raise Refused(f"Invalid schema in '{param}': {error}.", param, "invalid_schema") from None


def _split(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]
