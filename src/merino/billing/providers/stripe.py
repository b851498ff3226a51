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

from merino.billing.nouns import PaymentEvent, TopUp
from merino.billing.ports import Checkout
from merino.billing.providers.stripe_events import (
    ACCOUNT_KEY,
    CHARGE_KEY,
    REFUND_KEY,
    TOPUP_KEY,
    event_of,
    id_of,
    refund_event,
)
from merino.domain.account import Account
from merino.domain.errors import (
    CardDeclined,
    EventRefused,
    Misconfigured,
    PaymentFailed,
    PaymentUncertain,
)

NAME = "stripe"
SIGNATURE_HEADER = "stripe-signature"
TIMEOUT_S = 30.0
NETWORK_RETRIES = 2
_LIVE_PREFIXES = ("sk_live_", "rk_live_")


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

    @property
    def is_confirmed_by_hand(self) -> bool:
        return False

    @property
    def can_charge(self) -> bool:
        return True

    async def checkout(self, order: TopUp, account: Account, customer_ref: str | None) -> Checkout:
        ours = {TOPUP_KEY: order.id, ACCOUNT_KEY: account.id}
        item = {
            "quantity": 1,
            "price_data": {
                "currency": order.charge_currency.lower(),
                "unit_amount": order.charge_minor,
                "product_data": {"name": f"Credit for {account.name}"},
            },
        }
        intent: dict[str, Any] = {"metadata": ours}
        params: dict[str, Any] = {
            "mode": "payment",
            "client_reference_id": order.id,
            "line_items": [item],
            "success_url": self._terms.success_url,
            "cancel_url": self._terms.cancel_url,
            "metadata": ours,
            "payment_intent_data": intent,
        }
        methods = self._terms.payment_methods
        if order.saves_card:
            methods = ["card"]  # the others cannot be charged without their owner
            intent["setup_future_usage"] = "off_session"
            params |= (
                {"customer": customer_ref} if customer_ref else {"customer_creation": "always"}
            )
        if methods:
            params["payment_method_types"] = list(methods)
            if "wechat_pay" in methods:
                params["payment_method_options"] = {"wechat_pay": {"client": "web"}}
        session: Any = await self._ask(
            lambda: self._client.v1.checkout.sessions.create(
                cast("Any", params), {"idempotency_key": order.id}
            )
        )
        return Checkout(str(session.id), None if session.url is None else str(session.url))

    async def charge(self, order: TopUp, account: Account, customer_ref: str) -> str:
        """Off session: nobody is there to be asked. The newest card that Stripe keeps is used."""
        cards: Any = await self._ask(
            lambda: self._client.v1.customers.payment_methods.list(
                customer_ref, cast("Any", {"type": "card", "limit": 1})
            )
        )
        if not cards.data:
            raise CardDeclined("Stripe keeps no card for this account any more")
        params: Any = {
            "amount": order.charge_minor,
            "currency": order.charge_currency.lower(),
            "customer": customer_ref,
            "payment_method": str(cards.data[0].id),
            "off_session": True,
            "confirm": True,
            "description": f"Credit for {account.name}",
            "metadata": {TOPUP_KEY: order.id, ACCOUNT_KEY: account.id, CHARGE_KEY: "saved_card"},
        }
        intent: Any = await self._ask(
            lambda: self._client.v1.payment_intents.create(params, {"idempotency_key": order.id})
        )
        if intent.status not in ("succeeded", "processing"):
            raise CardDeclined(f"Stripe could not charge the card: {intent.status}")
        return str(intent.id)

    async def forget(self, customer_ref: str) -> None:
        """Stripe deletes a customer's cards with it."""
        await self._ask(lambda: self._client.v1.customers.delete(customer_ref))

    async def refund(
        self, order: TopUp, charge_minor: int, key: str, *, again: bool = False
    ) -> PaymentEvent | None:
        """Stripe's events then say nothing new, or that it failed."""
        if order.payment_ref is None:
            raise PaymentFailed(f"top-up {order.id} has no payment to refund")
        refund = await self._refund_of(order.payment_ref, key) if again else None
        if refund is None:
            params: Any = {
                "payment_intent": order.payment_ref,
                "amount": charge_minor,
                "metadata": {TOPUP_KEY: order.id, REFUND_KEY: key},
            }
            refund = await self._ask(
                lambda: self._client.v1.refunds.create(params, {"idempotency_key": key})
            )
        if refund.status in ("failed", "canceled"):
            raise PaymentFailed(f"Stripe could not refund the payment: {refund.status}")
        answer = {
            "id": str(refund.id),
            "amount": charge_minor,
            "currency": order.charge_currency,
            "payment_intent": id_of(order.payment_ref),
            "status": str(refund.status),
            "metadata": {REFUND_KEY: key},
        }
        return refund_event(answer, f"answer:{refund.id}")

    async def _refund_of(self, payment_ref: str, key: str) -> Any:
        """That which was made under this key, if it was: Stripe forgets idempotency keys after a
        day, and refunds never."""
        params: Any = {"payment_intent": payment_ref, "limit": 100}
        try:
            made: Any = await self._ask(lambda: self._client.v1.refunds.list(params))
        except PaymentFailed as error:
            raise PaymentUncertain(error.message) from None
        return next((each for each in made.data if each.metadata.get(REFUND_KEY) == key), None)

    async def _ask(self, call: Callable[[], Any]) -> Any:
        """Stripe's client blocks, so it is asked on a thread."""
        try:
            return await asyncio.to_thread(call)
        except self._stripe.AuthenticationError:
            raise PaymentFailed("Stripe refused our secret key; check [payments.stripe]") from None
        except self._stripe.CardError as error:
            raise CardDeclined(error.user_message or "The card was declined.") from None
        except (
            self._stripe.APIConnectionError,
            self._stripe.RateLimitError,
            self._stripe.APIError,
        ) as error:
            reason = error.user_message or type(error).__name__
            raise PaymentUncertain(f"Stripe did not answer: {reason[:300]}") from None
        except self._stripe.StripeError as error:
            reason = error.user_message or type(error).__name__
            raise PaymentFailed(f"Stripe did not take the order: {reason[:300]}") from None

    def verify(self, body: bytes, headers: Mapping[str, str]) -> None:
        # Bytes that are no ASCII are in no signature, and cannot be compared with one.
        header = headers.get(SIGNATURE_HEADER, "").encode("ascii", "replace").decode()
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
        except (ValueError, RecursionError):
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
        return event_of(event_id, kind, cast("dict[str, Any]", about))
