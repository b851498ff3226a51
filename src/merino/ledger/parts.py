"""The money that a relay may hold and charge: its part of each purse.

A purse is a limit that money may not pass: an account's balance with its overdraft, or what a key
or an account may still spend in the window of its cap. The bank has the purses; a relay has parts
of them that no other relay has, and a call has to fit into its part of every purse that applies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, cast

from merino.domain.account import SpendPeriod
from merino.domain.clock import DAY_MS
from merino.gateway.ports import Bound, Headroom

FOR_EVER_MS = 2**62


@dataclass(slots=True)
class Part:
    """What this relay has of one purse. `owner` is the account or key whose charges come off it,
    from `begins_ms` until before `ends_ms`."""

    owner: str
    account_id: str
    nanos: int = 0
    """Not charged yet. Below zero once calls cost more than was held for them."""
    held: int = 0
    elsewhere: int = 0
    """What the purse has besides, by the bank's last word."""
    begins_ms: int = 0
    ends_ms: int = FOR_EVER_MS

    @property
    def purse(self) -> str:
        """The purse's id."""
        return self.owner


@dataclass(slots=True)
class CapPart(Part):
    """A part of what a key or an account may spend in the window of its cap."""

    cap_nanos: int = 0
    period: SpendPeriod = "total"

    @property
    def purse(self) -> str:
        return f"{self.owner}:{self.period}:{self.begins_ms // DAY_MS}"


@dataclass(slots=True)
class Funds:
    """The parts of an account's purses. What is held of the balance is held of the cap, too."""

    balance: Part
    overdraft: int = 0
    cap: CapPart | None = None
    key_caps: dict[str, CapPart] = field(default_factory=dict[str, CapPart])


class Charge(NamedTuple):
    """What a call cost, and of which purses it comes off: the bank charges by the same rule."""

    seq: int
    account_id: str
    key_id: str
    at_ms: int
    nanos: int

    def is_of(self, part: Part) -> bool:
        is_ours = part.owner in (self.account_id, self.key_id)
        return is_ours and part.begins_ms <= self.at_ms < part.ends_ms


def headroom_of(funds: Funds, key_cap: CapPart | None) -> Headroom:
    """The rule of money: a key may reserve the least of what its account has, what its account may
    still spend and what the key may still spend, each minus what is held of it."""
    balance, bound_by = funds.balance, "balance"
    bound_by: Bound
    available, ceiling = balance.nanos - balance.held, balance.nanos + balance.elsewhere
    caps: tuple[tuple[Bound, CapPart | None], ...] = (
        ("account_cap", funds.cap),
        ("key_cap", key_cap),
    )
    for bound, cap in caps:
        if cap is not None:
            available = min(available, cap.nanos - cap.held)
            if (whole := cap.nanos + cap.elsewhere) < ceiling:
                ceiling, bound_by = whole, bound
    # Never negative: a call that costs nothing is affordable with any balance.
    return Headroom(max(available, 0), max(ceiling, 0), bound_by)


def window_of(period: SpendPeriod, now_ms: int) -> tuple[int, int]:
    """When the window of a cap that a moment lies in begins and ends: a day or a month in UTC."""
    if period == "total":
        return 0, FOR_EVER_MS
    if period == "day":
        begins_ms = now_ms - now_ms % DAY_MS
        return begins_ms, begins_ms + DAY_MS
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    start = datetime(moment.year, moment.month, 1, tzinfo=UTC)
    end = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)
    return int(start.timestamp()) * 1000, int(end.timestamp()) * 1000


def part_of(purse: str) -> Part:
    """A part of the purse with this id, with nothing in it."""
    owner, *window = purse.split(":")
    if not window:
        return Part(owner, owner)
    period = cast("SpendPeriod", window[0])
    begins_ms, ends_ms = window_of(period, int(window[1]) * DAY_MS)
    return CapPart(owner, "", begins_ms=begins_ms, ends_ms=ends_ms, period=period)
