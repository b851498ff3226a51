"""What follows from an upstream's refusal: what the caller is told, and which deployment is asked
next.

What a refusal is about is decided in `verdicts.py`; what it does to the deployment in `fleet.py`.
"""

from __future__ import annotations

from typing import Any

from merino.domain.deployment import Deployment
from merino.domain.errors import (
    HoldOutgrown,
    LimitIgnored,
    MerinoError,
    StreamBroken,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRefused,
)
from merino.gateway.call import Call
from merino.gateway.ports import UpstreamResponse
from merino.gateway.verdicts import Refusal, Sent, judge, judge_answer, reset_s_of
from merino.wire.errors import read_error
from merino.wire.lenient import encode_lenient
from merino.wire.redaction import Secrets

ERROR_BODY_BYTES_MAX = 256 * 1024
_CALLS_OWN = frozenset(("call", "prompt"))
"""No other deployment would answer that better, or should be asked to."""
_NOT_AGAIN = frozenset(
    ("unclear", "too_large", "too_dear", "denied", "gone", "credential", "credit")
)
"""The same call at the same deployment would get the same answer."""
_OPERATORS = frozenset(("gone", "credential", "credit", "denied"))
_CODES = {
    "credential": "upstream_credential_refused",
    "credit": "upstream_credit_exhausted",
}
_SENTENCES = {
    "credential": "Deployment '{name}' refused the relay's own credential ({status}). The relay's "
    "operator must act; trying again before that is of no use.",
    "credit": "The relay's own account at the provider of deployment '{name}' has no credit left "
    "({status}). This is not your balance: the relay's operator must act, and trying again before "
    "that is of no use.",
}
_OUTCOMES = {"credential": "CredentialRefused", "credit": "CreditExhausted"}


async def refusal_of(
    response: UpstreamResponse, deployment: Deployment, sent: Sent
) -> UpstreamFailed:
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
    error = _error_of(judge(status, response.headers, body, sent), deployment)
    if isinstance(error, UpstreamRefused):
        error.body = body
    return error


def refusal_in_answer(
    error: dict[str, Any], call: Call, message: str | None = None
) -> UpstreamFailed:
    """The same for an error object that came with status 200, whole or in a stream. `message` is
    used where the object has none.

    An error in place of an answer (``object: error``, without `error`) may be the call's fault or
    the upstream's: other deployments are asked, and no deployment is blamed.
    """
    sent = Sent(call.body, call.input_tokens)
    refusal = judge_answer(error, sent)
    if refusal is None or refusal.status >= 500:
        parts = read_error(error)
        message = message or (parts[0] if parts is not None else None)
        return UpstreamBroken(message or "The upstream reported an error.", code="upstream_error")
    assert call.deployment is not None, "somebody answered"
    told = _error_of(refusal, call.deployment)
    if isinstance(told, UpstreamRefused):
        told.body = encode_lenient(error)
    if told.verdict in _CALLS_OWN and not (error.get("error") or error.get("base_resp")):
        told.verdict = "unclear"
    return told


def after_content(error: UpstreamFailed) -> StreamBroken:
    """A refusal in the middle of a stream: too late for its status."""
    broken = StreamBroken(
        error.message, code=error.code, param=error.param, retry_after_s=error.retry_after_s
    )
    broken.verdict, broken.refused_with, broken.said = (
        error.verdict,
        error.refused_with,
        error.said,
    )
    return broken


def hold_outgrown() -> HoldOutgrown:
    """The error of a stream that goes on beyond what is paid for."""
    return HoldOutgrown(
        "The stream used up the credit held for it, and the balance or a spend cap leaves no "
        "more. What was sent so far is billed. Add credit, raise the cap, or set a lower "
        "max_completion_tokens.",
        code="insufficient_quota",
    )


def limit_ignored() -> LimitIgnored:
    """The error of a stream that goes on far beyond what was asked for."""
    return LimitIgnored(
        "The upstream ignored the output limit of this call and went on far beyond it, so it was "
        "stopped. What was sent so far is billed. The relay's operator was told.",
        code="upstream_limit_ignored",
    )


def _error_of(refusal: Refusal, deployment: Deployment) -> UpstreamFailed:
    sentence = _SENTENCES.get(refusal.verdict)
    error: UpstreamFailed
    if sentence is not None:
        # The vendor means our account; the caller would think it is theirs.
        message = sentence.format(name=deployment.name, status=refusal.status)
        error = UpstreamBroken(message, code=_CODES[refusal.verdict])
        error.said = refusal.message
    else:
        error = UpstreamRefused(
            refusal.message,
            status=refusal.status,
            error_type=refusal.error_type,
            param=refusal.param,
            code=refusal.code,
            retry_after_s=refusal.retry_after_s,
        )
    error.verdict, error.refused_with = refusal.verdict, refusal.status
    return error


def may_fail_over(error: UpstreamFailed) -> bool:
    """Whether another deployment may do better, or this one later."""
    return error.verdict not in _CALLS_OWN


def may_ask_again(error: UpstreamFailed) -> bool:
    """Whether the same deployment may do better after a while."""
    return error.verdict not in _NOT_AGAIN and error.verdict not in _CALLS_OWN


def most_telling(last: UpstreamFailed, earlier: UpstreamFailed | None) -> UpstreamFailed:
    """Which of two failures the caller is shown: an upstream that is set up wrongly must not hide
    one that may answer soon."""
    if earlier is None or last.verdict not in _OPERATORS or not may_ask_again(earlier):
        return last
    return earlier


def outcome_of(error: MerinoError) -> str:
    """The word for a failed attempt."""
    # Nothing is broken here: an operator must see at a glance which case it was.
    verdict = error.verdict if isinstance(error, UpstreamFailed) else None
    return _OUTCOMES.get(verdict or "", type(error).__name__)


def redact_error(error: UpstreamFailed, secrets: Secrets) -> None:
    """Take the secrets out of everything an upstream may have put into an error. Its words come in
    only here, before callers, records and logs."""
    error.message = secrets.redact(error.message)
    error.args = (error.message,)
    if error.said is not None:
        error.said = secrets.redact(error.said)
    if error.param is not None:
        error.param = secrets.redact(error.param)
    if error.code is not None:
        error.code = secrets.redact(error.code)
    if isinstance(error, UpstreamRefused):
        error.body = b""
        if error.error_type is not None:
            error.error_type = secrets.redact(error.error_type)


def rest_s_of(response: UpstreamResponse) -> float | None:
    """How long to rest an upstream whose answer says that nothing is left."""
    return reset_s_of(dict(response.headers))
