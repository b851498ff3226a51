"""What an upstream says a call used: every vendor's spelling, each member read separately.

This module reads the report and does not judge whether it can be true. An oddly written count is
read, a value that cannot be a count is ignored, and a part is never more than its whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import lru_cache
from operator import attrgetter
from typing import Any, cast

import msgspec

from merino.domain.usage import Usage
from merino.wire.reported_units import most_units, with_units

TOKENS_MAX = 10**9
"""No call uses more. A larger number is kept as one more than this, so that it is disbelieved for a
stated reason."""


class Details(msgspec.Struct, gc=False):
    """Parts of the input or of the output."""

    cached_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_creation_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class CacheCreation(msgspec.Struct, gc=False):
    """Anthropic's cache writes, by how long they are kept."""

    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class RawUsage(msgspec.Struct, gc=False):
    """A usage object in either of OpenAI's spellings, with other vendors' additions."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: Details | None = None
    output_tokens_details: Details | None = None
    reasoning_tokens: int | None = None
    thoughts_token_count: int | None = None
    cached_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None
    prompt_cache_miss_tokens: int | None = None
    tool_use_prompt_tokens: int | None = None
    cached_content_token_count: int | None = None
    cache_read_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: CacheCreation | None = None


class Unsplit(Usage, frozen=True, gc=False):
    """Only the total was reported. It counts as output until the input is known."""


_otherwise_cached = attrgetter(
    "cache_read_tokens",
    "cache_read_input_tokens",
    "cache_creation_tokens",
    "cache_creation_input_tokens",
)
_NOT_CACHED = (None,) * 4

_decode = msgspec.json.Decoder(RawUsage | None).decode
_NO_DETAILS = Details()


def parse_usage(raw: bytes | msgspec.Raw) -> Usage | None:
    """Read a usage object; `None` if it reports no use."""
    try:
        read = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if read is None else to_usage(read)


def to_usage(raw: RawUsage) -> Usage | None:
    """What all members report together, under the relay's names; `None` if they report nothing.

    If the total is more than input and output, something is not part of either: reasoning (xAI),
    the cached part of the input (Moonshot, Anthropic), or, if nothing else explains it, thinking
    that only the total includes (Gemini).
    """
    input_tokens, output_tokens = raw.prompt_tokens, raw.completion_tokens
    if input_tokens and output_tokens and input_tokens + output_tokens == raw.total_tokens:
        plain = _plain(raw, input_tokens, output_tokens)
        if plain is not None:
            return plain
    input_tokens = _first(raw.prompt_tokens, raw.input_tokens)
    output_tokens = _first(raw.completion_tokens, raw.output_tokens)
    total = raw.total_tokens
    if total is not None and total < 0:
        total = None
    input_details = raw.prompt_tokens_details or raw.input_tokens_details or _NO_DETAILS
    output_details = raw.completion_tokens_details or raw.output_tokens_details or _NO_DETAILS
    cached = _cached(raw, input_details)
    written = _written(raw, input_details)
    thought = (
        output_details.reasoning_tokens or raw.reasoning_tokens or raw.thoughts_token_count or 0
    )
    thought = max(0, thought)
    if not input_tokens and raw.prompt_cache_miss_tokens is not None:
        input_tokens = cached + max(0, raw.prompt_cache_miss_tokens)
    if raw.thoughts_token_count or raw.tool_use_prompt_tokens:
        # Gemini's own names: both come on top, whether a total says so or not.
        used = max(0, raw.tool_use_prompt_tokens or 0)
        if total is None:
            total = (input_tokens or 0) + (output_tokens or 0) + used + thought
        if (input_tokens or 0) + (output_tokens or 0) + used <= total:
            input_tokens = (input_tokens or 0) + used
    if input_tokens is None and output_tokens is None:
        return Unsplit(0, min(total, TOKENS_MAX + 1)) if total else None
    if output_tokens is None:
        output_tokens = max(0, (total or 0) - (input_tokens or 0))
    elif input_tokens is None:
        input_tokens = max(0, (total or 0) - output_tokens)
    else:
        in_cache = cached + written
        beside = 0 if total is None else total - input_tokens - output_tokens
        if beside > 0:
            if beside == thought:
                output_tokens += beside
            elif in_cache and beside in (in_cache, cached, written):
                input_tokens += beside
            elif in_cache and (beside == in_cache + thought or in_cache > input_tokens):
                input_tokens += min(in_cache, beside)
                unexplained = max(0, beside - in_cache)
                output_tokens += unexplained
                thought = max(thought, unexplained)
            else:
                output_tokens += beside
                thought = max(thought, beside)
        elif in_cache and _lies_beside(raw, input_tokens, in_cache, total):
            input_tokens += in_cache
    return clamped(
        input_tokens or 0,
        output_tokens,
        cached,
        written,
        thought,
        input_details.image_tokens or 0,
        input_details.audio_tokens or 0,
        output_details.audio_tokens or 0,
    )


def _plain(raw: RawUsage, input_tokens: int, output_tokens: int) -> Usage | None:
    """The same for a usage in OpenAI's own names that adds up, as nearly all do."""
    inputs, outputs = raw.prompt_tokens_details, raw.completion_tokens_details
    if output_tokens > TOKENS_MAX or raw != RawUsage(
        input_tokens, output_tokens, raw.total_tokens, inputs, outputs
    ):
        return None  # something else is reported
    cached = written = thought = image_input = audio_input = audio_output = 0
    if inputs is not None:
        cached, written = inputs.cached_tokens or 0, inputs.cache_write_tokens or 0
        image_input, audio_input = inputs.image_tokens or 0, inputs.audio_tokens or 0
        if _otherwise_cached(inputs) != _NOT_CACHED:
            return None
    if outputs is not None:
        thought, audio_output = outputs.reasoning_tokens or 0, outputs.audio_tokens or 0
    if not (0 <= thought <= output_tokens and 0 <= audio_output <= output_tokens):
        return None
    usage = Usage(
        input_tokens,
        output_tokens,
        cached,
        written,
        thought,
        image_input,
        audio_input,
        audio_output,
    )
    if (cached or written or image_input or audio_input) and not usage.is_consistent():
        return None
    return usage if input_tokens > 0 else None


