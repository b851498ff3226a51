"""Everything that can go wrong, split by whose decision it was:

MerinoError
├── CallRefused             we said no before contacting anyone
│   ├── InvalidCall         the request itself is wrong; names the field in `param`
│   │   ├── BodyTooLarge
│   │   └── CannotTranslate  the upstream's dialect has no word for something in it
│   ├── KeyRejected         no key, an unknown, expired or disabled one
│   ├── AliasNotAllowed     no such alias, or not for this key (the caller can't tell which)
│   ├── NotFound            no such path or object
│   ├── LimitExceeded       come back after `retry_after_s`
│   ├── BudgetExhausted     waiting will not help: the credit or a cap is used up
│   ├── Conflict            the same idempotency key is in use, or was used for another body
│   ├── EventRefused        a payment provider's event is unsigned, stale, or not for us
│   ├── StoreUnavailable    the ledger cannot record a hold now; nothing unpaid goes out
│   └── ShuttingDown        the relay drains
├── UpstreamFailed          we tried; carries every attempt
│   ├── NoDeploymentAvailable
│   ├── UpstreamUnreachable nothing was sent: no connection, TLS refused
│   ├── UpstreamBroken      sent, then failed before the first content: cut short, not JSON
│   ├── UpstreamRefused     the vendor's 4xx, passed on in our envelope
│   ├── UpstreamTimedOut
│   └── StreamBroken        after the first byte
│       ├── HoldOutgrown    it used up its hold, and the balance cannot grow it
│       └── LimitIgnored    it went on far beyond its output limit
├── PaymentFailed           a payment provider did not take our order
│   ├── CardDeclined        the saved card was not charged, and will not be without its owner
│   └── PaymentUncertain    no answer came: it may have been done
└── Misconfigured           raised at startup or reload, never during a call

HTTP status and OpenAI error body of each are one table, `api/errors.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from merino.domain.call import Attempt
    from merino.domain.key import VirtualKey

Verdict = Literal[
    "call",
    "prompt",
    "unclear",
    "too_large",
    "too_dear",
    "denied",
    "throttled",
    "gone",
    "credential",
    "credit",
    "again",
    "failed",
]
"""What an upstream's refusal is about. Of the call: `call` (it is wrong), `prompt` (what it says is
not wanted), `too_large` and `too_dear` (for what the upstream grants us), `denied` (it does not
say). `unclear`: of the call, or the upstream's own trouble. Of the deployment: `throttled`, `gone`
(no such model or path), `credential` and `credit` (ours), `again` (try once more), `failed`.
`gateway/verdicts.py` decides."""


class MerinoError(Exception):
    """`message` says what was wrong, where, and what to do."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s


class CallRefused(MerinoError):
    """We said no before contacting anyone."""


class InvalidCall(CallRefused):
    """The request itself is wrong."""


class BodyTooLarge(InvalidCall):
    """The body exceeds the limit."""


class CannotTranslate(InvalidCall):
    """The upstream speaks another dialect, which has no word for something in the request."""


class KeyRejected(CallRefused):
    """No key, an unknown, expired or disabled one. `key` is the one that may not be used."""

    key: VirtualKey | None = None


class AliasNotAllowed(CallRefused):
    """No such alias, or not for this key."""


class NotFound(CallRefused):
    """No such path or object."""


class LimitExceeded(CallRefused):
    """A limit or a busy balance; `retry_after_s` says when to come back."""


class BudgetExhausted(CallRefused):
    """Waiting will not help."""


class Conflict(CallRefused):
    """The idempotency key's first call still runs (`retry_after_s` set), or had another body."""


class EventRefused(CallRefused):
    """An event that no payment provider of ours can have sent just now."""


class StoreUnavailable(CallRefused):
    """The ledger cannot write now."""


class ShuttingDown(CallRefused):
    """The relay drains; another one, or this one restarted, will answer."""


class UpstreamFailed(MerinoError):
    """We tried. `verdict` is what the upstream's own refusal was taken for, if there was one,
    `refused_with` its status, and `said` its words where the message is ours instead."""

    verdict: Verdict | None = None
    refused_with: int = 0
    said: str | None = None

    def __init__(
        self,
        message: str,
        *,
        attempts: tuple[Attempt, ...] = (),
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, retry_after_s=retry_after_s)
        self.attempts = attempts


class NoDeploymentAvailable(UpstreamFailed):
    """Every candidate is unusable now."""


class UpstreamUnreachable(UpstreamFailed):
    """Nothing was sent, so nothing can have been billed."""


class UpstreamBroken(UpstreamFailed):
    """The request was sent; the answer is missing, cut short or not what it should be."""


class UpstreamRefused(UpstreamFailed):
    """The vendor's own refusal; `status` and `body` are what it said."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        body: bytes = b"",
        error_type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, retry_after_s=retry_after_s)
        self.status = status
        self.body = body
        self.error_type = error_type


class UpstreamTimedOut(UpstreamFailed):
    """Connect, first token, idle or total time ran out."""


class StreamBroken(UpstreamFailed):
    """The stream failed after its first byte was sent on."""


class HoldOutgrown(StreamBroken):
    """A stream used up its hold, and the balance cannot grow it."""


class LimitIgnored(StreamBroken):
    """A stream went on far beyond the output limit of its call, and was cut."""


class PaymentFailed(MerinoError):
    """A payment provider refused our order, or could not be reached."""


class CardDeclined(PaymentFailed):
    """The saved card was not charged; trying again without its owner is pointless."""


class PaymentUncertain(PaymentFailed):
    """The provider did not answer; asking again with the same idempotency key is safe."""


class Misconfigured(MerinoError):
    """A setting is wrong; names file, line, key, value and the way out."""
