"""What was used, cut as somebody asks: by model, key, account and deployment, over any time, beside
the time before.

Reading is the store's, everything here is pure: which slots a time has, what is stacked, what
changed most.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol

from merino.control.overview import SPAN_MS, CallSums, LabelName, SumBy, added
from merino.domain.clock import DAY_MS, HOUR_MS

Measure = Literal["spend", "calls", "tokens", "errors", "first_token"]
SLOTS_MS = (SPAN_MS, 3 * SPAN_MS, HOUR_MS, 3 * HOUR_MS, DAY_MS, 7 * DAY_MS)
SLOTS_MAX = 96
"""More bars than that are no longer seen as bars."""
SPAN_MAX_MS = 3 * 366 * DAY_MS
_STEP_MAX = 127


@dataclass(frozen=True, slots=True)
class Span:
    """`[since_ms, until_ms)`, and the time before that it is compared with."""

    since_ms: int
    until_ms: int
    before_since_ms: int
    before_until_ms: int
    slot_ms_min: int = 0

    @property
    def slot_ms(self) -> int:
        """The finest of which there are not too many."""
        length = self.until_ms - self.since_ms
        fitting = (each for each in SLOTS_MS if length / each <= SLOTS_MAX)
        return next((each for each in fitting if each >= self.slot_ms_min), SLOTS_MS[-1])

    @property
    def hourly(self) -> Span:
        """In whole hours, as sums by what callers say are kept."""
        now = _hour(self.since_ms), -_hour(-self.until_ms)
        before = _hour(self.before_since_ms), -_hour(-self.before_until_ms)
        return Span(*now, *before, slot_ms_min=HOUR_MS)

    @property
    def slots(self) -> list[int]:
        """When each begins."""
        slot = self.slot_ms
        return list(range(self.since_ms // slot * slot, self.until_ms, slot))


def _hour(at_ms: int) -> int:
    return at_ms // HOUR_MS * HOUR_MS


@dataclass(frozen=True, slots=True)
class Cut:
    """Which calls: those of any of the values, in each dimension that has some."""

    values: Mapping[SumBy, tuple[str, ...]] = field(default_factory=dict[SumBy, tuple[str, ...]])

    @classmethod
    def of(cls, values: Mapping[SumBy, Sequence[str]]) -> Cut:
        return cls({by: tuple(given) for by, given in values.items() if given})

    @property
    def labels(self) -> dict[LabelName, tuple[str, ...]]:
        """What callers say, as far as it narrows the calls."""
        return {name: self.values[name] for name in LABELS if name in self.values}


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Sums of the calls of one group, of accounts of one currency. `at_ms` is when their slot
    begins, 0 if it was not asked for."""

    at_ms: int
    group: tuple[str, ...]
    currency: str
    sums: CallSums


class UsageSums(Protocol):
    """Sums of calls, up to the newest one."""

    async def usage(
        self,
        by: Sequence[SumBy],
        since_ms: int,
        until_ms: int,
        cut: Cut,
        slot_ms: int | None = None,
        only: Sequence[str] = (),
    ) -> Sequence[UsageRow]:
        """By each dimension, and by slots of `slot_ms` if that is given. The five minutes at both
        ends count as a whole. With `only` no other sums are read, which is quicker.

        Of what callers say (`LABELS`) sums know one name at a time: by it, or cut by one of its
        values, by whole hours. Raises `InvalidCall` for more."""
        ...


STEPS = 4
"""Of a doubling of a time: what falls between two steps is told to a tenth."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How times were spread: how many calls by step."""

    steps: Mapping[int, int]

    @property
    def calls(self) -> int:
        return sum(self.steps.values())

    def at(self, share: float) -> float | None:
        """The time in milliseconds within which this share of the calls was; `None` without any."""
        whole = self.calls
        if whole <= 0:
            return None
        wanted, below = share * whole, 0
        last = max(step for step, calls in self.steps.items() if calls > 0)
        for step in sorted(self.steps):
            calls = self.steps[step]
            if calls > 0 and (below + calls >= wanted or step == last):
                within = min(1.0, max(0.0, (wanted - below) / calls))
                return 2.0 ** ((step + within) / STEPS)
            below += calls
        return None


