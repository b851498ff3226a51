"""What one call used, in LLM tokens."""

from __future__ import annotations

from typing import Literal

import msgspec

UsageSource = Literal["reported", "raised", "counted", "estimated", "disbelieved", "none"]
"""Who says so: the upstream; the upstream, but a number that was missing, or below what went
through, was made good; our count of what went through; a count plus an estimate of hidden
reasoning; our count, since what the upstream said cannot be; or nothing was used."""


CACHE_WRITE_UNITS = ("cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h")
"""Input tokens written to a cache, by how long they are kept: parts of `cache_write_tokens`."""

TOOL_UNITS = (
    "code_interpreter",
    "file_search",
    "image",
    "image_gen_image",
    "image_gen_output",
    "image_gen_text",
    "web_search",
)
"""What a vendor's own tools did on the way, by the piece; of pictures that were made, the tokens of
text and pictures that went in and of what came out, or where these are not told the pictures."""

UNITS = frozenset((*CACHE_WRITE_UNITS, *TOOL_UNITS))
"""What is counted beside the tokens of every call. A new one is a name here, its place in what
vendors report (`wire/reported_units.py`), and prices."""

Units = tuple[tuple[str, int], ...]
"""Counts by their unit, in order of the names; none is zero."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Token counts of one call. Subsets, never additions: cached, cache-write, image-input and
    audio-input tokens lie inside `input_tokens`; reasoning and audio-output inside `output_tokens`.

    A struct, as the other values that every call builds: making one costs a third of what making a
    dataclass does.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    image_input_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    units: Units = ()
    elsewhere: tuple[tuple[str, Usage], ...] = ()
    """What other models used for it, each under its vendor's name: priced as theirs, and in none of
    the counts above."""
    rounds: int = 1
    """How often the vendor had its models go on: each time with a context of its own."""

    def is_consistent(self) -> bool:
        """Nothing negative, no subset larger than its whole."""
        return (
            self.input_tokens >= 0
            and self.cached_tokens >= 0
            and self.cache_write_tokens >= 0
            and self.image_input_tokens >= 0
            and self.audio_input_tokens >= 0
            and 0 <= self.reasoning_tokens <= self.output_tokens
            and 0 <= self.audio_output_tokens <= self.output_tokens
            and self.cached_tokens + self.cache_write_tokens <= self.input_tokens
            and self.image_input_tokens + self.audio_input_tokens <= self.input_tokens
            and all(count > 0 for _, count in self.units)
        )


NO_USAGE = Usage()
