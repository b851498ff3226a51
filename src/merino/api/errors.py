"""The one table: which HTTP status, OpenAI error body and headers each error becomes."""

from __future__ import annotations

import math

from merino.domain.errors import (
    AliasNotAllowed,
    BodyTooLarge,
    BudgetExhausted,
    Conflict,
    EventRefused,
    HoldOutgrown,
    InvalidCall,
    KeyRejected,
    LimitExceeded,
    MerinoError,
    NoDeploymentAvailable,
    NotFound,
    PaymentFailed,
    ShuttingDown,
    StoreUnavailable,
    StreamBroken,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimedOut,
    UpstreamUnreachable,
)
from merino.wire.errors import error_body
from merino.wire.exchange import Headers

RETRY_AFTER_S_MAX = 60.0
"""npm's `openai` ignores a longer Retry-After, Python's gives up above 120 s."""

RETRY_AFTER_BUSY_S = 1.0
"""Where an upstream says that it is busy and not for how long: what the relay waits itself."""

# Error class: (status, OpenAI error type, code when the error names none). The nearest base counts.
_TABLE: dict[type[MerinoError], tuple[int, str, str | None]] = {
    InvalidCall: (400, "invalid_request_error", None),
    BodyTooLarge: (413, "invalid_request_error", "request_too_large"),
    KeyRejected: (401, "authentication_error", "invalid_api_key"),
    AliasNotAllowed: (404, "invalid_request_error", "model_not_found"),
    NotFound: (404, "invalid_request_error", "not_found"),
    LimitExceeded: (429, "rate_limit_error", "rate_limit_exceeded"),
    BudgetExhausted: (429, "insufficient_quota", "insufficient_quota"),
    Conflict: (409, "invalid_request_error", "idempotency_key_in_use"),
    EventRefused: (400, "invalid_request_error", "event_refused"),
    PaymentFailed: (502, "server_error", "payment_failed"),
    StoreUnavailable: (503, "server_error", "store_unavailable"),
    ShuttingDown: (503, "server_error", "shutting_down"),
    NoDeploymentAvailable: (503, "server_error", "no_deployment_available"),
    UpstreamFailed: (502, "upstream_error", "upstream_failed"),
    UpstreamUnreachable: (502, "upstream_error", "upstream_unreachable"),
    UpstreamBroken: (502, "upstream_error", "upstream_broken"),
    UpstreamTimedOut: (504, "upstream_error", "upstream_timeout"),
    StreamBroken: (502, "upstream_error", "upstream_stream_broken"),
    HoldOutgrown: (429, "insufficient_quota", "insufficient_quota"),
    MerinoError: (500, "server_error", "internal_error"),
}

_OWN_STATUS = {"idempotency_key_reused": 422, "max_cost_exceeded": 400}
"""Codes whose status differs from their class's."""


_POINTLESS = frozenset(
    (
        "idempotency_key_reused",
        "call_exceeds_limit",
        "upstream_answer_too_large",
        "upstream_event_too_large",
        "upstream_credential_refused",
        "upstream_credit_exhausted",
    )
)
"""Codes of refusals that the same call would get again."""


_BUSY = frozenset((429, 503))


def status_of(error: MerinoError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, UpstreamRefused):
        # 600 and more are none of HTTP: by its rule a server error of whoever sent them.
        return error.status if error.status < 600 else 502
    if error.code in _OWN_STATUS:
        return _OWN_STATUS[error.code]
    return _row(error)[0]


def body_of(error: MerinoError) -> bytes:
    """OpenAI's error body; all four fields are always there."""
    _, kind, code = _row(error)
    if isinstance(error, UpstreamRefused):
        kind = error.error_type or ("server_error" if error.status >= 500 else kind)
    return error_body(error.message, kind, error.param, error.code or code)


def headers_of(error: MerinoError) -> Headers:
    """`retry-after` where coming back helps, `x-should-retry: false` where it does not."""
    headers: Headers = []
    after_s = error.retry_after_s
    if after_s is None and isinstance(error, UpstreamRefused) and error.status in _BUSY:
        after_s = RETRY_AFTER_BUSY_S
    if isinstance(error, BudgetExhausted) or error.code in _POINTLESS or _is_too_large(error):
        headers.append((b"x-should-retry", b"false"))
    elif after_s is not None:
        if after_s > RETRY_AFTER_S_MAX:
            headers.append((b"x-should-retry", b"false"))
        seconds = min(after_s, RETRY_AFTER_S_MAX)
        headers.append((b"retry-after", b"%d" % math.ceil(seconds)))
        headers.append((b"retry-after-ms", b"%d" % math.ceil(seconds * 1000)))
    return headers


def _is_too_large(error: MerinoError) -> bool:
    """No waiting makes room for it, whatever its status (429) makes clients believe."""
    return isinstance(error, UpstreamFailed) and error.verdict == "too_large"


def _row(error: MerinoError) -> tuple[int, str, str | None]:
    for kind in type(error).__mro__:
        row = _TABLE.get(kind)
        if row is not None:
            return row
    raise AssertionError("MerinoError itself is in the table")
