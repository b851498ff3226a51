"""The use cases around credit, together: what needs more than accounts and calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from merino.control.automatic import AutomaticTopUps
from merino.control.credits import CreditDesk
from merino.control.notices import NoticeDesk
from merino.control.ports import PaymentProvider
from merino.control.statements import StatementDesk
from merino.control.topups import TopUpDesk
from merino.settings.sections.payments import PaymentsSettings


@dataclass(frozen=True, slots=True)
class Money:
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
