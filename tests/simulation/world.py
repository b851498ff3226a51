"""Relays that run the real ledger beside a model bank, in simulated time, with faults.

One seed is one run: calls of some accounts and capped keys come to three relays that crash, are cut
off, stand still and lose their folders, while requests and answers are lost or come late, the bank
is away, and fails over to a standby that lacks the last second. After every event: nobody has spent
what was not there, and the bank's sums are whole. At the end: what callers were told is booked once,
everything is at home again, and no refusal was wrong.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.simulation.model_bank import ModelBank, Tables

from merino.domain.call import CallRecord
from merino.domain.clock import DAY_MS
from merino.domain.key import VirtualKey
from merino.domain.ledger import Hold
from merino.ledger.lines import ACCOUNT_ID, CHARGED, KEY_ID, Record, row_of
from merino.ledger.memory import MemoryLedger, expired_record
from merino.ledger.messages import Register, Request, State
from merino.ledger.pace import Pace
from merino.ledger.parts import window_of
from merino.ledger.shared_bank import SharedBank

RELAYS, ACCOUNTS, CALLS = 3, 3, 120
CALLS_UNTIL_S, END_S = 120.0, 620.0
WAIT_S, ANSWER_S, HOLD_S = 5.0, 1.0, 30.0
KINDS = (
    "crash", "crash", "cut", "long cut", "pause", "long pause", "away", "fail over", "folder",
)  # fmt: skip
QUIET_S = WAIT_S + 35
"""So long after a fault, a call may be refused for what it has left behind."""
MIDNIGHT_S = 60.0
BASE_MS = 20_000 * DAY_MS - int(MIDNIGHT_S * 1000)


class Broken(AssertionError):
    """A promise was not kept."""


@dataclass
class Call:
    id: str
    key: VirtualKey
    need: int
    cost: int
    lasts_s: float
    since: float = 0.0
    asked_at: float | None = None
    """When it was the first of its relay and found too little."""

    @property
    def account_id(self) -> str:
        return self.key.account_id


@dataclass
class Folder:
    """What a crash leaves."""

    last_seq: int = 0
    lines: list[Record] = field(default_factory=list)
    holds: dict[str, Hold] = field(default_factory=dict)


class FolderJournal:
    """The part of the journal that the ledger uses, over a folder that never fails."""

    is_failing = False

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.owner: MemoryLedger

    @property
    def last_seq(self) -> int:
        return self.folder.last_seq

    @last_seq.setter
    def last_seq(self, seq: int) -> None:
        self.folder.last_seq = seq

    def offer(self, body: bytes, owner: Hold | Record) -> object:
        if isinstance(owner, Hold):
            self.folder.holds[owner.call_id] = owner
        return self

    def append(self, body: bytes, owner: Record) -> object:
        self.folder.lines.append(owner)
        self.folder.holds.pop(owner[3][0], None)
        self.owner.on_written([(body, owner, True)])
        return self


class Relay:
    def __init__(self, world: World, relay_id: str) -> None:
        self.world = world
        self.id = relay_id
        self.folder = Folder()
        self.is_alive = False
        self.life = 0
        self.stands_until = self.cut_until = 0.0
        self.ghosts: list[Record] = []

    # Starting and dying

    def start(self) -> None:
        world, folder = self.world, self.folder
        self.life += 1
        self.is_alive = True
        self.flight = 0
        self.looks_at = float("-inf")
        self.told_seq = 0
        self.running: dict[str, tuple[Call, Hold]] = {}
        self.queues: dict[str, deque[Call]] = defaultdict(deque)
        self.woken: set[str] = set()
        self.bank = world.made(SharedBank, world.now, world.pace, self._booked)
        self.ledger = world.made(MemoryLedger, self.bank, None, world.now_ms)
        self.bank.attach(self.ledger)
        self.journal = FolderJournal(folder)
        self.journal.owner = self.ledger
        self.ledger.attach(self.journal)
        self.ledger.subscribe(self.woken.add, world.bank.credits)
        for account_id, nanos in world.bank.credits.items():
            self.ledger.open_account(account_id, nanos, 0)
        for hold in folder.holds.values():
            folder.last_seq += 1
            row = row_of(expired_record(hold, 503, "relay_restarted"))
            folder.lines.append((folder.last_seq, "call", world.now_ms(), row, None))
        folder.holds.clear()
        self.bank.recover(folder.lines)
        self._sweep()
        self.after()

    def crash(self, *, loses_folder: bool = False) -> None:
        self.is_alive = False
        self.life += 1
        for call, hold in self.running.values():
            self.world.gone(call, hold)
        if loses_folder:
            self.ghosts, self.folder = self.folder.lines, Folder()

    def untold(self, owner: str, applied_seq: int) -> int:
        """What was charged, or is held overdue, and the bank does not know of."""
        charged = sum(
            line[3][CHARGED]
            for line in (*self.folder.lines, *self.ghosts)
            if line[0] > applied_seq and owner in (line[3][ACCOUNT_ID], line[3][KEY_ID])
        )
        now_ms = self.world.now_ms()
        overdue = [
            hold.amount_nanos
            for _, hold in (self.running.values() if self.is_alive else ())
            if owner in (hold.account_id, hold.key_id) and hold.at_ms + HOLD_S * 1000 <= now_ms
        ]
        return charged + sum(overdue)

    def _sweep(self) -> None:
        if self.bank._is_registered:
            self.world.is_changed |= self.ledger.expire_overdue() > 0
        self.world.later(5.0, self._sweep, self)

    # Calls

    def come(self, call: Call) -> None:
        queue = self.queues[call.account_id]
        call.since = self.world.time
        queue.append(call)
        if queue[0] is call:
            self._serve(call.account_id)
        if call in queue:
            self.world.later(WAIT_S, lambda: self._tired(call), self)

    def _serve(self, account_id: str) -> None:
        queue = self.queues[account_id]
        while queue:
            call = queue[0]
            if self.bank.is_closed:
                return
            hold = Hold(call.id, account_id, call.key.id, call.need, self.world.now_ms(), HOLD_S)
            if self.ledger.hold(hold, call.key) is None:
                if call.asked_at is None:
                    call.asked_at = self.world.time
                if self.bank.ask(call.key, call.need, call.id, self.world.time - call.since):
                    return
                if call.need <= self.ledger.headroom(call.key).ceiling_nanos:
                    return
                self._leave(call)
                self.world.refused_for_good(call)
                continue
            self._leave(call)
            self.running[call.id] = call, hold
            self.world.started(call, self)
            self.world.later(call.lasts_s, lambda c=call: self._end(c), self)

    def _leave(self, call: Call) -> None:
        self.queues[call.account_id].remove(call)
        self.bank.unask(call.account_id, call.id)

    def _tired(self, call: Call) -> None:
        queue = self.queues[call.account_id]
        if call not in queue:
            return
        is_first = queue[0] is call
        self.world.refused_for_now(call, self, is_first=is_first)
        self._leave(call)
        if is_first:
            self._serve(call.account_id)

    def _end(self, call: Call) -> None:
        _, hold = self.running.pop(call.id)
        record = CallRecord(
            call.id, call.account_id, call.key.id, "o3", "chat/completions", hold.at_ms, 200,
            charged_nanos=call.cost,
        )  # fmt: skip
        self.ledger.settle(hold, call.key, record)
        self.world.ended(call, record)
        if not self.world.is_cluster:
            self.world.told(call.id, call.cost)

    def _booked(self, applied_seq: int) -> None:
        """With durability of the cluster, callers have their last byte only now."""
        while self.told_seq < len(self.folder.lines):
            line = self.folder.lines[self.told_seq]
            if line[0] > applied_seq:
                break
            self.told_seq += 1
            if self.world.is_cluster:
                self.world.told(line[3][0], line[3][CHARGED])

    # The bank

    def recalled(self, account_id: str) -> None:
        self.bank.recalled(account_id)

    def after(self) -> None:
        """After whatever happened here: calls that were woken look, then the bank is told."""
        while True:
            while self.woken:
                self._serve(self.woken.pop())
            if (request := self.bank.next()) is not None:
                self.flight += 1
                self.world.send(self, request, self.flight)
            if not self.woken:
                break
        due_at = self.bank.due_at
        if self.world.time < due_at < self.looks_at or self.looks_at <= self.world.time:
            self.looks_at = due_at
            if due_at < END_S:
                self.world.at(due_at, lambda: None, self)

    def hear(self, request: Request, answer: object, flight: int) -> None:
        if flight != self.flight:
            return
        self.flight += 1
        if answer is None:
            self.bank.lost()
            return
        if isinstance(request, Register) and isinstance(answer, State):
            self.folder.last_seq = max(self.folder.last_seq, answer.applied_seq)
            self.world.lost_for_good([x for x in self.ghosts if x[0] > answer.applied_seq])
            self.ghosts = []
        self.bank.answered(answer)
        self.world.is_changed |= answer == "fenced"
        for queued in list(self.queues):
            self._serve(queued)


class World:
    """`made` makes the parts of a relay, so that a test can make broken ones."""

    def __init__(
        self,
        seed: int,
        made: Callable = lambda kind, *given: kind(*given),
        bank: type[ModelBank] = ModelBank,
        kinds: Sequence[str] = KINDS,
        faults_max: int = 6,
        late: float = 0.01,
        poor: bool = False,
        calls: int = CALLS,
        until_s: float = CALLS_UNTIL_S,
    ) -> None:
        self.until_s = until_s
        self.kinds, self.faults_max, self.late, self.calls = kinds, faults_max, late, calls
        self.credit_most = 300 if poor else 20_000
        self.random = random.Random(seed)
        self.made = made
        self.time = 0.0
        self.is_cluster = seed % 2 == 1
        self.has_faults = seed % 5 != 0
        self.pace = Pace(gather_s=0.02 if self.is_cluster else 0.1, kept_s=END_S)
        self.number = 0
        self.events: list[tuple] = []
        self.faults: list[tuple[float, str, str]] = []
        self.away_until = self.lost_at = self.operator_until = 0.0
        self.is_changed = True
        self.counts: dict[str, int] = defaultdict(int)
        self.tolds: dict[str, int] = {}
        self.charged: dict[str, int] = defaultdict(int)
        self.allowed: dict[str, int] = defaultdict(int)
        self.whole: dict[str, list[tuple[float, int]]] = {}
        self.room: dict[str, list[tuple[float, int]]] = {}
        self.left_at: dict[tuple[str, str], float] = {}
        self._make(bank)

    def _make(self, bank: type[ModelBank]) -> None:
        chance, until_s = self.random, self.until_s
        credit = {
            f"a{i}": min(self.credit_most, chance.choice([300, 2_000, 20_000]))
            for i in range(ACCOUNTS)
        }
        self.keys: list[VirtualKey] = []
        caps: dict[str, tuple[int, str]] = {}
        for account_id, most in credit.items():
            for name, cap, period in (
                ("free", None, "total"),
                ("cap", most // 2, chance.choice(["day", "total"])),
            ):
                key = VirtualKey(
                    f"{account_id}-{name}", account_id, name, "", b"",
                    spend_cap_nanos=cap, spend_period=period,
                )  # fmt: skip
                self.keys.append(key)
                if cap is not None:
                    caps[key.id] = cap, account_id
        self.by_id = {key.id: key for key in self.keys}
        self.caps = caps
        self.bank = bank(self.now, credit, caps, self.purse_of, HOLD_S)
        self.relays = [Relay(self, f"r{number}") for number in range(RELAYS)]
        for relay in self.relays:
            self.later(0.0, relay.start)
        for number in range(self.calls):
            need = chance.randint(5, 100)
            cost = need + 5 if chance.random() < 0.02 else chance.randint(0, need)
            call = Call(f"c{number}", chance.choice(self.keys), need, cost, chance.expovariate(0.5))
            self.later(chance.uniform(0.5, until_s), lambda c=call: self._comes(c))
        if self.has_faults:
            for _ in range(chance.randint(1, self.faults_max)):
                self.later(chance.uniform(2, until_s), self._fault)
        for _ in range(2):
            self.later(chance.uniform(5, until_s), self._credit)
        self.later(chance.uniform(5, until_s), self._debit)
        self.later(MIDNIGHT_S, self._midnight)
        self.later(5.0, self._bury)

    # Time

    def now(self) -> float:
        return self.time

    def now_ms(self) -> int:
        return BASE_MS + int(self.time * 1000)

    def later(self, seconds: float, act: Callable[[], object], relay: Relay | None = None) -> None:
        self.at(self.time + seconds, act, relay)

    def at(self, time: float, act: Callable[[], object], relay: Relay | None = None) -> None:
        """On a relay it happens only in this life of it."""
        self.number += 1
        life = relay.life if relay is not None else 0
        heapq.heappush(self.events, (time, self.number, act, relay, life))

    def purse_of(self, owner: str, at_ms: int) -> str | None:
        """The purse that a charge of this owner comes off at a moment."""
        key = self.by_id.get(owner)
        if key is None:
            return owner
        if owner not in self.caps:
            return None
        period = key.spend_period
        return f"{owner}:{period}:{window_of(period, at_ms)[0] // DAY_MS}"

    def run(self) -> World:
        while self.events and self.time < END_S:
            at, number, act, relay, life = heapq.heappop(self.events)
            if relay is not None:
                if life != relay.life:
                    continue
                if relay.stands_until > at:
                    # Everything of a process that stands still happens when it goes on.
                    again = (relay.stands_until + number * 1e-9, number, act, relay, life)
                    heapq.heappush(self.events, again)
                    continue
            self.time = max(self.time, at)
            act()
            if relay is not None and relay.is_alive:
                relay.after()
            if self.is_changed:
                self._check()
            if self.time > self.until_s and self._is_at_rest():
                break
        self._check_end()
        return self

    def _is_at_rest(self) -> bool:
        return (
            all(
                relay.is_alive
                and relay.stands_until <= self.time
                and not relay.bank.is_closed
                and not relay.running
                and not relay.bank.backlog_calls
                and not any(relay.queues.values())
                for relay in self.relays
            )
            and not any(self.bank.tables.outs.values())
            and not self.bank.is_learning
        )

    # The wire

    def send(self, relay: Relay, request: Request, flight: int) -> None:
        """It may be lost, or come late, also after the relay has given it up; so may the answer."""
        chance = self.random

        def arrive() -> None:
            if self.away_until > self.time or relay.cut_until > self.time:
                return
            answer = self.bank.execute(relay.id, request)
            self.bank.check()
            self._recall(relay)
            if relay.cut_until > self.time or (self.has_faults and chance.random() < 0.01):
                self.lost_at = self.time
                return
            delay = chance.uniform(0.0005, 0.003)
            heard = lambda: relay.hear(request, answer, flight)  # noqa: E731
            self.number += 1
            heapq.heappush(self.events, (self.time + delay, self.number, heard, relay, life))

        life = relay.life
        is_late = self.has_faults and chance.random() < self.late
        delay = chance.uniform(0.5, 4.0) if is_late else chance.uniform(0.0005, 0.003)
        is_lost = self.has_faults and chance.random() < 0.005
        if not is_lost:
            self.later(delay, arrive)
        if is_late or is_lost:
            self.lost_at = self.time + delay
        self.later(ANSWER_S, lambda: relay.hear(request, None, flight), relay)

    def _recall(self, by: Relay) -> None:
        for relay in self.relays:
            if relay is not by and relay.is_alive:
                for account_id in self.bank.short_for(relay.id):
                    if self.random.random() < 0.8:
                        self.later(0.002, lambda r=relay, a=account_id: r.recalled(a), relay)

    # What happens

    def _comes(self, call: Call) -> None:
        alive = [relay for relay in self.relays if relay.is_alive] or self.relays
        relay = self.random.choice(alive)
        if relay.is_alive and relay.stands_until <= self.time:
            self.later(0.0, lambda: relay.come(call), relay)

    def _fault(self) -> None:
        chance = self.random
        relay = chance.choice(self.relays)
        kind = chance.choice(self.kinds)
        if kind in ("crash", "folder") and relay.is_alive:
            is_lost = kind == "folder" and self.is_cluster and self.bank.timeline == 1
            relay.crash(loses_folder=is_lost)
            self.later(chance.uniform(0.2, 20.0), relay.start)
        elif kind == "cut":
            relay.cut_until = self.time + chance.uniform(0.5, 20)
        elif kind == "long cut":
            relay.cut_until = self.time + chance.uniform(70, 200)
        elif kind == "pause":
            relay.stands_until = self.time + chance.uniform(0.5, 25)
        elif kind == "long pause":
            relay.stands_until = self.time + chance.uniform(70, 200)
        elif kind == "away":
            self.away_until = self.time + chance.uniform(0.5, 80)
        elif kind == "fail over" and not any(kind == "folder" for _, kind, _ in self.faults):
            standby = self.bank.snapshot()
            self.later(chance.uniform(0.05, 1.5), lambda: self._fail_over(standby))
        self.faults.append((round(self.time, 2), kind, relay.id))

    def _fail_over(self, standby: Tables) -> None:
        self.bank.fail_over(standby)
        self.away_until = max(self.away_until, self.time + self.random.uniform(0.1, 3.0))
        self.faults.append((round(self.time, 2), "failed over", ""))
        self.later(self.bank.learning_until - self.time - 1e-6, self.bank.end_learning)

    def _is_being_copied(self) -> bool:
        """What operators move in the second that is lost is for another test."""
        return any(self.time - at < 2.0 for at, kind, _ in self.faults if kind == "fail over")

    def _credit(self) -> None:
        account_id = self.random.choice(list(self.bank.credits))
        if not self._is_being_copied():
            self.bank.credit(account_id, self.random.randint(50, 500))
            self.is_changed = True

    def _debit(self) -> None:
        account_id, nanos = (
            self.random.choice(list(self.bank.credits)),
            self.random.randint(20, 200),
        )
        since, until = self.time, self.time + WAIT_S

        def again() -> None:
            self.is_changed = True
            self.operator_until = self.time + WAIT_S
            if self._is_being_copied() or self.bank.debit(account_id, nanos, self.time - since):
                return
            if self.time < until:
                self._recall(self.relays[0])
                self.later(0.05, again)

        again()

    def _midnight(self) -> None:
        """What is held of yesterday's cap is held of today's, on each relay for itself."""
        self.is_changed = True
        for key_id in self.caps:
            if self.by_id[key_id].spend_period == "day":
                self.charged[key_id] = 0
                self.allowed[key_id] += self._held(key_id)

    def _bury(self) -> None:
        """What a dead relay has not told, and what it held for longer than is allowed, may be spent
        twice; no more."""
        for relay_id, owner, out in self.bank.bury_the_dead():
            relay = next(each for each in self.relays if each.id == relay_id)
            untold = relay.untold(owner, self.bank.tables.relays[relay_id].applied_seq)
            self.allowed[owner] += min(out, untold)
            self.counts["buried"] += out
            self.is_changed = True
        self.later(5.0, self._bury)

    # What is true

    def started(self, call: Call, relay: Relay) -> None:
        """It has overtaken none that waits at another relay, and holds nothing that is others'."""
        if self.bank.tables.relays[relay.id].is_buried:
            raise Broken(f"{relay.id} was buried, and holds more at {self.time:.2f}")
        self.counts["started"] += 1
        self.is_changed = True
        for other in self.relays:
            queue = other.queues[call.account_id] if other.is_alive else ()
            first = queue[0] if queue and other is not relay else None
            if (
                first is not None
                and first.asked_at is not None
                and first.asked_at < self.time - 1.0
                and first.since < call.since
                and self._is_quiet(first.since)
            ):
                raise Broken(f"{call.id} has overtaken {first.id} at {self.time:.2f}")

    def ended(self, call: Call, record: CallRecord) -> None:
        self.counts["ended"] += 1
        self.is_changed = True
        for owner in (call.account_id, call.key.id):
            self.charged[owner] += record.charged_nanos
            self.allowed[owner] += record.overrun_nanos

    def gone(self, call: Call, hold: Hold) -> None:
        self.counts["gone"] += 1
        self.is_changed = True

    def lost_for_good(self, lines: list[Record]) -> None:
        """Nobody was told of these, and nobody pays for them."""
        self.is_changed = True
        for line in lines:
            row = line[3]
            assert row[0] not in self.tolds, f"{row[0]} was told, and is lost"
            self.charged[row[ACCOUNT_ID]] -= row[CHARGED]
            if self.purse_of(row[KEY_ID], line[2]) == self.purse_of(row[KEY_ID], self.now_ms()):
                self.charged[row[KEY_ID]] -= row[CHARGED]
            self.counts["lost with a folder"] += 1

    def told(self, call_id: str, charged: int) -> None:
        self.tolds[call_id] = charged

    def _held(self, owner: str) -> int:
        held = 0
        for relay in self.relays:
            if relay.is_alive:
                for _, hold in relay.running.values():
                    is_open = hold.resolution is None
                    if is_open and owner in (hold.account_id, hold.key_id):
                        held += hold.amount_nanos
        return held

    def _check(self) -> None:
        self.is_changed = False
        for owner in (*self.bank.credits, *self.caps):
            most = self.bank.credits.get(owner)
            if most is None:
                most = self.caps[owner][0]
            whole = most - self.charged[owner]
            room = whole - self._held(owner)
            bank = self.bank
            allowed = self.allowed[owner] + bank.unclaimed[owner]
            if room + allowed < 0:
                raise Broken(f"{owner} is overspent by {-room - allowed} at {self.time:.2f}")
            for history, now in ((self.whole, whole), (self.room, room)):
                known = history.setdefault(owner, [])
                if not known or known[-1][1] != now:
                    known.append((self.time, now))

    def refused_for_good(self, call: Call) -> None:
        """ "There is not enough" was true at some time since the call came."""
        self.counts["refused for good"] += 1
        self._check()
        for owner in (call.account_id, call.key.id):
            if owner in self.whole and self._least(self.whole, owner, call.since) < call.need:
                return
        raise Broken(f"{call.id} was refused for good and had what it needs at {self.time:.2f}")

    def refused_for_now(self, call: Call, relay: Relay, *, is_first: bool) -> None:
        """Nothing else kept the first of all from what was there all the time."""
        self.counts["refused for now"] += 1
        others = [c for each in self.relays if each.is_alive for c in each.queues[call.account_id]]
        place = (call.account_id, relay.id)
        since = max(
            [call.since, *(at for (name, _), at in self.left_at.items() if name == call.account_id)]
        )
        self.left_at[place] = self.time
        if not self._is_quiet(call.since):
            return
        self.counts["refused for now in quiet times"] += 1
        is_first = is_first and all(other.since >= call.since for other in others)
        if is_first and self.time - since > 2.0:
            rooms = [
                self._least(self.room, owner, since + 1.0)
                for owner in (call.account_id, call.key.id)
                if owner in self.room
            ]
            if min(rooms) >= call.need:
                raise Broken(f"{call.id} waited in vain for what was there at {self.time:.2f}")

    def _is_quiet(self, since: float) -> bool:
        """Whether nothing was wrong since then, and long enough before."""
        return (
            not any(self.time - QUIET_S < at for at, *_ in self.faults)
            and max(self.away_until, self.lost_at + ANSWER_S, self.operator_until) < since
            and not self.bank.is_learning
            and all(
                each.is_alive and max(each.cut_until, each.stands_until) < since
                for each in self.relays
            )
        )

    def _least(self, history: dict, owner: str, since: float) -> int:
        known = history[owner]
        at_first = [now for at, now in known if at <= since][-1:]
        return min(at_first + [now for at, now in known if at > since])

    def _check_end(self) -> None:
        if not self._is_at_rest():
            outs = {key: out for key, out in self.bank.tables.outs.items() if out}
            raise Broken(f"not at rest at {self.time:.0f}: {outs}")
        booked: dict[str, list[int]] = defaultdict(list)
        for call_id, charged in self.bank.tables.booked.values():
            booked[call_id].append(charged)
        for call_id, charged in self.tolds.items():
            if charged and booked[call_id].count(charged) != 1:
                raise Broken(f"{call_id} was told {charged} and is booked as {booked[call_id]}")
        for account_id in self.bank.credits:
            if self.charged[account_id] != self.bank.tables.charged[account_id]:
                raise Broken(f"{account_id} was charged something else than is booked")
