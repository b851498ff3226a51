"""What account owners are told: that the balance is low, that a cap is near or reached, that a
top-up came or is needed; and operators: what they have to mend at an upstream, a usage that cannot
be, that the journal was damaged. Each occasion once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from merino.billing.nouns import Notice, NoticeKind, TopUp
from merino.billing.ports import Booking, Notices, OddUsage, SpentNow
from merino.control.accounts import AccountDesk
from merino.control.ports import Accounts, Trouble
from merino.domain.account import Account
from merino.domain.clock import DAY_MS, HOUR_MS, epoch_ms, iso
from merino.domain.money import format_nanos

CAP_NEAR_PERCENT = 80
OPERATORS = ""
"""The account of notices that are about none: they are the operators' own."""
_MENDED_BY = {
    401: "The key is wrong, revoked or expired: give the deployment another one",
    403: "The key may not use this model, or not from here: allow it at the provider, or give the "
    "deployment another key",
}
_AGAIN = "It is tried again every five minutes, and at once after a restart of the relay."
_ADVICE = {
    "credit": "The provider's credit is used up, or its bill unpaid: pay there, or give the "
    f"deployment another key. {_AGAIN}",
    "gone": "The model was retired there, or the address is wrong: correct upstream_model or "
    "base_url, or take the deployment out. Calls go on being tried there first.",
    "denied": "Calls are refused, and the upstream does not say why: ask for the model with the "
    "same key by hand, and look for a block of this address, region or account there.",
}
TITLES = {
    "credential": "the upstream refuses our credential",
    "credit": "our credit at the upstream is used up",
    "gone": "the upstream has no such model or path",
    "denied": "the upstream refuses calls and does not say why",
}
_KINDS: dict[str, NoticeKind] = {
    "credential": "deployment.credential_refused",
    "credit": "deployment.credit_exhausted",
    "gone": "deployment.gone",
    "denied": "deployment.denied",
}

_ODD = {
    "impossible": "It reports more than the call can have used. What went through was counted and "
    "billed instead; what it said is in the call's record. Compare with the provider's bill.",
    "runaway": "It went far beyond the output limit of a call, so it obeys none, or not under the "
    "name that it was sent. Set output_limit_names of the deployment to what it obeys.",
    "unpriced_unit": "Its own tools did something (searches, files, code, pictures) that the "
    "vendor charges for and no account paid. Add the unit to the price, per million of them: "
    "units = { web_search = 10000.00 }. The call's record says what was used.",
    "zero_charge": "It produced something under a price above zero, and the account paid nothing. "
    "Look at the call's record and at the deployment's price.",
}


