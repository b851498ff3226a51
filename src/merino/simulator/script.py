"""What a simulated model does, as a sequence of steps: no clock, no socket, no state.

`simulator.py` plays the steps inside the process, `simulator_server.py` over sockets.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain

from merino.domain.chance import chance_of
from merino.simulator.chat import chat
from merino.simulator.embeddings import embeddings
from merino.simulator.messages import count_tokens, messages
from merino.simulator.responses import compact, count_input, responses
from merino.simulator.steps import (
    CHAT,
    COMPACT,
    COUNT_TOKENS,
    COUNTED,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    Asked,
    Bytes,
    Cut,
    Hang,
    Refused,
    Step,
    Wait,
    failure,
)

_ANSWERS = {
    CHAT: chat,
    RESPONSES: responses,
    COMPACT: compact,
    COUNTED: count_input,
    EMBEDDINGS: embeddings,
    MESSAGES: messages,
    COUNT_TOKENS: count_tokens,
}
ENDPOINTS = frozenset(_ANSWERS)
MODEL_NAMES = ("o3", "o3-mini", "o4", "o4-mini", "text-embedding-3-small", "text-embedding-3-large")


def script(asked: Asked, rng: random.Random) -> Iterator[Step]:
    """The steps that answer one request."""
    options = asked.options
    # Chance is drawn before anything else, so that the order of requests alone decides.
    is_unlucky = options.fail_rate > 0 and rng.random() < options.fail_rate
    if options.jitter:
        asked.pace = 1 + options.jitter * rng.uniform(-1, 1)
    if options.slow_share and rng.random() < options.slow_share:
        asked.pace *= options.slow_factor
    if options.ttft_sigma:
        asked.ttft_factor = rng.lognormvariate(0, options.ttft_sigma)  # of median 1
    if options.gap_sigma:
        asked.gap_chance = chance_of(rng.getrandbits(64))
    if options.hang:
        return iter((Hang(),))
    if options.cut:
        return iter((Cut(),))
    is_conditional = options.fail_rate > 0 or options.fail_first > 0
    is_failing = is_unlucky or asked.number <= options.fail_first
    if is_failing or (options.status is not None and not is_conditional):
        steps = failure(options.status or 503, options.retry_after_s)
        return chain((Wait(asked.ttft_s()),), steps)
    try:
        steps = _ANSWERS[asked.endpoint](asked)
    except Refused as refusal:
        return iter(refusal.steps)
    return steps if options.slow_drip_s is None else _drip(steps, options.slow_drip_s)


def _drip(steps: Iterator[Step], gap_s: float) -> Iterator[Step]:
    """The same, one byte at a time."""
    for step in steps:
        if not isinstance(step, Bytes):
            yield step
            continue
        for at in range(len(step.data)):
            is_last = at == len(step.data) - 1
            yield Bytes(step.data[at : at + 1], step.output_tokens if is_last else 0)
            yield Wait(gap_s)
