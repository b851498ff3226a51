"""A bank that several relays share, in memory: what PostgreSQL does, one request after another.

The guards are its own; who is served and what a charge comes off is said by the real rules.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

from merino.ledger import teller
from merino.ledger.lines import ACCOUNT_ID, CHARGED, ID, KEY_ID
from merino.ledger.messages import (
    Answer,
    Ask,
    Claim,
    Pool,
    Refused,
    Register,
    Request,
    Resync,
    Round,
    State,
)


def owner_of(purse: str) -> str:
    return purse.partition(":")[0]


@dataclass
class RelayRow:
    epoch: int = 0
    op: int = 0
    applied_seq: int = 0
    seen_at: float = 0.0
    is_buried: bool = False


@dataclass
class Tables:
    """What is lost when the bank fails over to a standby that lags behind."""

    relays: dict[str, RelayRow] = field(default_factory=dict)
    free: dict[str, int] = field(default_factory=dict)
    outs: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    line: dict[str, list[teller.Place]] = field(default_factory=lambda: defaultdict(list))
    booked: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    charged: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """By purse, also those that nobody has asked for yet."""


class ModelBank:
    """`caps` has the most a capped key may spend in a window, and the account it is of."""

    def __init__(
        self,
        now: Callable[[], float],
        credit: dict[str, int],
        caps: dict[str, tuple[int, str]],
        windows: Callable[[str, int], str | None],
        longest_hold_s: float,
    ) -> None:
        self._now = now
        self._caps = caps
        self._windows = windows
        self._longest_hold_s = longest_hold_s
        self.credits = credit
        self.tables = Tables(free=dict(credit))
        self.timeline = 1
        self.learning_until = float("-inf")
        self.unheard: dict[str, dict[str, int]] = {}
        """By relay: what was advanced to it in the second that was lost."""
        self.unclaimed: dict[str, int] = defaultdict(int)

    # Requests

    def execute(self, relay_id: str, request: Request) -> State | Answer | Refused:
        match request:
            case Register():
                return self._register(relay_id)
            case Resync():
                return self._resync(relay_id, request)
            case Claim():
                return self._guarded(relay_id, request) or self._claim(relay_id, request)
            case Round():
                return self._guarded(relay_id, request) or self._round(relay_id, request)

    def _register(self, relay_id: str) -> State:
        row = self.tables.relays.setdefault(relay_id, RelayRow())
        row.epoch += 1
        row.is_buried = False
        self._leave(relay_id, set())
        return self._state(relay_id, row)

    def _resync(self, relay_id: str, request: Resync) -> State | Refused:
        row = self.tables.relays.get(relay_id)
        if request.timeline < self.timeline:
            # What the relay knows of itself may be newer than what is known here.
            row = row or self.tables.relays.setdefault(relay_id, RelayRow())
            row.epoch = max(row.epoch, request.epoch)
        if row is None or row.epoch != request.epoch:
            return "fenced"
        return self._state(relay_id, row)

    def _state(self, relay_id: str, row: RelayRow) -> State:
        row.op += 1  # whatever is still on its way is void now
        row.seen_at = self._now()
        outs = {
            purse: out
            for (purse, owner), out in self.tables.outs.items()
            if owner == relay_id and out
        }
        return State(self.timeline, row.epoch, row.op, row.applied_seq, outs)

    def _guarded(self, relay_id: str, request: Claim | Round) -> Refused | None:
        row = self.tables.relays.get(relay_id)
        if request.timeline != self.timeline:
            return "moved"
        if row is None or row.epoch != request.epoch:
            return "fenced"
        after_seq = request.after_seq if isinstance(request, Round) else request.applied_seq
        if row.op != request.op or row.applied_seq != after_seq:
            return "stale"
        row.seen_at = self._now()
        return None

    def _claim(self, relay_id: str, claim: Claim) -> Answer:
        for purse, out in claim.outs.items():
            self._open(purse)
            self.tables.free[purse] -= out - self.tables.outs[purse, relay_id]
            self.tables.outs[purse, relay_id] = out
        self.unheard.pop(relay_id, None)
        return self._answer(relay_id, set(claim.outs), set())

    def _round(self, relay_id: str, request: Round) -> Answer:
        tables, now = self.tables, self._now()
        touched: set[str] = set()
        for record in request.lines:
            touched |= self._book(relay_id, record)
        for purse, nanos in request.returns.items():
            assert 0 < nanos <= tables.outs[purse, relay_id]
            tables.outs[purse, relay_id] -= nanos
            tables.free[purse] += nanos
            touched.add(purse)
        self._leave(relay_id, set(request.asks))
        asked: set[str] = set()
        for account_id, ask in sorted(request.asks.items()):
            for purse in ask.needs:
                self._open(purse)
            asked |= set(ask.needs)
            if self.is_learning:
                continue
            line = tables.line[account_id]
            served = teller.serve(relay_id, ask, tables.free, line, self.relays, now)
            tables.line[account_id] = list(served.line)
            for purse, nanos in served.advances.items():
                assert 0 < nanos <= tables.free[purse]
                tables.free[purse] -= nanos
                tables.outs[purse, relay_id] += nanos
        return self._answer(relay_id, touched | asked, asked)

    def _answer(self, relay_id: str, touched: set[str], asked: set[str]) -> Answer:
        tables, now = self.tables, self._now()
        row = tables.relays[relay_id]
        row.op += 1
        row.seen_at = now
        return Answer(
            row.op,
            row.applied_seq,
            {purse: tables.outs[purse, relay_id] for purse in touched},
            {purse: Pool(tables.free[purse], self.total(purse)) for purse in asked},
            frozenset(self.short_for(relay_id)),
            self.relays,
            self.is_learning,
        )

    def _book(self, relay_id: str, record: tuple) -> set[str]:
        tables = self.tables
        row = tables.relays[relay_id]
        seq, _, at_ms, call, _ = record
        assert seq > row.applied_seq
        assert (relay_id, seq) not in tables.booked, f"booked twice: {relay_id} {seq}"
        tables.booked[relay_id, seq] = call[ID], call[CHARGED]
        row.applied_seq = seq
        touched: set[str] = set()
        for owner in (call[ACCOUNT_ID], call[KEY_ID]):
            purse = self._windows(owner, at_ms)
            if not call[CHARGED] or purse is None:
                continue
            tables.charged[purse] += call[CHARGED]
            if purse in tables.free:
                out, free = tables.outs[purse, relay_id], tables.free[purse]
                out, free = teller.charge(out, free, call[CHARGED])
                tables.outs[purse, relay_id], tables.free[purse] = out, free
                touched.add(purse)
        return touched

    def _open(self, purse: str) -> None:
        """A window's purse is made when it is first asked for."""
        if purse not in self.tables.free:
            cap, _ = self._caps[owner_of(purse)]
            self.tables.free[purse] = cap - self.tables.charged[purse]

    def _leave(self, relay_id: str, but: set[str]) -> None:
        """A round says all that a relay waits for: nothing else is waited for any more."""
        for account_id, line in self.tables.line.items():
            if account_id not in but:
                self.tables.line[account_id] = list(teller.left(relay_id, line))

    # What is there

    @property
    def relays(self) -> int:
        now = self._now()
        rows = self.tables.relays.values()
        return max(1, sum(not teller.is_silent(row.seen_at, now) for row in rows))

    @property
    def is_learning(self) -> bool:
        return self._now() < self.learning_until

    def total(self, purse: str) -> int:
        outs = self.tables.outs.items()
        return self.tables.free[purse] + sum(out for (name, _), out in outs if name == purse)

    def short_for(self, relay_id: str) -> set[str]:
        """Accounts that another relay waits for."""
        now = self._now()
        return {
            account_id
            for account_id, line in self.tables.line.items()
            if any(place.relay_id != relay_id and place.until > now for place in line)
        }

    # What operators and time do

    def credit(self, account_id: str, nanos: int) -> None:
        self.tables.free[account_id] += nanos
        self.credits[account_id] += nanos

    def debit(self, account_id: str, nanos: int, waited_s: float) -> bool:
        """Taken out of what nobody has; until it is there, the operator stands in the line."""
        if self.is_learning:
            return False
        ask = Ask({account_id: nanos}, {account_id: nanos}, waited_s)
        line = self.tables.line[account_id]
        served = teller.serve("@operator", ask, self.tables.free, line, 1, self._now())
        self.tables.line[account_id] = list(served.line)
        if not served.advances:
            return False
        self.tables.free[account_id] -= nanos
        self.credits[account_id] -= nanos
        return True

    def bury_the_dead(self) -> list[tuple[str, str, int]]:
        """What came home from whom, by owner of the purse."""
        now = self._now()
        came: list[tuple[str, str, int]] = []
        for relay_id, row in self.tables.relays.items():
            if row.is_buried or not teller.is_dead(row.seen_at, now, self._longest_hold_s):
                continue
            row.is_buried = True
            row.epoch += 1
            for (purse, owner), out in self.tables.outs.items():
                if owner == relay_id and out:
                    self.tables.outs[purse, owner] = 0
                    self.tables.free[purse] += out
                    came.append((relay_id, owner_of(purse), out))
        return came

    # Failing over

    def snapshot(self) -> Tables:
        return deepcopy(self.tables)

    def fail_over(self, standby: Tables) -> None:
        """The standby lacks what came after it was like this."""
        before, self.tables = self.tables, standby
        self.timeline += 1
        self.learning_until = self._now() + teller.ALONE_S + teller.GRACE_S
        self.unheard = {}
        for (purse, relay_id), out in before.outs.items():
            more = out - standby.outs.get((purse, relay_id), 0)
            if more > 0:
                self.unheard.setdefault(relay_id, {})[purse] = more

    def end_learning(self) -> None:
        """Who was not heard until now may spend what is advanced to others from now on."""
        for outs in self.unheard.values():
            for purse, out in outs.items():
                self.unclaimed[owner_of(purse)] += out
        self.unheard = {}

    def check(self) -> None:
        """What there is, what relays have and what was charged is what there was, always."""
        have = dict(self.tables.free)
        for (purse, _), out in self.tables.outs.items():
            have[purse] = have.get(purse, 0) + out
        for purse, nanos in have.items():
            most = self.credits[purse] if purse in self.credits else self._caps[owner_of(purse)][0]
            all_of_it = nanos + self.tables.charged[purse]
            assert most == all_of_it, f"{purse} is not conserved: {most} {all_of_it}"
