"""How many inputs the tests try that make up their own: `make test-long` tries ten times as many."""

from __future__ import annotations

import os

TIMES = int(os.environ.get("MERINO_TEST_EXAMPLES", "1"))
_EVERY = 7 if TIMES == 1 else 1
_NEAR = 2


def examples(count: int) -> int:
    return count * TIMES


def cuts(data: bytes) -> list[int]:
    """Where a stream is parted into two reads: around the ends of lines, where it matters most, and
    at every seventh byte; by `make test-long` at every byte."""
    ends = {at for at, byte in enumerate(data) if byte == 0x0A}
    near = {at + step for at in ends for step in range(-_NEAR, _NEAR + 2)}
    return [at for at in range(len(data)) if at % _EVERY == 0 or at in near]