def clamped(
    input_tokens: int,
    output_tokens: int,
    cached: int,
    written: int,
    thought: int,
    image_input: int,
    audio_input: int,
    audio_output: int,
) -> Usage:
    """A usage in which nothing is negative and no part is more than its whole."""
    input_tokens = min(input_tokens, TOKENS_MAX + 1)
    output_tokens = min(output_tokens, TOKENS_MAX + 1)
    if cached or written:
        cached = min(cached, input_tokens)
        written = min(written, input_tokens - cached)
    if image_input or audio_input:
        audio_input = min(max(0, audio_input), input_tokens)
        image_input = min(max(0, image_input), input_tokens - audio_input)
    return Usage(
        input_tokens,
        output_tokens,
        cached,
        written,
        min(thought, output_tokens),
        image_input,
        audio_input,
        min(max(0, audio_output), output_tokens),
    )


def merged(earlier: Usage | None, later: Usage | None) -> Usage | None:
    """What two reports of one stream say together. Counts only grow: zeros, half a report or an
    empty one take nothing back."""
    if later is None or earlier is later:
        return earlier
    if earlier is None or isinstance(earlier, Unsplit):
        return later
    if isinstance(later, Unsplit):
        return earlier
    if earlier == later:
        return later
    both = clamped(
        max(earlier.input_tokens, later.input_tokens),
        max(earlier.output_tokens, later.output_tokens),
        max(earlier.cached_tokens, later.cached_tokens),
        max(earlier.cache_write_tokens, later.cache_write_tokens),
        max(earlier.reasoning_tokens, later.reasoning_tokens),
        max(earlier.image_input_tokens, later.image_input_tokens),
        max(earlier.audio_input_tokens, later.audio_input_tokens),
        max(earlier.audio_output_tokens, later.audio_output_tokens),
    )
    if earlier.units or later.units:
        return with_units(both, most_units(earlier.units, later.units))
    return both


