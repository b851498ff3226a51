"""Every operation of the wing, in the order they are described in."""

from __future__ import annotations

from merino.billing.operations import (
    exchange_rates,
    notices,
    statements,
    topups,
    transfers,
    vouchers,
)
from merino.operations.table import Operation

OPERATIONS: tuple[Operation, ...] = (
    *vouchers.OPERATIONS,
    *transfers.OPERATIONS,
    *exchange_rates.OPERATIONS,
    *statements.OPERATIONS,
    *topups.OPERATIONS,
    *notices.OPERATIONS,
)
