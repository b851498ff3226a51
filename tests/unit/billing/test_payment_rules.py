"""What events of payment providers do to orders, as pure decisions."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.lengths import examples

from merino.billing.nouns import PaymentEvent, TopUp
from merino.billing.payment_rules import decide, refundable_minor

DOLLAR = 10**9

ORDER = TopUp(
    id="top_1",
    account_id="acct_1",
    provider="stripe",
    amount_nanos=10 * DOLLAR,
    currency="USD",
    charge_minor=1000,
    charge_currency="USD",
    exchange=None,
    status="paid",
    created_at_ms=0,
    checkout_ref="cs_1",
)


def told(order: TopUp, events: list[PaymentEvent]) -> TopUp:
    """The order after these events, kept as the store keeps them."""
    taken: dict[str, int] = {}
    for event in events:
        booking = decide(order, event, taken)
        taken |= dict(booking.facts)
        if booking.outcome == "applied":
            order = replace(
                order,
                status=booking.status or order.status,
                taken_back_nanos=order.taken_back_nanos - booking.nanos,
            )
    return order


def event(kind, ref: str, minor: int) -> PaymentEvent:
    return PaymentEvent(f"{kind}:{ref}:{minor}", kind, amount_minor=minor, currency="USD", ref=ref)


@given(
    charge=st.integers(1, 10**9),
    amount=st.integers(1, 10**15),
    refunds=st.lists(st.integers(0, 10**9), max_size=8),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=examples(100))
def test_refunds_in_any_order_take_back_their_share(charge, amount, refunds, order):
    """Cumulative refunds, told in any order and repeatedly, take back exactly the largest's share;
    all of it takes back exactly what was credited."""
    totals = sorted({min(total, charge) for total in refunds})
    events = [event("refunds", "ch_1", total) for total in totals] * 2
    order.shuffle(events)
    topup = told(replace(ORDER, charge_minor=charge, amount_nanos=amount), events)
    most = max(totals, default=0)
    assert abs(Fraction(amount * most, charge) - topup.taken_back_nanos) <= Fraction(1, 2)
    if most == charge:
        assert amount == topup.taken_back_nanos


@given(
    refunds=st.lists(st.tuples(st.integers(1, 200), st.booleans()), max_size=4),
    disputes=st.lists(st.tuples(st.integers(1, 200), st.booleans()), max_size=2),
    is_summed=st.booleans(),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=examples(100))
def test_the_order_of_events_never_matters(refunds, disputes, is_summed, order):
    """Refunds that are made and fail, with or without their sums, disputes that are lost and won:
    in any order and twice, what stays taken back is what did not come back."""
    events: list[PaymentEvent] = []
    running = lost = 0
    for number, (minor, fails) in enumerate(refunds):
        events.append(event("refund", f"re_{number}", minor))
        running += minor
        if is_summed:
            events.append(event("refunds", "ch_1", running))
        if fails:
            events.append(event("refund_failed", f"re_{number}", minor))
            running -= minor
    for number, (minor, is_won) in enumerate(disputes):
        events.append(event("dispute", f"dp_{number}", minor))
        if is_won:
            events.append(event("won", f"dp_{number}", minor))
        else:
            lost += minor
    events *= 2
    order.shuffle(events)
    topup = told(ORDER, events)
    expected = min(ORDER.charge_minor, running + lost) * ORDER.amount_nanos // ORDER.charge_minor
    assert expected == topup.taken_back_nanos


def test_each_way_to_tell_of_a_refund_is_enough():
    """An endpoint may be sent `charge.refunded` only, or the refunds only, or both."""
    single, summed = event("refund", "re_1", 300), event("refunds", "ch_1", 300)
    for events in ([single], [summed], [single, summed], [summed, single]):
        assert 3 * DOLLAR == told(ORDER, events).taken_back_nanos


def test_a_refund_after_a_failed_one_is_debited():
    """Stripe's sum is what it was before, since the failed one left it; the new one still counts."""
    events = [
        event("refund", "re_1", 300),
        event("refunds", "ch_1", 300),
        event("refund_failed", "re_1", 300),
        event("refund", "re_2", 300),
        event("refunds", "ch_1", 300),
    ]
    for each in itertools.permutations(events):
        assert 3 * DOLLAR == told(ORDER, list(each)).taken_back_nanos


@pytest.mark.parametrize(
    "change",
    [
        {"amount_minor": None},
        {"amount_minor": -1},
        {"amount_minor": 2**70},
        {"currency": "EUR"},
        {"currency": None},
        {"ref": None},
    ],
)
def test_takebacks_that_make_no_sense_are_refused(change):
    """Without a usable id, amount and currency nothing is debited."""
    booking = decide(ORDER, replace(event("refund", "re_1", 100), **change), {})
    assert ("refused", 0) == (booking.outcome, booking.nanos)


@given(charge=st.integers(1, 10**7), amount=st.integers(10**9, 10**13), part=st.integers(0, 10**7))
def test_what_is_left_is_refundable_to_the_last_unit(charge, amount, part):
    """After any refund, all that is left of the credit is all that is left of the payment."""
    part = min(part, charge)
    topup = told(
        replace(ORDER, charge_minor=charge, amount_nanos=amount), [event("refund", "re_1", part)]
    )
    left = amount - topup.taken_back_nanos
    assert charge - part == refundable_minor(topup, left)


def test_a_saved_cards_payment_is_compared():
    """Once it is known which payment charges an order, no other one books it."""
    order = replace(ORDER, status="open", is_charge=True, checkout_ref=None, payment_ref="pi_1")
    paid = PaymentEvent(
        "evt_1",
        "paid",
        topup_id="top_1",
        payment_ref="pi_2",
        amount_minor=1000,
        currency="USD",
        account_id="acct_1",
    )
    assert "refused" == decide(order, paid, {}).outcome
    assert "applied" == decide(order, replace(paid, payment_ref="pi_1"), {}).outcome
