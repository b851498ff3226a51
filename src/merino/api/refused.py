"""The record of a request that was refused before it became a call."""

from __future__ import annotations

from merino.domain.call import CallRecord
from merino.domain.clock import epoch_ms
from merino.domain.errors import MerinoError
from merino.domain.key import VirtualKey
from merino.gateway.refused import STRANGERS


def refused_record(
    request_id: str,
    key: VirtualKey | None,
    endpoint: str,
    error: MerinoError,
    status: int,
    message: str | None,
    took_ms: float = 0.0,
) -> CallRecord:
    """Of the key that was refused, if it is known whose request it was."""
    return CallRecord(
        id=request_id,
        account_id=STRANGERS if key is None else key.account_id,
        key_id=STRANGERS if key is None else key.id,
        alias="",
        endpoint=endpoint,
        at_ms=epoch_ms(),
        status=status,
        error_code=error.code or type(error).__name__,
        duration_ms=took_ms,
        relay_ms=took_ms,
        error_message=message,
    )
