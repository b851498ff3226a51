"""What is asked, written as a request of `generateContent`."""

from __future__ import annotations

from typing import Any

import msgspec

from merino.translation.asked import Asked, Tool
from merino.translation.custom_tools import ONE_TEXT, described
from merino.translation.fields import write_settings
from merino.translation.gemini.contents_written import write_contents
from merino.translation.gemini.schemas import plain_schema
from merino.translation.meanings import leave_out_marks
from merino.translation.thinking import budget_for
from merino.translation.tool_names import ToolNames, names_of
from merino.translation.values import Members, decode, encode, list_of
from merino.wire.fields import Fields

SETTINGS = {
    "output_tokens_max": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "stop": "stopSequences",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "effort": "",
    "summary": "",
    "extras": "",
}
"""Fields of `generationConfig` by meaning; an empty name: `thinkingConfig`, below."""
_LEVELS = {
    "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "XHIGH",
}  # fmt: skip
"""In the words of newer models; older ones get a budget (`messages/thinking.py`)."""
_LIMIT_ASSUMED = 65_536
_TRUE = msgspec.Raw(b"true")


def write_request(asked: Asked) -> tuple[Fields, ToolNames]:
    """The fields of the body, with `model` and `stream`, which go into the path. Raises
    `InvalidCall`."""
    names = names_of(asked)
    leave_out_marks(asked)
    fields: Fields = {"model": _raw(asked.model), **asked.others}
    system, contents = write_contents(asked, names)
    fields["contents"] = _raw(contents)
    if system:
        fields["systemInstruction"] = _raw({"parts": system})
    config: Members = dict(write_settings(asked, SETTINGS))
    if "stopSequences" in config:
        said: object = decode(config["stopSequences"])
        config["stopSequences"] = [said] if isinstance(said, str) else list_of(said)
    _format(asked, config)
    older = _think(asked, config)
    if config:
        fields["generationConfig"] = _raw(config)
    if older is not None:
        asked.dispensable["generationConfig"] = "thinking", _raw({**config, **older})
    if asked.tools:
        declared = [_tool(tool, names) for tool in asked.tools]
        fields["tools"] = _raw([{"functionDeclarations": declared}])
        _choose(asked, names, fields)
    if asked.stream:
        fields["stream"] = _TRUE
    return fields, names


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(encode(value))


def _format(asked: Asked, config: Members) -> None:
    form = asked.format
    if form is None:
        return
    config["responseMimeType"] = "application/json"
    if form.schema is not None:
        config["responseJsonSchema"] = plain_schema(form.schema)


def _think(asked: Asked, config: Members) -> Members | None:
    """Add how much to think; what to say instead to a model that does not take it so."""
    said: object = decode(asked.settings["effort"]) if "effort" in asked.settings else None
    if not isinstance(said, str):
        if "summary" in asked.settings:
            config["thinkingConfig"] = {"includeThoughts": True}
            return {"thinkingConfig": {}}
        return None
    if said == "none":
        config["thinkingConfig"] = {"thinkingBudget": 0}
        return {"thinkingConfig": {"thinkingLevel": "MINIMAL"}}
    level = _LEVELS.get(said, "XHIGH")
    if said not in _LEVELS:
        asked.tell(f"{asked.wheres['effort']}={level.lower()}")
    config["thinkingConfig"] = {"thinkingLevel": level, "includeThoughts": True}
    limit = config.get("maxOutputTokens")
    tokens: object = decode(limit) if isinstance(limit, msgspec.Raw) else None
    budget = budget_for(said, tokens if isinstance(tokens, int) else _LIMIT_ASSUMED)
    return {"thinkingConfig": {"thinkingBudget": budget, "includeThoughts": True}}


def _tool(tool: Tool, names: ToolNames) -> Members:
    written: Members = {"name": names.flat(tool.namespace, tool.name, is_custom=tool.is_custom)}
    if tool.is_custom:
        written |= {"description": described(tool), "parametersJsonSchema": ONE_TEXT}
        return written
    if tool.description is not None:
        written["description"] = tool.description
    if tool.schema is not None:
        written["parametersJsonSchema"] = plain_schema(tool.schema)
    return written


def _choose(asked: Asked, names: ToolNames, fields: Fields) -> None:
    choice = asked.choice
    config: dict[str, Any] = {}
    if choice is not None:
        config["mode"] = {"required": "ANY", "auto": "AUTO", "none": "NONE"}[choice.mode]
        if choice.only:
            config["allowedFunctionNames"] = [names.flat(*each) for each in choice.only]
            if choice.mode == "auto":
                config["mode"] = "VALIDATED"
    # Strict tools are called with what their schemas allow.
    if any(tool.strict for tool in asked.tools) and config.get("mode", "AUTO") == "AUTO":
        config["mode"] = "VALIDATED"
    if config:
        fields["toolConfig"] = _raw({"functionCallingConfig": config})
