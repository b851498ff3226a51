"""What a call used: one pure function reconciles what was reported, seen and allowed.

A report is evidence, not truth. It is believed as far as it can be true: never below what was seen,
never beyond what is possible. An impossible report is replaced by a count, and the operator is
told.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from merino.domain.usage import Usage, UsageSource
from merino.pricing.estimate import count_text_tokens
from merino.wire.reported_units import with_units
from merino.wire.reported_usage import TOKENS_MAX, Unsplit, clamped

Oddity = Literal["impossible", "runaway", "too_low", "above_limit", "zero_charge", "unpriced_unit"]
"""What is odd about a call's usage. `impossible`: reported beyond ten times what was allowed and
beyond the context; `runaway`: far more than was allowed, so the upstream obeys no limit; `too_low`:
reported below what was seen; `above_limit`: more than was allowed. About its bill, `zero_charge`:
something with a price was produced and cost nothing; `unpriced_unit`: a vendor's tool did something
that has no price."""

CHARACTERS_PER_TOKEN_MAX = 8
"""An answer has used at least one token per this many characters: about twice the average, so no
honest report is ever lower. Characters, not bytes: scripts with three bytes a letter have as many
letters a token as others."""

BEYOND_BELIEF = 10
"""A report is a mistake if it is more than this many times what was allowed, and more than the
context."""

RUNAWAY_TOKENS = 8192
"""On top of `BEYOND_BELIEF` times what was allowed: a caller may ask for ten tokens of a model that
always says a little more, which is no runaway yet."""


class Seen(NamedTuple):
    """What went by. Bytes are of UTF-8, `wide_bytes` those beyond one a character. `input_tokens`
    is the request, counted; `hidden_tokens` is the usual hidden reasoning of such a call, 0 if
    unknown."""

    input_tokens: int = 0
    text_bytes: int = 0
    thought_bytes: int = 0
    wide_bytes: int = 0
    has_content: bool = False
    """Also true of an answer without text: an image, sound, sealed thoughts."""
    hidden_tokens: int = 0
    is_whole: bool = True
    """It came to its end: a report covers all of it."""
    paid_tokens: int | None = None
    """What was paid for, of a stream that was stopped because no more was. What went beyond was not
    passed on."""

    @property
    def least(self) -> int:
        """The fewest tokens that this can have been."""
        least = least_tokens(
            self.text_bytes + self.thought_bytes - self.wide_bytes, is_any=self.has_content
        )
        return least if self.paid_tokens is None else min(least, self.paid_tokens)


class Allowed(NamedTuple):
    """What the hold covers; output over all choices. The context is the model's."""

    input_tokens: int
    output_tokens: int
    context_tokens: int
    n: int = 1


class Reckoned(msgspec.Struct, frozen=True, gc=False):
    usage: Usage
    source: UsageSource
    oddity: Oddity | None = None


