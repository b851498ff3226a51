"""Transfers: money from account to account."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from merino.billing.operations.asked import billing
from merino.control.terms import nanos_of
from merino.domain.ledger import Entry as LedgerEntry
from merino.operations.entries import Entry
from merino.operations.fields import In, Memo, PositiveAmount, Reference
from merino.operations.shape import shown
from merino.operations.table import Asked, Operations


class NewTransfer(In):
    source: Reference
    target: Reference
    amount: PositiveAmount
    memo: Memo | None = None


class Transferred(Struct):
    left: Entry
    came: Entry


def _transferred(_: Asked, entries: Sequence[LedgerEntry]) -> Transferred:
    left, came = entries
    return Transferred(shown(Entry, left), shown(Entry, came))


OPERATIONS = Operations()


@OPERATIONS.post("/transfers", "Move money from account to account", again=_transferred)
async def transfer(asked: Asked, body: NewTransfer) -> Transferred:
    moved = await billing(asked).credits.transfer(
        body.source, body.target, nanos_of(body.amount, "amount"), body.memo, asked.once
    )
    return _transferred(asked, moved)
