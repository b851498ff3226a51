"""The usage object of `responses`."""

from __future__ import annotations

from typing import Any

from merino.domain.usage import Usage


def write_usage(usage: Usage | None) -> dict[str, Any] | None:
    """All that is known, in OpenAI's words; `None` if nothing was reported."""
    if usage is None:
        return None
    inputs = {
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
    }
    outputs = {"reasoning_tokens": usage.reasoning_tokens}
    for name, tokens, details in (
        ("image_tokens", usage.image_input_tokens, inputs),
        ("audio_tokens", usage.audio_input_tokens, inputs),
        ("audio_tokens", usage.audio_output_tokens, outputs),
    ):
        if tokens:
            details[name] = tokens
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": inputs,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": outputs,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
