"""What a relay and a bank that several relays share say to each other.

A relay has one request on its way at a time. Each names the relay's `epoch`, which a new process or
a burial raises, and `op`, which every executed request raises: so one that comes late, or a second
time, is void. `timeline` is the bank's own history: another one may lack the last second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from merino.ledger.lines import Record


@dataclass(frozen=True, slots=True)
class Ask:
    """The first call of an account here needs this much of each purse, and would like `wants`. All
    of it is advanced, or nothing. It came `waited_s` ago."""

    needs: Mapping[str, int]
    wants: Mapping[str, int]
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Register:
    """A process has started. What its predecessor left is fenced off."""


@dataclass(frozen=True, slots=True)
class Resync:
    """An answer is missing. Whatever is still on its way is void from now on."""

    timeline: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The bank's history is another: this is what the relay has, when its lines up to
    `applied_seq` are booked."""

    timeline: int
    epoch: int
    op: int
    applied_seq: int
    outs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Round:
    """Everything that happened here since the last one. `asks` is all that is waited for, by
    account; the lines follow `after_seq`."""

    timeline: int
    epoch: int
    op: int
    after_seq: int
    lines: Sequence[Record] = ()
    returns: Mapping[str, int] = field(default_factory=dict[str, int])
    asks: Mapping[str, Ask] = field(default_factory=dict[str, Ask])


Request = Register | Resync | Claim | Round


@dataclass(frozen=True, slots=True)
class State:
    """How the bank knows the relay: the answer to `Register` and `Resync`. `outs` is what it has of
    each purse, before lines after `applied_seq`."""

    timeline: int
    epoch: int
    op: int
    applied_seq: int
    outs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Pool:
    """A purse as the bank has it: what nobody has, and that with all that relays have."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Executed. `outs` has every purse that was touched, `pools` those that were asked for."""

    op: int
    applied_seq: int
    outs: Mapping[str, int]
    pools: Mapping[str, Pool] = field(default_factory=dict[str, Pool])
    short: frozenset[str] = frozenset()
    """Accounts that others wait for, of those this relay has parts of."""
    relays: int = 1
    is_learning: bool = False
    """The bank hears first what relays have: it advances nothing, and knows not what there is."""


Refused = Literal["fenced", "stale", "moved"]
"""Not executed: the relay was buried or started anew; something else came before; the bank's
history is another."""
