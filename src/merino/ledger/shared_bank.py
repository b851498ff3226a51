"""A relay's side of a bank that others share: what it has of each purse, what to say next, and
what the answer means. Neither clock, chance nor I/O: whoever drives it sends what `next` gives, and
hands in the answer, or that there was none.

The bank's word counts. After each answer a part is what the bank says less what the bank has not
booked yet; so both agree, whatever was lost on the way. See `docs/decisions/0021`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from merino.domain.account import SpendPeriod
from merino.domain.errors import StoreUnavailable
from merino.domain.key import VirtualKey
from merino.gateway.ports import Replay
from merino.ledger.lines import ACCOUNT_ID, CHARGED, KEY_ID, Record
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
from merino.ledger.pace import Pace
from merino.ledger.parts import CapPart, Charge, Part, part_of
from merino.ledger.teller import ALONE_S, WAITS_S


class Holder(Protocol):
    """Who holds and charges from the parts."""

    def wake(self, account_id: str) -> None:
        """There may be more."""
        ...

    def expire_all(self) -> None:
        """The parts were given to others: no hold has anything behind it any more."""
        ...


@dataclass(slots=True)
class _Waiting:
    """A call that does not find what it needs. `is_told`: the bank has said what there is;
    `is_granted`: it has given what was missing."""

    key: VirtualKey
    nanos: int
    call_id: str
    since: float
    is_told: bool = False
    is_granted: bool = False


@dataclass(slots=True)
class _Idle:
    """The least that lay idle of a part since then."""

    since: float
    nanos: int


class SharedBank:
    """`Bank` over a bank elsewhere."""

    def __init__(
        self,
        now: Callable[[], float],
        pace: Pace | None = None,
        on_booked: Callable[[int], None] = lambda seq: None,
        on_due: Callable[[], None] = lambda: None,
    ) -> None:
        """`now` must not stand still while the machine sleeps. `on_booked` is told the last number
        that the bank has; `on_due`, that `next` may have something to say."""
        self._now = now
        self._pace = pace or Pace()
        self._on_booked = on_booked
        self._on_due = on_due
        self._holder: Holder  # set by `attach`, before its first use
        self._parts: dict[str, Part] = {}
        self._by_owner: dict[str, list[Part]] = {}
        self._ended: set[str] = set()
        self._funded: dict[str, Part] = {}
        self._idle: dict[str, _Idle] = {}
        # Lines are charged, then written, then booked, then kept for a while.
        self._charges: deque[Charge] = deque()
        self._unbooked: dict[str, int] = {}
        self._lines: deque[Record] = deque()
        self._lines_at = 0.0
        self._kept: deque[tuple[float, Record]] = deque()
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []
        # What the bank was last told, and has said.
        self._is_registered = False
        self._claim: Claim | None = None
        self._is_synced = True
        self._timeline = self._epoch = self._op = self.applied_seq = 0
        self._valid_until = float("-inf")
        self._pools: dict[str, Pool] = {}
        self._pooled_at: dict[str, float] = {}
        self._relays = 1
        self._short: dict[str, float] = {}
        self._usual: dict[str, int] = {}
        self._spent: dict[str, int] = {}
        self._rate: dict[str, float] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._asked: frozenset[str] = frozenset()
        self._leftovers: dict[str, int] = {}
        self._homing: dict[str, int] = {}
        # When to speak.
        self._request: Request | None = None
        self._sent_at = 0.0
        self._again_at = self._ask_at = self._beat_at = float("-inf")

    def attach(self, holder: Holder) -> None:
        self._holder = holder

    # `Bank`: parts

    @property
    def is_closed(self) -> bool:
        """A relay that is alone for too long holds nothing new: its parts may be given to others
        once its last hold is over."""
        return not self._is_registered or self._now() >= self._valid_until

    def refusal(self) -> StoreUnavailable:
        return StoreUnavailable(
            "The bank cannot be reached, and what it had advanced to this relay is not valid any "
            "more, so new calls are refused; the relay takes them again by itself once the bank "
            "answers. Try again.",
            code="store_unavailable",
            retry_after_s=1.0,
        )

    def opened(self, part: Part) -> None:
        """Nothing is here before it was asked for."""
        before = self._parts.get(part.purse)
        if before is not None:
            part.nanos, part.elsewhere = before.nanos, before.elsewhere
            self._by_owner[part.owner].remove(before)
        elif isinstance(part, CapPart):
            part.nanos, part.elsewhere = 0, part.cap_nanos
        else:
            part.nanos, part.elsewhere = 0, part.nanos
        purse = part.purse
        self._parts[purse] = part
        self._funded.pop(purse, None)
        self._ended.discard(purse)
        self._by_owner.setdefault(part.owner, []).append(part)
        self._unbooked[purse] = sum(each.nanos for each in self._charges if each.is_of(part))
        if part.nanos > 0:
            self._funded[purse] = part

    def left(self, part: CapPart) -> None:
        if part.purse in self._parts:
            self._ended.add(part.purse)

    def ask(self, key: VirtualKey, nanos: int, call_id: str, waited_s: float) -> bool:
        if self.is_closed:
            raise self.refusal()
        if self._is_known_short(key, nanos, self._now() - waited_s):
            return False
        waiting = self._waiting.get(key.account_id)
        if waiting is None or waiting.call_id != call_id or waiting.nanos < nanos:
            since = self._now() - waited_s
            waiting = self._waiting[key.account_id] = _Waiting(key, nanos, call_id, since)
            self._ask_at = float("-inf")
            self._on_due()
        return not waiting.is_told

    def _is_known_short(self, key: VirtualKey, nanos: int, since: float) -> bool:
        """Whether the bank was asked since then, also for another call, and has not so much."""
        return any(
            self._pooled_at.get(part.purse, float("-inf")) >= since
            and part.nanos + part.elsewhere < nanos
            for part in self._parts_of(key)
        )

    def unask(self, account_id: str, call_id: str) -> None:
        waiting = self._waiting.get(account_id)
        if waiting is not None and waiting.call_id == call_id:
            del self._waiting[account_id]
            self._on_due()

    @property
    def short(self) -> list[str]:
        """Accounts for which the bank has less than a call here needs."""
        waiting = self._waiting.items()
        return [name for name, each in waiting if each.is_told and not each.is_granted]

    def recalled(self, account_id: str) -> None:
        """Others wait for this account's money."""
        self._short[account_id] = self._now() + WAITS_S
        self._on_due()

    # `Bank`: charges

    @property
    def backlog_calls(self) -> int:
        return len(self._lines)

    def ended(self, account_id: str, key_id: str, nanos: int, at_ms: int, seq: int) -> None:
        """While others wait, what is released goes home before a call here sees it: theirs may have
        come first."""
        if nanos:
            self._charge(account_id, key_id, nanos, at_ms, seq)
        if self._short.get(account_id, 0.0) > self._now():
            for part in (*self._by_owner[account_id], *self._by_owner.get(key_id, ())):
                self._give(part, self._spare(part))

    def _charge(self, account_id: str, key_id: str, nanos: int, at_ms: int, seq: int) -> None:
        charge = Charge(seq, account_id, key_id, at_ms, nanos)
        self._charges.append(charge)
        self._count(charge, 1)
        self._spent[account_id] = self._spent.get(account_id, 0) + nanos

    def add(self, record: Record) -> None:
        if not self._lines:
            self._lines_at = self._now()
        self._lines.append(record)

    def schedule(self) -> None:
        self._on_due()

    async def caught_up(self) -> None:
        if self._lines:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._awaited.append((self._lines[-1][0], done))
            self._lines_at = float("-inf")
            self._on_due()
            await done

    @property
    def is_catching_up(self) -> bool:
        return not self._is_synced and bool(self._lines)

    async def apply_all(self) -> bool:
        """As long as it takes: whoever cannot wait sets a time."""
        await self.caught_up()
        return True

    def recover(self, records: Iterable[Record]) -> None:
        """Lines of a dead process, before the first request; those the bank has are dropped."""
        for record in records:
            row = record[3]
            if row[CHARGED]:
                self._charge(row[ACCOUNT_ID], row[KEY_ID], row[CHARGED], record[2], record[0])
            self.add(record)

    def spent(self, cap: CapPart, period: SpendPeriod) -> int:
        return cap.cap_nanos - cap.nanos - cap.elsewhere

    def replay(self, replay_id: bytes) -> Replay | None:
        found = (record[4] for record in self._lines)
        return next((each for each in found if each is not None and each.id == replay_id), None)

    def _count(self, charge: Charge, sign: int) -> None:
        for owner in (charge.account_id, charge.key_id):
            for part in self._by_owner.get(owner, ()):
                if charge.is_of(part):
                    self._unbooked[part.purse] += sign * charge.nanos

    # What to say

    @property
    def due_at(self) -> float:
        """When `next` has something to say, unless something happens before."""
        if self._request is not None:
            return float("inf")
        due_at = self._beat_at
        if self._lines:
            due_at = min(due_at, self._lines_at + self._pace.gather_s)
        if self._waiting:
            due_at = min(due_at, self._ask_at)
        if not self._is_registered or not self._is_synced or self._claim is not None:
            due_at = float("-inf")
        return max(due_at, self._again_at)

    def next(self) -> Request | None:
        """What to send now; then comes `answered`, or `lost`."""
        now = self._now()
        if self._request is not None or now < self._again_at:
            return None
        self._request = self._compose(now)
        if self._request is not None:
            self._sent_at = now
        return self._request

    def _compose(self, now: float) -> Request | None:
        if not self._is_registered:
            return Register()
        if not self._is_synced:
            return Resync(self._timeline, self._epoch)
        if self._claim is not None:
            return self._claim
        is_beat = now >= self._beat_at
        if is_beat:
            self._beat(now)
        self._tidy(now, is_beat)
        asks = self._asks(now)
        is_due = (
            is_beat
            or bool(self._homing)
            or len(self._lines) >= self._pace.lines_max
            or (bool(self._lines) and now >= self._lines_at + self._pace.gather_s)
            or (bool(asks) and now >= self._ask_at)
            or asks.keys() != self._asked
        )
        if not is_due:
            return None
        returns = self._homing | self._leftovers
        self._homing = {}
        self._asked = frozenset(asks)
        self._beat_at = now + self._pace.beat_s
        self._ask_at = now + self._pace.ask_again_s
        lines = tuple(islice(self._lines, self._pace.lines_max))
        return Round(self._timeline, self._epoch, self._op, self.applied_seq, lines, returns, asks)

    def _beat(self, now: float) -> None:
        """How fast accounts spend, and what lay idle."""
        share = self._pace.beat_s
        for account_id in self._rate.keys() | self._spent.keys():
            rate = self._spent.pop(account_id, 0) / share
            rate = 0.7 * self._rate.get(account_id, 0.0) + 0.3 * rate
            if rate < 1:
                self._rate.pop(account_id, None)
            else:
                self._rate[account_id] = rate
        self._short = {name: until for name, until in self._short.items() if until > now}
        while self._kept and self._kept[0][0] < now - self._pace.kept_s:
            self._kept.popleft()
        for purse in list(self._ended):
            part = self._parts[purse]
            if not part.nanos and not self._unbooked[purse]:
                self._forget(part)

    def _tidy(self, now: float, is_beat: bool) -> None:
        """Send home what is not needed here."""
        for purse, part in list(self._funded.items()):
            if part.nanos <= 0:
                del self._funded[purse]
                self._idle.pop(purse, None)
            elif purse in self._ended:
                self._give(part, part.nanos - part.held)
            elif self._is_poor(part, now):
                self._give(part, self._spare(part))
            elif is_beat:
                self._give(part, self._idle_of(purse, part.nanos - part.held, now))

    def _give(self, part: Part, nanos: int) -> None:
        """It is here no more, whatever becomes of the request."""
        if nanos > 0:
            purse = part.purse
            part.nanos -= nanos
            part.elsewhere += nanos
            self._homing[purse] = self._homing.get(purse, 0) + nanos

    def _spare(self, part: Part) -> int:
        """What nothing here needs now. What a call has while it lacks something else is spare, too:
        two that each had half would wait for each other. While others wait, so is what was not
        granted to it by the bank, which knows who came first."""
        waiting = self._waiting.get(part.account_id)
        if waiting is not None and self._may_go(part.account_id):
            is_short = self._short.get(part.account_id, 0.0) > self._now()
            if waiting.is_granted or not is_short:
                return 0
        return part.nanos - part.held

    def _may_go(self, account_id: str) -> bool:
        """Whether a call waits that has all it needs."""
        waiting = self._waiting.get(account_id)
        return waiting is not None and all(
            waiting.nanos <= part.nanos - part.held for part in self._parts_of(waiting.key)
        )

    def _is_poor(self, part: Part, now: float) -> bool:
        """Whether nothing may lie idle here: others wait for it, or soon will."""
        if self._short.get(part.account_id, 0.0) > now:
            return True
        pool = self._pools.get(part.purse)
        usual = self._usual.get(part.account_id, 0)
        return pool is not None and pool.free < 4 * self._relays * usual

    def _idle_of(self, purse: str, slack: int, now: float) -> int:
        idle = self._idle.get(purse)
        if idle is None:
            self._idle[purse] = _Idle(now, slack)
            return 0
        idle.nanos = min(idle.nanos, slack)
        if now - idle.since < self._pace.idle_s:
            return 0
        least = idle.nanos
        idle.since, idle.nanos = now, slack - max(least, 0)
        return least

    def _asks(self, now: float) -> dict[str, Ask]:
        asks: dict[str, Ask] = {}
        for account_id, waiting in list(self._waiting.items()):
            needs: dict[str, int] = {}
            for part in self._parts_of(waiting.key):
                missing = waiting.nanos + part.held - part.nanos
                if missing > 0:
                    needs[part.purse] = missing
            if needs:
                ahead = int(self._rate.get(account_id, 0.0) * self._pace.ahead_s)
                wants = {purse: nanos + ahead for purse, nanos in needs.items()}
                asks[account_id] = Ask(needs, wants, now - waiting.since)
                self._usual[account_id] = waiting.nanos
            else:
                del self._waiting[account_id]
                self._holder.wake(account_id)
        return asks

    def _parts_of(self, key: VirtualKey) -> Iterator[Part]:
        """The parts that a call of this key has to fit into."""
        for owner in (key.account_id, key.id):
            for part in self._by_owner.get(owner, ()):
                if part.purse not in self._ended:
                    yield part

    # What is answered

    def lost(self) -> None:
        """No answer: whether the request was executed is unknown."""
        assert self._request is not None
        self._request = None
        self._is_synced = False
        self._again_at = self._now() + self._pace.retry_s

    def answered(self, answer: State | Answer | Refused) -> None:
        request, self._request = self._request, None
        match answer:
            case State():
                if isinstance(request, Register):
                    self._registered(answer)
                else:
                    self._resynced(answer)
            case Answer():
                self._executed(request, answer)
            case "fenced":
                self._fenced()
            case "stale" | "moved":
                self._is_synced = False

    def _registered(self, state: State) -> None:
        self._is_registered = self._is_synced = True
        self._claim = None
        self._timeline = state.timeline
        self._asked = frozenset()
        self._known(state)
        self._begin(state.outs)

    def _begin(self, outs: Mapping[str, int]) -> None:
        """What a predecessor has left goes home with the first round: nothing holds it, and should
        the bank have lost its last second, others may have it, too."""
        self._leftovers.clear()
        self._homing.clear()
        for purse, part in self._parts.items():
            nanos = outs.get(purse, 0) - self._unbooked[purse]
            part.nanos = min(nanos, 0)
            if nanos > 0:
                self._leftovers[purse] = nanos
        self._funded.clear()

    def _resynced(self, state: State) -> None:
        self._is_synced = True
        self._known(state)
        if state.timeline != self._timeline:
            # The bank has lost what it said last. It is told, until it says that it has heard.
            outs = {
                purse: max(0, part.nanos + self._unbooked[purse] + self._homing.get(purse, 0))
                for purse, part in self._parts.items()
            }
            claimed = {purse: out for purse, out in outs.items() if out or purse in state.outs}
            self._claim = Claim(state.timeline, state.epoch, state.op, state.applied_seq, claimed)
        elif self._leftovers:
            self._begin(state.outs)
        else:
            for purse in self._parts:
                self._believe(purse, state.outs.get(purse, 0))

    def _executed(self, request: Request | None, answer: Answer) -> None:
        if isinstance(request, Claim):
            self._claim = None
            self._timeline = request.timeline
            self._beat_at = float("-inf")
        self._op = answer.op
        self._leftovers.clear()
        self._valid_until = self._sent_at + ALONE_S
        self._booked(answer.applied_seq)
        for purse, out in answer.outs.items():
            self._believe(purse, out)
        for purse, pool in answer.pools.items():
            self._pools[purse] = pool
            if not answer.is_learning:
                self._pooled_at[purse] = self._sent_at
            homing = self._homing.get(purse, 0)
            self._parts[purse].elsewhere = pool.total - answer.outs[purse] + homing
        self._relays = answer.relays
        now = self._now()
        self._short = dict.fromkeys(answer.short, now + WAITS_S)
        for account_id in self._asked:
            waiting = self._waiting.get(account_id)
            if waiting is not None and not answer.is_learning:
                waiting.is_told = True
                waiting.is_granted = self._may_go(account_id)
            self._holder.wake(account_id)

    def _fenced(self) -> None:
        """The parts were given to others. What is held ends: it is charged as overrun."""
        self._is_registered = False
        for part in self._parts.values():
            part.nanos = 0
        self._holder.expire_all()

    def _known(self, state: State) -> None:
        self._epoch, self._op = state.epoch, state.op
        if state.timeline == self._timeline:
            self._valid_until = self._sent_at + ALONE_S
        if state.applied_seq < self.applied_seq:
            self._take_up_again(state.applied_seq)
        self._booked(state.applied_seq)
        for purse in state.outs.keys() - self._parts.keys():
            self.opened(part_of(purse))
            self._ended.add(purse)
        self._beat_at = float("-inf")

    def _believe(self, purse: str, out: int) -> None:
        part = self._parts.get(purse)
        if part is None:  # charged by lines of a dead process
            return
        part.nanos = out - self._unbooked[purse] - self._homing.get(purse, 0)
        if part.nanos > 0:
            self._funded[purse] = part

    def _forget(self, part: Part) -> None:
        self._by_owner[part.owner].remove(part)
        self._ended.remove(part.purse)
        del self._parts[part.purse], self._unbooked[part.purse]
        self._pools.pop(part.purse, None)
        self._pooled_at.pop(part.purse, None)

    def _booked(self, applied_seq: int) -> None:
        charges, lines = self._charges, self._lines
        while charges and charges[0].seq <= applied_seq:
            self._count(charges.popleft(), -1)
        now = self._now()
        while lines and lines[0][0] <= applied_seq:
            self._kept.append((now, lines.popleft()))
        self._lines_at = now
        self.applied_seq = applied_seq
        for seq, done in self._awaited:
            if seq <= applied_seq and not done.done():
                done.set_result(None)
        self._awaited = [each for each in self._awaited if not each[1].done()]
        self._on_booked(applied_seq)

    def _take_up_again(self, applied_seq: int) -> None:
        """The bank has lost lines that it had booked."""
        again: list[Record] = []
        while self._kept and self._kept[-1][1][0] > applied_seq:
            again.append(self._kept.pop()[1])
        self._lines.extendleft(again)
        for record in again:
            row = record[3]
            if row[CHARGED]:
                charge = Charge(record[0], row[ACCOUNT_ID], row[KEY_ID], record[2], row[CHARGED])
                self._charges.appendleft(charge)
                self._count(charge, 1)
        self.applied_seq = applied_seq
