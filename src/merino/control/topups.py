"""Top-ups: our orders, the payment providers' events, and what the two do to an account."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from merino.control.accounts import AccountDesk, check_movement
from merino.control.credits import CreditDesk, check_currency
from merino.control.keys import epoch_ms
from merino.control.ports import Booking, Checkout, PaymentProvider, TopUps
from merino.domain.credits import PaymentEvent, TopUp
from merino.domain.errors import Conflict, EventRefused, InvalidCall, NotFound, PaymentFailed
from merino.domain.money import format_nanos
from merino.pricing.margin import minor_units

EVENT_BYTES_MAX = 256 * 1024
AUTOMATIC_OPEN_S = 86_400.0
AUTOMATIC_FAILED_S = 3_600.0
"""How long an automatic top-up that is unpaid, or was not taken, keeps the next from being ordered.
"""


class Journalist(Protocol):
    """Who writes down what was refused or needs a person."""

    def __call__(self, what: str, **details: object) -> None: ...


@dataclass(frozen=True, slots=True)
class TopUpLimits:
    """What one top-up may be, in nano-units of the account's currency."""

    least_nanos: int
    most_nanos: int


class TopUpDesk:
    """Use cases around top-ups. `providers` by name, the default first."""

    def __init__(
        self,
        accounts: AccountDesk,
        credits_: CreditDesk,
        topups: TopUps,
        providers: Mapping[str, PaymentProvider],
        limits: TopUpLimits,
        *,
        on_refused: Journalist,
        on_booked: Callable[[TopUp, Booking], None],
        now_ms: Callable[[], int] = epoch_ms,
    ) -> None:
        self._accounts = accounts
        self._credits = credits_
        self._topups = topups
        self._providers = providers
        self._limits = limits
        self._on_refused = on_refused
        self._on_booked = on_booked
        self._now_ms = now_ms

    @property
    def providers(self) -> Sequence[str]:
        return list(self._providers)

    async def create(
        self,
        account: str,
        nanos: int,
        *,
        provider: str | None = None,
        currency: str | None = None,
        memo: str | None = None,
        is_automatic: bool = False,
    ) -> tuple[TopUp, Checkout]:
        """Order credit of `nanos` in the account's currency, to be paid in `currency`.

        The order is kept before the provider is asked, so that no payment can come for an order we
        do not know.
        """
        target = self._accounts.find(account)
        check_movement(nanos, memo)
        if not self._limits.least_nanos <= nanos <= self._limits.most_nanos:
            raise InvalidCall(
                f"amount must be from {format_nanos(self._limits.least_nanos)} to "
                f"{format_nanos(self._limits.most_nanos)} {target.currency}",
                param="amount",
                code="invalid_amount",
            )
        self._accounts.check_room(target, nanos)
        used = self._provider(provider)
        charge_currency = currency or target.currency
        check_currency(charge_currency)
        charge_nanos, exchange = self._credits.exchange(nanos, target.currency, charge_currency)
        order = TopUp(
            id=f"top_{secrets.token_hex(12)}",
            account_id=target.id,
            provider=used.name,
            amount_nanos=nanos,
            currency=target.currency,
            charge_minor=minor_units(charge_nanos, charge_currency),
            charge_currency=charge_currency,
            exchange=exchange,
            status="open",
            created_at_ms=self._now_ms(),
            memo=memo,
            is_automatic=is_automatic,
        )
        self._topups.create(order)
        try:
            checkout = await used.checkout(order, target)
        except PaymentFailed:
            self._topups.fail(order.id)
            raise
        self._topups.set_checkout(order.id, checkout.ref, checkout.url)
        return self._topups.get(order.id), checkout

    async def order_needed(self) -> list[tuple[TopUp, Checkout]]:
        """Order what accounts' own rules ask for: one at a time, and after a failure not again for
        an hour. Raises `PaymentFailed` for the first that the provider does not take."""
        ordered: list[tuple[TopUp, Checkout]] = []
        if not self._providers:
            return ordered
        for account in self._accounts.all():
            below, nanos = account.topup_below_nanos, account.topup_nanos
            if below is None or nanos is None:
                continue
            if self._accounts.show(account.id).balance.posted_nanos >= below:
                continue
            if not any(self._is_recent(each) for each in self._topups.list_of(account.id, 50)):
                ordered.append(
                    await self.create(account.id, nanos, memo="automatic top-up", is_automatic=True)
                )
        return ordered

    def _is_recent(self, order: TopUp) -> bool:
        age_s = (self._now_ms() - order.created_at_ms) / 1000
        wait_s = {"open": AUTOMATIC_OPEN_S, "failed": AUTOMATIC_FAILED_S}.get(order.status, 0.0)
        return order.is_automatic and age_s < wait_s

    def get(self, topup_id: str) -> TopUp:
        return self._topups.get(topup_id)

    def list(self, account: str | None, *, limit: int) -> Sequence[TopUp]:
        """The newest first."""
        account_id = None if account is None else self._accounts.find(account).id
        return self._topups.list_of(account_id, limit)

    def confirm(self, topup_id: str, charge_minor: int, currency: str, reference: str) -> TopUp:
        """An operator has seen the money of an order that nobody else will confirm."""
        order = self._topups.get(topup_id)
        if order.checkout_ref is not None:
            raise Conflict(
                f"top-up {order.id} is confirmed by {order.provider} itself",
                code="not_confirmable",
            )
        event = PaymentEvent(
            id=f"confirm:{order.id}:{reference}",
            kind="paid",
            topup_id=order.id,
            payment_ref=reference or order.id,
            amount_minor=charge_minor,
            currency=currency,
        )
        booking = self._book_own(order.provider, event)
        if booking.outcome != "applied":
            raise Conflict(f"top-up {order.id}: {booking.detail}", code="not_confirmed")
        return self._topups.get(order.id)

    async def refund(self, topup_id: str, nanos: int | None = None) -> TopUp:
        """Give back `nanos` of what was credited, or all that is left. The debit comes with the
        provider's word that the money is on its way."""
        order = self._topups.get(topup_id)
        left = order.amount_nanos - order.taken_back_nanos
        if order.status not in {"paid", "refunded"} or not left:
            raise Conflict(f"top-up {order.id} is {order.status}", code="not_refundable")
        nanos = left if nanos is None else nanos
        if not 0 < nanos <= left:
            raise InvalidCall(
                f"amount must be up to {format_nanos(left)}", param="amount", code="invalid_amount"
            )
        account = self._accounts.find(order.account_id)
        self._accounts.check_available(account, nanos, "refund")
        minor = nanos * order.charge_minor // order.amount_nanos
        if not minor:
            raise InvalidCall("amount is too small to pay back", param="amount")
        event = await self._provider(order.provider).refund(order, minor)
        if event is not None:
            self._book_own(order.provider, event)
        return self._topups.get(order.id)

    def receive(self, provider: str, body: bytes, headers: Mapping[str, str]) -> Booking:
        """An event as it came in. When this returns, it is on the disk, and done as far as it can
        be. Raises `EventRefused` for what is unsigned, stale, or not for us."""
        used = self._providers.get(provider)
        if used is None:
            raise NotFound(f"There is no payment provider {provider[:60]!r}")
        try:
            used.verify(body, headers)
            event = used.read(body)
        except EventRefused as error:
            self._on_refused("payment event refused", provider=provider, reason=error.message)
            raise
        # One that came before may have ended in the middle; then it is done now.
        self._topups.receive(provider, event.id, body)
        return self._book(provider, event)

    def recover(self) -> int:
        """Do what a dead process had received and not done; how many events that were."""
        events = self._topups.open_events()
        for provider, body in events:
            used = self._providers.get(provider)
            if used is None:
                continue
            try:
                event = used.read(body)
            except EventRefused as error:
                self._on_refused("payment event kept", provider=provider, reason=error.message)
                continue
            self._book(provider, event, retry=False)
        return len(events)

    def _book_own(self, provider: str, event: PaymentEvent) -> Booking:
        self._topups.receive(provider, event.id, b"")
        return self._book(provider, event)

    def _book(self, provider: str, event: PaymentEvent, *, retry: bool = True) -> Booking:
        booking = self._topups.apply(provider, event, decide)
        if booking.outcome == "refused":
            self._on_refused(
                "payment event does not fit our order",
                provider=provider,
                event_id=event.id,
                topup=event.topup_id,
                reason=booking.detail,
            )
        if booking.outcome == "applied":
            if event.topup_id is not None:
                self._on_booked(self._topups.get(event.topup_id), booking)
            if retry:
                self._retry_waiting(provider)
        return booking

    def _retry_waiting(self, provider: str) -> None:
        """Refunds may be told of before the payment they refund."""
        for name, body in self._topups.open_events():
            if name == provider and body:
                self._book(name, self._providers[name].read(body), retry=False)

    def _provider(self, name: str | None) -> PaymentProvider:
        if not self._providers:
            raise Conflict(
                "no payment provider is configured; add [payments.stripe] or [payments.invoice] to "
                "the settings",
                code="no_payment_provider",
            )
        if name is None:
            return next(iter(self._providers.values()))
        found = self._providers.get(name)
        if found is None:
            raise InvalidCall(
                f"provider {name[:60]!r} is not configured; there is {', '.join(self._providers)}",
                param="provider",
                code="unknown_provider",
            )
        return found


