"""Orders of credit, and the inbox of payment providers' events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, LiteralString

from merino.billing.nouns import AskedRefund, PaymentEvent, SavedCard, TopUp
from merino.billing.ports import Booking, Decide
from merino.billing.stores.cards import keep_card, mark_declined
from merino.domain.account import Account
from merino.domain.errors import NotFound
from merino.domain.ledger import FUNDING
from merino.sqlite.database import Database, columns_of, marks
from merino.sqlite.readers import Readers
from merino.sqlite.writer import Writer
from merino.storage.postings import Posting, Postings, Transaction

_FIELDS = columns_of(TopUp)
_COLUMNS = ", ".join(_FIELDS)
_ENDED = ("applied", "ignored", "refused")
_WAITING_MAX = 1_000
_RECEIVE = """
INSERT OR IGNORE INTO payment_events (provider, event_id, received_at_ms, body, outcome)
VALUES (?, ?, ?, ?, 'received')
"""
# The event that asked for it has the fact's name.
_ASKED = """
SELECT takebacks.topup_id, substr(ref, length('asked:') + 1), charge_minor, received_at_ms
FROM takebacks JOIN payment_events
    ON payment_events.provider = takebacks.provider AND event_id = ref
WHERE ref >= 'asked:' AND ref < 'asked;' AND charge_minor > 0 ORDER BY received_at_ms LIMIT ?
"""
# Events that wait for a payment which has arrived are included: a crash may have come between.
_OPEN_EVENTS = """
SELECT provider, body FROM payment_events
WHERE length(body) > 0 AND (outcome = 'received' OR (outcome = 'waiting' AND EXISTS (
    SELECT 1 FROM topups WHERE topups.provider = payment_events.provider
        AND topups.payment_ref = payment_events.payment_ref
        AND topups.status IN ('paid', 'refunded', 'disputed'))))
