"""What each key has spent today, this month and ever, for its spend cap."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import LiteralString

from merino.domain.account import SpendPeriod
from merino.domain.clock import DAY_MS
from merino.domain.errors import StoreUnavailable
from merino.sqlite.database import TRANSIENT_ERRORS, Database

_SPENT = """
SELECT coalesce(sum(spent_nanos) FILTER (WHERE day >= :today), 0),
       coalesce(sum(spent_nanos) FILTER (WHERE day >= :month), 0),
       coalesce(sum(spent_nanos), 0)
FROM key_days WHERE key_id = :key_id
"""
_SPENT_BY_ACCOUNT = _SPENT.replace(
    "key_id = :key_id", "key_id IN (SELECT id FROM keys WHERE account_id = :account_id)"
)


def _months_ms(at_ms: int) -> tuple[int, int]:
    """Start and end of the UTC month of a moment."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    start = datetime(moment.year, moment.month, 1, tzinfo=UTC)
    end = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)
    return int(start.timestamp()) * 1000, int(end.timestamp()) * 1000


class KeySpend:
    """One key's spending. Windows begin anew by themselves at midnight and on the first (UTC)."""

    __slots__ = ("_day", "_day_ends_ms", "_month", "_month_ends_ms", "held", "total")

    def __init__(self, day: int, month: int, total: int, now_ms: int) -> None:
        self.held = 0
        self.total = total
        self._day = day
        self._month = month
        self._set_ends(now_ms)

    def _set_ends(self, now_ms: int) -> None:
        self._day_ends_ms = now_ms - now_ms % DAY_MS + DAY_MS
        self._month_ends_ms = _months_ms(now_ms)[1]

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

    def add_earlier(self, nanos: int, at_ms: int, now_ms: int) -> None:
        """As `add`, for what was spent at another time than now."""
        today_ms = now_ms - now_ms % DAY_MS
        self._day += nanos if at_ms >= today_ms else 0
        self._month += nanos if at_ms >= _months_ms(now_ms)[0] else 0
        self.total += nanos

    def _roll(self, now_ms: int) -> None:
        self._day = 0
        if now_ms >= self._month_ends_ms:
            self._month = 0
        self._set_ends(now_ms)


class KeySpends:
    """Every key's spending, read from SQLite when a key is first used in this process: until then
    nothing of it can be waiting to be applied."""

    def __init__(self, database: Database, now_ms: Callable[[], int]) -> None:
        self._database = database
        self._now_ms = now_ms
        self._by_key: dict[str, KeySpend] = {}

    def of(self, key_id: str) -> KeySpend:
        spend = self._by_key.get(key_id)
        if spend is None:
            spend = self._by_key[key_id] = self._load({"key_id": key_id})
        return spend

    def of_account(self, account_id: str) -> KeySpend:
        """What all keys of an account have spent; a new count each time it is asked for."""
        return self._load({"account_id": account_id}, _SPENT_BY_ACCOUNT)

    def _load(self, whose: dict[str, str], sql: LiteralString = _SPENT) -> KeySpend:
        now_ms = self._now_ms()
        windows = {
            **whose,
            "today": now_ms // DAY_MS,
            "month": _months_ms(now_ms)[0] // DAY_MS,
        }
        try:
            row = self._database.one(sql, windows)
        except TRANSIENT_ERRORS as error:
            raise StoreUnavailable(
                f"The database cannot be read now ({error}). Try again.", retry_after_s=1.0
            ) from error
        assert row is not None
        return KeySpend(row[0], row[1], row[2], now_ms)
