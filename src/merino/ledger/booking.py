"""Writes ended calls into SQLite: calls, entries, balances, key spend and kept answers, together
with how far the journal has been applied, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from merino.domain.clock import DAY_MS
from merino.domain.ledger import REVENUE, in_currency
from merino.ledger.lines import (
    ACCOUNT_ID,
    CALL_COLUMNS,
    CHARGED,
    ID,
    KEY_ID,
    OVERRUN,
    PRICE_ID,
    UPSTREAM,
    Record,
    storable,
)
from merino.pricing.margin import rate_in
from merino.sqlite.database import UNBINDABLE, UNSYNCED, ConstraintError, Database, Row

Follower = Callable[[Database, Sequence[Record], Sequence[Row]], None]
"""Something else that changes with calls, in the transaction that books them. It gets the calls
that ended, and the rows of calls that these replace."""

_INTO_CALLS = f"INSERT INTO calls ({', '.join(CALL_COLUMNS)})"
_INTO_ENTRIES = (
    "INSERT INTO entries (at_ms, kind, debit_account, credit_account, amount_nanos, call_id,"
    " key_id, upstream_nanos, price_id, exchange)"
)
_ADD_TO_BALANCE = (
    "INSERT INTO balances VALUES (?, ?)"
    " ON CONFLICT DO UPDATE SET posted_nanos = posted_nanos + excluded.posted_nanos"
)
_ADD_TO_KEY_DAY = (
    "INSERT INTO key_days VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET spent_nanos = spent_nanos + excluded.spent_nanos"
)
_KEEP_REPLAY = "INSERT OR REPLACE INTO replays VALUES (?, ?, ?, ?, ?, ?, ?)"
_SELECT_CALL = f"SELECT {', '.join(CALL_COLUMNS)} FROM calls WHERE id = ?"
_DELETE_CALL = "DELETE FROM calls WHERE id = ?"
_SET_APPLIED = "UPDATE meta SET value = ? WHERE name = 'applied_seq'"

_Entry = tuple[int, str, str, str, int, str, str, int, "str | None", "str | None"]


class Booking:
    """`currencies` gives each account's currency, and is asked for every call."""

    def __init__(self, currencies: Mapping[str, str], followers: Sequence[Follower] = ()) -> None:
        self._currencies = currencies
        self._followers = followers

    def book(self, database: Database, records: Sequence[Record]) -> None:
        """Book all of them or none. Raises SQLite's error if it cannot."""
        with database.synced(UNSYNCED):  # the journal has it until this is on the disk
            try:
                self._write(database, records)
            except (*UNBINDABLE, ConstraintError):
                # A settled call is booked, whatever a vendor wrote into the rest of its record.
                self._write(database, [storable(record) for record in records])

    def _write(self, database: Database, records: Sequence[Record]) -> None:
        calls: list[tuple[object, ...]] = []
        entries: list[_Entry] = []
        balances: dict[str, int] = {}
        key_days: dict[tuple[str, int], int] = {}
        replays: list[tuple[object, ...]] = []
        late: list[tuple[str]] = []
        for _, kind, at_ms, row, replay in records:
            calls.append(row)
            charged = row[CHARGED]
            if charged:
                account_id, key_id = row[ACCOUNT_ID], row[KEY_ID]
                revenue = REVENUE
                currency = self._currencies.get(account_id, "USD")
                if currency != "USD":
                    revenue = in_currency(REVENUE, currency)
                entries += _entries(at_ms, row, revenue)
                balances[account_id] = balances.get(account_id, 0) - charged
                balances[revenue] = balances.get(revenue, 0) + charged
                day = (key_id, at_ms // DAY_MS)
                key_days[day] = key_days.get(day, 0) + charged
            if replay is not None and replay.item is None and replay.id:
                replays.append(
                    (
                        replay.id,
                        replay.body_hash,
                        replay.call_id,
                        replay.status,
                        replay.content_type,
                        replay.body,
                        replay.at_ms,
                    )
                )
            if kind == "late":
                late.append((row[ID],))

        write = database.execute_many
        with database.transaction():
            replaced: list[Row] = []
            if late:
                for call_id in late:
                    replaced += database.execute(_SELECT_CALL, call_id)
                write(_DELETE_CALL, late)
            database.insert(_INTO_CALLS, calls)
            for follow in self._followers:
                follow(database, records, replaced)
            if entries:
                database.insert(_INTO_ENTRIES, entries)
                write(_ADD_TO_BALANCE, list(balances.items()))
                write(_ADD_TO_KEY_DAY, [(*day, spent) for day, spent in key_days.items()])
            if replays:
                write(_KEEP_REPLAY, replays)
            database.execute(_SET_APPLIED, (records[-1][0],))


def _entries(at_ms: int, row: tuple[Any, ...], revenue: str) -> list[_Entry]:
    """The double entries of one charged call: up to its hold, and above it."""
    entries: list[_Entry] = []
    charged, overrun, upstream = row[CHARGED], row[OVERRUN], row[UPSTREAM]
    price_id = row[PRICE_ID]
    exchange = rate_in(price_id) if isinstance(price_id, str) else None
    assert isinstance(charged, int)
    assert isinstance(overrun, int)
    for kind, amount in (("settle", charged - overrun), ("overrun", overrun)):
        if amount:
            entries.append(
                (
                    at_ms,
                    kind,
                    row[ACCOUNT_ID],
                    revenue,
                    amount,
                    row[ID],
                    row[KEY_ID],
                    upstream,
                    price_id,
                    exchange,
                )
            )
            upstream = 0  # what the upstream charges is reported once
    return entries
