"""What a payment provider's event does to an order. Pure, and the same in whatever order and
however often events come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from merino.billing.nouns import PaymentEvent, TopUp, TopUpStatus
from merino.billing.ports import Booking
from merino.domain.currencies import CURRENCY_DECIMALS, charge_text
from merino.domain.ledger import EntryKind

CHARGE_MINOR_MAX = 10**15
_TAKEBACKS = frozenset(
    ("refund_asked", "refund_refused", "refund", "refunds", "refund_failed", "dispute", "won")
)
_PAID = frozenset(("paid", "refunded", "disputed"))
_OURS = ("asked:", "least:")


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


def asked_refund(taken: Mapping[str, int]) -> tuple[str, int] | None:
    """The key and the smallest units of the refund that has no answer yet; there is one at most."""
    for fact, minor in taken.items():
        kind, _, key = fact.partition(":")
        if kind == "asked" and minor:
            return key, minor
    return None


def without_asked(order: TopUp, taken: Mapping[str, int]) -> TopUp:
    """The order as if the refund without an answer had not been asked for."""
    key, _ = asked_refund(taken) or ("", 0)
    refunded, lost = _sums({**taken, f"asked:{key}": 0, f"least:{key}": 0})
    return replace(order, taken_back_nanos=_share(order, refunded + lost))


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
    new = _new_facts(event, ref, minor, taken)
    if not new:
        return Booking("ignored", f"{fact} was told before")
    facts = {**taken, **new}
    refunded, lost = _sums(facts)
    nanos = order.taken_back_nanos - _share(order, refunded + lost)
    # Of what was asked for nobody has said yet that it is refunded.
    told, _ = _sums({name: n for name, n in facts.items() if not name.startswith(_OURS)})
    status: TopUpStatus = "disputed" if lost else "refunded" if told else "paid"
    kind: EntryKind = "dispute" if event.kind in ("dispute", "won") else "refund"
    # What was taken before it was told of has its answer now, though no money moves.
    is_answer = any(name.startswith("asked:") and not n for name, n in new.items())
    outcome = "applied" if nanos or is_answer else "ignored"
    detail = fact if nanos or is_answer else f"{fact} changes nothing"
    return Booking(outcome, detail, nanos, kind, status, tuple(new.items()))


def _new_facts(
    event: PaymentEvent, ref: str, minor: int, taken: Mapping[str, int]
) -> dict[str, int]:
    """What an event says that was not known.

    A refund of ours is `asked` for until it has an answer; `least` is what all refunds come to with
    it, also where others are only known by their sum.
    """
    if event.kind == "refund_asked":
        return {f"asked:{ref}": minor, f"least:{ref}": _refunds_told(taken) + minor}
    if event.kind == "refund_refused":
        return {f"asked:{ref}": 0, f"least:{ref}": 0} if taken.get(f"asked:{ref}") else {}
    fact, asked = f"{event.kind}:{ref}", f"asked:{event.refund_key}"
    known = taken.get(fact)
    new = {} if known is not None and known >= minor else {fact: minor}
    return new | ({asked: 0} if taken.get(asked) else {})


def _sums(taken: Mapping[str, int]) -> tuple[int, int]:
    """Smallest units that are refunded, and that are lost in disputes.

    What failed is in `_refunds_told`, and is taken off once.
    """
    by_kind = _by_kind(taken)
    won = by_kind.get("won", {})
    lost = sum(max(0, n - won.get(ref, 0)) for ref, n in by_kind.get("dispute", {}).items())
    failed = sum(by_kind.get("refund_failed", {}).values())
    return max(0, _refunds_told(taken) - failed), lost


def _refunds_told(taken: Mapping[str, int]) -> int:
    """The same refund is told by itself and in its payment's sum, in any order, and perhaps only in
    one of the two ways: the larger of both counts. A sum may or may not contain refunds that
    failed, so what failed is in both."""
    by_kind = _by_kind(taken)
    single = {**by_kind.get("refund_failed", {}), **by_kind.get("refund", {})}
    singly = sum(single.values()) + sum(by_kind.get("asked", {}).values())
    summed = sum(by_kind.get("refunds", {}).values())
    return max(singly, summed, *by_kind.get("least", {}).values())


def _by_kind(taken: Mapping[str, int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for fact, minor in taken.items():
        kind, _, ref = fact.partition(":")
        found.setdefault(kind, {})[ref] = minor
    return found


def _share(order: TopUp, minor: int) -> int:
    """Of the credit, for so much of the payment."""
    return _nearest(order.amount_nanos * min(minor, order.charge_minor), order.charge_minor)


def _nearest(product: int, whole: int) -> int:
    return (2 * product + whole) // (2 * whole)
