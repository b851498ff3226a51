"""How many inputs the tests try that make up their own: `make test-long` tries ten times as many."""

from __future__ import annotations

import os

TIMES = int(os.environ.get("MERINO_TEST_EXAMPLES", "1"))


def examples(count: int) -> int:
    return count * TIMES
