"""The usage object of `messages`."""

from __future__ import annotations

from typing import Any

from merino.domain.usage import CACHE_WRITE_UNITS, Usage
from merino.wire.message_usage import ESTIMATED


def write_usage(usage: Usage) -> dict[str, Any]:
    """All that is known, in Anthropic's words: what was read from a cache or written to one lies
    beside the input."""
    cached, written = usage.cached_tokens, usage.cache_write_tokens
    said: dict[str, Any] = {
        "input_tokens": max(0, usage.input_tokens - cached - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        said["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    units = dict(usage.units)
    lives = {
        f"ttl_{unit.rpartition('_')[2]}_tokens": count
        for unit, count in units.items()
        if unit in CACHE_WRITE_UNITS
    }
    inputs: dict[str, Any] = {}
    if lives:
        inputs["cache_write_tokens_details"] = lives
    if usage.image_input_tokens:
        inputs["image_tokens"] = usage.image_input_tokens
    if usage.audio_input_tokens:
        inputs["audio_tokens"] = usage.audio_input_tokens
    if inputs:
        said["input_tokens_details"] = inputs
    if usage.audio_output_tokens:
        said.setdefault("output_tokens_details", {})["audio_tokens"] = usage.audio_output_tokens
    if units.get("web_search"):
        said["server_tool_use"] = {"web_search_requests": units["web_search"]}
    return said


def estimated(input_tokens: int, output_tokens: int = 0) -> dict[str, Any]:
    """A usage that nobody reported: clients want numbers from the first event on, and show them;
    billing takes none from it."""
    return {
        "input_tokens": max(1, input_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
        ESTIMATED: True,
    }
