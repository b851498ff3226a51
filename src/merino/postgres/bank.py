"""The bank in PostgreSQL: executes the requests of relays, each in one transaction.

Who is served and what a charge comes off is said by `ledger/teller.py`; here rows are locked, read
and written. A round that only settles locks rows of its own relay; purses are locked in order of
their ids, so that two rounds never wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from merino.domain.clock import DAY_MS
from merino.ledger import teller
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
from merino.ledger.parts import part_of
from merino.postgres.connection import Connection, Row

Book = Callable[[Connection, Sequence[Record]], Awaitable[None]]
"""What else is written of calls that ended, in the transaction that charges them."""

# The first part of the name of a WAL file is the timeline, which a promotion raises at once.
_NOW = """
SELECT extract(epoch FROM clock_timestamp())::float8,
    ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int,
    (SELECT value FROM meta WHERE name = 'timeline')::int,
    (SELECT value FROM meta WHERE name = 'learning_until')::float8
"""
_SET_META = """
INSERT INTO meta VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_REGISTER = """
INSERT INTO relays VALUES ($1, 1, 1, 0, $2)
ON CONFLICT (id) DO UPDATE SET epoch = relays.epoch + 1, op = relays.op + 1, seen_at = $2,
    is_buried = false
RETURNING epoch, op, applied_seq
"""
_RESYNC = """
UPDATE relays SET op = op + 1, seen_at = $3 WHERE id = $1 AND epoch = $2
RETURNING epoch, op, applied_seq
"""
_KNOWN_BETTER = """
INSERT INTO relays VALUES ($1, $2, 0, 0, $3)
ON CONFLICT (id) DO UPDATE SET epoch = greatest(relays.epoch, excluded.epoch)
"""
_GUARD = """
UPDATE relays SET op = op + 1, seen_at = $5, applied_seq = $6
WHERE id = $1 AND epoch = $2 AND op = $3 AND applied_seq = $4 RETURNING op
"""
_OUTS = "SELECT purse_id, out_nanos FROM advances WHERE relay_id = $1 AND out_nanos > 0"
_OUTS_OF = "SELECT purse_id, out_nanos FROM advances WHERE relay_id = $1 AND purse_id = ANY($2)"
_SET_OUTS = """
INSERT INTO advances SELECT purse, $1, nanos FROM unnest($2::text[], $3::int8[]) AS n(purse, nanos)
ON CONFLICT (relay_id, purse_id) DO UPDATE SET out_nanos = excluded.out_nanos
"""
_BY_OWNER = "SELECT id, owner, begins_ms, ends_ms FROM purses WHERE owner = ANY($1)"
_LOCK = "SELECT id, free_nanos FROM purses WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE"
_SET_FREE = """
UPDATE purses SET free_nanos = n.nanos FROM unnest($1::text[], $2::int8[]) AS n(id, nanos)
WHERE purses.id = n.id
"""
_TOTALS = """
SELECT purse_id, sum(out_nanos)::int8 FROM advances WHERE purse_id = ANY($1) GROUP BY purse_id
"""
_OPEN = """
INSERT INTO purses SELECT $1, $2, $3, $4, nanos - coalesce((
    SELECT sum(nanos) FROM spends WHERE owner = $2 AND day >= $5 AND day < $6), 0)
FROM caps WHERE owner = $2 ON CONFLICT (id) DO NOTHING
"""
_SPEND = """
INSERT INTO spends SELECT owner, day, $1, nanos
FROM unnest($2::text[], $3::int4[], $4::int8[]) AS n(owner, day, nanos)
ON CONFLICT (owner, day, relay_id) DO UPDATE SET nanos = spends.nanos + excluded.nanos
"""
_LEAVE = "DELETE FROM places WHERE relay_id = $1 AND account_id <> ALL($2)"
_LINE = "SELECT account_id, relay_id, since, until FROM places WHERE account_id = ANY($1)"
_STAND = """
INSERT INTO places VALUES ($1, $2, $3, $4)
ON CONFLICT (account_id, relay_id) DO UPDATE SET since = excluded.since, until = excluded.until
"""
_STEP_OUT = "DELETE FROM places WHERE account_id = $1 AND relay_id = $2"
_SHORT = "SELECT DISTINCT account_id FROM places WHERE relay_id <> $1 AND until > $2"
_RELAYS = "SELECT count(*) FROM relays WHERE $1 - seen_at <= $2"
_DEAD = "SELECT id, seen_at FROM relays WHERE NOT is_buried ORDER BY id FOR UPDATE"
_BURY = "UPDATE relays SET is_buried = true, epoch = epoch + 1 WHERE id = $1"
_ADD_FREE = "UPDATE purses SET free_nanos = free_nanos + $2 WHERE id = $1"
_DAYS_MAX = 2**31 - 1


