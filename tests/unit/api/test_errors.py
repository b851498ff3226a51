"""When callers are told to come back, and when not to."""

from __future__ import annotations

import pytest

from merino.api.errors import body_of, headers_of, status_of
from merino.domain.errors import (
    BudgetExhausted,
    LimitExceeded,
    MerinoError,
    UpstreamBroken,
    UpstreamRefused,
)

NEVER = {b"x-should-retry": b"false"}


def upstream(status: int, retry_after_s: float | None = None) -> UpstreamRefused:
    return UpstreamRefused("no", status=status, retry_after_s=retry_after_s)


def too_large(status: int) -> UpstreamRefused:
    error = upstream(status)
    error.verdict = "too_large"
    return error


def after(seconds: bytes, ms: bytes) -> dict[bytes, bytes]:
    return {b"retry-after": seconds, b"retry-after-ms": ms}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (LimitExceeded("wait", retry_after_s=0.0204), after(b"1", b"21")),
        (LimitExceeded("never", code="call_exceeds_limit"), NEVER),
        (BudgetExhausted("no credit"), NEVER),
        (upstream(429, 7.0), after(b"7", b"7000")),
        (upstream(429, 300.0), NEVER | after(b"60", b"60000")),
        (upstream(429), after(b"1", b"1000")),
        (upstream(503), after(b"1", b"1000")),
        (upstream(500), {}),
        (too_large(429), NEVER),
        (UpstreamBroken("no", code="upstream_credential_refused"), NEVER),
        (UpstreamBroken("no", code="upstream_credit_exhausted"), NEVER),
        (UpstreamBroken("no", code="upstream_connection_broken"), {}),
        (upstream(400), {}),
    ],
)
def test_when_to_come_back(error: MerinoError, told: dict[bytes, bytes]) -> None:
    """Every 429 and 503 says when, at most a minute, or that it is pointless; also one of the
    upstream's that does not say it itself. Nothing is rounded down."""
    assert told == dict(headers_of(error))


@pytest.mark.parametrize(("status", "expected"), [(400, 400), (599, 599), (600, 502), (999, 502)])
def test_statuses_that_http_does_not_know(status, expected) -> None:
    """Passed on as a bad gateway's, with the vendor's own words."""
    error = UpstreamRefused("too many robots", status=status)

    assert expected == status_of(error)
    assert b"too many robots" in body_of(error)
