"""The service level of a month: what was promised, what each account got, what it gets back.

Deciding is pure. What is given back is booked once for each account and month, and only when an
operator says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from merino.control.accounts import AccountDesk
from merino.control.overview import CallSums
from merino.control.ports import Once
from merino.control.usage import Cut, UsageSums
from merino.domain.clock import epoch_ms
from merino.domain.errors import Conflict, InvalidCall, NotFound
from merino.domain.ledger import Entry
from merino.settings.sections.sla import SlaSettings

_MONTH = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])\Z")
_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """One account's month. `answered_share` is `None` while its calls are too few to say anything.
    `due_nanos` is what a missed objective gives back; `credited_nanos` what was given."""

    account_id: str
    month: str
    calls: int
    refused: int
    failed: int
    answered_share: float | None
    spent_nanos: int
    due_nanos: int
    credited_nanos: int


class SlaDesk:
    def __init__(
        self, usage: UsageSums, accounts: AccountDesk, now_ms: Callable[[], int] = epoch_ms
    ) -> None:
        self._usage = usage
        self._accounts = accounts
        self._now_ms = now_ms
        self._settings = SlaSettings()
        self._turn = asyncio.Lock()

    def configure(self, settings: SlaSettings) -> None:
        self._settings = settings

    @property
    def is_on(self) -> bool:
        return self._settings.enabled

    @property
    def objective(self) -> float:
        return self._settings.objective

    def months(self, number: int) -> list[str]:
        """The newest, which is still going on, first."""
        now = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
        last = now.year * 12 + now.month - 1
        return [f"{each // 12:04d}-{each % 12 + 1:02d}" for each in range(last, last - number, -1)]

    async def month(self, month: str | None = None) -> Sequence[ServiceLevel]:
        """Every account that had calls in a month such as ``2026-11`` (UTC), by default this one.
        The worst first."""
        month, since_ms, until_ms = self._span(month)
        rows = await self._usage.usage(("account",), since_ms, until_ms, Cut())
        # What was refused before anybody was known is no account's.
        found = [await self._level(row.group[0], month, row.sums) for row in rows if row.group[0]]
        return sorted(
            found,
            key=lambda each: (
                2.0 if each.answered_share is None else each.answered_share,
                each.account_id,
            ),
        )

    async def of(self, account_id: str, month: str | None = None) -> ServiceLevel:
        month, since_ms, until_ms = self._span(month)
        cut = Cut.of({"account": [account_id]})
        rows = await self._usage.usage((), since_ms, until_ms, cut)
        return await self._level(account_id, month, rows[0].sums if rows else CallSums(account_id))

    async def confirm(self, account: str, month: str) -> tuple[ServiceLevel, Entry]:
        """Give an account back what it is due for a month that has ended; once."""
        async with self._turn:
            return await self._confirm(self._accounts.find(account).id, month)

    async def _confirm(self, account_id: str, month: str) -> tuple[ServiceLevel, Entry]:
        _, _, until_ms = self._span(month)
        if until_ms > self._now_ms():
            raise Conflict(f"{month} has not ended; confirm it afterwards", code="month_not_over")
        level = await self.of(account_id, month)
        once = _once(account_id, month)
        if await self._accounts.booked_before(once) is not None:
            raise Conflict(f"{month} was given back already", code="sla_credited")
        if level.due_nanos <= 0:
            raise NotFound(f"{month} gives nothing back to this account", code="nothing_due")
        memo = f"service level of {month}"
        entry = await self._accounts.credit(account_id, level.due_nanos, memo, once)
        return await self.of(account_id, month), entry

    async def _level(self, account_id: str, month: str, sums: CallSums) -> ServiceLevel:
        booked = await self._accounts.booked_before(_once(account_id, month))
        return level_of(
            account_id,
            month,
            sums,
            self._settings,
            credited_nanos=0 if booked is None else booked[0].amount_nanos,
        )

    def _span(self, month: str | None) -> tuple[str, int, int]:
        if month is None:
            month = f"{datetime.fromtimestamp(self._now_ms() / 1000, UTC):%Y-%m}"
        match = _MONTH.match(month)
        if match is None:
            raise InvalidCall(
                f"month {month[:20]!r} must be a month such as 2026-11",
                param="month",
                code="invalid_month",
            )
        since = datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC)
        until = (since + timedelta(days=31)).replace(day=1)
        return month, int(since.timestamp()) * 1000, int(until.timestamp()) * 1000


def level_of(
    account_id: str, month: str, sums: CallSums, settings: SlaSettings, *, credited_nanos: int = 0
) -> ServiceLevel:
    """What the caller made wrong (4xx) does not count, neither for nor against."""
    answered = sums.answered_share if sums.calls - sums.refused >= settings.calls_min else None
    due = 0
    if answered is not None and answered < settings.objective:
        rows = [each for each in settings.credits if answered < each.below]
        share = min(rows, key=lambda each: each.below).share if rows else 0.0
        due = sums.charged_nanos * round(share * _PPM) // _PPM
    return ServiceLevel(
        account_id,
        month,
        sums.calls,
        sums.refused,
        sums.failed,
        answered,
        sums.charged_nanos,
        due,
        credited_nanos,
    )


def _once(account_id: str, month: str) -> Once:
    """The same key whatever was due then: a month is given back once."""
    key = f"sla:{account_id}:{month}"
    return Once(key, hashlib.sha256(key.encode()).digest())