@dataclass(slots=True)
class _Moment:
    now: float
    timeline: int
    learning_until: float

    @property
    def is_learning(self) -> bool:
        return self.now < self.learning_until


@dataclass(slots=True)
class _Purses:
    """What a transaction has read of purses, and changes."""

    free: dict[str, int] = field(default_factory=dict[str, int])
    outs: dict[str, int] = field(default_factory=dict[str, int])
    touched: set[str] = field(default_factory=set[str])

    def charge(self, purse: str, nanos: int) -> None:
        out, free = teller.charge(self.outs.get(purse, 0), self.free.get(purse, 0), nanos)
        self.outs[purse] = out
        if purse in self.free:
            self.free[purse] = free
        self.touched.add(purse)

    def advance(self, purse: str, nanos: int) -> None:
        """Or, below zero, take back."""
        self.free[purse] -= nanos
        self.outs[purse] = self.outs.get(purse, 0) + nanos
        self.touched.add(purse)


class PostgresBank:
    """Executes what relays ask. One connection, one request at a time."""

    def __init__(self, connection: Connection, book: Book | None = None) -> None:
        self._connection = connection
        self._book = book

    async def execute(self, relay_id: str, request: Request) -> State | Answer | Refused:
        """In one transaction, so that it is executed whole or not at all. Raises `LOST` errors if
        that is unknown."""
        connection = self._connection
        try:
            async with connection.transaction():
                moment = await self._moment()
                match request:
                    case Register():
                        row = await connection.row(_REGISTER, relay_id, moment.now)
                        await connection.run(_LEAVE, relay_id, [])
                        return await self._state(relay_id, row, moment)
                    case Resync():
                        return await self._resync(relay_id, request, moment)
                    case Claim():
                        return await self._claim(relay_id, request, moment)
                    case Round():
                        return await self._round(relay_id, request, moment)
        except _Void as void:
            return void.why

    async def _moment(self) -> _Moment:
        """What time it is, and whether the bank's history goes on. The first who sees that it is
        another has everybody heard before anything is advanced."""
        now, timeline, known, learning_until = await self._now()
        if known is None:
            await self._connection.run(_SET_META, "timeline", str(timeline))
        elif known != timeline:
            learning_until = now + teller.ALONE_S + teller.GRACE_S
            await self._connection.run(_SET_META, "timeline", str(timeline))
            await self._connection.run(_SET_META, "learning_until", str(learning_until))
        return _Moment(now, timeline, learning_until or 0.0)

    async def _now(self) -> tuple[float, int, int | None, float | None]:
        row = await self._connection.row(_NOW)
        assert row is not None
        return row[0], row[1], row[2], row[3]

    # Who a relay is

    async def _resync(self, relay_id: str, request: Resync, moment: _Moment) -> State:
        if request.timeline < moment.timeline:
            # What the relay knows of itself may be newer than what is known here.
            await self._connection.run(_KNOWN_BETTER, relay_id, request.epoch, moment.now)
        row = await self._connection.row(_RESYNC, relay_id, request.epoch, moment.now)
        return await self._state(relay_id, row, moment)

    async def _state(self, relay_id: str, row: Row | None, moment: _Moment) -> State:
        if row is None:
            raise _Void("fenced")
        outs = await self._connection.nanos(_OUTS, relay_id)
        return State(moment.timeline, row[0], row[1], row[2], outs)

    async def _guard(
        self, relay_id: str, request: Claim | Round, applied_seq: int, after_seq: int, now: float
    ) -> int:
        """Nothing comes between this and the end of the transaction: the relay's row is locked."""
        bounds = (relay_id, request.epoch, request.op, after_seq, now, applied_seq)
        row = await self._connection.row(_GUARD, *bounds)
        if row is not None:
            return row[0]
        known = await self._connection.row("SELECT epoch FROM relays WHERE id = $1", relay_id)
        is_same = known is not None and known[0] == request.epoch
        raise _Void("stale" if is_same else "fenced")

    # Claims and rounds

    async def _claim(self, relay_id: str, claim: Claim, moment: _Moment) -> Answer:
        if claim.timeline != moment.timeline:
            raise _Void("moved")
        seq = claim.applied_seq
        op = await self._guard(relay_id, claim, seq, seq, moment.now)
        purses = await self._read(relay_id, claim.outs, claim.outs)
        for purse, out in claim.outs.items():
            purses.advance(purse, out - purses.outs.get(purse, 0))
        await self._write(relay_id, purses)
        return await self._answer(relay_id, op, seq, purses, (), moment)

    async def _round(self, relay_id: str, request: Round, moment: _Moment) -> Answer:
        if request.timeline != moment.timeline:
            raise _Void("moved")
        connection, lines, asks = self._connection, request.lines, request.asks
        applied_seq = lines[-1][0] if lines else request.after_seq
        op = await self._guard(relay_id, request, applied_seq, request.after_seq, moment.now)
        charges = await self._charges(relay_id, lines)
        asked = {purse for ask in asks.values() for purse in ask.needs}
        purses = await self._read(
            relay_id,
            {*charges, *request.returns, *asked},
            {*request.returns, *asked, *asks},
            charges,
        )
        for purse, nanos in charges.items():
            purses.charge(purse, nanos)
        for purse, nanos in request.returns.items():
            purses.advance(purse, -nanos)
        await connection.run(_LEAVE, relay_id, list(asks))
        if asks and not moment.is_learning:
            await self._serve(relay_id, asks, purses, moment)
        await self._write(relay_id, purses)
        if self._book is not None and lines:
            await self._book(connection, lines)
        purses.touched |= asked
        return await self._answer(relay_id, op, applied_seq, purses, asked, moment)

    async def _charges(self, relay_id: str, lines: Sequence[Record]) -> dict[str, int]:
        """What is charged to each purse; kept by owner and day, for windows that open later."""
        spends: dict[tuple[str, int], int] = {}
        by_owner: dict[str, list[tuple[int, int]]] = {}
        for _, _, at_ms, row, _ in lines:
            if row[CHARGED]:
                for owner in (row[ACCOUNT_ID], row[KEY_ID]):
                    day = owner, at_ms // DAY_MS
                    spends[day] = spends.get(day, 0) + row[CHARGED]
                    by_owner.setdefault(owner, []).append((at_ms, row[CHARGED]))
        if not spends:
            return {}
        in_order = sorted(spends)
        await self._connection.run(
            _SPEND,
            relay_id,
            [owner for owner, _ in in_order],
            [day for _, day in in_order],
            [spends[each] for each in in_order],
        )
        charges: dict[str, int] = {}
        rows = await self._connection.rows(_BY_OWNER, list(by_owner))
        for purse, owner, begins_ms, ends_ms in rows:
            in_window = [n for at_ms, n in by_owner[owner] if begins_ms <= at_ms < ends_ms]
            if in_window:
                charges[purse] = sum(in_window)
        return charges

    async def _read(
        self,
        relay_id: str,
        of: Iterable[str],
        locked: Iterable[str],
        charges: Mapping[str, int] | None = None,
    ) -> _Purses:
        """Parts of these purses, and what nobody has of those that are locked: also of those whose
        charges exceed the part."""
        outs = await self._connection.nanos(_OUTS_OF, relay_id, list(of))
        over = [purse for purse, n in (charges or {}).items() if n > outs.get(purse, 0)]
        purses = _Purses(outs=outs)
        if wanted := {*locked, *over}:
            purses.free = await self._connection.nanos(_LOCK, list(wanted))
            if absent := sorted(wanted - purses.free.keys()):
                for purse in absent:
                    await self._open(purse)
                purses.free |= await self._connection.nanos(_LOCK, absent)
        return purses

    async def _open(self, purse: str) -> None:
        """A window's purse is made when it is first asked for."""
        part = part_of(purse)
        days = part.begins_ms // DAY_MS, min(part.ends_ms // DAY_MS, _DAYS_MAX)
        bounds = (part.begins_ms, part.ends_ms, *days)
        await self._connection.run(_OPEN, purse, part.owner, *bounds)

    async def _serve(
        self, relay_id: str, asks: Mapping[str, Ask], purses: _Purses, moment: _Moment
    ) -> None:
        connection, now = self._connection, moment.now
        relays = await self._relays(now)
        line: dict[str, list[teller.Place]] = {}
        for account_id, *place in await connection.rows(_LINE, list(asks)):
            line.setdefault(account_id, []).append(teller.Place(*place))
        for account_id, ask in sorted(asks.items()):
            places = line.get(account_id, [])
            served = teller.serve(relay_id, ask, purses.free, places, relays, now)
            for purse, nanos in served.advances.items():
                purses.advance(purse, nanos)
            mine = [place for place in served.line if place.relay_id == relay_id]
            if mine:
                await connection.run(_STAND, account_id, relay_id, mine[0].since, mine[0].until)
            else:
                await connection.run(_STEP_OUT, account_id, relay_id)

    async def _relays(self, now: float) -> int:
        limit_s = teller.ALONE_S + teller.GRACE_S
        return max(1, await self._connection.only(_RELAYS, now, limit_s))

    async def _write(self, relay_id: str, purses: _Purses) -> None:
        outs = {purse: purses.outs[purse] for purse in sorted(purses.touched)}
        if outs:
            await self._connection.run(_SET_OUTS, relay_id, list(outs), list(outs.values()))
        free = {purse: purses.free[purse] for purse in outs if purse in purses.free}
        if free:
            await self._connection.run(_SET_FREE, list(free), list(free.values()))

    async def _answer(
        self,
        relay_id: str,
        op: int,
        applied_seq: int,
        purses: _Purses,
        asked: Iterable[str],
        moment: _Moment,
    ) -> Answer:
        connection = self._connection
        pools: dict[str, Pool] = {}
        if wanted := list(asked):
            outs = await connection.nanos(_TOTALS, wanted)
            for purse in wanted:
                free = purses.free[purse]
                pools[purse] = Pool(free, free + outs.get(purse, 0))
        short = await connection.rows(_SHORT, relay_id, moment.now)
        return Answer(
            op,
            applied_seq,
            {purse: purses.outs.get(purse, 0) for purse in purses.touched},
            pools,
            frozenset([row[0] for row in short]),
            await self._relays(moment.now),
            moment.is_learning,
        )

    # What operators and time do

    async def open_account(self, account_id: str, nanos: int) -> None:
        part = part_of(account_id)
        await self._connection.run(
            "INSERT INTO purses VALUES ($1, $1, $2, $3, $4)",
            account_id,
            part.begins_ms,
            part.ends_ms,
            nanos,
        )

    async def set_cap(self, owner: str, account_id: str, nanos: int, period: str) -> None:
        """Windows that are open already have more, or less, of it from now on."""
        connection = self._connection
        async with connection.transaction():
            before = await connection.row(
                "SELECT nanos, period FROM caps WHERE owner = $1 FOR UPDATE", owner
            )
            await connection.run(
                "INSERT INTO caps VALUES ($1, $2, $3, $4) ON CONFLICT (owner)"
                " DO UPDATE SET nanos = excluded.nanos, period = excluded.period",
                owner,
                account_id,
                nanos,
                period,
            )
            if before is not None:
                await connection.run(
                    "UPDATE purses SET free_nanos = free_nanos + $2 WHERE owner = $1 AND id <> $1",
                    owner,
                    nanos - before[0],
                )

    async def credit(self, account_id: str, nanos: int) -> None:
        await self._connection.run(_ADD_FREE, account_id, nanos)

    async def debit(self, account_id: str, nanos: int, waited_s: float) -> bool:
        """Taken out of what nobody has; until it is there, the operator stands in the line. False:
        ask again."""
        ask = Ask({account_id: nanos}, {account_id: nanos}, waited_s)
        async with self._connection.transaction():
            moment = await self._moment()
            purses = await self._read(OPERATOR, (), [account_id])
            if moment.is_learning:
                return False
            await self._serve(OPERATOR, {account_id: ask}, purses, moment)
            taken = purses.outs.get(account_id, 0)
            if taken:
                await self._connection.run(_ADD_FREE, account_id, -taken)
        return bool(taken)

    async def bury_the_dead(self, longest_hold_s: float) -> list[str]:
        """Relays whose last hold is over by any clock: their parts go home."""
        buried: list[str] = []
        connection = self._connection
        async with connection.transaction():
            moment = await self._moment()
            for relay_id, seen_at in await connection.rows(_DEAD):
                if teller.is_dead(seen_at, moment.now, longest_hold_s):
                    buried.append(relay_id)
                    await connection.run(_BURY, relay_id)
                    outs = await connection.nanos(_OUTS, relay_id)
                    purses = await self._read(relay_id, outs, outs)
                    for purse, out in outs.items():
                        purses.advance(purse, -out)
                    await self._write(relay_id, purses)
        return buried


OPERATOR = "@operator"


class _Void(Exception):
    """The request does nothing."""

    def __init__(self, why: Refused) -> None:
        super().__init__(why)
        self.why: Refused = why