def all_input(usage: Usage | None) -> Usage | None:
    """The same where there is no output: all of it is input (Voyage reports only the total)."""
    if usage is None or not usage.output_tokens:
        return usage
    return clamped(
        usage.input_tokens + usage.output_tokens,
        0,
        usage.cached_tokens,
        usage.cache_write_tokens,
        0,
        usage.image_input_tokens,
        usage.audio_input_tokens,
        0,
    )


def _first(one: int | None, other: int | None) -> int | None:
    """The value of a count that has two names; a zero beside a count is a filler."""
    if one:
        return one if one > 0 else _first(None, other)
    if other is None or other < 0:
        return one
    return other


def _cached(raw: RawUsage, details: Details) -> int:
    """Tokens read from a cache, under any vendor's name."""
    told = 0
    if details is not _NO_DETAILS:
        told = (
            details.cached_tokens
            or details.cache_read_tokens
            or details.cache_read_input_tokens
            or 0
        )
    told = told or (
        raw.cached_tokens
        or raw.prompt_cache_hit_tokens
        or raw.cache_read_input_tokens
        or raw.cache_read_tokens
        or raw.cached_content_token_count
        or 0
    )
    return max(0, told)


def _written(raw: RawUsage, details: Details) -> int:
    """Tokens written to a cache."""
    told = 0
    if details is not _NO_DETAILS:
        told = (
            details.cache_write_tokens
            or details.cache_creation_tokens
            or details.cache_creation_input_tokens
            or 0
        )
    told = told or raw.cache_creation_input_tokens or raw.cache_write_tokens or 0
    created = raw.cache_creation
    if not told and created is not None:
        told = max(0, created.ephemeral_5m_input_tokens or 0)
        told += max(0, created.ephemeral_1h_input_tokens or 0)
    return max(0, told)


def _lies_beside(raw: RawUsage, input_tokens: int, in_cache: int, total: int | None) -> bool:
    """Whether the total allows the cached part to be on top of the input: if the names are
    Anthropic's and there is no total, or if the cache has more than the input."""
    if raw.cache_read_input_tokens is None and raw.cache_creation_input_tokens is None:
        return False
    return in_cache > input_tokens or (total is None and not raw.prompt_tokens)


# -- objects that no schema fits ------------------------------------------------------------------

_INNER = ("billed_units", "tokens")
"""Cohere's usage contains two; it charges by the first."""
_PLACES = (
    "x_groq",
    "usageMetadata",
    "usage_metadata",
    "token_usage",
    "Usage",
    "meta",
    "amazon-bedrock-invocationMetrics",
)
"""Where vendors that do not call it `usage` put it, in an answer or in an event."""
_AT_TOP = ("prompt_eval_count", "eval_count", "inputTokenCount", "outputTokenCount")
MAY_BE_BESIDE = re.compile(rb"[tT]oken|eval_count").search
"""Whether bytes may hold a usage object. Bytes without `usage` hardly ever do."""

_COUNTS = frozenset(name for name in RawUsage.__struct_fields__ if "detail" not in name)
_PARTS = frozenset(Details.__struct_fields__)
_NUMBER = re.compile(r"\+?[0-9][0-9,_]{0,30}(?:\.[0-9]{0,20})?(?:[eE]\+?[0-9]{1,2})?").fullmatch
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_OTHER_NAMES = {
    "prompt_token_count": "prompt_tokens",
    "candidates_token_count": "completion_tokens",
    "total_token_count": "total_tokens",
    "prompt_eval_count": "prompt_tokens",
    "eval_count": "completion_tokens",
    "input_token_count": "prompt_tokens",
    "output_token_count": "completion_tokens",
    "generated_token_count": "completion_tokens",
    "generated_tokens": "completion_tokens",
    "tool_use_prompt_token_count": "tool_use_prompt_tokens",
    "cache_write_input_tokens": "cache_creation_input_tokens",
    "prompt_token_details": "prompt_tokens_details",
    "completion_token_details": "completion_tokens_details",
    "input_token_details": "input_tokens_details",
    "output_token_details": "output_tokens_details",
}
"""The names of Gemini, Ollama, watsonx, TGI and Bedrock, and misspellings; all after `_snake`."""


