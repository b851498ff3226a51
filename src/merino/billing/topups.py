"""Top-ups: our orders, and the events of payment providers that book them."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from merino.billing.credits import CreditDesk, check_currency
from merino.billing.nouns import AskedRefund, PaymentEvent, PaymentKind, SavedCard, TopUp
from merino.billing.payment_rules import (
    asked_refund,
    decide,
    refundable_minor,
    without_asked,
)
from merino.billing.ports import Booking, Cards, Checkout, PaymentProvider, TopUps
from merino.control.accounts import AccountDesk, check_movement
from merino.domain.account import Account
from merino.domain.clock import epoch_ms
from merino.domain.errors import (
    Conflict,
    EventRefused,
    InvalidCall,
    MerinoError,
    NotFound,
    PaymentFailed,
    PaymentUncertain,
)
from merino.domain.money import format_nanos
from merino.pricing.margin import minor_units
from merino.settings.sections.payments import PaymentsSettings

EVENT_BYTES_MAX = 256 * 1024
_RECOVERED_AT_ONCE = 1_000
_ASKED_MAX = 100
_ASK_AGAIN_MS = 60_000
_ASK_AGAIN_SHARE = 0.1
"""Of its age is how long a refund without an answer waits until it is asked for again."""


class LogWarning(Protocol):
    """Who writes down what was refused or needs a person."""

    def __call__(self, what: str, **details: object) -> None: ...


class TopUpDesk:
    """Use cases around top-ups. It remembers what is under way, also when it is configured anew."""

    def __init__(
        self,
        accounts: AccountDesk,
        credits_: CreditDesk,
        topups: TopUps,
        cards: Cards,
        *,
        on_refused: LogWarning,
        on_booked: Callable[[TopUp, Booking], Awaitable[None]],
        now_ms: Callable[[], int] = epoch_ms,
    ) -> None:
        self._accounts = accounts
        self._credits = credits_
        self._topups = topups
        self._cards = cards
        self._on_refused = on_refused
        self._on_booked = on_booked
        self._now_ms = now_ms
        self._refunding: set[str] = set()
        self._asked_ms: dict[str, int] = {}
        self._settings = PaymentsSettings()
        self._providers: Mapping[str, PaymentProvider] = {}

    def configure(
        self, settings: PaymentsSettings, providers: Mapping[str, PaymentProvider]
    ) -> None:
        """`providers` by name, the default first."""
        self._settings = settings
        self._providers = providers

    @property
    def providers(self) -> Sequence[str]:
        return list(self._providers)

    @property
    def bounds_nanos(self) -> tuple[int, int]:
        """Least and most of one top-up."""
        return self._settings.topup_min_nanos, self._settings.topup_max_nanos

    async def create(
        self,
        account: str,
        nanos: int,
        *,
        provider: str | None = None,
        currency: str | None = None,
        memo: str | None = None,
        is_automatic: bool = False,
        saves_card: bool = False,
    ) -> tuple[TopUp, Checkout]:
        """Order credit of `nanos` in the account's currency, to be paid in `currency` at the
        provider's checkout. Raises `PaymentFailed` if the provider does not take it."""
        used = self.provider(provider)
        if saves_card and not used.can_charge:
            raise InvalidCall(
                f"provider {used.name!r} cannot save cards",
                param="save_card",
                code="no_saved_cards",
            )
        order = await self.order(
            account,
            nanos,
            provider=used,
            currency=currency,
            memo=memo,
            is_automatic=is_automatic,
            saves_card=saves_card,
        )
        return await self.check_out(order)

    async def order(
        self,
        account: str,
        nanos: int,
        *,
        provider: PaymentProvider,
        currency: str | None = None,
        memo: str | None = None,
        is_automatic: bool = False,
        saves_card: bool = False,
        is_charge: bool = False,
    ) -> TopUp:
        """Keep an order. It is kept before the provider is asked, so that no payment can come for
        an order we do not know."""
        target = self._accounts.find(account)
        check_movement(nanos, memo)
        least_nanos, most_nanos = self.bounds_nanos
        if not least_nanos <= nanos <= most_nanos:
            raise InvalidCall(
                f"amount must be from {format_nanos(least_nanos)} to "
                f"{format_nanos(most_nanos)} {target.currency}",
                param="amount",
                code="invalid_amount",
            )
        self._accounts.check_room(target, nanos)
        charge_currency = currency or target.currency
        check_currency(charge_currency)
        charge_nanos, exchange = self._credits.exchange(nanos, target.currency, charge_currency)
        charge_minor = minor_units(charge_nanos, charge_currency)
        if not charge_minor:
            raise Conflict(
                f"amount is nothing in {charge_currency}", param="amount", code="invalid_amount"
            )
        order = TopUp(
            id=f"top_{secrets.token_hex(12)}",
            account_id=target.id,
            provider=provider.name,
            amount_nanos=nanos,
            currency=target.currency,
            charge_minor=charge_minor,
            charge_currency=charge_currency,
            exchange=exchange,
            status="open",
            created_at_ms=self._now_ms(),
            memo=memo,
            is_automatic=is_automatic,
            saves_card=saves_card,
            is_charge=is_charge,
        )
        await self._topups.create(order)
        return order

    async def check_out(self, order: TopUp) -> tuple[TopUp, Checkout]:
        """Ask the provider where an order can be paid; safe to ask again."""
        account = self._accounts.find(order.account_id)
        card = await self._cards.find(order.account_id, order.provider)
        try:
            checkout = await self.provider(order.provider).checkout(
                order, account, None if card is None else card.customer_ref
            )
        except PaymentFailed as error:
            # An account's own order is asked for again, with the same idempotency key.
            if not (order.is_automatic and isinstance(error, PaymentUncertain)):
                await self._topups.fail(order.id, error.message)
            raise
        await self._topups.set_checkout(order.id, checkout.ref, checkout.url)
        return await self._topups.get(order.id), checkout

    async def get(self, topup_id: str) -> TopUp:
        return await self._topups.get(topup_id)

    async def list(self, account: str | None, *, limit: int) -> Sequence[TopUp]:
        """The newest first."""
        account_id = None if account is None else self._accounts.find(account).id
        return await self._topups.list_of(account_id, limit)

    async def card(self, account: Account) -> SavedCard | None:
        """The card that may be charged for the account, of the first provider that has one."""
        for name in self._providers:
            card = await self._cards.find(account.id, name)
            if card is not None:
                return card
        return None

    async def forget_card(self, account: str) -> SavedCard:
        """Delete the account's saved card, here and at its provider."""
        target = self._accounts.find(account)
        card = await self.card(target)
        if card is None:
            raise NotFound(f"account {target.name!r} has no saved card", code="no_saved_card")
        # Here first: from now on it is not charged, whatever the provider answers.
        await self._cards.forget(target.id, card.provider)
        await self.provider(card.provider).forget(card.customer_ref)
        return card

    async def confirm(
        self, topup_id: str, charge_minor: int, currency: str, reference: str
    ) -> TopUp:
        """An operator has seen the money of an order that nobody else will confirm."""
        order = await self._topups.get(topup_id)
        if not self.provider(order.provider).is_confirmed_by_hand:
            raise Conflict(
                f"top-up {order.id} is confirmed by {order.provider} itself",
                code="not_confirmable",
            )
        event = PaymentEvent(
            # With the sum: one that was mistyped, and refused, does not stand for the right one.
            id=f"confirm:{order.id}:{reference}:{charge_minor}:{currency}",
            kind="paid",
            topup_id=order.id,
            payment_ref=reference or order.id,
            amount_minor=charge_minor,
            currency=currency,
            account_id=order.account_id,
        )
        booking = await self._book_own(order.provider, event)
        if booking.outcome != "applied":
            raise Conflict(f"top-up {order.id}: {booking.detail}", code="not_confirmed")
        return await self._topups.get(order.id)

    async def refund(self, topup_id: str, nanos: int | None = None) -> TopUp:
        """Give back `nanos` of what was credited, or all that is left.

        The money is taken first, so that it is not spent while the provider is asked, and comes
        back if the provider refuses. Without an answer it stays taken: the provider's event tells,
        or it is asked again, by `ask_again` or by who wants the same refund once more.
        """
        if topup_id in self._refunding:
            raise Conflict(f"another refund of {topup_id} is under way", code="refund_under_way")
        self._refunding.add(topup_id)
        try:
            return await self._refund(topup_id, nanos)
        finally:
            self._refunding.discard(topup_id)

    async def _refund(self, topup_id: str, nanos: int | None) -> TopUp:
        order = await self._topups.get(topup_id)
        taken = await self._topups.takebacks(order.id)
        asked = asked_refund(taken)
        if asked is not None:
            key, minor = asked
            before = without_asked(order, taken)
            if nanos is not None and refundable_minor(before, nanos) != minor:
                raise Conflict(
                    f"another refund of {order.id} is under way", code="refund_under_way"
                )
            await self._ask_refund(order, key, minor, again=True)
        else:
            key, minor = await self._take(order, nanos, taken)
            await self._ask_refund(order, key, minor)
        return await self._topups.get(order.id)

    async def _take(
        self, order: TopUp, nanos: int | None, taken: Mapping[str, int]
    ) -> tuple[str, int]:
        """Take what is to be given back; under which key it is asked for, and how much of the
        payment it is."""
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
        minor = refundable_minor(order, nanos)
        if not minor:
            raise InvalidCall("amount is too small to pay back", param="amount")
        self.provider(order.provider)
        # A refund that failed must not be what the provider answers to the next one.
        key = f"{order.id}:refund:{len(taken)}:{minor}"
        event = self._about_refund("refund_asked", order, key, minor)
        gone = -decide(order, event, taken).nanos
        # Nothing is awaited since the look: no call can hold it meanwhile.
        takes = {account.id: gone} if gone > 0 else None
        await self._topups.apply_own(order.provider, event, decide, takes)
        return key, minor

    async def _ask_refund(self, order: TopUp, key: str, minor: int, *, again: bool = False) -> None:
        self._asked_ms[key] = self._now_ms()
        provider = self.provider(order.provider)
        try:
            event = await provider.refund(order, minor, key, again=again)
        except PaymentUncertain as error:
            raise PaymentUncertain(
                f"{error.message}. What is to be given back stays taken from the account, and the "
                "refund is asked for again until there is an answer"
            ) from None
        except PaymentFailed as error:
            refused = self._about_refund("refund_refused", order, key, minor)
            await self._book_own(order.provider, replace(refused, reason=error.message))
            raise
        if event is not None:
            await self._book_own(order.provider, event)

    def _about_refund(self, kind: PaymentKind, order: TopUp, key: str, minor: int) -> PaymentEvent:
        """An event of ours. That which asks has the name of the fact that it makes."""
        return PaymentEvent(
            id=f"{kind.removeprefix('refund_')}:{key}",
            kind=kind,
            topup_id=order.id,
            amount_minor=minor,
            currency=order.charge_currency,
            ref=key,
        )

    async def ask_again(self) -> int:
        """Ask for refunds that have no answer, also for those of a dead process; how many got
        one."""
        if not self._providers:
            return 0
        done = 0
        waiting = await self._topups.asked_refunds(_ASKED_MAX)
        self._asked_ms = {each.key: self._asked_ms.get(each.key, 0) for each in waiting}
        for each in waiting:
            if each.topup_id in self._refunding or not self._is_due(each):
                continue
            self._refunding.add(each.topup_id)
            try:
                order = await self._topups.get(each.topup_id)
                await self._ask_refund(order, each.key, each.charge_minor, again=True)
                done += 1
            except MerinoError as error:
                is_over = isinstance(error, PaymentFailed) and not isinstance(
                    error, PaymentUncertain
                )
                what = "refund refused; its money is back" if is_over else "refund waits"
                self._on_refused(what, topup=each.topup_id, reason=error.message)
            finally:
                self._refunding.discard(each.topup_id)
        return done

    def _is_due(self, asked: AskedRefund) -> bool:
        now_ms = self._now_ms()
        wait_ms = max(_ASK_AGAIN_MS, int((now_ms - asked.asked_at_ms) * _ASK_AGAIN_SHARE))
        return now_ms - self._asked_ms.get(asked.key, 0) >= wait_ms

    async def receive(self, provider: str, body: bytes, headers: Mapping[str, str]) -> Booking:
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
        await self._topups.receive(provider, event.id, body)
        return await self._book(provider, event)

    async def recover(self) -> int:
        """Do what a dead process had received and not done; how many events that were."""
        done = 0
        before: Sequence[tuple[str, bytes]] = ()
        # What nobody can read, since its provider is configured no more, comes again and again.
        while (events := await self._topups.open_events(_RECOVERED_AT_ONCE)) != before:
            for provider, body in events:
                await self._book_kept(provider, body)
            done += len(events)
            before = events
        return done

    async def _book_kept(self, provider: str, body: bytes) -> None:
        used = self._providers.get(provider)
        if used is None:
            return
        try:
            event = used.read(body)
        except EventRefused as error:
            self._on_refused("payment event kept", provider=provider, reason=error.message)
            return
        await self._book(provider, event)

    async def _book_own(self, provider: str, event: PaymentEvent) -> Booking:
        done = await self._topups.apply_own(provider, event, decide)
        return await self._booked(provider, event, *done)

    async def _book(self, provider: str, event: PaymentEvent) -> Booking:
        done = await self._topups.apply(provider, event, decide)
        return await self._booked(provider, event, *done)

    async def _booked(
        self, provider: str, event: PaymentEvent, order: TopUp | None, booking: Booking
    ) -> Booking:
        if booking.outcome == "refused":
            self._on_refused(
                "payment event does not fit our order",
                provider=provider,
                event_id=event.id,
                topup=event.topup_id,
                reason=booking.detail,
            )
        if booking.outcome == "applied" and order is not None:
            await self._on_booked(order, booking)
            if booking.status == "paid" and order.payment_ref is not None:
                # Refunds may be told of before the payment they refund.
                for body in await self._topups.waiting_events(provider, order.payment_ref):
                    await self._book_kept(provider, body)
        return booking

    def provider(self, name: str | None) -> PaymentProvider:
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
