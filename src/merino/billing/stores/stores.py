"""All tables of the wing, over an open folder."""

from __future__ import annotations

from merino.billing.stores.cards import CardStore
from merino.billing.stores.details import DetailsStore
from merino.billing.stores.notices import NoticeStore
from merino.billing.stores.statements import StatementReader
from merino.billing.stores.topups import TopUpStore
from merino.billing.stores.transfers import TransferStore
from merino.billing.stores.vouchers import VoucherStore
from merino.storage import Store


class BillingStores:
    """They keep nothing in memory: whoever needs them may make them again."""

    def __init__(self, store: Store) -> None:
        writer, points, postings, now_ms = store.writer, store.points, store.postings, store.now_ms
        self.vouchers = VoucherStore(writer, points, postings, store.read)
        self.transfers = TransferStore(postings)
        self.topups = TopUpStore(writer, points, postings, store.accounts.get)
        self.cards = CardStore(writer, points, now_ms)
        self.details = DetailsStore(writer, points)
        self.statements = StatementReader(writer, store.read)
        self.notices = NoticeStore(writer, points, now_ms)
