"""Stripe's events in our words, whatever is in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.billing.nouns import PaymentEvent
from merino.billing.providers.stripe_events import event_of, id_of
from merino.domain.errors import EventRefused

KINDS = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.canceled",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.refund.updated",
    "charge.refunded",
    "charge.dispute.created",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "charge.dispute.closed",
    "customer.created",
)
SESSION: dict[str, Any] = {
    "id": "cs_1",
    "amount_total": 2000,
    "currency": "usd",
    "payment_status": "paid",
    "payment_intent": "pi_1",
    "customer": "cus_1",
    "client_reference_id": "top_1",
    "metadata": {"merino_topup": "top_1", "merino_account": "acc_1"},
}
INTENT: dict[str, Any] = {
    "id": "pi_2",
    "amount_received": 700,
    "currency": "eur",
    "metadata": {"merino_topup": "top_2", "merino_account": "acc_1", "merino_charge": "saved_card"},
    "last_payment_error": {"message": "Your card was declined."},
}
ALL_FIELDS = (*SESSION, *INTENT, "status", "amount", "amount_refunded")


def read(kind: str, about: dict[str, Any], **changed: Any) -> PaymentEvent:
    return event_of("evt_1", kind, {**about, **changed})


def test_a_paid_session_is_all_that_an_order_is_compared_with() -> None:
    """Order, checkout, account, amount, currency in our capitals, payment and payer."""
    assert PaymentEvent(
        id="evt_1",
        kind="paid",
        topup_id="top_1",
        checkout_ref="cs_1",
        amount_minor=2000,
        currency="USD",
        account_id="acc_1",
        payment_ref="pi_1",
        customer_ref="cus_1",
    ) == read("checkout.session.completed", SESSION)


@pytest.mark.parametrize(
    ("kind", "status", "meaning"),
    [
        ("checkout.session.completed", "paid", "paid"),
        ("checkout.session.completed", "unpaid", "pending"),
        ("checkout.session.completed", "no_payment_required", "pending"),
        ("checkout.session.completed", None, "pending"),
        ("checkout.session.async_payment_succeeded", "paid", "paid"),
        ("checkout.session.async_payment_failed", "unpaid", "failed"),
        ("checkout.session.expired", "unpaid", "expired"),
        ("checkout.session.renamed_one_day", "paid", "other"),
    ],
)
def test_what_becomes_of_a_session(kind, status, meaning) -> None:
    """Only money that is there counts as paid."""
    assert meaning == read(kind, SESSION, payment_status=status).kind


def test_a_session_that_names_two_orders_is_refused() -> None:
    """Metadata can be edited in Stripe's dashboard; our reference cannot."""
    with pytest.raises(EventRefused, match="different orders"):
        read("checkout.session.completed", SESSION, client_reference_id="top_2")


def test_a_charge_of_a_saved_card_is_told_by_its_intent() -> None:
    """With why it failed; its amount is what was received."""
    failed = read("payment_intent.payment_failed", INTENT)
    assert ("failed", "top_2", "pi_2", "EUR", 700, "Your card was declined.") == (
        failed.kind,
        failed.topup_id,
        failed.payment_ref,
        failed.currency,
        failed.amount_minor,
        failed.reason,
    )
    assert "paid" == read("payment_intent.succeeded", INTENT, last_payment_error=None).kind


@pytest.mark.parametrize(
    "metadata",
    [None, {}, [], "text", {"merino_topup": "top_2"}, {"merino_charge": "saved_card"}],
)
def test_intents_of_others_are_none_of_ours(metadata) -> None:
    """A checkout's own intent, too: its session tells of it."""
    assert "other" == read("payment_intent.succeeded", INTENT, metadata=metadata).kind


@pytest.mark.parametrize(
    ("kind", "status", "meaning"),
    [
        ("refund.created", "succeeded", "refund"),
        ("refund.created", "pending", "refund"),
        ("refund.updated", "failed", "refund_failed"),
        ("refund.failed", "failed", "refund_failed"),
        ("charge.refund.updated", "canceled", "refund_failed"),
        ("charge.dispute.created", "needs_response", "dispute"),
        ("charge.dispute.created", "warning_needs_response", "other"),
        ("charge.dispute.created", None, "dispute"),
        ("charge.dispute.funds_withdrawn", "needs_response", "dispute"),
        ("charge.dispute.funds_reinstated", "won", "won"),
        ("charge.dispute.closed", "won", "won"),
        ("charge.dispute.closed", "lost", "other"),
        ("charge.dispute.closed", "warning_closed", "other"),
        ("customer.created", None, "other"),
    ],
)
def test_what_is_taken_back(kind, status, meaning) -> None:
    """An inquiry takes nothing; a lost dispute was taken when it began."""
    about = {"id": "re_1", "amount": 500, "currency": "usd", "payment_intent": {"id": "pi_1"}}
    event = read(kind, about, status=status)
    assert meaning == event.kind
    if meaning != "other":
        assert ("re_1", 500, "USD", "pi_1") == (
            event.ref,
            event.amount_minor,
            event.currency,
            event.payment_ref,
        )


def test_the_sum_of_refunds_is_the_charges() -> None:
    """`charge.refunded` tells how much of a charge is given back by now."""
    event = read("charge.refunded", {"id": "ch_1", "amount": 900, "amount_refunded": 400})
    assert ("refunds", 400, "ch_1") == (event.kind, event.amount_minor, event.ref)


@pytest.mark.parametrize("value", [True, False, 2000.0, "2000", None, [], {}])
def test_an_amount_that_is_no_whole_number_is_none(value) -> None:
    """It is then refused by comparison, not taken for something near it."""
    assert None is read("checkout.session.completed", SESSION, amount_total=value).amount_minor


def test_an_id_or_the_object_it_was_expanded_to() -> None:
    """Accounts choose whether ids are expanded."""
    assert ("a", "a", None, None, None) == tuple(
        map(id_of, ("a", {"id": "a"}, {"id": 7}, "", ["a"]))
    )


odd = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = odd | st.lists(odd, max_size=2) | st.dictionaries(st.text(max_size=5), odd, max_size=2)


@given(
    st.sampled_from(KINDS) | st.text(max_size=20),
    st.dictionaries(st.sampled_from(ALL_FIELDS), values),
)
def test_nothing_that_is_signed_breaks_the_reader(kind, changed) -> None:
    """Fields of any type, or none of them: an event of ours, or a refusal that says why."""
    try:
        event = event_of("evt_1", kind, {**SESSION, **INTENT, **changed})
    except EventRefused as refusal:
        assert refusal.message
    else:
        assert "evt_1" == event.id
        for text in (event.topup_id, event.account_id, event.payment_ref, event.ref, event.reason):
            assert text is None or (isinstance(text, str) and text)
        assert event.amount_minor is None or type(event.amount_minor) is int
