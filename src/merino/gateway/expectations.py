"""What calls of one kind usually use, learned from those whose usage was reported.

Feeds the `expected` hold mode, the estimate endpoint, and the estimate of hidden reasoning in a
stream that was cut before its usage arrived.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

SAMPLES_MAX = 512
SAMPLES_MIN = 20
"""Below this many samples nothing is claimed."""
TAGS_MAX = 10_000
_REFRESH_EVERY = 256

_N = TypeVar("_N", int, float)


@dataclass(frozen=True, slots=True)
class Expectation:
    """Quantiles over the last samples of a tag; `tokens_per_s` is the median of output tokens over
    the upstream's time."""

    output_tokens_p50: int
    output_tokens_p99: int
    reasoning_tokens_p50: int
    tokens_per_s: float


@dataclass(slots=True)
class _Samples:
    output_tokens: deque[int] = field(default_factory=lambda: deque[int](maxlen=SAMPLES_MAX))
    reasoning_tokens: deque[int] = field(default_factory=lambda: deque[int](maxlen=SAMPLES_MAX))
    tokens_per_s: deque[float] = field(default_factory=lambda: deque[float](maxlen=SAMPLES_MAX))
    seen: int = 0
    expectation: Expectation | None = None


class Expectations:
    """Keyed by `Call.tag`; bounded in tags and in samples of each."""

    def __init__(self) -> None:
        self._by_tag: dict[str, _Samples] = {}

    def learn(self, tag: str, output_tokens: int, reasoning_tokens: int, upstream_s: float) -> None:
        samples = self._by_tag.get(tag)
        if samples is None:
            if len(self._by_tag) >= TAGS_MAX:
                return
            samples = self._by_tag[tag] = _Samples()
        samples.output_tokens.append(output_tokens)
        samples.reasoning_tokens.append(reasoning_tokens)
        samples.tokens_per_s.append(
            output_tokens / upstream_s if upstream_s > 0.001 else output_tokens / 0.001
        )
        samples.seen += 1
        if samples.seen == SAMPLES_MIN or (
            samples.seen > SAMPLES_MIN and samples.seen % _REFRESH_EVERY == 0
        ):
            samples.expectation = Expectation(
                output_tokens_p50=_quantile(samples.output_tokens, 0.5),
                output_tokens_p99=_quantile(samples.output_tokens, 0.99),
                reasoning_tokens_p50=_quantile(samples.reasoning_tokens, 0.5),
                tokens_per_s=_quantile(samples.tokens_per_s, 0.5),
            )

    def of(self, tag: str) -> Expectation | None:
        """`None` until enough was seen."""
        samples = self._by_tag.get(tag)
        return samples.expectation if samples else None


def _quantile(samples: Sequence[_N], q: float) -> _N:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))]
