"""An account's statement: what it had, what came and went, what it has, from its entries alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from merino.billing.ports import Statements, UsageLine
from merino.control.accounts import AccountDesk
from merino.domain.account import Account
from merino.domain.clock import epoch_ms
from merino.domain.errors import InvalidCall
from merino.domain.ledger import Entry

_MONTH = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])\Z")
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Statement:
    """`closing_nanos` is opening + what came − what went − what calls cost, of these very lines."""

    account: Account
    since: datetime
    until: datetime
    made_at: datetime
    opening_nanos: int
    movements: Sequence[Entry]
    usage: Sequence[UsageLine]

    def signed(self, entry: Entry) -> int:
        """An entry as the account sees it."""
        came = entry.credit_account == self.account.id
        return entry.amount_nanos if came else -entry.amount_nanos

    @property
    def came_nanos(self) -> int:
        return sum(nanos for nanos in map(self.signed, self.movements) if nanos > 0)

    @property
    def went_nanos(self) -> int:
        return -sum(nanos for nanos in map(self.signed, self.movements) if nanos < 0)

    @property
    def used_nanos(self) -> int:
        return sum(line.nanos for line in self.usage)

    @property
    def calls(self) -> int:
        return sum(line.calls for line in self.usage)

    @property
    def closing_nanos(self) -> int:
        return self.opening_nanos + self.came_nanos - self.went_nanos - self.used_nanos

    def by_price(self) -> list[tuple[str, int, int]]:
        """Price id, calls and cost, the dearest first."""
        sums: dict[str, tuple[int, int]] = {}
        for line in self.usage:
            calls, nanos = sums.get(line.price_id or "-", (0, 0))
            sums[line.price_id or "-"] = (calls + line.calls, nanos + line.nanos)
        listed = [(price, calls, nanos) for price, (calls, nanos) in sums.items()]
        return sorted(listed, key=lambda each: (-each[2], each[0]))

    def by_day(self) -> list[tuple[date, int, int]]:
        """Day, calls and cost, the oldest first."""
        sums: dict[int, tuple[int, int]] = {}
        for line in self.usage:
            calls, nanos = sums.get(line.day, (0, 0))
            sums[line.day] = (calls + line.calls, nanos + line.nanos)
        return [(day_of(day), calls, nanos) for day, (calls, nanos) in sorted(sums.items())]


class StatementDesk:
    def __init__(
        self,
        accounts: AccountDesk,
        statements: Statements,
        now_ms: Callable[[], int] = epoch_ms,
    ) -> None:
        self._accounts = accounts
        self._statements = statements
        self._now_ms = now_ms

    async def make(self, reference: str, month: str | None = None) -> Statement:
        """Of a month such as ``2026-11`` (UTC), by default the current one, up to now."""
        account = self._accounts.find(reference)
        now = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
        month = f"{now:%Y-%m}" if month is None else month
        match = _MONTH.match(month)
        if match is None:
            raise InvalidCall(
                f"month {month[:20]!r} must be a month such as 2026-11",
                param="month",
                code="invalid_month",
            )
        since = datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC)
        until = (since + timedelta(days=31)).replace(day=1)
        lines = await self._statements.lines(account.id, _ms(since), _ms(until))
        return Statement(
            account, since, until, now, lines.opening_nanos, lines.movements, lines.usage
        )


def day_of(day: int) -> date:
    """A day counted since 1970."""
    return _EPOCH + timedelta(days=day)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
