"""Orders of credit, and the inbox of payment providers' events."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import apsw

from merino.control.ports import Booking, Decide
from merino.domain.account import Account
from merino.domain.credits import PaymentEvent, TopUp
from merino.domain.errors import NotFound
from merino.domain.ledger import FUNDING
from merino.storage.database import fetch_one, writing
from merino.storage.postings import Posting, Postings, Transaction

_FIELDS = tuple(field.name for field in fields(TopUp))
_COLUMNS = ", ".join(_FIELDS)
_ENDED = ("applied", "ignored", "refused")
_EVENTS_MAX = 10_000


class TopUpStore:
    """`control.ports.TopUps`."""

    def __init__(
        self,
        connection: apsw.Connection,
        postings: Postings,
        account_of: Callable[[str], Account],
        now_ms: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._postings = postings
        self._account_of = account_of
        self._now_ms = now_ms

    def create(self, order: TopUp) -> None:
        with self._postings.transaction("ordering the top-up", durable=True) as work:
            work.connection.execute(
                f"INSERT INTO topups ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))})",  # noqa: S608 - our own words
                [getattr(order, name) for name in _FIELDS],
            )

    def set_checkout(self, topup_id: str, ref: str | None, url: str | None) -> None:
        with writing(self._connection, "keeping the checkout") as connection:
            connection.execute(
                "UPDATE topups SET checkout_ref = ?, url = ? WHERE id = ?", (ref, url, topup_id)
            )

    def fail(self, topup_id: str) -> None:
        with writing(self._connection, "giving the top-up up") as connection:
            connection.execute(
                "UPDATE topups SET status = 'failed' WHERE id = ? AND status = 'open'", (topup_id,)
            )

    def get(self, topup_id: str) -> TopUp:
        found = self._find(self._connection, "id = ?", (topup_id,))
        if found is None:
            raise NotFound(f"There is no top-up '{topup_id[:100]}'", code="topup_not_found")
        return found

    def list_of(self, account_id: str | None, limit: int) -> Sequence[TopUp]:
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM topups WHERE ? IS NULL OR account_id = ?"  # noqa: S608 - our own words
            " ORDER BY created_at_ms DESC, id DESC LIMIT ?",
            (account_id, account_id, limit),
        )
        return [_topup(row) for row in rows]

    def receive(self, provider: str, event_id: str, body: bytes) -> bool:
        with self._postings.transaction("keeping the payment event", durable=True) as work:
            work.connection.execute(
                "INSERT OR IGNORE INTO payment_events (provider, event_id, received_at_ms, body,"
                " outcome) VALUES (?, ?, ?, ?, 'received')",
                (provider, event_id, work.now_ms, body),
            )
            return bool(work.connection.changes())

    def apply(self, provider: str, event: PaymentEvent, decide: Decide) -> Booking:
        with self._postings.transaction("booking the payment", durable=True) as work:
            row = fetch_one(
                work.connection,
                "SELECT outcome, detail FROM payment_events WHERE provider = ? AND event_id = ?",
                (provider, event.id),
            )
            assert row is not None, "an event is received before it is applied"
            if row[0] in _ENDED:
                return Booking("ignored", f"this event was {row[0]} before")
            order = self._order_of(work.connection, provider, event)
            booking = decide(order, event, self._taken(work.connection, order))
            if booking.outcome == "applied":
                assert order is not None
                self._book(work, order, event, booking)
            work.connection.execute(
                "UPDATE payment_events SET outcome = ?, detail = ?, topup_id = ?"
                " WHERE provider = ? AND event_id = ?",
                (
                    booking.outcome,
                    booking.detail,
                    None if order is None else order.id,
                    provider,
                    event.id,
                ),
            )
            return booking

    def open_events(self) -> Sequence[tuple[str, bytes]]:
        rows = self._connection.execute(
            "SELECT provider, body FROM payment_events WHERE outcome IN ('received', 'waiting')"
            " AND length(body) > 0 ORDER BY received_at_ms LIMIT ?",
            (_EVENTS_MAX,),
        )
        return [(provider, body) for provider, body in rows]

    def _book(self, work: Transaction, order: TopUp, event: PaymentEvent, booking: Booking) -> None:
        changed = replace(
            order,
            status=booking.status or order.status,
            payment_ref=event.payment_ref or order.payment_ref,
        )
        if booking.kind == "topup" and booking.nanos:
            changed = replace(changed, paid_at_ms=work.now_ms)
        elif booking.takeback_minor is not None:
            changed = replace(changed, taken_back_nanos=order.taken_back_nanos - booking.nanos)
            work.connection.execute(
                "INSERT INTO takebacks VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " charge_minor = charge_minor + excluded.charge_minor,"
                " nanos = nanos + excluded.nanos",
                (order.provider, booking.detail, order.id, booking.takeback_minor, -booking.nanos),
            )
        work.connection.execute(
            "UPDATE topups SET status = ?, payment_ref = ?, paid_at_ms = ?, taken_back_nanos = ?"
            " WHERE id = ?",
            (
                changed.status,
                changed.payment_ref,
                changed.paid_at_ms,
                changed.taken_back_nanos,
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

    def _taken(self, connection: apsw.Connection, order: TopUp | None) -> dict[str, int]:
        if order is None:
            return {}
        return dict(
            connection.execute(
                "SELECT ref, charge_minor FROM takebacks WHERE topup_id = ?", (order.id,)
            )
        )

    def _order_of(
        self, connection: apsw.Connection, provider: str, event: PaymentEvent
    ) -> TopUp | None:
        for where, value in (
            ("id = ?", event.topup_id),
            ("checkout_ref = ?", event.checkout_ref),
            ("payment_ref = ?", event.payment_ref),
        ):
            if value is not None:
                return self._find(connection, f"{where} AND provider = ?", (value, provider))
        return None

    def _find(
        self, connection: apsw.Connection, where: str, bindings: tuple[str, ...]
    ) -> TopUp | None:
        row = fetch_one(connection, f"SELECT {_COLUMNS} FROM topups WHERE {where}", bindings)  # noqa: S608 - our own words
        return None if row is None else _topup(row)


def _topup(row: Sequence[object]) -> TopUp:
    order = TopUp(*row)  # type: ignore[arg-type]
    return replace(order, is_automatic=bool(order.is_automatic))
