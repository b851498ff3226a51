"""The usage object of `chat/completions`."""

from __future__ import annotations

from typing import Any

from merino.domain.usage import Usage


def write_usage(usage: Usage) -> dict[str, Any]:
    """All that is known, in OpenAI's words."""
    inputs = {
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "audio_tokens": usage.audio_input_tokens,
    }
    if usage.image_input_tokens:
        inputs["image_tokens"] = usage.image_input_tokens
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": inputs,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.audio_output_tokens,
        },
    }
