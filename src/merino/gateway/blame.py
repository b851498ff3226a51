"""Failed attempts that are no evidence against their deployment: the relay's own limits or a short
deadline of the caller stopped them."""

from __future__ import annotations

from time import perf_counter

from merino.domain.errors import UpstreamFailed
from merino.gateway.call import Call
from merino.gateway.fleet import Member

PATIENCE_S = 10.0
"""A call's own deadline is no evidence against a deployment that had less time than this."""
_PATIENCE_TIMES = 3

_TOO_LARGE = frozenset(("upstream_answer_too_large", "upstream_event_too_large"))
_POOL_EXHAUSTED = "upstream_pool_exhausted"


def is_too_large(error: UpstreamFailed) -> bool:
    """The answer was larger than the relay takes. A repeat would be as large, and is paid for
    again."""
    return error.code in _TOO_LARGE


def is_our_own(error: UpstreamFailed) -> bool:
    """Whether neither this deployment nor another one is to blame."""
    return error.code == _POOL_EXHAUSTED or error.code in _TOO_LARGE


def was_hurried(call: Call, member: Member, began_at: float) -> bool:
    """Whether an attempt cut at the call's deadline is no evidence against its deployment: it was
    answering, or the caller allowed it less time than it may need. Otherwise a caller with a short
    deadline could open the breaker for everybody."""
    if call.first_content_at:
        return True
    usual_s = member.pace(streamed=call.request.stream).ewma.value_s
    enough_s = min(max(PATIENCE_S, usual_s * _PATIENCE_TIMES), call.alias.timeout_s)
    return perf_counter() - began_at < enough_s * 0.9
