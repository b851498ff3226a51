"""What a call has used, by what is known of it."""

from __future__ import annotations

from merino.domain.usage import NO_USAGE, Usage
from merino.gateway.call import Call
from merino.gateway.expectations import Expectations
from merino.gateway.reckoning import Allowed, Reckoned, Seen, is_plain, least_tokens, reckon
from merino.pricing.estimate import input_tokens_counted


def reckoned(
    call: Call,
    said: Usage | None,
    text_bytes: int = 0,
    thought_bytes: int = 0,
    wide_bytes: int = 0,
    *,
    has_content: bool = False,
    expectations: Expectations | None = None,
    is_whole: bool = True,
    paid_tokens: int | None = None,
) -> Reckoned:
    """What a call has used, by what is known of it."""
    if not call.sent_at:
        return Reckoned(NO_USAGE, "none")
    n = call.request.n
    allowed_tokens, context_tokens = call.output_tokens * n, call.alias.context_tokens_max
    if said is not None:
        if said.rounds > 1:
            allowed_tokens *= said.rounds
            context_tokens *= said.rounds
        least = least_tokens(text_bytes + thought_bytes - wide_bytes, is_any=has_content)
        if is_plain(said, least, allowed_tokens, context_tokens):
            return Reckoned(said, "reported")
    allowed = Allowed(call.input_tokens, allowed_tokens, context_tokens, n)
    hidden = 0
    expectation = None
    if expectations is not None and call.alias.reasoning:
        expectation = expectations.of(call.tag)
    if expectation is not None:
        # The learned median of such calls; before the first text, at most what the learned speed
        # allows in the time that passed.
        hidden = expectation.reasoning_tokens_p50
        if not text_bytes:
            hidden = min(hidden, int(expectation.tokens_per_s * call.upstream_s))
    seen = Seen(
        input_tokens_counted(call.request, prior_tokens=call.request.prior_tokens),
        text_bytes,
        thought_bytes,
        wide_bytes,
        has_content,
        hidden,
        is_whole,
        paid_tokens,
    )
    return reckon(said, seen, allowed)