def decide(order: TopUp | None, event: PaymentEvent, taken: Mapping[str, int]) -> Booking:
    """What an event does to an order. Pure; `taken` are its takebacks in smallest units."""
    if event.kind == "other":
        return Booking("ignored", "nothing to do for this kind of event")
    if order is None:
        if event.kind in {"refund", "dispute", "won"}:
            return Booking("waiting", "no payment of ours is known under this id yet")
        return Booking("refused", f"there is no order {event.topup_id or event.checkout_ref}")
    if event.account_id is not None and event.account_id != order.account_id:
        return Booking("refused", "it is for another account than the order")
    if event.kind in {"refund", "dispute", "won"}:
        return _takeback(order, event, taken)
    if order.checkout_ref is not None and event.checkout_ref not in (None, order.checkout_ref):
        return Booking("refused", "it is for another checkout than the order's")
    if order.status in {"paid", "refunded", "disputed"}:
        return Booking("ignored", "the order is paid already")
    if event.kind == "pending":
        return Booking("ignored", "not paid yet")
    if event.kind != "paid":
        is_open = order.status == "open"
        status = "failed" if event.kind == "failed" else "expired"
        return Booking("applied" if is_open else "ignored", event.kind, 0, "topup", status)
    if event.currency != order.charge_currency or event.amount_minor != order.charge_minor:
        return Booking(
            "refused",
            f"it says {event.amount_minor} {event.currency}, the order {order.charge_minor} "
            f"{order.charge_currency}",
        )
    return Booking("applied", "paid", order.amount_nanos, "topup", "paid")


