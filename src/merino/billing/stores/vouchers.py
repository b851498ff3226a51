"""Vouchers: codes that credit once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from merino.billing.nouns import Voucher
from merino.control.ports import Once, Page
from merino.domain.account import Account
from merino.domain.errors import Conflict, NotFound
from merino.domain.ledger import VOUCHERS, Entry
from merino.sqlite.database import Database
from merino.sqlite.readers import Readers
from merino.sqlite.writer import Writer
from merino.storage.calls import Reader
from merino.storage.postings import Posting, Postings, Transaction

_COLUMNS = (
    "id, hint, batch, currency, value_nanos, created_at_ms, expires_at_ms, memo, is_void,"
    " redeemed_at_ms, account_id"
)
_AFTER = "(created_at_ms, id) > (SELECT created_at_ms, id FROM vouchers WHERE id = ?)"
_INSERT = (
    "INSERT INTO vouchers (id, code_hash, hint, batch, currency, value_nanos, created_at_ms,"
    " expires_at_ms, memo) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
# Two redemptions at once cannot both change the row: the second one changes none.
_REDEEM = """
UPDATE vouchers SET redeemed_at_ms = ?, account_id = ?
WHERE id = ? AND redeemed_at_ms IS NULL AND is_void = 0
    AND (expires_at_ms IS NULL OR expires_at_ms > ?)
"""


class VoucherStore:
    """`billing.ports.Vouchers`."""

    def __init__(
        self,
        writer: Writer,
        points: Readers,
        postings: Postings,
        read: Reader,
    ) -> None:
        self._writer = writer
        self._points = points
        self._postings = postings
        self._read = read

    async def add(self, vouchers: Iterable[tuple[Voucher, bytes]]) -> None:
        """Add new vouchers, each with the hash of its code; all or none."""
        rows = [
            (
                each.id,
                code_hash,
                each.hint,
                each.batch,
                each.currency,
                each.value_nanos,
                each.created_at_ms,
                each.expires_at_ms,
                each.memo,
            )
            for each, code_hash in vouchers
        ]
        await self._writer.write(
            "creating vouchers", lambda database: database.execute_many(_INSERT, rows)
        )

    async def find(self, code_hash: bytes) -> Voucher | None:
        row = await self._points.run(
            lambda database: database.one(
                f"SELECT {_COLUMNS} FROM vouchers WHERE code_hash = ?", (code_hash,)
            )
        )
        return None if row is None else _voucher(row)

    async def get(self, voucher_id: str) -> Voucher:
        """Raises `NotFound`."""
        return await self._points.run(lambda database: _get(database, voucher_id))

    async def redeem(
        self,
        voucher: Voucher,
        account: Account,
        nanos: int,
        exchange: str | None,
        once: Once | None = None,
    ) -> Entry | None:
        """Credit `nanos`, once. `None` if it was used up, voided or expired meanwhile."""

        def write(work: Transaction) -> Entry | None:
            work.database.execute(_REDEEM, (work.now_ms, account.id, voucher.id, work.now_ms))
            if not work.database.changes():
                return None
            memo = f"voucher {voucher.hint}" + (f": {voucher.memo}" if voucher.memo else "")
            entry = work.post(
                Posting(account, "voucher", nanos, VOUCHERS, memo, voucher.id, exchange)
            )
            work.remember(once, entry, entry)
            return entry

        return await self._postings.transact("redeeming the voucher", write)

    async def void(self, voucher_id: str) -> Voucher:
        """Void a voucher. Raises `NotFound`, and `Conflict` once it is redeemed."""

        def write(database: Database) -> Voucher:
            database.execute(
                "UPDATE vouchers SET is_void = 1 WHERE id = ? AND redeemed_at_ms IS NULL",
                (voucher_id,),
            )
            return _get(database, voucher_id)

        voucher = await self._writer.write("voiding the voucher", write)
        if voucher.redeemed_at_ms is not None:
            raise Conflict(
                f"voucher {voucher.hint} was redeemed; debit the account instead",
                code="voucher_redeemed",
            )
        return voucher

    async def list(
        self, batch: str | None, *, limit: int, cursor: str | None = None
    ) -> Page[Voucher]:
        """In the order they were made."""
        after = "1" if cursor is None else _AFTER
        sql = (
            f"SELECT {_COLUMNS} FROM vouchers WHERE {after} AND (? IS NULL OR batch = ?)"
            " ORDER BY created_at_ms, id LIMIT ?"
        )
        bindings = (*([] if cursor is None else [cursor]), batch, batch, limit + 1)

        def read(database: Database) -> Sequence[Voucher]:
            return [_voucher(row) for row in database.execute(sql, bindings)]

        found = await self._read(read)
        shown = found[:limit]
        return Page(shown, shown[-1].id if len(found) > limit else None)


def _get(database: Database, voucher_id: str) -> Voucher:
    row = database.one(f"SELECT {_COLUMNS} FROM vouchers WHERE id = ?", (voucher_id,))
    if row is None:
        raise NotFound(f"There is no voucher '{voucher_id[:100]}'", code="voucher_not_found")
    return _voucher(row)


def _voucher(row: Sequence[Any]) -> Voucher:
    fields = list(row)
    fields[8] = bool(fields[8])
    return Voucher(*fields)
