"""The use cases around credit, together: what needs more than accounts and calls."""

from __future__ import annotations

from dataclasses import dataclass

from merino.control.automatic import AutomaticTopUps
from merino.control.credits import CreditDesk
from merino.control.notices import NoticeDesk
from merino.control.statements import StatementDesk
from merino.control.topups import TopUpDesk


@dataclass(frozen=True, slots=True)
class Money:
    credits: CreditDesk
    topups: TopUpDesk
    statements: StatementDesk
    notices: NoticeDesk
    automatic: AutomaticTopUps
