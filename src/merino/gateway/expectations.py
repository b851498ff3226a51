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
"""Of each tag: together some megabytes at most."""
_REFRESH_EVERY = 256
_EXPORTED_AT_ONCE = 25

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
            skipped = max(0, len(samples.output_tokens) - SAVED_SAMPLES_MAX)
            yield Learned(
                tag,
                list(islice(samples.output_tokens, skipped, None)),
                list(islice(samples.reasoning_tokens, skipped, None)),
                list(islice(samples.tokens_per_s, skipped, None)),
            )

    def load(self, learned: Iterable[Learned]) -> None:
        """What an earlier process exported."""
        for each in islice(learned, TAGS_MAX):
            samples = self._by_tag[each.tag] = _Samples()
            samples.output_tokens.extend(each.output_tokens)
            samples.reasoning_tokens.extend(each.reasoning_tokens)
            samples.tokens_per_s.extend(each.tokens_per_s)
            samples.seen = len(samples.output_tokens)
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
    return Expectation(
        output_tokens_p50=_quantile(samples.output_tokens, 0.5),
        output_tokens_p99=_quantile(samples.output_tokens, 0.99),
        reasoning_tokens_p50=_quantile(samples.reasoning_tokens, 0.5),
        tokens_per_s=_quantile(samples.tokens_per_s, 0.5),
    )


def _quantile(samples: Sequence[_N], q: float) -> _N:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))]
