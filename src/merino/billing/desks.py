"""The use cases around credit, together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from merino.billing.automatic import AutomaticTopUps
from merino.billing.credits import CreditDesk
from merino.billing.invoices import InvoiceDesk
from merino.billing.notices import NoticeDesk
from merino.billing.ports import PaymentProvider
from merino.billing.statements import StatementDesk
from merino.billing.topups import TopUpDesk
from merino.domain.account import Account
from merino.domain.errors import MerinoError, NotFound
from merino.settings.sections.payments import PaymentsSettings

log = structlog.get_logger("merino")


@dataclass(frozen=True, slots=True)
class Billing:
    """`Control.wing(Billing)` has it."""

    credits: CreditDesk
    topups: TopUpDesk
    statements: StatementDesk
    notices: NoticeDesk
    automatic: AutomaticTopUps
    invoices: InvoiceDesk

    async def closing(self, account: Account) -> None:
        """No card outlives its account. One that its provider cannot delete now is told of in the
        log: here it is charged no more."""
        try:
            await self.topups.forget_card(account.id)
        except NotFound:
            return
        except MerinoError as error:
            log.warning(
                "a saved card could not be deleted at its provider",
                account=account.id,
                reason=error.message,
            )

    def configure(
        self, settings: PaymentsSettings, providers: Mapping[str, PaymentProvider]
    ) -> None:
        """What holds for orders that begin from now on; what the desks remember stays."""
        self.topups.configure(settings, providers)
        self.automatic.configure(settings)
        self.invoices.configure(settings)