_NAME_LENGTH_MAX = 64


def usage_of(value: object) -> Usage | None:
    """The usage that a decoded value of any shape reports; `None` if it reports none."""
    if not isinstance(value, dict):
        return None
    members = cast("dict[object, object]", value)
    found = _usage_of(members)
    for name in _INNER if found is None else ():
        found = found or _usage_of(members.get(name))
    return found


def usage_beside(members: dict[str, Any]) -> Usage | None:
    """The usage of a decoded answer or event without a readable `usage`: under a vendor's own name,
    or at the top level."""
    for name in _PLACES:
        inner: object = members.get(name)
        if isinstance(inner, dict):
            its = cast("dict[str, object]", inner)
            found = usage_of(its.get("usage")) or usage_of(its)
            if found is not None:
                return found
    return _usage_of({name: members[name] for name in _AT_TOP if name in members})


def of_all(shares: Iterable[Usage]) -> Usage | None:
    """What all choices used together, where each reports its own usage: they share their input."""
    whole: Usage | None = None
    for share in shares:
        both = merged(whole, share)
        if whole is not None and both is not None and not isinstance(share, Unsplit):
            both = clamped(
                both.input_tokens,
                whole.output_tokens + share.output_tokens,
                both.cached_tokens,
                both.cache_write_tokens,
                whole.reasoning_tokens + share.reasoning_tokens,
                both.image_input_tokens,
                both.audio_input_tokens,
                whole.audio_output_tokens + share.audio_output_tokens,
            )
        whole = both
    return whole


def _usage_of(value: object) -> Usage | None:
    if not isinstance(value, dict):
        return None
    raw = RawUsage()
    for said, member in cast("dict[object, object]", value).items():
        name = _snake(said)
        if name == "cache_creation":
            raw.cache_creation = CacheCreation(**_numbers(member, CacheCreation))
        elif name in _COUNTS:
            if (number := number_of(member)) is not None:
                setattr(raw, name, number)
        elif name.endswith("_details") and name in RawUsage.__struct_fields__:
            setattr(raw, name, Details(**_numbers(member, Details)))
    return to_usage(raw)


def number_of(value: object) -> int | None:
    """A count, also written as a float or as text; `None` for anything that cannot be one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        value = float(text.replace(",", "").replace("_", "")) if _NUMBER(text) else None
    if isinstance(value, float):
        value = int(value) if math.isfinite(value) else None
    if not isinstance(value, int) or value < 0:
        return None
    return min(value, TOKENS_MAX + 1)


def _numbers(members: object, kind: type[msgspec.Struct]) -> dict[str, int]:
    if not isinstance(members, dict):
        return {}
    found: dict[str, int] = {}
    for said, member in cast("dict[object, Any]", members).items():
        name, number = _snake(said), number_of(member)
        if number is not None and name in kind.__struct_fields__:
            found[name] = number
    return found


def _snake(name: object) -> str:
    # No count has a longer name; what is remembered stays small.
    return _spelled(name) if isinstance(name, str) and len(name) <= _NAME_LENGTH_MAX else ""


@lru_cache(maxsize=2048)
def _spelled(name: str) -> str:
    """The usual name of a count. Upstreams use few names, again and again."""
    snake = _HUMP.sub("_", name).lower()
    return _OTHER_NAMES.get(snake, snake)