def step_of(ms: float) -> int:
    """The step that a time falls into; a millisecond and less is the first."""
    return min(_STEP_MAX, max(0, math.floor(STEPS * math.log2(ms)))) if ms > 1 else 0


@dataclass(frozen=True, slots=True)
class SpreadRow:
    """First tokens' times of one group, and of one slot if that was asked for."""

    at_ms: int
    group: str
    spread: Spread


class FirstTokens(Protocol):
    """How first tokens' times were spread, by the hour."""

    async def spreads(
        self,
        by: SumBy | None,
        since_ms: int,
        until_ms: int,
        cut: Cut,
        slot_ms: int | None = None,
    ) -> Sequence[SpreadRow]:
        """By `alias` or `deployment`, or all as one; keys and accounts of the cut are not told
        apart. The hours at both ends count as a whole."""
        ...


MEASURES: Mapping[Measure, Callable[[CallSums], float | None]] = {
    "spend": lambda sums: sums.charged_nanos,
    "calls": lambda sums: sums.calls,
    "tokens": lambda sums: sums.input_tokens + sums.output_tokens,
    "errors": lambda sums: sums.failed + sums.refused,
    "first_token": lambda sums: sums.first_token_mean_ms,
}


_SUMS_OF: Mapping[Measure, tuple[str, ...]] = {
    "spend": ("charged_nanos",),
    "calls": (),
    "tokens": ("input_tokens", "output_tokens"),
    "errors": ("failed", "refused"),
    "first_token": ("first_token_calls", "first_token_ms"),
}


@dataclass(frozen=True, slots=True)
class Stack:
    """What one group had in each slot. `name` is `None` for all groups that have no stack of their
    own, of which there are `groups`."""

    name: str | None
    values: Sequence[float | None]
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Change:
    """A group whose measure moved. `share` is its part of the whole change: 1 is all of it; `None`
    if on the whole nothing changed."""

    group: tuple[str, ...]
    currency: str
    now: float
    before: float
    share: float | None

    @property
    def by(self) -> float:
        return self.now - self.before


