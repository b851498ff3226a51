"""Transfers: money from account to account."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

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


def _transferred(asked: Asked, entries: Sequence[LedgerEntry]) -> Transferred:  # noqa: ARG001 - as of other repeats
    left, came = entries
    return Transferred(shown(Entry, left), shown(Entry, came))


OPERATIONS = Operations()


@OPERATIONS.post("/transfers", "Move money from account to account", again=_transferred)
async def transfer(asked: Asked, body: NewTransfer) -> Transferred:
    moved = await asked.money.credits.transfer(
        body.source, body.target, nanos_of(body.amount, "amount"), body.memo, asked.once
    )
    return _transferred(asked, moved)
