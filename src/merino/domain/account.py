"""Who pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from merino.domain.limits import NO_LIMITS, Limits

SpendPeriod = Literal["day", "month", "total"]
"""Window of a spend cap: calendar day or month in UTC, or the whole life."""

STANDARD_GROUP = "standard"
"""The pricing group of an account that was given none."""

ACCOUNT_CURRENCIES = ("USD", "EUR", "CNY")
"""What an account may be kept in."""


@dataclass(frozen=True, slots=True)
class Account:
    """Owns keys, credit and ledger entries. `overdraft_nanos` is how far below zero it may go.

    `group` chooses the margin on the price book. `spend_cap_nanos` is the most all its keys may
    spend in a `spend_period`. Below `notice_below_nanos` its owner is told; below
    `topup_below_nanos` a top-up of `topup_nanos` is ordered. Notices are mailed to `notice_email`.

    `limits` and `weight` of its own stand above those of the settings; where they are `None`, the
    settings' count.
    """

    id: str
    name: str
    currency: str = "USD"
    overdraft_nanos: int = 0
    created_at_ms: int = 0
    disabled: bool = False
    group: str = STANDARD_GROUP
    spend_cap_nanos: int | None = None
    spend_period: SpendPeriod = "month"
    notice_below_nanos: int | None = None
    topup_below_nanos: int | None = None
    topup_nanos: int | None = None
    notice_email: str | None = None
    limits: Limits = NO_LIMITS
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class AccountLimit:
    """What holds for all keys of an account together. `weight` is its share of the turns when
    several accounts wait; `name` is what refusals call the account, its id if empty."""

    limits: Limits = NO_LIMITS
    weight: float = 1.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has (`posted_nanos`) and what open holds reserve of it (`held_nanos`)."""

    posted_nanos: int
    held_nanos: int
    overdraft_nanos: int

    @property
    def available_nanos(self) -> int:
        """Posted − held + overdraft: what a new hold may take."""
        return self.posted_nanos - self.held_nanos + self.overdraft_nanos
