"""Tests of the openai package that cannot hold for Merino's clients, each with its reason: a part of
the test's name."""

from __future__ import annotations

CANNOT_APPLY: dict[str, str] = {
    "test_retry_limits_and_backoff": (
        "it fixes the package's own schedule of waits, its sleep and its log lines; ours draws its waits "
        "(full jitter), bounds retries by a budget, and waits on a clock of its own"
    ),
}
