"""What an upstream's refusal means: to the caller, to its deployment, and to who is asked next."""

from __future__ import annotations

from merino.domain.deployment import Deployment
from merino.domain.errors import MerinoError, UpstreamBroken, UpstreamFailed, UpstreamRefused
from merino.gateway.ports import UpstreamResponse
from merino.wire.errors import parse_error
from merino.wire.retry_after import parse_rate_limit_reset, parse_retry_after

ERROR_BODY_BYTES_MAX = 256 * 1024
CREDENTIAL_STATUSES = frozenset((401, 402, 403))
_CREDENTIAL_REFUSED = "upstream_credential_refused"
_FAIL_OVER_STATUSES = frozenset((408, 409, 425, 429))


async def refusal_of(response: UpstreamResponse, deployment: Deployment) -> UpstreamFailed:
    """What the vendor said, in our words where its own would mislead the caller."""
    try:
        body = await response.read(ERROR_BODY_BYTES_MAX)
    except UpstreamFailed:
        body = b""
    status = response.status
    if status < 400:
        return UpstreamBroken(
            f"Deployment '{deployment.name}' answered with a redirect ({status}); its base_url "
            "needs correcting.",
            code="upstream_redirect",
        )
    retry_after_s = parse_retry_after(
        response.header(b"retry-after-ms"), response.header(b"retry-after")
    )
    if retry_after_s is None and status == 429:
        retry_after_s = reset_s_of(response)
    if status in CREDENTIAL_STATUSES:
        # The vendor speaks of our credential; the caller would take it for their key.
        return UpstreamBroken(
            f"Deployment '{deployment.name}' refused the relay's own credential ({status}). "
            "The relay's operator must check it.",
            code=_CREDENTIAL_REFUSED,
        )
    parsed = parse_error(body)
    message, kind, param, code = parsed or (f"The upstream answered {status}.", None, None, None)
    if deployment.credential:
        message = message.replace(deployment.credential, "[credential]")
    return UpstreamRefused(
        message,
        status=status,
        error_type=kind,
        param=param,
        code=code,
        retry_after_s=retry_after_s,
    )


def may_fail_over(error: UpstreamFailed) -> bool:
    """Whether another deployment may do better, or this one later."""
    if isinstance(error, UpstreamRefused):
        return error.status >= 500 or error.status in _FAIL_OVER_STATUSES
    return True


def outcome_of(error: MerinoError) -> str:
    """The word for a failed attempt."""
    # Not broken in any way: an operator has to know at a glance which it was.
    return "CredentialRefused" if error.code == _CREDENTIAL_REFUSED else type(error).__name__


def reset_s_of(response: UpstreamResponse) -> float | None:
    """When an upstream that says that nothing is left will have something again."""
    found: float | None = None
    for name, value in response.headers:
        if value == b"0" and name.startswith(b"x-ratelimit-remaining-"):
            reset_s = parse_rate_limit_reset(response.header(name.replace(b"remaining", b"reset")))
            if reset_s is not None:
                found = max(found or 0.0, reset_s)
    return found
