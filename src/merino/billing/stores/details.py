"""Whom invoices are made out to, with what held before."""

from __future__ import annotations

from merino.billing.nouns import InvoiceDetails
from merino.sqlite.database import Database, columns_of, marks
from merino.sqlite.readers import Readers
from merino.sqlite.writer import Writer

_FIELDS = columns_of(InvoiceDetails)
_COLUMNS = ", ".join(_FIELDS)
_KEEP = f"INSERT OR REPLACE INTO invoice_details ({_COLUMNS}) VALUES ({marks(len(_FIELDS))})"
# Before a payment there may have been none yet: then the first ones are meant.
_AT = f"""
SELECT {_COLUMNS} FROM invoice_details WHERE account_id = ?
ORDER BY since_ms > ?, CASE WHEN since_ms > ? THEN since_ms ELSE -since_ms END LIMIT 1
"""


class DetailsStore:
    """`billing.ports.Details`."""

    def __init__(self, writer: Writer, points: Readers) -> None:
        self._writer = writer
        self._points = points

    async def at(self, account_id: str, at_ms: int) -> InvoiceDetails | None:
        def read(database: Database) -> InvoiceDetails | None:
            row = database.one(_AT, (account_id, at_ms, at_ms))
            return None if row is None else InvoiceDetails(*row)

        return await self._points.run(read)

    async def keep(self, details: InvoiceDetails) -> None:
        row = [getattr(details, name) for name in _FIELDS]
        await self._writer.write(
            "keeping the invoice details", lambda database: database.change(_KEEP, row)
        )