def _takeback(order: TopUp, event: PaymentEvent, taken: Mapping[str, int]) -> Booking:
    if order.status in {"open", "failed", "expired"}:
        return Booking("waiting", "the payment itself was not told of yet")
    ref, minor = event.ref, event.amount_minor
    if ref is None or minor is None or minor < 0 or event.currency != order.charge_currency:
        return Booking("refused", "it has no usable id, amount or currency")
    kind = "refund" if event.kind == "refund" else "dispute"
    if event.kind == "won":
        lost = taken.get(f"dispute:{ref}", 0)
        if f"won:{ref}" in taken:
            return Booking("ignored", "the dispute's money came back already")
        if not lost:
            return Booking("waiting", "the dispute itself was not told of yet")
        key, change = f"won:{ref}", -lost
    elif event.kind == "dispute":
        if f"dispute:{ref}" in taken:
            return Booking("ignored", "the dispute was booked already")
        key, change = f"dispute:{ref}", minor
    else:
        # The event has the sum of all refunds so far, in whatever order they are told.
        key, change = f"refund:{ref}", minor - taken.get(f"refund:{ref}", 0)
        if change <= 0:
            return Booking("ignored", "the refund was booked already")
    before = sum(taken.values())
    after = max(0, min(before + change, order.charge_minor))
    share = (2 * order.amount_nanos * after + order.charge_minor) // (2 * order.charge_minor)
    status = "disputed" if kind == "dispute" else "refunded"
    return Booking(
        "applied",
        key,
        order.taken_back_nanos - share,
        kind,
        status if after else "paid",
        takeback_minor=change,
    )
