"""Transfers: both halves in one transaction."""

from __future__ import annotations

import secrets

from merino.control.ports import Once
from merino.domain.account import Account
from merino.domain.ledger import TRANSFERS, Entry
from merino.storage.postings import Posting, Postings, Transaction


class TransferStore:
    """`billing.ports.Transfers`."""

    def __init__(self, postings: Postings) -> None:
        self._postings = postings

    async def transfer(
        self,
        source: Account,
        target: Account,
        nanos: int,
        target_nanos: int,
        exchange: str | None,
        memo: str | None,
        once: Once | None = None,
    ) -> tuple[Entry, Entry]:
        reference = f"trf_{secrets.token_hex(8)}"

        def write(work: Transaction) -> tuple[Entry, Entry]:
            left = work.post(
                Posting(source, "transfer", -nanos, TRANSFERS, memo, reference, exchange)
            )
            came = work.post(
                Posting(target, "transfer", target_nanos, TRANSFERS, memo, reference, exchange)
            )
            work.remember(once, left, came)
            return left, came

        return await self._postings.transact("the transfer", write, takes={source.id: nanos})
