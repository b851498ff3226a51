"""Saved cards: the provider's name for each, and whether it may be used."""

from __future__ import annotations

from collections.abc import Callable

from merino.billing.nouns import SavedCard
from merino.sqlite.database import Database
from merino.sqlite.readers import Readers
from merino.sqlite.writer import Writer

_COLUMNS = "account_id, provider, customer_ref, saved_at_ms, declined_at_ms, declined_because"


class CardStore:
    """`billing.ports.Cards`."""

    def __init__(self, writer: Writer, points: Readers, now_ms: Callable[[], int]) -> None:
        self._writer = writer
        self._points = points
        self._now_ms = now_ms

    async def find(self, account_id: str, provider: str) -> SavedCard | None:
        row = await self._points.run(
            lambda database: database.one(
                f"SELECT {_COLUMNS} FROM saved_cards WHERE account_id = ? AND provider = ?",
                (account_id, provider),
            )
        )
        return None if row is None else SavedCard(*row)

    async def decline(self, account_id: str, provider: str, reason: str) -> None:
        now_ms = self._now_ms()
        await self._writer.write(
            "keeping that the card was declined",
            lambda database: mark_declined(database, account_id, provider, reason, now_ms),
        )

    async def forget(self, account_id: str, provider: str) -> None:
        await self._writer.write(
            "forgetting the card",
            lambda database: database.change(
                "DELETE FROM saved_cards WHERE account_id = ? AND provider = ?",
                (account_id, provider),
            ),
        )


def keep_card(database: Database, card: SavedCard) -> None:
    """Inside a transaction: the newest card of an account is the one that is used."""
    database.execute(
        f"INSERT OR REPLACE INTO saved_cards ({_COLUMNS}) VALUES (?, ?, ?, ?, NULL, NULL)",
        (card.account_id, card.provider, card.customer_ref, card.saved_at_ms),
    )


def mark_declined(
    database: Database, account_id: str, provider: str, reason: str, now_ms: int
) -> None:
    """Inside a transaction."""
    database.execute(
        "UPDATE saved_cards SET declined_at_ms = ?, declined_because = ?"
        " WHERE account_id = ? AND provider = ? AND declined_at_ms IS NULL",
        (now_ms, reason, account_id, provider),
    )
