"""The desks of the wing, for who is asked for one of its operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from merino.operations.table import Asked

if TYPE_CHECKING:
    from merino.billing.desks import Billing


def billing(asked: Asked) -> Billing:
    # Desks are loaded where something is done, so that a command line starts without them.
    from merino.billing.desks import Billing

    return asked.control.wing(Billing)
