"""Responses and conversations that the relay keeps, sealed; each account sees its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, LiteralString

from merino.domain.clock import DAY_MS
from merino.domain.kept import KeptConversation, KeptResponse, SealedItem
from merino.ledger.lines import Record
from merino.sqlite.database import Database, Row
from merino.sqlite.writer import Writer
from merino.storage.calls import Reader

CHAIN_MAX = 2_000
_DELETE_AT_ONCE = 200
_RESPONSE: LiteralString = (
    "SELECT account_id, id, previous_id, created_at_ms, expires_at_ms, sealed FROM kept_responses"
    " WHERE account_id = ? AND id = ? AND expires_at_ms > ?"
)
_CONVERSATION: LiteralString = (
    "SELECT account_id, id, deployment, created_at_ms, expires_at_ms, sealed FROM conversations"
    " WHERE account_id = ? AND id = ? AND expires_at_ms > ?"
)
_INSERT_ITEM: LiteralString = (
    "INSERT INTO conversation_items (account_id, conversation_id, id, size_bytes, sealed)"
    " VALUES (?, ?, ?, ?, ?)"
)
_LIVES: LiteralString = (
    "SELECT 1 FROM conversations WHERE account_id = ? AND id = ? AND deployment IS NULL"
)
_KEPT_LONGER: LiteralString = (
    "UPDATE conversations SET expires_at_ms = max(expires_at_ms, ?) WHERE account_id = ? AND id = ?"
)
# What goes before a response lives as long as it does. Whoever was made to live longer within a day
# has made its own predecessors do so.
_EXTEND: LiteralString = """
WITH RECURSIVE earlier(id) AS (
    SELECT ?2
    UNION
    SELECT kept_responses.previous_id FROM earlier JOIN kept_responses
        ON kept_responses.account_id = ?1 AND kept_responses.id = earlier.id
    WHERE kept_responses.expires_at_ms < ?3 AND kept_responses.previous_id IS NOT NULL
)
UPDATE kept_responses SET expires_at_ms = ?4
WHERE account_id = ?1 AND id IN (SELECT id FROM earlier) AND expires_at_ms < ?3
"""


def keep_responses(database: Database, ended: Sequence[Record], _replaced: Sequence[Row]) -> None:
    """A follower of the ledger's booking: a response is kept in the transaction that books its
    call."""
    for *_, replay in ended:
        if replay is not None and replay.kept is not None:
            _keep(database, replay.kept)


def _keep(database: Database, kept: KeptResponse) -> None:
    at = (kept.account_id, kept.id)
    database.execute("DELETE FROM kept_responses WHERE account_id = ? AND id = ?", at)
    database.execute(
        "INSERT INTO kept_responses (account_id, id, previous_id, created_at_ms, expires_at_ms,"
        " size_bytes, sealed) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            *at,
            kept.previous_id,
            kept.created_at_ms,
            kept.expires_at_ms,
            kept.size_bytes,
            kept.sealed,
        ),
    )
    database.execute_many(
        "INSERT OR REPLACE INTO kept_item_ids VALUES (?, ?, ?)",
        [(kept.account_id, item_id, kept.id) for item_id in kept.item_ids],
    )
    if kept.previous_id is not None:
        bound = (
            kept.account_id,
            kept.previous_id,
            kept.expires_at_ms - DAY_MS,
            kept.expires_at_ms,
        )
        database.execute(_EXTEND, bound)
    if kept.conversation_id is not None:
        _say(database, kept.account_id, kept.conversation_id, kept.said, kept.expires_at_ms)


def _say(
    database: Database,
    account_id: str,
    conversation_id: str,
    items: Sequence[SealedItem],
    until_ms: int,
) -> bool:
    """Add items to a conversation. False if it was deleted meanwhile."""
    at = (account_id, conversation_id)
    if database.one(_LIVES, at) is None:
        return False
    database.execute_many(
        _INSERT_ITEM, [(*at, each.id, len(each.sealed), each.sealed) for each in items]
    )
    database.execute(_KEPT_LONGER, (until_ms, *at))
    return True


class KeptStore:
    """`gateway.ports.Shelf`."""

    def __init__(
        self, database: Database, writer: Writer, read: Reader, now_ms: Callable[[], int]
    ) -> None:
        self._writer = writer
        self._read = read
        self._now_ms = now_ms
        self._bytes: dict[str, int] = dict(
            database.execute("SELECT account_id, bytes FROM kept_bytes")
        )
        self.has_any = bool(
            database.only(
                "SELECT EXISTS (SELECT 1 FROM kept_responses)"
                " OR EXISTS (SELECT 1 FROM conversations)"
            )
        )

    def bytes_of(self, account_id: str) -> int:
        """What an account keeps, as far as it is known without asking the database."""
        return self._bytes.get(account_id, 0)

    def note(self, account_id: str, more_bytes: int) -> None:
        """Count what is about to be kept."""
        self.has_any = True
        self._bytes[account_id] = max(0, self.bytes_of(account_id) + more_bytes)

    # -- responses -------------------------------------------------------------------------------

    async def response(self, response_id: str, account_id: str) -> KeptResponse | None:
        bound = (account_id, response_id, self._now_ms())
        return await self._read(lambda database: _response(database, *bound))

    async def chain(self, response_id: str, account_id: str) -> Sequence[KeptResponse]:
        """A response and all that it goes on from, newest first, as far as they are there."""
        now_ms = self._now_ms()

        def read(database: Database) -> list[KeptResponse]:
            found: list[KeptResponse] = []
            wanted: str | None = response_id
            while wanted is not None and len(found) < CHAIN_MAX:
                kept = _response(database, account_id, wanted, now_ms)
                if kept is None:
                    break
                found.append(kept)
                wanted = kept.previous_id
            return found

        return await self._read(read)

    async def owner_of_item(self, item_id: str, account_id: str) -> str | None:
        """The response that an item belongs to."""
        row = await self._read(
            lambda database: database.one(
                "SELECT response_id FROM kept_item_ids WHERE account_id = ? AND item_id = ?",
                (account_id, item_id),
            )
        )
        return None if row is None else row[0]

    async def delete_response(self, response_id: str, account_id: str) -> bool:
        await self._read(lambda _: None)  # what has just ended is there then
        return await self._delete(
            "deleting the response",
            "DELETE FROM kept_responses WHERE account_id = ? AND id = ? RETURNING size_bytes",
            (account_id, response_id),
        )

    async def _delete(self, what: str, sql: LiteralString, values: tuple[str, Any]) -> bool:
        gone = await self._writer.write(
            what, lambda database: database.execute(sql, values).fetchall()
        )
        self.note(values[0], -sum(size for (size,) in gone))
        return bool(gone)

    # -- conversations ---------------------------------------------------------------------------

    async def add_conversation(
        self, kept: KeptConversation, items: Sequence[SealedItem] = ()
    ) -> None:
        def write(database: Database) -> None:
            database.execute(
                "INSERT INTO conversations (account_id, id, deployment, created_at_ms,"
                " expires_at_ms, size_bytes, sealed) VALUES (?, ?, ?, ?, ?, ?, ?)"
                # An upstream that begins anew may use an id again.
                " ON CONFLICT (account_id, id) DO UPDATE SET deployment = excluded.deployment,"
                " created_at_ms = excluded.created_at_ms, expires_at_ms = excluded.expires_at_ms"
                " WHERE deployment IS NOT NULL",
                (
                    kept.account_id,
                    kept.id,
                    kept.deployment,
                    kept.created_at_ms,
                    kept.expires_at_ms,
                    len(kept.sealed),
                    kept.sealed,
                ),
            )
            _say(database, kept.account_id, kept.id, items, kept.expires_at_ms)

        await self._writer.write("keeping the conversation", write)
        self.note(kept.account_id, sum(len(each.sealed) for each in items))

    async def conversation(self, conversation_id: str, account_id: str) -> KeptConversation | None:
        bound = (account_id, conversation_id, self._now_ms())
        row = await self._read(lambda database: database.one(_CONVERSATION, bound))
        return None if row is None else KeptConversation(*row)

    async def change_conversation(self, kept: KeptConversation) -> bool:
        """Seal other content of it. False if it is gone."""
        values = (kept.sealed, len(kept.sealed), kept.expires_at_ms, kept.account_id, kept.id)
        changed = await self._writer.write(
            "changing the conversation",
            lambda database: database.change(
                "UPDATE conversations SET sealed = ?, size_bytes = ?, expires_at_ms = ?"
                " WHERE account_id = ? AND id = ?",
                values,
            ),
        )
        return bool(changed)

    async def delete_conversation(self, conversation_id: str, account_id: str) -> bool:
        at = (account_id, conversation_id)
        await self._read(lambda _: None)

        def write(database: Database) -> tuple[int, int]:
            sizes = database.execute(
                "DELETE FROM conversation_items WHERE account_id = ? AND conversation_id = ?"
                " RETURNING size_bytes",
                at,
            ).fetchall()
            gone = database.change("DELETE FROM conversations WHERE account_id = ? AND id = ?", at)
            return gone, sum(size for (size,) in sizes)

        gone, freed = await self._writer.write("deleting the conversation", write)
        self.note(account_id, -freed)
        return bool(gone)

    async def items(self, conversation_id: str, account_id: str) -> Sequence[SealedItem]:
        """Oldest first."""
        rows = await self._read(
            lambda database: list(
                database.execute(
                    "SELECT id, sealed, number FROM conversation_items WHERE account_id = ? AND"
                    " conversation_id = ? ORDER BY number",
                    (account_id, conversation_id),
                )
            )
        )
        return [SealedItem(*row) for row in rows]

    async def add_items(self, kept: KeptConversation, items: Sequence[SealedItem]) -> bool:
        """False if the conversation is gone."""
        done = await self._writer.write(
            "adding the items",
            lambda database: _say(database, kept.account_id, kept.id, items, kept.expires_at_ms),
        )
        if done:
            self.note(kept.account_id, sum(len(each.sealed) for each in items))
        return done

    async def delete_item(self, number: int, account_id: str) -> bool:
        return await self._delete(
            "deleting the item",
            "DELETE FROM conversation_items WHERE account_id = ? AND number = ?"
            " RETURNING size_bytes",
            (account_id, number),
        )

    # -- what is too old -------------------------------------------------------------------------

    async def delete_old(self) -> int:
        """Delete some of what is over; returns how much."""
        now_ms = self._now_ms()

        def write(database: Database) -> list[Row]:
            gone = database.execute(
                "DELETE FROM kept_responses WHERE rowid IN (SELECT rowid FROM kept_responses"
                " WHERE expires_at_ms <= ? LIMIT ?) RETURNING account_id, size_bytes",
                (now_ms, _DELETE_AT_ONCE),
            ).fetchall()
            old = database.execute(
                "SELECT account_id, id FROM conversations WHERE expires_at_ms <= ? LIMIT ?",
                (now_ms, _DELETE_AT_ONCE),
            ).fetchall()
            for at in old:
                gone += database.execute(
                    "DELETE FROM conversation_items WHERE account_id = ? AND conversation_id = ?"
                    " RETURNING account_id, size_bytes",
                    at,
                ).fetchall()
                database.execute("DELETE FROM conversations WHERE account_id = ? AND id = ?", at)
            return gone

        gone = await self._writer.write("deleting old responses", write)
        for account_id, size in gone:
            self.note(account_id, -size)
        return len(gone)


def _response(
    database: Database, account_id: str, response_id: str, now_ms: int
) -> KeptResponse | None:
    row = database.one(_RESPONSE, (account_id, response_id, now_ms))
    return None if row is None else KeptResponse(*row)