class NoticeDesk:
    """`spent` tells what an account has spent in its cap's period, `troubles` what is to be mended
    at upstreams now, `damage` what was found damaged in the journal."""

    def __init__(
        self,
        accounts: Accounts,
        desk: AccountDesk,
        notices: Notices,
        spent: SpentNow,
        troubles: Callable[[], Sequence[Trouble]] = tuple,
        now_ms: Callable[[], int] = epoch_ms,
        odd: Callable[[], Sequence[OddUsage]] = tuple,
        damage: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._odd = odd
        self._accounts = accounts
        self._desk = desk
        self._notices = notices
        self._spent = spent
        self._troubles = troubles
        self._now_ms = now_ms
        self._damage = damage
        self._told: set[str] = set()

    async def list(self, account: str | None, *, limit: int) -> list[Notice]:
        """The newest first."""
        account_id = None if account is None else self._desk.find(account).id
        return list(await self._notices.list(account_id, limit))

    async def look(self) -> int:
        """Look at every account that has a threshold, at the upstreams, and at the journal; how
        many notices that made."""
        made = 0
        for trouble in self._troubles():
            made += await self._in_trouble(trouble)
        for odd in self._odd():
            made += await self._usage_odd(odd)
        for what in self._damage():
            made += await self._journal_damaged(what)
        for account in self._accounts.list():
            for kind, occasion, facts in self._occasions(account):
                made += await self._tell(account, kind, occasion, facts)
        return made

    async def booked(self, order: TopUp, booking: Booking) -> None:
        """A payment was booked, or failed."""
        account = self._accounts.get(order.account_id)
        if booking.kind == "topup" and booking.nanos:
            facts = {"topup": order.id, "amount": format_nanos(booking.nanos)}
            await self._tell(account, "topup.paid", f"topup.paid:{order.id}", facts)
        elif order.is_charge and booking.status == "failed":
            await self.topup_failed(account, order.failure or "the card was declined", order)

    async def topup_failed(self, account: Account, reason: str, order: TopUp | None = None) -> None:
        """A top-up of the account's own rule could not be ordered or charged; told once for each
        order, and of what made none, once a day."""
        about = f"{account.id}:{self._now_ms() // DAY_MS}" if order is None else order.id
        facts = {"topup": None if order is None else order.id, "reason": reason}
        await self._tell(account, "topup.failed", f"topup.failed:{about}", facts)

    async def topup_limited(self, account: Account, per_day_max: int) -> None:
        """Its rule has ordered all that it may in a day; told once a day."""
        reason = f"{per_day_max} automatic top-ups were ordered within a day, which is the limit"
        occasion = f"topup.limited:{account.id}:{self._now_ms() // DAY_MS}"
        await self._tell(account, "topup.failed", occasion, {"topup": None, "reason": reason})

    async def topup_needed(self, order: TopUp, url: str | None, instructions: str) -> None:
        """A top-up was ordered by the account's own rule, and somebody must pay it."""
        facts = {"topup": order.id, "url": url, "instructions": instructions or None}
        account = self._accounts.get(order.account_id)
        await self._tell(account, "topup.needed", f"topup.needed:{order.id}", facts)

    def _occasions(self, account: Account) -> Iterator[tuple[NoticeKind, str, dict[str, Any]]]:
        now_ms = self._now_ms()
        balance = self._accounts.balance(account.id)
        below = account.notice_below_nanos
        if below is not None and balance.posted_nanos < below:
            # Once a day, for as long as it stays low.
            yield (
                "balance.low",
                f"low:{account.id}:{now_ms // DAY_MS}",
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

    async def _in_trouble(self, each: Trouble) -> bool:
        """Once for as long as it lasts, and at most once an hour for each deployment: one that is
        refused now and then must not fill a mailbox."""
        kind = _KINDS[each.kind]
        facts = {
            "deployment": each.deployment,
            "status": each.status,
            "since": iso(each.since_ms),
            "what": TITLES[each.kind],
            "said": each.said,
            "advice": advice(each),
        }
        occasion = f"{each.kind}:{each.deployment}:{each.since_ms // HOUR_MS}"
        return await self._add(OPERATORS, kind, occasion, facts)

    async def _usage_odd(self, each: OddUsage) -> bool:
        """Once a day for each deployment and kind, for as long as it goes on."""
        facts = {
            "deployment": each.deployment,
            "oddity": each.oddity,
            "calls": each.count,
            "call": each.call_id,
            "said": each.said or None,
            "advice": _ODD[each.oddity],
        }
        occasion = f"usage:{each.deployment}:{each.oddity}:{each.last_ms // DAY_MS}"
        return await self._add(OPERATORS, "deployment.usage_odd", occasion, facts)

    async def _journal_damaged(self, what: str) -> bool:
        """Once for each damage, also across restarts."""
        occasion = f"journal:{hashlib.sha256(what.encode()).hexdigest()[:32]}"
        return await self._add(OPERATORS, "journal.damaged", occasion, {"what": what})

    async def _tell(
        self, account: Account, kind: NoticeKind, occasion: str, facts: dict[str, Any]
    ) -> bool:
        if occasion in self._told:
            return False
        about = {
            "account_id": account.id,
            "account": account.name,
            "currency": account.currency,
            "balance": format_nanos(self._accounts.balance(account.id).posted_nanos),
        }
        return await self._add(account.id, kind, occasion, {**about, **facts})

    async def _add(
        self, account_id: str, kind: NoticeKind, occasion: str, facts: dict[str, Any]
    ) -> bool:
        if occasion in self._told:
            return False
        body = {"kind": kind, "at": iso(self._now_ms()), **facts}
        is_new = await self._notices.add(occasion, account_id, kind, json.dumps(body))
        if len(self._told) > 100_000:
            self._told.clear()  # the store knows them all
        self._told.add(occasion)
        return is_new


def advice(trouble: Trouble) -> str:
    """What an operator does about it."""
    if trouble.kind in _ADVICE:
        return _ADVICE[trouble.kind]
    return f"{_MENDED_BY.get(trouble.status, 'Give the deployment another key')}. {_AGAIN}"


def _period(account: Account, now_ms: int) -> str:
    if account.spend_period == "total":
        return "total"
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return f"{now:%Y-%m-%d}" if account.spend_period == "day" else f"{now:%Y-%m}"
