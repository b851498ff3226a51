"""What account owners are told: that the balance is low, that a cap is near or reached, that a
top-up came or is needed. Each occasion once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from merino.control.accounts import AccountDesk
from merino.control.keys import epoch_ms
from merino.control.ports import Accounts, Booking, Notices, SpentNow
from merino.domain.account import Account
from merino.domain.credits import Notice, NoticeKind, TopUp
from merino.domain.money import format_nanos

CAP_NEAR_PERCENT = 80
_DAY_MS = 86_400_000


class NoticeDesk:
    """`spent` tells what an account has spent in its cap's period."""

    def __init__(
        self,
        accounts: Accounts,
        desk: AccountDesk,
        notices: Notices,
        spent: SpentNow,
        now_ms: Callable[[], int] = epoch_ms,
    ) -> None:
        self._accounts = accounts
        self._desk = desk
        self._notices = notices
        self._spent = spent
        self._now_ms = now_ms
        self._told: set[str] = set()

    def list(self, account: str | None, *, limit: int) -> list[Notice]:
        """The newest first."""
        account_id = None if account is None else self._desk.find(account).id
        return list(self._notices.list(account_id, limit))

    def look(self) -> int:
        """Look at every account that has a threshold; how many notices that made."""
        made = 0
        for account in self._accounts.list():
            for kind, occasion, facts in self._occasions(account):
                made += self._tell(account, kind, occasion, facts)
        return made

    def booked(self, order: TopUp, booking: Booking) -> None:
        """A payment was booked, or failed."""
        account = self._accounts.get(order.account_id)
        if booking.kind == "topup" and booking.nanos:
            facts = {"topup": order.id, "amount": format_nanos(booking.nanos)}
            self._tell(account, "topup.paid", f"topup.paid:{order.id}", facts)
        elif order.is_charge and booking.status == "failed":
            self.topup_failed(account, order.failure or "the card was declined", order)

    def topup_failed(self, account: Account, reason: str, order: TopUp | None = None) -> None:
        """A top-up of the account's own rule could not be ordered or charged; told once for each
        order, and of what made none, once a day."""
        about = f"{account.id}:{self._now_ms() // _DAY_MS}" if order is None else order.id
        facts = {"topup": None if order is None else order.id, "reason": reason}
        self._tell(account, "topup.failed", f"topup.failed:{about}", facts)

    def topup_limited(self, account: Account, per_day_max: int) -> None:
        """Its rule has ordered all that it may in a day; told once a day."""
        reason = f"{per_day_max} automatic top-ups were ordered within a day, which is the limit"
        occasion = f"topup.limited:{account.id}:{self._now_ms() // _DAY_MS}"
        self._tell(account, "topup.failed", occasion, {"topup": None, "reason": reason})

    def topup_needed(self, order: TopUp, url: str | None, instructions: str) -> None:
        """A top-up was ordered by the account's own rule, and somebody must pay it."""
        facts = {"topup": order.id, "url": url, "instructions": instructions or None}
        account = self._accounts.get(order.account_id)
        self._tell(account, "topup.needed", f"topup.needed:{order.id}", facts)

    def _occasions(self, account: Account) -> Iterator[tuple[NoticeKind, str, dict[str, Any]]]:
        now_ms = self._now_ms()
        balance = self._accounts.balance(account.id)
        below = account.notice_below_nanos
        if below is not None and balance.posted_nanos < below:
            # Once a day, for as long as it stays low.
            yield (
                "balance.low",
                f"low:{account.id}:{now_ms // _DAY_MS}",
                {"below": format_nanos(below)},
            )
        cap = account.spend_cap_nanos
        if cap:
            spent = self._spent(account.id, account.spend_period)
            facts = {
                "cap": format_nanos(cap),
                "period": account.spend_period,
                "spent": format_nanos(spent),
            }
            period = _period(account, now_ms)
            if spent >= cap:
                yield "cap.reached", f"cap:{account.id}:{period}:{cap}:100", facts
            elif spent * 100 >= cap * CAP_NEAR_PERCENT:
                yield "cap.near", f"cap:{account.id}:{period}:{cap}:{CAP_NEAR_PERCENT}", facts

    def _tell(
        self, account: Account, kind: NoticeKind, occasion: str, facts: dict[str, Any]
    ) -> bool:
        if occasion in self._told:
            return False
        now = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
        body = {
            "kind": kind,
            "account_id": account.id,
            "account": account.name,
            "currency": account.currency,
            "balance": format_nanos(self._accounts.balance(account.id).posted_nanos),
            "at": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            **facts,
        }
        is_new = self._notices.add(occasion, account.id, kind, json.dumps(body))
        if len(self._told) > 100_000:
            self._told.clear()  # the store knows them all
        self._told.add(occasion)
        return is_new


def _period(account: Account, now_ms: int) -> str:
    if account.spend_period == "total":
        return "total"
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return f"{now:%Y-%m-%d}" if account.spend_period == "day" else f"{now:%Y-%m}"
