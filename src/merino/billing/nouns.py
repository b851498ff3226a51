"""Money that comes and goes otherwise than by calls: vouchers, top-ups, cards, notices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from merino.domain.account import SpendPeriod

TopUpStatus = Literal["open", "paid", "failed", "expired", "refunded", "disputed"]
"""`open` until its payment is confirmed; `refunded` and `disputed` when all or part of a paid one
was taken back."""

PaymentKind = Literal[
    "paid",
    "pending",
    "failed",
    "expired",
    "refund_asked",
    "refund_refused",
    "refund",
    "refunds",
    "refund_failed",
    "dispute",
    "won",
    "other",
]
"""What a payment provider says has happened. `refund` is one refund, `refunds` the sum of all of a
payment so far, `refund_failed` one whose money came back to us; `won` a dispute decided for us. Our
own words are `refund_asked`, of one that it has not answered yet, and `refund_refused`."""

NoticeKind = Literal[
    "balance.low",
    "cap.near",
    "cap.reached",
    "topup.paid",
    "topup.needed",
    "topup.failed",
    "deployment.credential_refused",
    "deployment.credit_exhausted",
    "deployment.gone",
    "deployment.denied",
    "deployment.usage_odd",
    "journal.damaged",
]


@dataclass(frozen=True, slots=True)
class Voucher:
    """A code that credits `value_nanos` once. `hint` is how it begins; only its hash is kept."""

    id: str
    hint: str
    batch: str
    currency: str
    value_nanos: int
    created_at_ms: int
    expires_at_ms: int | None = None
    memo: str | None = None
    is_void: bool = False
    redeemed_at_ms: int | None = None
    account_id: str | None = None


@dataclass(frozen=True, slots=True)
class TopUp:
    """Our order: `amount_nanos` of `currency` for the account once the provider confirms that
    `charge_minor` smallest units of `charge_currency` were paid.

    `exchange` is the rate between the two, `checkout_ref` and `payment_ref` are the provider's ids,
    `taken_back_nanos` what refunds and disputes have taken back. `saves_card`: the payer allows
    that the card is charged again; `is_charge`: a saved card was charged, nobody was asked.
    `failure` is why it was not paid.
    """

    id: str
    account_id: str
    provider: str
    amount_nanos: int
    currency: str
    charge_minor: int
    charge_currency: str
    exchange: str | None
    status: TopUpStatus
    created_at_ms: int
    paid_at_ms: int | None = None
    checkout_ref: str | None = None
    payment_ref: str | None = None
    url: str | None = None
    memo: str | None = None
    is_automatic: bool = False
    taken_back_nanos: int = 0
    saves_card: bool = False
    is_charge: bool = False
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class SavedCard:
    """A card that an account's owner allowed to be charged again, kept by the provider under
    `customer_ref`; no number of it is known here. It is used no more once it was declined."""

    account_id: str
    provider: str
    customer_ref: str
    saved_at_ms: int
    declined_at_ms: int | None = None
    declined_because: str | None = None


@dataclass(frozen=True, slots=True)
class InvoiceDetails:
    """Whom an account's invoices are made out to, since when. `address` may have several lines."""

    account_id: str
    since_ms: int
    name: str
    address: str
    tax_id: str

    @property
    def told(self) -> tuple[str, str, str]:
        return self.name, self.address, self.tax_id


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """What a payment provider says, in our words. Amounts are in smallest units.

    `topup_id` is our own order as the provider repeats it, `ref` the provider's id of the refund or
    dispute, `refund_key` under which we asked for that refund, `account_id` the account the order
    was for, `customer_ref` under what the provider keeps the card, `reason` why a payment failed.
    """

    id: str
    kind: PaymentKind
    topup_id: str | None = None
    checkout_ref: str | None = None
    payment_ref: str | None = None
    amount_minor: int | None = None
    currency: str | None = None
    ref: str | None = None
    account_id: str | None = None
    customer_ref: str | None = None
    reason: str | None = None
    refund_key: str | None = None


@dataclass(frozen=True, slots=True)
class AskedRefund:
    """A refund that its provider has not answered; its money is taken. It is asked for under `key`,
    which makes it happen once."""

    topup_id: str
    key: str
    charge_minor: int
    asked_at_ms: int


@dataclass(frozen=True, slots=True)
class Spending:
    """An account's spending in its period, and what it will be at the end if it goes on as on the
    last days. `forecast_nanos` is `None` without an end."""

    period: SpendPeriod
    since_day: int
    spent_nanos: int
    cap_nanos: int | None
    forecast_nanos: int | None
    reaches_cap_on: date | None


NoticeChannel = Literal["webhook", "mail"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far a notice has come on one way to its reader."""

    channel: NoticeChannel
    attempts: int = 0
    delivered_at_ms: int | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something an account's owner is told. `occasion` names what it is about, once: the same low
    balance or the same month's cap is told only once."""

    id: str
    occasion: str
    account_id: str
    kind: NoticeKind
    created_at_ms: int
    body: str
    deliveries: tuple[Delivery, ...] = ()