def named_span(name: str, now_ms: int) -> Span | None:
    """A time that has a name; `None` if it is none. Those of days and months begin with one, in
    UTC; they are compared with as much of the time before."""
    lengths = {
        "1h": HOUR_MS,
        "24h": DAY_MS,
        "7d": 7 * DAY_MS,
        "30d": 30 * DAY_MS,
        "90d": 90 * DAY_MS,
    }
    if name in lengths:
        length = lengths[name]
        slot = Span(0, length, 0, 0).slot_ms
        since = -(-(now_ms - length) // slot) * slot
        return Span(since, now_ms + 1, since - length, now_ms + 1 - length)
    month = _month(now_ms, 0)
    last = _month(now_ms, -1)
    if name == "month":
        return Span(month, now_ms + 1, last, min(last + now_ms + 1 - month, month))
    if name == "last_month":
        return Span(last, month, _month(now_ms, -2), last)
    return None


def given_span(since_ms: int, until_ms: int) -> Span:
    """From one moment to another, beside as long a time right before."""
    return Span(since_ms, until_ms, 2 * since_ms - until_ms, since_ms)


def stacked(
    rows: Sequence[UsageRow], slots: Sequence[int], measure: Measure, most: int
) -> list[Stack]:
    """The largest groups, and the others as one; the largest first."""
    by_group: dict[str, dict[int, list[CallSums]]] = {}
    for row in rows:
        by_group.setdefault(row.group[0], {}).setdefault(row.at_ms, []).append(row.sums)
    # What is no sum is ordered by how many calls it is about.
    size: Measure = measure if measure != "first_token" else "calls"
    ordered = sorted(by_group, key=lambda name: -(_of_all(size, _flat(by_group[name])) or 0))
    own = ordered if len(ordered) <= most + 1 else ordered[:most]
    rest = ordered[len(own) :]
    stacks = [Stack(name, _values(measure, [by_group[name]], slots)) for name in own]
    if rest:
        others = [by_group[name] for name in rest]
        stacks.append(Stack(None, _values(measure, others, slots), len(rest)))
    return [each for each in stacks if any(each.values)]


def _values(
    measure: Measure,
    groups: Sequence[Mapping[int, Sequence[CallSums]]],
    slots: Sequence[int],
) -> list[float | None]:
    by_slot: dict[int, list[CallSums]] = {}
    for group in groups:
        for at_ms, sums in group.items():
            by_slot.setdefault(at_ms, []).extend(sums)
    return [_of_all(measure, by_slot[at_ms]) if at_ms in by_slot else None for at_ms in slots]


def _of_all(measure: Measure, sums: Sequence[CallSums]) -> float | None:
    """The measure of several sums together. Only a mean needs them added up first."""
    of = MEASURES[measure]
    return of(added("", sums)) if measure == "first_token" else sum(of(each) or 0 for each in sums)


def _flat(by_slot: Mapping[int, Sequence[CallSums]]) -> list[CallSums]:
    return [sums for each in by_slot.values() for sums in each]


def changes(
    now: Sequence[UsageRow], before: Sequence[UsageRow], measure: Measure, most: int
) -> list[Change]:
    """Groups whose measure moved most, up or down."""
    of = MEASURES[measure]
    current = {(row.group, row.currency): of(row.sums) or 0.0 for row in now}
    former = {(row.group, row.currency): of(row.sums) or 0.0 for row in before}
    moved = {
        each: current.get(each, 0.0) - former.get(each, 0.0) for each in current.keys() | former
    }
    whole = sum(moved.values())
    ordered = sorted(moved, key=lambda each: (-abs(moved[each]), each))
    return [
        Change(
            group,
            currency,
            current.get((group, currency), 0.0),
            former.get((group, currency), 0.0),
            moved[group, currency] / whole if whole else None,
        )
        for group, currency in ordered[:most]
        if moved[group, currency]
    ]


def by_currency(rows: Sequence[UsageRow]) -> dict[str, int]:
    """What was charged in each."""
    found: dict[str, int] = {}
    for row in rows:
        found[row.currency] = found.get(row.currency, 0) + row.sums.charged_nanos
    return {currency: nanos for currency, nanos in found.items() if nanos} or dict(
        list(found.items())[:1]
    )


def _month(now_ms: int, shift: int) -> int:
    """When this month began, or one before it."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    years, month = divmod(now.year * 12 + now.month - 1 + shift, 12)
    return int(datetime(years, month + 1, 1, tzinfo=UTC).timestamp() * 1000)


DIMENSIONS: tuple[SumBy, ...] = ("alias", "key", "account", "deployment")
LABELS: tuple[LabelName, ...] = ("user", "tag", "metadata")


@dataclass(frozen=True, slots=True)
class Line:
    """One group of a dimension, now and in the time before."""

    name: str
    now: CallSums
    before: CallSums
    spent: Mapping[str, int]
    spent_before: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class View:
    """A time beside the one before: in all, by each dimension, over time, and what changed most."""

    span: Span
    total: Line
    by: Mapping[SumBy, Sequence[Line]]
    stacks: Sequence[Stack]
    before: Sequence[float | None]
    changed: Sequence[Change]
    currencies: Sequence[str]
    spread: Spread


@dataclass(frozen=True, slots=True)
class _Read:
    """What a view is put together of."""

    now: Sequence[UsageRow]
    former: Sequence[UsageRow]
    in_slots: Sequence[UsageRow]
    slots_before: Sequence[UsageRow]
    spreads: Sequence[SpreadRow]
    labelled: Sequence[Line]


def _view(read: _Read, span: Span, by: SumBy, measure: Measure, currency: str | None) -> View:
    now, former, in_slots, slots_before = read.now, read.former, read.in_slots, read.slots_before
    currencies = _currencies([*now, *former])
    shown = currency if currency in currencies else (currencies or [None])[0]
    if measure == "spend":
        in_slots = [row for row in in_slots if row.currency == shown]
        slots_before = [row for row in slots_before if row.currency == shown]
    by_name: dict[SumBy, Sequence[Line]] = {each: _lines(each, now, former) for each in DIMENSIONS}
    # Sums know one of what callers say at a time: the one that is asked for has lines.
    by_name |= {name: read.labelled if name == by else [] for name in LABELS}
    pairs, pairs_before = (_picked(rows, ("key", "alias")) for rows in (now, former))
    if measure == "spend":
        pairs = [row for row in pairs if row.currency == shown]
        pairs_before = [row for row in pairs_before if row.currency == shown]
    return View(
        span,
        _line("", now, former),
        by_name,
        stacked(in_slots, span.slots, measure, STACKS),
        _shifted(slots_before, span, measure),
        changes(pairs, pairs_before, measure, CHANGES) if measure != "first_token" else [],
        currencies,
        read.spreads[0].spread if read.spreads else Spread({}),
    )


class UsageDesk:
    """Puts a view together. Reading a time costs the same however many calls it had."""

    def __init__(self, usage: UsageSums, first_tokens: FirstTokens) -> None:
        self._usage = usage
        self._first_tokens = first_tokens

    async def view(
        self, span: Span, cut: Cut, by: SumBy, measure: Measure, currency: str | None
    ) -> View:
        """Spending is drawn in one `currency`, that of most calls if none is given."""
        slot = span.slot_ms
        if cut.labels or by in LABELS:
            span = span.hourly
            slot = span.slot_ms
        only = ("calls", *_SUMS_OF[measure])
        before = span.before_since_ms, span.before_until_ms
        usage = self._usage.usage
        # All at once: the store reads more than one at a time.
        now, former, in_slots, slots_before, spreads, labelled = await asyncio.gather(
            usage(DIMENSIONS, span.since_ms, span.until_ms, cut),
            usage(DIMENSIONS, *before, cut),
            usage((by,), span.since_ms, span.until_ms, cut, slot, only),
            usage((), *before, cut, slot, only),
            self._first_tokens.spreads(None, span.since_ms, span.until_ms, cut),
            self._labels(by, span, cut),
        )
        read = _Read(now, former, in_slots, slots_before, spreads, labelled)
        # Many groups over many slots take longer than the loop of the calls may be held up.
        return await asyncio.to_thread(_view, read, span, by, measure, currency)

    async def _labels(self, name: SumBy, span: Span, cut: Cut) -> list[Line]:
        """Lines by what callers said: those who said it."""
        if name not in LABELS:
            return []
        now = await self._usage.usage((name,), span.since_ms, span.until_ms, cut)
        if not now:
            return []
        former = await self._usage.usage((name,), span.before_since_ms, span.before_until_ms, cut)
        return _ordered(_by_place(0, now), _by_place(0, former))

    async def total(self, span: Span, cut: Cut) -> Line:
        """The time alone, without what it is compared with."""
        return _line("", await self._usage.usage((), span.since_ms, span.until_ms, cut), ())

    async def spreads(
        self, by: SumBy, since_ms: int, until_ms: int, cut: Cut
    ) -> Mapping[str, Spread]:
        """How first tokens' times were spread, for each group."""
        found = await self._first_tokens.spreads(by, since_ms, until_ms, cut)
        return {row.group: row.spread for row in found}

    async def spreads_over_time(
        self, since_ms: int, until_ms: int, cut: Cut, slot_ms: int
    ) -> Mapping[int, Spread]:
        """The same for each slot, by when it begins."""
        found = await self._first_tokens.spreads(None, since_ms, until_ms, cut, slot_ms)
        return {row.at_ms: row.spread for row in found}

    async def spent_by_day(
        self, by: SumBy, since_ms: int, until_ms: int
    ) -> Mapping[str, Mapping[int, int]]:
        """What each group was charged, by the days (UTC) since 1970 that it spent on."""
        rows = await self._usage.usage(
            (by,), since_ms, until_ms, Cut(), DAY_MS, ("calls", "charged_nanos")
        )
        found: dict[str, dict[int, int]] = {}
        for row in rows:
            days = found.setdefault(row.group[0], {})
            day = row.at_ms // DAY_MS
            days[day] = days.get(day, 0) + row.sums.charged_nanos
        return found

    async def days(self, since_ms: int, until_ms: int) -> Mapping[int, CallSums]:
        """Of all accounts, by when a day (UTC) begins; those with calls."""
        rows = await self._usage.usage((), since_ms, until_ms, Cut(), DAY_MS)
        by_day: dict[int, list[CallSums]] = {}
        for row in rows:
            by_day.setdefault(row.at_ms, []).append(row.sums)
        return {at_ms: added("", sums) for at_ms, sums in by_day.items()}

    async def lines(self, by: SumBy, span: Span, cut: Cut) -> Mapping[str, Line]:
        """Each group of one dimension, now and before."""
        now, former = await asyncio.gather(
            self._usage.usage((by,), span.since_ms, span.until_ms, cut),
            self._usage.usage((by,), span.before_since_ms, span.before_until_ms, cut),
        )
        names = {row.group[0] for row in [*now, *former]}
        return {
            name: _line(name, _of(now, 0, name), _of(former, 0, name)) for name in sorted(names)
        }


STACKS = 7
"""As many groups have a colour of their own."""
CHANGES = 7


def _picked(rows: Sequence[UsageRow], wanted: tuple[SumBy, ...]) -> list[UsageRow]:
    """Rows by fewer dimensions than they have."""
    places = [DIMENSIONS.index(each) for each in wanted]
    found: dict[tuple[tuple[str, ...], str], list[CallSums]] = {}
    for row in rows:
        group = tuple(row.group[place] for place in places)
        found.setdefault((group, row.currency), []).append(row.sums)
    return [
        UsageRow(0, group, currency, added("", sums)) for (group, currency), sums in found.items()
    ]


def _lines(by: SumBy, now: Sequence[UsageRow], former: Sequence[UsageRow]) -> list[Line]:
    """By what they cost, then by how many calls they were; the most first."""
    place = DIMENSIONS.index(by)
    return _ordered(_by_place(place, now), _by_place(place, former))


def _ordered(
    current: Mapping[str, Sequence[UsageRow]], before: Mapping[str, Sequence[UsageRow]]
) -> list[Line]:
    lines = [
        _line(name, current.get(name, ()), before.get(name, ())) for name in current.keys() | before
    ]
    return sorted(
        lines,
        key=lambda line: (
            -line.now.charged_nanos,
            -line.now.calls,
            -line.before.calls,
            line.name,
        ),
    )


def _by_place(place: int, rows: Sequence[UsageRow]) -> dict[str, list[UsageRow]]:
    found: dict[str, list[UsageRow]] = {}
    for row in rows:
        found.setdefault(row.group[place], []).append(row)
    return found


def _of(rows: Sequence[UsageRow], place: int, name: str) -> list[UsageRow]:
    return [row for row in rows if row.group[place] == name]


def _line(name: str, now: Sequence[UsageRow], former: Sequence[UsageRow]) -> Line:
    return Line(
        name,
        added(name, [row.sums for row in now]),
        added(name, [row.sums for row in former]),
        by_currency(now),
        by_currency(former),
    )


def _currencies(rows: Sequence[UsageRow]) -> list[str]:
    """Of most calls first."""
    calls: dict[str, int] = {}
    for row in rows:
        calls[row.currency] = calls.get(row.currency, 0) + row.sums.calls
    return sorted(calls, key=lambda each: (-calls[each], each))


def _shifted(rows: Sequence[UsageRow], span: Span, measure: Measure) -> list[float | None]:
    """What the time before had, slot by slot, beside this one's slots."""
    slot = span.slot_ms
    first = span.before_since_ms // slot
    by_slot: dict[int, list[CallSums]] = {}
    for row in rows:
        by_slot.setdefault(row.at_ms // slot - first, []).append(row.sums)
    of = MEASURES[measure]
    length = -(-(span.before_until_ms - span.before_since_ms) // slot)
    return [
        (of(added("", by_slot.get(place, ()))) or 0) if place < length else None
        for place in range(len(span.slots))
    ]
