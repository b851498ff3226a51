"""Tests of the openai package that cannot hold for Merino's clients, each with its reason: a part of
the test's name."""

from __future__ import annotations

CANNOT_APPLY: dict[str, str] = {
    "test_retry_limits_and_backoff": (
        "it fixes the package's own schedule of waits, its sleep and its log lines; ours draws its waits "
        "(full jitter), bounds retries by a budget, and waits on a clock of its own"
    ),
    **dict.fromkeys(
        (
            "test_retry_after_numeric_overflow[429-headers5",
            "test_retry_after_numeric_overflow[503-headers6",
            "test_retry_after_numeric_overflow[429-headers7",
            "test_retry_after_numeric_overflow[429-headers8",
            "test_retry_after_numeric_overflow[429-headers9",
            "test_retry_after_numeric_overflow[429-headers10-100.0-True",
            "test_retry_after_numeric_overflow[503-headers11-100.0-True",
        ),
        "it counts waits of exactly 0.5 s in the package's own sleep, anyio's in the asynchronous client; "
        "ours draws its waits (full jitter), heeds a Retry-After beside an unusable retry-after-ms, and "
        "sleeps on the running loop",
    ),
    "test_failure_and_retry_metadata": (
        "it reads the line that the package's own loop logs before a retry; the loop is ours, and its sinks "
        "hear of every attempt"
    ),
    **dict.fromkeys(
        (
            "test_continuation_idempotency_uses_effective_client_headers[none",
            "test_runner_rotates_keys_between_turns_not_retries[responses-none",
            "test_runner_rotates_keys_between_turns_not_retries[decisions-none",
        ),
        "it wants no Idempotency-Key where none is given; ours sends one of its own with every call but a "
        "GET, so that a relay pays for a call once however often it is tried",
    ),
    "httpx2_default_workload_exchange_is_native": (
        "it puts another class into the package where that makes its HTTP clients; ours makes them itself, "
        "one for each event loop and process"
    ),
}
