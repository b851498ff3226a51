"""The use cases around credit, together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from merino.billing.automatic import AutomaticTopUps
from merino.billing.credits import CreditDesk
from merino.billing.notices import NoticeDesk
from merino.billing.ports import PaymentProvider
from merino.billing.statements import StatementDesk
from merino.billing.topups import TopUpDesk
from merino.settings.sections.payments import PaymentsSettings


@dataclass(frozen=True, slots=True)
class Billing:
    """`Control.wing(Billing)` has it."""

    credits: CreditDesk
    topups: TopUpDesk
    statements: StatementDesk
    notices: NoticeDesk
    automatic: AutomaticTopUps

    def configure(
        self, settings: PaymentsSettings, providers: Mapping[str, PaymentProvider]
    ) -> None:
        """What holds for orders that begin from now on; what the desks remember stays."""
        self.topups.configure(settings, providers)
        self.automatic.configure(settings)
