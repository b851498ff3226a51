"""Stripe's events in our words. Pure: what is signed, and whether an event is for us, is
`stripe.py`'s to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from merino.billing.nouns import PaymentEvent, PaymentKind
from merino.domain.errors import EventRefused

TOPUP_KEY = "merino_topup"
ACCOUNT_KEY = "merino_account"
REFUND_KEY = "merino_refund"
CHARGE_KEY = "merino_charge"
"""Metadata of payments that charge a saved card: those of a checkout are told of by its session."""

_SESSION_KINDS: Mapping[str, PaymentKind] = {
    "checkout.session.async_payment_succeeded": "paid",
    "checkout.session.async_payment_failed": "failed",
    "checkout.session.expired": "expired",
}
_INTENT_KINDS: Mapping[str, PaymentKind] = {
    "payment_intent.succeeded": "paid",
    "payment_intent.payment_failed": "failed",
    "payment_intent.canceled": "failed",
}
_REFUNDS = frozenset(("refund.created", "refund.updated", "refund.failed", "charge.refund.updated"))
_DISPUTE_KINDS: Mapping[str, PaymentKind] = {
    "charge.dispute.created": "dispute",
    "charge.dispute.funds_withdrawn": "dispute",
    "charge.dispute.funds_reinstated": "won",
}


def event_of(event_id: str, kind: str, about: dict[str, Any]) -> PaymentEvent:
    """What happened to `about`. Raises `EventRefused` if it contradicts itself."""
    currency = _text(about.get("currency"))
    shared: dict[str, Any] = {
        "id": event_id,
        "currency": None if currency is None else currency.upper(),
        "payment_ref": id_of(about.get("payment_intent")),
    }
    if kind.startswith("checkout.session."):
        return _session(kind, about, shared)
    if kind in _INTENT_KINDS:
        return _intent(kind, about, shared)
    if kind in _REFUNDS:
        return refund_event(about, event_id)
    if kind == "charge.refunded":
        return PaymentEvent(
            kind="refunds",
            amount_minor=_whole(about.get("amount_refunded")),
            ref=_text(about.get("id")),
            **shared,
        )
    meaning = _DISPUTE_KINDS.get(kind)
    # An inquiry takes no money; if it becomes a dispute, `funds_withdrawn` tells.
    if kind == "charge.dispute.created" and str(about.get("status")).startswith("warning_"):
        meaning = None
    if kind == "charge.dispute.closed" and about.get("status") == "won":
        meaning = "won"
    if meaning is None:
        return PaymentEvent(id=event_id, kind="other")
    return PaymentEvent(
        kind=meaning,
        amount_minor=_whole(about.get("amount")),
        ref=_text(about.get("id")),
        **shared,
    )


def refund_event(refund: dict[str, Any], event_id: str) -> PaymentEvent:
    """One refund as it is now; also as Stripe answers the request for it."""
    currency = _text(refund.get("currency"))
    return PaymentEvent(
        id=event_id,
        kind="refund_failed" if refund.get("status") in ("failed", "canceled") else "refund",
        amount_minor=_whole(refund.get("amount")),
        currency=None if currency is None else currency.upper(),
        payment_ref=id_of(refund.get("payment_intent")),
        ref=_text(refund.get("id")),
        refund_key=_text(_metadata(refund).get(REFUND_KEY)),
    )


def _session(kind: str, about: dict[str, Any], shared: dict[str, Any]) -> PaymentEvent:
    meaning = _SESSION_KINDS.get(kind, "other")
    if kind == "checkout.session.completed":
        meaning = "paid" if about.get("payment_status") == "paid" else "pending"
    metadata = _metadata(about)
    topup_id = _text(metadata.get(TOPUP_KEY))
    if topup_id is not None and topup_id != about.get("client_reference_id"):
        raise EventRefused("the session's metadata and reference name different orders")
    return PaymentEvent(
        kind=meaning,
        topup_id=topup_id,
        checkout_ref=_text(about.get("id")),
        amount_minor=_whole(about.get("amount_total")),
        account_id=_text(metadata.get(ACCOUNT_KEY)),
        customer_ref=id_of(about.get("customer")),
        **shared,
    )


def _intent(kind: str, about: dict[str, Any], shared: dict[str, Any]) -> PaymentEvent:
    metadata = _metadata(about)
    topup_id = _text(metadata.get(TOPUP_KEY))
    if topup_id is None or CHARGE_KEY not in metadata:
        return PaymentEvent(id=shared["id"], kind="other")
    problem: object = about.get("last_payment_error")
    reason = cast("dict[str, Any]", problem).get("message") if isinstance(problem, dict) else None
    own: dict[str, Any] = {**shared, "payment_ref": _text(about.get("id"))}
    return PaymentEvent(
        kind=_INTENT_KINDS[kind],
        topup_id=topup_id,
        amount_minor=_whole(about.get("amount_received")),
        account_id=_text(metadata.get(ACCOUNT_KEY)),
        reason=_text(reason),
        **own,
    )


def _metadata(about: dict[str, Any]) -> dict[str, Any]:
    found: object = about.get("metadata")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def id_of(value: object) -> str | None:
    """An id, or the id of what it was expanded to."""
    if isinstance(value, dict):
        value = cast("dict[str, Any]", value).get("id")
    return _text(value)