def least_tokens(characters: int, *, is_any: bool) -> int:
    """The fewest tokens that an answer with this many characters can have; `is_any` if it has
    anything at all."""
    least = -(-characters // CHARACTERS_PER_TOKEN_MAX)
    return 1 if is_any and not least else least


def reckon(said: Usage | None, seen: Seen, allowed: Allowed) -> Reckoned:
    """What is billed, the source of that count, and what is odd about it.

    `said` is what was reported, all reports of the call together.
    """
    found = _reckon(said, seen, allowed)
    if found.oddity == "above_limit" and found.usage.output_tokens > runaway_tokens(
        allowed.output_tokens
    ):
        return msgspec.structs.replace(found, oddity="runaway")
    return found


def runaway_tokens(allowed_tokens: int) -> int:
    """The output tokens that cannot be an answer to a call with this limit: streams are cut
    there."""
    return BEYOND_BELIEF * allowed_tokens + RUNAWAY_TOKENS


def _reckon(said: Usage | None, seen: Seen, allowed: Allowed) -> Reckoned:
    if isinstance(said, Unsplit):
        said = _split(said, seen, allowed)
    if said is None:
        return _counted(seen, allowed, "counted")
    if is_plain(said, seen.least, allowed.output_tokens, allowed.context_tokens):
        return Reckoned(said, "reported")
    if is_impossible(said, allowed):
        return Reckoned(_counted(seen, allowed, "counted").usage, "disbelieved", "impossible")
    least = min(seen.least, possible_tokens(allowed))
    if 2 * said.output_tokens < least:
        # Not a report of this answer: a filler of zeros, or the beginning of one.
        counted = _counted(seen, allowed, "counted")
        usage = counted.usage
        usage = _with(said, said.input_tokens or usage.input_tokens, usage.output_tokens, usage)
        oddity = counted.oddity
        if seen.is_whole and oddity is None:
            oddity = "too_low"
        return Reckoned(usage, counted.source, oddity)
    oddity = "above_limit" if said.output_tokens > allowed.output_tokens else None
    is_low = said.output_tokens < least
    if not is_low and said.input_tokens:
        return Reckoned(said, "reported", oddity)
    usage = _with(
        said,
        said.input_tokens or min(seen.input_tokens, allowed.input_tokens),
        max(said.output_tokens, least),
    )
    if usage.output_tokens > allowed.output_tokens:
        oddity = "above_limit"
    elif is_low and seen.is_whole:
        oddity = "too_low"
    return Reckoned(usage, "raised", oddity)


def is_plain(said: Usage, least: int, allowed_tokens: int, context_tokens: int) -> bool:
    """Whether nothing is odd about it, as with nearly every call."""
    return least <= said.output_tokens <= allowed_tokens and 0 < said.input_tokens <= context_tokens


def is_impossible(said: Usage, allowed: Allowed) -> bool:
    """More than ten times what was allowed and more than the model's context."""
    return (
        said.output_tokens > possible_tokens(allowed)
        or said.input_tokens > max(BEYOND_BELIEF * allowed.input_tokens, allowed.context_tokens)
        or max(said.input_tokens, said.output_tokens) > TOKENS_MAX
    )


def possible_tokens(allowed: Allowed) -> int:
    """The output tokens beyond which nothing is billed, whatever was reported or seen: no model
    gives more than its context, and no caller asked for ten times their limit."""
    return max(BEYOND_BELIEF * allowed.output_tokens, allowed.context_tokens * allowed.n)


def _counted(seen: Seen, allowed: Allowed, source: UsageSource) -> Reckoned:
    """The input and the text that was seen, counted, plus an estimate of hidden reasoning.

    Hidden reasoning is never inferred from text. Counts and estimates go no further than what was
    allowed, unless the least that was seen does, and never beyond what is possible.
    """
    thought = count_text_tokens(seen.thought_bytes)
    hidden = 0 if thought else seen.hidden_tokens
    output = count_text_tokens(seen.text_bytes) + thought + hidden
    least = min(seen.least, possible_tokens(allowed))
    output = max(min(output, allowed.output_tokens), least)
    usage = Usage(
        input_tokens=min(seen.input_tokens, allowed.input_tokens),
        output_tokens=output,
        reasoning_tokens=min(thought + hidden, output),
    )
    return Reckoned(
        usage,
        "estimated" if hidden else source,
        "above_limit" if output > allowed.output_tokens else None,
    )


def _split(said: Usage, seen: Seen, allowed: Allowed) -> Usage:
    """Only the total was reported: the input is the relay's count."""
    input_tokens = min(seen.input_tokens, allowed.input_tokens, said.output_tokens)
    return Usage(input_tokens, said.output_tokens - input_tokens)


def _with(
    said: Usage, input_tokens: int, output_tokens: int, counted: Usage | None = None
) -> Usage:
    """The reported parts, kept within these wholes."""
    thought = said.reasoning_tokens if counted is None else counted.reasoning_tokens
    usage = clamped(
        input_tokens,
        output_tokens,
        said.cached_tokens,
        said.cache_write_tokens,
        thought,
        said.image_input_tokens,
        said.audio_input_tokens,
        said.audio_output_tokens,
    )
    if said.elsewhere:
        usage = msgspec.structs.replace(usage, elsewhere=said.elsewhere)
    return with_units(usage, said.units) or usage
