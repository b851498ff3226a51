"""What the house takes of the wing, put together over an open folder: its desks, its operations,
and what runs beside the calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from merino.billing.automatic import AutomaticTopUps
from merino.billing.credits import CreditDesk
from merino.billing.desks import Billing
from merino.billing.invoices import InvoiceDesk
from merino.billing.loops import BillingLoops, NoticeSender
from merino.billing.notices import NoticeDesk
from merino.billing.operations.table import OPERATIONS
from merino.billing.ports import OddUsage, PaymentProvider
from merino.billing.statements import StatementDesk
from merino.billing.stores.stores import BillingStores
from merino.billing.topups import TopUpDesk
from merino.control.accounts import AccountDesk
from merino.control.ports import Trouble
from merino.settings.sections.payments import PaymentsSettings
from merino.storage import Store

log = structlog.get_logger("merino")


class BillingWing:
    """Whole when it is made; `configure` says what settings decide, also the first time."""

    operations = OPERATIONS

    def __init__(
        self,
        store: Store,
        accounts: AccountDesk,
        *,
        troubles: Callable[[], Sequence[Trouble]] = tuple,
        odd: Callable[[], Sequence[OddUsage]] = tuple,
    ) -> None:
        """`troubles` and `odd` usage are what a running relay has seen of its upstreams."""
        tables = BillingStores(store)
        credit_desk = CreditDesk(
            accounts, tables.vouchers, tables.transfers, store.exchange, tables.statements
        )
        notices = NoticeDesk(
            store.accounts,
            accounts,
            tables.notices,
            store.ledger.spent,
            troubles,
            odd=odd,
            damage=store.damage,
        )
        topups = TopUpDesk(
            accounts,
            credit_desk,
            tables.topups,
            tables.cards,
            on_refused=log.warning,
            on_booked=notices.booked,
        )
        automatic = AutomaticTopUps(
            accounts, topups, tables.topups, tables.cards, notices, on_trouble=log.warning
        )
        statements = StatementDesk(accounts, tables.statements)
        self.desks = Billing(
            credit_desk,
            topups,
            statements,
            notices,
            automatic,
            InvoiceDesk(accounts, tables.details),
        )
        self.loops = BillingLoops(self.desks, tables.notices, tables.statements)

    def configure(
        self,
        settings: PaymentsSettings,
        providers: Mapping[str, PaymentProvider],
        senders: Sequence[NoticeSender] = (),
    ) -> None:
        self.desks.configure(settings, providers)
        self.loops.configure(senders)
