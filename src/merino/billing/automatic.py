"""Top-ups that accounts' own rules order: by a saved card where there is one, else for somebody to
pay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from merino.billing.notices import NoticeDesk
from merino.billing.nouns import SavedCard, TopUp
from merino.billing.ports import Cards, TopUps
from merino.billing.topups import LogWarning, TopUpDesk
from merino.control.accounts import AccountDesk
from merino.domain.account import Account
from merino.domain.clock import DAY_MS, epoch_ms
from merino.domain.errors import CardDeclined, MerinoError, PaymentUncertain, StoreUnavailable
from merino.settings.sections.payments import PaymentsSettings

OPEN_S = 86_400.0
FAILED_S = 3_600.0
"""How long an order that is unpaid, or was not taken, keeps the next from being made."""
ASK_AGAIN_S = 60.0
"""How long until a provider that did not answer is asked again, for the same order."""
ASK_UNTIL_S = 80_000.0
"""After this an order that was never answered is given up: providers forget idempotency keys in a
day, and would take the order for another one."""
T = TypeVar("T")

MEMO = "automatic top-up"
_UNASKED_MAX = 100


class AutomaticTopUps:
    """Looks at accounts and orders what their rules ask for; so many for each in a day at
    most. An account that goes wrong delays no other."""

    def __init__(
        self,
        accounts: AccountDesk,
        desk: TopUpDesk,
        topups: TopUps,
        cards: Cards,
        notices: NoticeDesk,
        *,
        on_trouble: LogWarning,
        now_ms: Callable[[], int] = epoch_ms,
    ) -> None:
        self._accounts = accounts
        self._desk = desk
        self._topups = topups
        self._cards = cards
        self._notices = notices
        self._on_trouble = on_trouble
        self._now_ms = now_ms
        self._asked_ms: dict[str, int] = {}
        self._refused: dict[str, tuple[Account, int]] = {}
        self._per_day_max = PaymentsSettings().automatic_per_day_max

    def configure(self, settings: PaymentsSettings) -> None:
        self._per_day_max = settings.automatic_per_day_max

    async def look(self) -> int:
        """Order what is needed; how many orders that made."""
        if not self._desk.providers:
            return 0
        unasked = await self._topups.unasked(self._now_ms() - int(OPEN_S * 1000), _UNASKED_MAX)
        ids = {order.id for order in unasked}
        self._asked_ms = {id_: at_ms for id_, at_ms in self._asked_ms.items() if id_ in ids}
        for order in unasked:
            await self._guarded(self._accounts.find(order.account_id), self._ask_again, order)
        made = 0
        for account in self._accounts.all():
            if await self._is_needed(account):
                made += await self._guarded(account, self._order, account)
        return made

    async def _is_needed(self, account: Account) -> bool:
        below, nanos = account.topup_below_nanos, account.topup_nanos
        if below is None or nanos is None or account.disabled:
            return False
        if not self._is_low(account.id, below):
            return False
        refused, until_ms = self._refused.get(account.id, (None, 0))
        if refused == account and self._now_ms() < until_ms:
            return False
        recent = await self._topups.automatic_since(account.id, self._now_ms() - DAY_MS)
        for order in recent:
            if await self._blocks(order):
                return False
        if len(recent) >= self._per_day_max:
            await self._notices.topup_limited(account, self._per_day_max)
            return False
        # Again: an order that was open before may have been paid since.
        return self._is_low(account.id, below)

    def _is_low(self, account_id: str, below_nanos: int) -> bool:
        return self._accounts.show(account_id).balance.posted_nanos < below_nanos

    async def _blocks(self, order: TopUp) -> bool:
        age_s = (self._now_ms() - order.created_at_ms) / 1000
        if order.status == "failed" and order.is_charge:
            # A declined card is used no more, so that the next order asks somebody to pay; a card
            # that was saved since has had no chance yet.
            card = await self._cards.find(order.account_id, order.provider)
            if card is None or card.declined_at_ms is not None:
                return False
            if card.saved_at_ms > order.created_at_ms:
                return False
        return age_s < {"open": OPEN_S, "failed": FAILED_S}.get(order.status, 0.0)

    async def _guarded(
        self, account: Account, act: Callable[[T], Awaitable[None]], about: T
    ) -> int:
        try:
            await act(about)
        except (PaymentUncertain, StoreUnavailable) as error:
            # Nobody's fault, and perhaps done: what is open is asked again.
            self._on_trouble("automatic top-up waits", account=account.name, reason=error.message)
            return 0
        except MerinoError as error:
            self._refused[account.id] = (account, self._now_ms() + int(FAILED_S * 1000))
            self._on_trouble("automatic top-up failed", account=account.name, reason=error.message)
            await self._notices.topup_failed(account, error.message)
            return 0
        return 1

    async def _order(self, account: Account) -> None:
        assert account.topup_nanos is not None
        card = await self._desk.card(account)
        if card is not None and card.declined_at_ms is None:
            order = await self._desk.order(
                account.id,
                account.topup_nanos,
                provider=self._desk.provider(card.provider),
                memo=MEMO,
                is_automatic=True,
                is_charge=True,
            )
            await self._charge(order, account, card)
            return
        order = await self._desk.order(
            account.id,
            account.topup_nanos,
            provider=self._desk.provider(None),
            memo=MEMO,
            is_automatic=True,
        )
        await self._check_out(order)

    async def _ask_again(self, order: TopUp) -> None:
        """What a dead process had ordered and not asked, or a provider did not answer."""
        now_ms = self._now_ms()
        asked_ms = self._asked_ms.get(order.id)
        if asked_ms is not None and now_ms - asked_ms < ASK_AGAIN_S * 1000:
            return
        provider = self._desk.provider(order.provider)
        if asked_ms is not None and provider.is_confirmed_by_hand:
            return  # it has been told of; an operator will confirm it
        if now_ms - order.created_at_ms > ASK_UNTIL_S * 1000 and not provider.is_confirmed_by_hand:
            await self._topups.fail(order.id, "the provider never answered")
            return
        if not order.is_charge:
            await self._check_out(order)
            return
        card = await self._cards.find(order.account_id, order.provider)
        if card is None or card.declined_at_ms is not None:
            await self._topups.fail(order.id, "the saved card is gone")
            return
        await self._charge(order, self._accounts.find(order.account_id), card)

    async def _check_out(self, order: TopUp) -> None:
        self._asked_ms[order.id] = self._now_ms()
        order, checkout = await self._desk.check_out(order)
        await self._notices.topup_needed(order, checkout.url, checkout.instructions)

    async def _charge(self, order: TopUp, account: Account, card: SavedCard) -> None:
        """Credit follows from the provider's signed event only, as always."""
        self._asked_ms[order.id] = self._now_ms()
        try:
            ref = await self._desk.provider(card.provider).charge(order, account, card.customer_ref)
        except CardDeclined as error:
            await self._cards.decline(account.id, card.provider, error.message)
            await self._topups.fail(order.id, error.message)
            await self._notices.topup_failed(account, error.message, order)
            return
        except PaymentUncertain:
            raise
        except MerinoError as error:
            await self._topups.fail(order.id, error.message)
            raise
        await self._topups.set_payment(order.id, ref)
