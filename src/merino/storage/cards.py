"""Saved cards: under what the provider keeps them, and whether they may be used."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# apsw's stubs name types of packages that are not installed.
from __future__ import annotations

from collections.abc import Callable

import apsw

from merino.domain.credits import SavedCard
from merino.storage.database import fetch_one, writing

_COLUMNS = "account_id, provider, customer_ref, saved_at_ms, declined_at_ms, declined_because"


class CardStore:
    """`control.ports.Cards`."""

    def __init__(self, connection: apsw.Connection, now_ms: Callable[[], int]) -> None:
        self._connection = connection
        self._now_ms = now_ms

    def find(self, account_id: str, provider: str) -> SavedCard | None:
        row = fetch_one(
            self._connection,
            f"SELECT {_COLUMNS} FROM saved_cards WHERE account_id = ? AND provider = ?",  # noqa: S608 - our own words
            (account_id, provider),
        )
        return None if row is None else SavedCard(*row)

    def decline(self, account_id: str, provider: str, reason: str) -> None:
        with writing(self._connection, "keeping that the card was declined") as connection:
            mark_declined(connection, account_id, provider, reason, self._now_ms())

    def forget(self, account_id: str, provider: str) -> None:
        with writing(self._connection, "forgetting the card") as connection:
            connection.execute(
                "DELETE FROM saved_cards WHERE account_id = ? AND provider = ?",
                (account_id, provider),
            )


def keep_card(connection: apsw.Connection, card: SavedCard) -> None:
    """Inside a transaction: the newest card of an account is the one that is used."""
    connection.execute(
        f"INSERT OR REPLACE INTO saved_cards ({_COLUMNS}) VALUES (?, ?, ?, ?, NULL, NULL)",  # noqa: S608 - our own words
        (card.account_id, card.provider, card.customer_ref, card.saved_at_ms),
    )


def mark_declined(
    connection: apsw.Connection, account_id: str, provider: str, reason: str, now_ms: int
) -> None:
    """Inside a transaction."""
    connection.execute(
        "UPDATE saved_cards SET declined_at_ms = ?, declined_because = ?"
        " WHERE account_id = ? AND provider = ? AND declined_at_ms IS NULL",
        (now_ms, reason, account_id, provider),
    )
