"""What each key has spent today, this month and ever, for spend caps."""

from __future__ import annotations

from collections.abc import Callable

from merino.domain.account import SpendPeriod
from merino.domain.clock import DAY_MS
from merino.ledger.parts import window_of
from merino.sqlite.database import Database

_LOAD = """
SELECT key_id, account_id, coalesce(sum(spent_nanos) FILTER (WHERE day >= :today), 0),
       coalesce(sum(spent_nanos) FILTER (WHERE day >= :month), 0), sum(spent_nanos)
FROM key_days JOIN keys ON keys.id = key_id GROUP BY key_id
"""


class KeySpend:
    """One key's spending. Windows restart by themselves at midnight and on the first of the month
    (UTC)."""

    __slots__ = ("_day", "_day_ends_ms", "_month", "_month_ends_ms", "total")

    def __init__(self, day: int, month: int, total: int, now_ms: int) -> None:
        self.total = total
        self._day = day
        self._month = month
        self._set_ends(now_ms)

    def _set_ends(self, now_ms: int) -> None:
        self._day_ends_ms = window_of("day", now_ms)[1]
        self._month_ends_ms = window_of("month", now_ms)[1]

    def spent(self, period: SpendPeriod, now_ms: int) -> int:
        if period == "total":
            return self.total
        if now_ms >= self._day_ends_ms:
            self._roll(now_ms)
        return self._day if period == "day" else self._month

    def add(self, nanos: int, now_ms: int) -> None:
        if now_ms >= self._day_ends_ms:
            self._roll(now_ms)
        self._day += nanos
        self._month += nanos
        self.total += nanos

    def _roll(self, now_ms: int) -> None:
        self._day = 0
        if now_ms >= self._month_ends_ms:
            self._month = 0
        self._set_ends(now_ms)


class KeySpends:
    """Every key's spending."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._by_key: dict[str, KeySpend] = {}
        self._by_account: dict[str, list[KeySpend]] = {}

    def load(self, database: Database) -> None:
        """Load from SQLite, once, while nothing waits to be applied."""
        now_ms = self._now_ms()
        windows = {"today": now_ms // DAY_MS, "month": window_of("month", now_ms)[0] // DAY_MS}
        for key_id, account_id, day, month, total in database.execute(_LOAD, windows):
            self._add(key_id, account_id, KeySpend(day, month, total, now_ms))

    def of(self, key_id: str, account_id: str) -> KeySpend:
        spend = self._by_key.get(key_id)
        if spend is None:
            spend = self._add(key_id, account_id, KeySpend(0, 0, 0, self._now_ms()))
        return spend

    def of_account(self, account_id: str) -> KeySpend:
        """What all keys of an account have spent; counted again on each call."""
        now_ms = self._now_ms()
        keys = self._by_account.get(account_id, [])
        day, month, total = (
            sum(each.spent(period, now_ms) for each in keys) for period in ("day", "month", "total")
        )
        return KeySpend(day, month, total, now_ms)

    def _add(self, key_id: str, account_id: str, spend: KeySpend) -> KeySpend:
        self._by_key[key_id] = spend
        self._by_account.setdefault(account_id, []).append(spend)
        return spend