ORDER BY received_at_ms LIMIT ?
"""


class TopUpStore:
    """`billing.ports.TopUps`."""

    def __init__(
        self,
        writer: Writer,
        points: Readers,
        postings: Postings,
        account_of: Callable[[str], Account],
    ) -> None:
        self._writer = writer
        self._points = points
        self._postings = postings
        self._account_of = account_of

    async def create(self, order: TopUp) -> None:
        values = [getattr(order, name) for name in _FIELDS]
        await self._postings.transact(
            "ordering the top-up",
            lambda work: work.database.change(
                f"INSERT INTO topups ({_COLUMNS}) VALUES ({marks(len(_FIELDS))})", values
            ),
            durable=True,
        )

    async def set_checkout(self, topup_id: str, ref: str | None, url: str | None) -> None:
        await self._writer.write(
            "keeping the checkout",
            lambda database: database.change(
                "UPDATE topups SET checkout_ref = ?, url = ? WHERE id = ?", (ref, url, topup_id)
            ),
        )

    async def set_payment(self, topup_id: str, ref: str) -> None:
        await self._writer.write(
            "keeping the payment",
            lambda database: database.change(
                "UPDATE topups SET payment_ref = ? WHERE id = ? AND payment_ref IS NULL",
                (ref, topup_id),
            ),
        )

    async def fail(self, topup_id: str, reason: str) -> None:
        await self._writer.write(
            "giving the top-up up",
            lambda database: database.change(
                "UPDATE topups SET status = 'failed', failure = ? WHERE id = ? AND status = 'open'",
                (reason, topup_id),
            ),
        )

    async def get(self, topup_id: str) -> TopUp:
        found = await self._points.run(lambda database: self._find(database, "id = ?", (topup_id,)))
        if found is None:
            raise NotFound(f"There is no top-up '{topup_id[:100]}'", code="topup_not_found")
        return found

    async def list_of(self, account_id: str | None, limit: int) -> Sequence[TopUp]:
        return await self._all(
            "? IS NULL OR account_id = ? ORDER BY created_at_ms DESC, id DESC LIMIT ?",
            (account_id, account_id, limit),
        )

    async def automatic_since(self, account_id: str, since_ms: int) -> Sequence[TopUp]:
        return await self._all(
            "account_id = ? AND created_at_ms >= ? AND is_automatic"
            " ORDER BY created_at_ms DESC, id DESC",
            (account_id, since_ms),
        )

    async def unasked(self, since_ms: int, limit: int) -> Sequence[TopUp]:
        return await self._all(
            "is_automatic AND status = 'open' AND checkout_ref IS NULL AND payment_ref IS NULL"
            " AND created_at_ms >= ? ORDER BY created_at_ms LIMIT ?",
            (since_ms, limit),
        )

    async def _all(self, where: LiteralString, bound: tuple[object, ...]) -> Sequence[TopUp]:
        sql = f"SELECT {_COLUMNS} FROM topups WHERE {where}"
        rows = await self._points.run(lambda database: database.execute(sql, bound).fetchall())
        return [_topup(row) for row in rows]

    async def takebacks(self, topup_id: str) -> Mapping[str, int]:
        return await self._points.run(lambda database: self._taken(database, topup_id))

    async def receive(self, provider: str, event_id: str, body: bytes) -> bool:
        changed = await self._postings.transact(
            "keeping the payment event",
            lambda work: work.database.change(_RECEIVE, (provider, event_id, work.now_ms, body)),
            durable=True,
        )
        return bool(changed)

    async def apply(
        self, provider: str, event: PaymentEvent, decide: Decide
    ) -> tuple[TopUp | None, Booking]:
        return await self._postings.transact(
            "booking the payment",
            lambda work: self._apply(work, provider, event, decide),
            durable=True,
        )

    async def apply_own(
        self,
        provider: str,
        event: PaymentEvent,
        decide: Decide,
        takes: Mapping[str, int] | None = None,
    ) -> tuple[TopUp | None, Booking]:
        def write(work: Transaction) -> tuple[TopUp | None, Booking]:
            work.database.execute(_RECEIVE, (provider, event.id, work.now_ms, b""))
            return self._apply(work, provider, event, decide)

        return await self._postings.transact(
            "booking the payment", write, takes=takes, durable=True
        )

    def _apply(
        self, work: Transaction, provider: str, event: PaymentEvent, decide: Decide
    ) -> tuple[TopUp | None, Booking]:
        row = work.database.one(
            "SELECT outcome FROM payment_events WHERE provider = ? AND event_id = ?",
            (provider, event.id),
        )
        assert row is not None, "an event is received before it is applied"
        order = self._order_of(work.database, provider, event)
        if row[0] in _ENDED:
            return order, Booking("ignored", f"this event was {row[0]} before")
        taken = {} if order is None else self._taken(work.database, order.id)
        booking = decide(order, event, taken)
        if order is not None:
            for fact in booking.facts:
                self._keep_fact(work.database, order, fact)
        if booking.outcome == "applied":
            assert order is not None
            order = self._book(work, order, event, booking)
        work.database.execute(
            "UPDATE payment_events SET outcome = ?, detail = ?, topup_id = ?, payment_ref = ?"
            " WHERE provider = ? AND event_id = ?",
            (
                booking.outcome,
                booking.detail,
                None if order is None else order.id,
                event.payment_ref,
                provider,
                event.id,
            ),
        )
        return order, booking

    async def asked_refunds(self, limit: int) -> Sequence[AskedRefund]:
        rows = await self._points.run(
            lambda database: database.execute(_ASKED, (limit,)).fetchall()
        )
        return [AskedRefund(*row) for row in rows]

    async def open_events(self, limit: int) -> Sequence[tuple[str, bytes]]:
        rows = await self._points.run(
            lambda database: database.execute(_OPEN_EVENTS, (limit,)).fetchall()
        )
        return [(provider, body) for provider, body in rows]

    async def waiting_events(self, provider: str, payment_ref: str) -> Sequence[bytes]:
        rows = await self._points.run(
            lambda database: database.execute(
                "SELECT body FROM payment_events WHERE outcome = 'waiting' AND provider = ?"
                " AND payment_ref = ? AND length(body) > 0 ORDER BY received_at_ms LIMIT ?",
                (provider, payment_ref, _WAITING_MAX),
            ).fetchall()
        )
        return [body for (body,) in rows]

    def _book(
        self, work: Transaction, order: TopUp, event: PaymentEvent, booking: Booking
    ) -> TopUp:
        changed = replace(
            order,
            status=booking.status or order.status,
            payment_ref=event.payment_ref or order.payment_ref,
        )
        if booking.kind != "topup":
            changed = replace(changed, taken_back_nanos=order.taken_back_nanos - booking.nanos)
        elif booking.nanos:
            changed = replace(changed, paid_at_ms=work.now_ms, failure=None)
        elif event.reason is not None:
            changed = replace(changed, failure=event.reason)
        work.database.execute(
            "UPDATE topups SET status = ?, payment_ref = ?, paid_at_ms = ?, taken_back_nanos = ?,"
            " failure = ? WHERE id = ?",
            (
                changed.status,
                changed.payment_ref,
                changed.paid_at_ms,
                changed.taken_back_nanos,
                changed.failure,
                order.id,
            ),
        )
        if booking.nanos:
            memo = order.memo or f"{order.provider} {booking.kind}"
            work.post(
                Posting(
                    self._account_of(order.account_id),
                    booking.kind,
                    booking.nanos,
                    FUNDING,
                    memo,
                    order.id,
                    order.exchange,
                )
            )
        self._follow_card(work, changed, event)
        return changed

    def _follow_card(self, work: Transaction, order: TopUp, event: PaymentEvent) -> None:
        """Save a card once it has paid, and mark it declined if it has not."""
        if order.saves_card and order.status == "paid" and event.customer_ref is not None:
            card = SavedCard(order.account_id, order.provider, event.customer_ref, work.now_ms)
            keep_card(work.database, card)
        elif order.is_charge and order.status == "failed":
            reason = order.failure or "declined"
            mark_declined(work.database, order.account_id, order.provider, reason, work.now_ms)

    def _keep_fact(self, database: Database, order: TopUp, fact: tuple[str, int]) -> None:
        database.execute(
            "INSERT INTO takebacks VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " charge_minor = excluded.charge_minor",
            (order.provider, fact[0], order.id, fact[1]),
        )

    def _taken(self, database: Database, topup_id: str) -> dict[str, int]:
        return dict(
            database.execute(
                "SELECT ref, charge_minor FROM takebacks WHERE topup_id = ?", (topup_id,)
            )
        )

    def _order_of(self, database: Database, provider: str, event: PaymentEvent) -> TopUp | None:
        named: tuple[tuple[LiteralString, str | None], ...] = (
            ("id = ?", event.topup_id),
            ("checkout_ref = ?", event.checkout_ref),
            ("payment_ref = ?", event.payment_ref),
        )
        for where, value in named:
            if value is not None:
                return self._find(database, f"{where} AND provider = ?", (value, provider))
        return None

    def _find(
        self, database: Database, where: LiteralString, bindings: tuple[str, ...]
    ) -> TopUp | None:
        row = database.one(f"SELECT {_COLUMNS} FROM topups WHERE {where}", bindings)
        return None if row is None else _topup(row)


def _topup(row: Sequence[Any]) -> TopUp:
    order = TopUp(*row)
    return replace(
        order,
        is_automatic=bool(order.is_automatic),
        saves_card=bool(order.saves_card),
        is_charge=bool(order.is_charge),
    )
