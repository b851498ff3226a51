"""What calls of one kind usually use, learned from those whose usage was reported.

Feeds the `expected` hold mode, the estimate endpoint, and the estimate of hidden reasoning in a
stream that was cut before its usage arrived.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import islice
from typing import TypeVar

from merino.gateway.ports import Learned, LearnedMemory

SAMPLES_MAX = 512
SAMPLES_MIN = 20
"""Below this many samples nothing is claimed."""
TAGS_MAX = 10_000
SAVED_TAGS_MAX = 2_000
SAVED_SAMPLES_MAX = 128
"""Samples kept of each tag: some megabytes in all at most."""
_REFRESH_EVERY = 256
_EXPORTED_AT_ONCE = 25

_Sample = tuple[int, int, float]
"""Output tokens, reasoning tokens, and output tokens a second."""

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
    last: deque[_Sample] = field(default_factory=lambda: deque[_Sample](maxlen=SAMPLES_MAX))
    seen: int = 0
    expectation: Expectation | None = None


class Expectations:
    """Keyed by `Call.tag`; the number of tags and the samples of each are bounded."""

    def __init__(self) -> None:
        self._by_tag: dict[str, _Samples] = {}

    def learn(self, tag: str, output_tokens: int, reasoning_tokens: int, upstream_s: float) -> None:
        samples = self._by_tag.get(tag)
        if samples is None:
            if len(self._by_tag) >= TAGS_MAX:
                return
            samples = self._by_tag[tag] = _Samples()
        tokens_per_s = output_tokens / (max(0.001, upstream_s))
        samples.last.append((output_tokens, reasoning_tokens, tokens_per_s))
        samples.seen = seen = samples.seen + 1
        if seen == SAMPLES_MIN or (seen > SAMPLES_MIN and seen % _REFRESH_EVERY == 0):
            samples.expectation = _expectation(samples)

    def of(self, tag: str) -> Expectation | None:
        """`None` until enough was seen."""
        samples = self._by_tag.get(tag)
        return samples.expectation if samples else None

    def export(self) -> Iterator[Learned]:
        """The newest samples of the tags with the most calls. More may be learned between two."""
        for tag, samples in nlargest(
            SAVED_TAGS_MAX, self._by_tag.items(), key=lambda item: item[1].seen
        ):
            skipped = max(0, len(samples.last) - SAVED_SAMPLES_MAX)
            kept = list(islice(samples.last, skipped, None))
            yield Learned(
                tag,
                [output_tokens for output_tokens, _, _ in kept],
                [reasoning_tokens for _, reasoning_tokens, _ in kept],
                [tokens_per_s for _, _, tokens_per_s in kept],
            )

    def load(self, learned: Iterable[Learned]) -> None:
        """What an earlier process exported."""
        for each in islice(learned, TAGS_MAX):
            samples = self._by_tag[each.tag] = _Samples()
            samples.last.extend(
                zip(each.output_tokens, each.reasoning_tokens, each.tokens_per_s, strict=False)
            )
            samples.seen = len(samples.last)
            if samples.seen >= SAMPLES_MIN:
                samples.expectation = _expectation(samples)


async def save(expectations: Expectations, memory: LearnedMemory) -> None:
    """Copies a little at a time, so that calls need not wait for it, and writes on a thread. Raises
    `StoreUnavailable`."""
    learned: list[Learned] = []
    for each in expectations.export():
        learned.append(each)
        if len(learned) % _EXPORTED_AT_ONCE == 0:
            await asyncio.sleep(0)
    await asyncio.to_thread(memory.save, learned)


def _expectation(samples: _Samples) -> Expectation:
    output_tokens = [each for each, _, _ in samples.last]
    return Expectation(
        output_tokens_p50=_quantile(output_tokens, 0.5),
        output_tokens_p99=_quantile(output_tokens, 0.99),
        reasoning_tokens_p50=_quantile([each for _, each, _ in samples.last], 0.5),
        tokens_per_s=_quantile([each for _, _, each in samples.last], 0.5),
    )


def _quantile(samples: Sequence[_N], q: float) -> _N:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))]
