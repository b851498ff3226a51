"""Stripe Checkout, by Stripe's own package: cards, Alipay, WeChat Pay, whatever the Stripe account
offers.

Credit follows from signed events only; what the browser says when it comes back is not asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from merino.control.ports import Checkout
from merino.domain.account import Account
from merino.domain.credits import PaymentEvent, PaymentKind, TopUp
from merino.domain.errors import EventRefused, Misconfigured, PaymentFailed

NAME = "stripe"
SIGNATURE_HEADER = "stripe-signature"
TOPUP_KEY = "merino_topup"
ACCOUNT_KEY = "merino_account"
TIMEOUT_S = 30.0
NETWORK_RETRIES = 2
_LIVE_PREFIXES = ("sk_live_", "rk_live_")

_SESSION_KINDS: Mapping[str, PaymentKind] = {
    "checkout.session.async_payment_succeeded": "paid",
    "checkout.session.async_payment_failed": "failed",
    "checkout.session.expired": "expired",
}
_DISPUTE_KINDS: Mapping[str, PaymentKind] = {
    "charge.dispute.created": "dispute",
    "charge.dispute.funds_withdrawn": "dispute",
    "charge.dispute.funds_reinstated": "won",
}


@dataclass(frozen=True, slots=True)
class StripeTerms:
    """How this relay uses a Stripe account. `payment_methods` empty: what the account offers."""

    secret_key: str
    webhook_secret: str
    success_url: str
    cancel_url: str
    payment_methods: Sequence[str] = ()
    tolerance_s: float = 300.0
    api_base: str | None = None


class StripeProvider:
    """`now_s` is the clock that events' timestamps are compared with."""

    def __init__(self, terms: StripeTerms, now_s: Callable[[], float]) -> None:
        try:
            import stripe
        except ImportError:
            raise Misconfigured(
                "[payments.stripe] needs Stripe's package; pip install 'merino[payments]'"
            ) from None
        self._stripe = stripe
        signatures: Any = stripe.WebhookSignature
        self._verify_header: Callable[[bytes, str, str], object] = signatures.verify_header
        self._terms = terms
        self._now_s = now_s
        self._is_live = terms.secret_key.startswith(_LIVE_PREFIXES)
        self._client = stripe.StripeClient(
            terms.secret_key,
            max_network_retries=NETWORK_RETRIES,
            http_client=stripe.RequestsClient(timeout=TIMEOUT_S),
            base_addresses={"api": terms.api_base} if terms.api_base else {},
        )

    @property
    def name(self) -> str:
        return NAME

    async def checkout(self, order: TopUp, account: Account) -> Checkout:
        ours = {TOPUP_KEY: order.id, ACCOUNT_KEY: account.id}
        item = {
            "quantity": 1,
            "price_data": {
                "currency": order.charge_currency.lower(),
                "unit_amount": order.charge_minor,
                "product_data": {"name": f"Credit for {account.name}"},
            },
        }
        params: dict[str, Any] = {
            "mode": "payment",
            "client_reference_id": order.id,
            "line_items": [item],
            "success_url": self._terms.success_url,
            "cancel_url": self._terms.cancel_url,
            "metadata": ours,
            "payment_intent_data": {"metadata": ours},
        }
        if self._terms.payment_methods:
            params["payment_method_types"] = list(self._terms.payment_methods)
            if "wechat_pay" in self._terms.payment_methods:
                params["payment_method_options"] = {"wechat_pay": {"client": "web"}}
        session: Any = await self._ask(
            lambda: self._client.v1.checkout.sessions.create(
                cast("Any", params), {"idempotency_key": order.id}
            )
        )
        return Checkout(str(session.id), None if session.url is None else str(session.url))

    async def refund(self, order: TopUp, charge_minor: int) -> PaymentEvent | None:
        """Stripe tells by an event when it is done; that event debits."""
        if order.payment_ref is None:
            raise PaymentFailed(f"top-up {order.id} has no payment to refund")
        params: Any = {
            "payment_intent": order.payment_ref,
            "amount": charge_minor,
            "metadata": {TOPUP_KEY: order.id},
        }
        key = f"{order.id}:refund:{order.taken_back_nanos}:{charge_minor}"
        await self._ask(lambda: self._client.v1.refunds.create(params, {"idempotency_key": key}))
        return None

    async def _ask(self, call: Callable[[], Any]) -> Any:
        """Stripe's client blocks, so it is asked on a thread."""
        try:
            return await asyncio.to_thread(call)
        except self._stripe.AuthenticationError:
            raise PaymentFailed("Stripe refused our secret key; check [payments.stripe]") from None
        except self._stripe.StripeError as error:
            reason = error.user_message or type(error).__name__
            raise PaymentFailed(f"Stripe did not take the order: {reason[:300]}") from None

    def verify(self, body: bytes, headers: Mapping[str, str]) -> None:
        header = headers.get(SIGNATURE_HEADER, "")
        try:
            self._verify_header(body, header, self._terms.webhook_secret)
            signed_at = int(next(part[2:] for part in header.split(",") if part.startswith("t=")))
        except (self._stripe.SignatureVerificationError, UnicodeDecodeError):
            raise EventRefused("the event's signature is missing or wrong") from None
        except (ValueError, StopIteration):
            raise EventRefused("the event's signature has no time") from None
        # Stripe's own check has no upper bound: a clock that is ahead would pass for ever.
        skew_s = self._now_s() - signed_at
        if abs(skew_s) > self._terms.tolerance_s:
            when = "ago" if skew_s > 0 else "in the future"
            raise EventRefused(
                f"the event was signed {abs(skew_s):.0f} s {when}, more than "
                f"{self._terms.tolerance_s:.0f}; is this machine's clock right?"
            )

    def read(self, body: bytes) -> PaymentEvent:
        try:
            content: object = json.loads(body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise EventRefused("the event is not a JSON object")
        event = cast("dict[str, Any]", content)
        event_id, kind = event.get("id"), event.get("type")
        data: object = event.get("data")
        about: object = cast("dict[str, Any]", data).get("object") if isinstance(data, dict) else 0
        if (
            event.get("object") != "event"
            or not isinstance(event_id, str)
            or not isinstance(kind, str)
            or not isinstance(about, dict)
        ):
            raise EventRefused("the event lacks its id, type or object")
        if bool(event.get("livemode")) != self._is_live:
            raise EventRefused(
                "the event is of Stripe's "
                f"{'test' if self._is_live else 'live'} mode, and our key of the other"
            )
        if event.get("account") is not None:
            raise EventRefused("the event is for a connected account, not for ours")
        return _event(event_id, kind, cast("dict[str, Any]", about))


def _event(event_id: str, kind: str, about: dict[str, Any]) -> PaymentEvent:
    currency = _text(about.get("currency"))
    shared: dict[str, Any] = {
        "id": event_id,
        "currency": None if currency is None else currency.upper(),
        "payment_ref": _id_of(about.get("payment_intent")),
    }
    if kind.startswith("checkout.session."):
        meaning = _SESSION_KINDS.get(kind, "other")
        if kind == "checkout.session.completed":
            meaning = "paid" if about.get("payment_status") == "paid" else "pending"
        found: object = about.get("metadata")
        metadata = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        topup_id = _text(metadata.get(TOPUP_KEY))
        if topup_id is not None and topup_id != about.get("client_reference_id"):
            raise EventRefused("the session's metadata and reference name different orders")
        return PaymentEvent(
            kind=meaning,
            topup_id=topup_id,
            checkout_ref=_text(about.get("id")),
            amount_minor=_whole(about.get("amount_total")),
            account_id=_text(metadata.get(ACCOUNT_KEY)),
            **shared,
        )
    if kind == "charge.refunded":
        return PaymentEvent(
            kind="refund",
            amount_minor=_whole(about.get("amount_refunded")),
            ref=_text(about.get("id")),
            **shared,
        )
    if kind in _DISPUTE_KINDS:
        return PaymentEvent(
            kind=_DISPUTE_KINDS[kind],
            amount_minor=_whole(about.get("amount")),
            ref=_text(about.get("id")),
            **shared,
        )
    return PaymentEvent(id=event_id, kind="other")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _id_of(value: object) -> str | None:
    """An id, or the id of what it was expanded to."""
    if isinstance(value, dict):
        value = cast("dict[str, Any]", value).get("id")
    return _text(value)
