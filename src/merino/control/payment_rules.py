"""What a payment provider's event does to an order. Pure, and the same in whatever order and
however often events come."""

from __future__ import annotations

from collections.abc import Mapping

from merino.control.ports import Booking
from merino.domain.credits import (
    CURRENCY_DECIMALS,
    PaymentEvent,
    TopUp,
    TopUpStatus,
    charge_text,
)
from merino.domain.ledger import EntryKind

CHARGE_MINOR_MAX = 10**15
_TAKEBACKS = frozenset(("refund", "refunds", "refund_failed", "dispute", "won"))
_PAID = frozenset(("paid", "refunded", "disputed"))


def decide(order: TopUp | None, event: PaymentEvent, taken: Mapping[str, int]) -> Booking:
    """`taken` is what was told of refunds and disputes before, in smallest units by reference."""
    if event.kind == "other":
        return Booking("ignored", "nothing to do for this kind of event")
    if order is None:
        if event.kind in _TAKEBACKS:
            return Booking("waiting", "no payment of ours is known under this id yet")
        return Booking("refused", f"there is no order {event.topup_id or event.checkout_ref}")
    if event.kind in _TAKEBACKS:
        return _takeback(order, event, taken)
    if event.account_id != order.account_id:
        return Booking("refused", "it is for another account than the order")
    if order.checkout_ref is not None and event.checkout_ref not in (None, order.checkout_ref):
        return Booking("refused", "it is for another checkout than the order's")
    if order.status in _PAID:
        return Booking("ignored", "the order is paid already")
    if order.is_charge and None not in (order.payment_ref, event.payment_ref):
        # Only where it was charged at once: a checkout may take several payments to succeed.
        if order.payment_ref != event.payment_ref:
            return Booking("refused", "it is for another payment than the order's")
    if event.kind == "pending":
        return Booking("ignored", "not paid yet")
    if event.kind != "paid":
        is_open = order.status == "open"
        status = "failed" if event.kind == "failed" else "expired"
        return Booking("applied" if is_open else "ignored", event.kind, 0, "topup", status)
    if event.currency != order.charge_currency or event.amount_minor != order.charge_minor:
        return Booking(
            "refused",
            f"{_told(event.amount_minor, event.currency)} came, and the order is for "
            f"{_told(order.charge_minor, order.charge_currency)}",
        )
    return Booking("applied", "paid", order.amount_nanos, "topup", "paid")


def _told(minor: int | None, currency: str | None) -> str:
    """In units of the currency, as people write them."""
    if minor is None or currency is None:
        return "an unknown sum"
    if currency not in CURRENCY_DECIMALS:
        return f"{minor} of the smallest unit of {currency}"
    return f"{charge_text(minor, currency)} {currency}"


def refundable_minor(order: TopUp, nanos: int) -> int:
    """What is to be given back of the payment for `nanos` of the credit; all that is left of it
    for all that is left of the credit."""
    left_nanos = order.amount_nanos - order.taken_back_nanos
    left_minor = order.charge_minor - _nearest(
        order.taken_back_nanos * order.charge_minor, order.amount_nanos
    )
    if nanos >= left_nanos:
        return left_minor
    return min(left_minor, nanos * order.charge_minor // order.amount_nanos)


def _takeback(order: TopUp, event: PaymentEvent, taken: Mapping[str, int]) -> Booking:
    """Events are kept as facts; what is taken back follows from all facts together, so that their
    order cannot matter."""
    if order.status not in _PAID:
        return Booking("waiting", "the payment itself was not told of yet")
    ref, minor = event.ref, event.amount_minor
    if (
        ref is None
        or minor is None
        or not 0 <= minor <= CHARGE_MINOR_MAX
        or event.currency != order.charge_currency
    ):
        return Booking("refused", "it has no usable id, amount or currency")
    fact = f"{event.kind}:{ref}"
    known = taken.get(fact)
    if known is not None and known >= minor:
        return Booking("ignored", f"{fact} was told before")
    refunded, lost = _sums({**taken, fact: minor})
    after = min(refunded + lost, order.charge_minor)
    nanos = order.taken_back_nanos - _nearest(order.amount_nanos * after, order.charge_minor)
    status: TopUpStatus = "disputed" if lost else "refunded" if refunded else "paid"
    kind: EntryKind = "dispute" if event.kind in ("dispute", "won") else "refund"
    if not nanos:
        return Booking("ignored", f"{fact} changes nothing", 0, kind, status, (fact, minor))
    return Booking("applied", fact, nanos, kind, status, (fact, minor))


def _sums(taken: Mapping[str, int]) -> tuple[int, int]:
    """Smallest units that are refunded, and that are lost in disputes.

    The same refund is told by itself and in its payment's sum, in any order, and perhaps only in
    one of the two ways: the larger of both counts. A sum may or may not contain refunds that
    failed, so what failed is in both, and is taken off once.
    """
    by_kind: dict[str, dict[str, int]] = {}
    for fact, minor in taken.items():
        kind, _, ref = fact.partition(":")
        by_kind.setdefault(kind, {})[ref] = minor
    failed = by_kind.get("refund_failed", {})
    single = {**failed, **by_kind.get("refund", {})}
    told = max(sum(single.values()), sum(by_kind.get("refunds", {}).values()))
    won = by_kind.get("won", {})
    lost = sum(max(0, n - won.get(ref, 0)) for ref, n in by_kind.get("dispute", {}).items())
    return max(0, told - sum(failed.values())), lost


def _nearest(product: int, whole: int) -> int:
    return (2 * product + whole) // (2 * whole)
