"""Token buckets and the limits made of them. What a bucket holds is called permits here: LLM tokens
are something else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from merino.domain.limits import RATES, REQUESTS, Demand, LimitKind, Limits, Rate


class TokenBucket:
    """Holds at most `capacity` permits and gains `refill_per_s`; starts full.

    In any stretch of time it gives at most ``capacity + refill_per_s * stretch``. A correction may
    bring the level below zero; it is then a debt, paid off before anything is given.
    """

    __slots__ = ("_at", "capacity", "level", "refill_per_s")

    def __init__(self, capacity: float, refill_per_s: float, now: float) -> None:
        if capacity <= 0 or refill_per_s <= 0:
            raise ValueError("capacity and refill must be above zero")
        self.capacity = capacity
        self.refill_per_s = refill_per_s
        self.level = capacity
        self._at = now

    def fill(self, now: float) -> float:
        """Bring the level up to date, and return it. A clock that went back adds nothing."""
        elapsed_s = now - self._at
        if elapsed_s > 0:
            self.level = min(self.capacity, self.level + elapsed_s * self.refill_per_s)
            self._at = now
        return self.level

    def try_take(self, permits: float, now: float) -> bool:
        if self.fill(now) < permits:
            return False
        self.level -= permits
        return True

    def reserve(self, permits: float, now: float) -> float:
        """Take `permits` in advance, and return how long to wait before using them: those who come
        later wait longer, so that nobody is overtaken."""
        self.level = self.fill(now) - permits
        return max(0.0, -self.level / self.refill_per_s)

    def give_back(self, permits: float, now: float) -> None:
        """Return what was taken and not used; negative takes more, into debt if need be."""
        self.level = min(self.capacity, self.fill(now) + permits)

    def wait_s(self, permits: float, now: float) -> float:
        """Time until `permits` can be taken if nobody else takes any; infinity if never."""
        if permits > self.capacity:
            return float("inf")
        return max(0.0, (permits - self.fill(now)) / self.refill_per_s)

    def resize(self, capacity: float, refill_per_s: float, now: float) -> None:
        """A changed limit: what was used stays used, in proportion."""
        share = self.fill(now) / self.capacity
        self.capacity = capacity
        self.refill_per_s = refill_per_s
        self.level = share * capacity


class Refusal(NamedTuple):
    """Which limit has no room, its value, and when to come back; infinity: never."""

    kind: LimitKind
    limit: int
    retry_after_s: float


class Quota(NamedTuple):
    """A limit as it is now: its size, what is left, and when it will be full again."""

    limit: int
    remaining: int
    reset_s: float


class LimitSet:
    """The limits of one subject: buckets by the table of rates, and calls in flight; `None` is no
    limit. `take` after `refusal` said none; `end` once for each `take`."""

    __slots__ = ("_buckets", "concurrency", "in_flight")

    def __init__(self) -> None:
        self._buckets: tuple[tuple[Rate, int, TokenBucket], ...] = ()
        self.concurrency: int | None = None
        self.in_flight = 0

    def set(self, limits: Limits, now: float) -> None:
        """New values, at once. A limit that stays keeps how far it is used."""
        known = {rate.kind: bucket for rate, _, bucket in self._buckets}
        self._buckets = tuple(
            (rate, rate.unit, _resized(known.get(rate.kind), limit, rate.per_s, now))
            for rate in RATES
            if (limit := getattr(limits, rate.kind)) is not None
        )
        self.concurrency = limits.concurrency

    def refusal(self, demand: Demand, now: float) -> Refusal | None:
        """Why one more call of this demand cannot be taken now: what takes longest."""
        found: Refusal | None = None
        if self.concurrency is not None and self.in_flight >= self.concurrency:
            found = Refusal("concurrency", self.concurrency, _CONCURRENCY_RETRY_S)
        for rate, unit, bucket in self._buckets:
            if bucket.fill(now) < demand[unit]:
                found = _longer(found, rate.kind, bucket, demand[unit], now)
        return found

    def request_refusal(self, now: float) -> Refusal | None:
        """Why one more request that is no call cannot be taken now."""
        found: Refusal | None = None
        for rate, unit, bucket in self._buckets:
            if unit == REQUESTS and bucket.fill(now) < 1:
                found = _longer(found, rate.kind, bucket, 1, now)
        return found

    def take_request(self) -> None:
        """It is no call in flight, so nothing ends it."""
        for bucket in self.buckets_of(REQUESTS):
            bucket.level -= 1

    def take(self, demand: Demand) -> None:
        self.in_flight += 1
        for _, unit, bucket in self._buckets:
            bucket.level -= demand[unit]

    def end(self, unused: Demand, now: float) -> None:
        """The call ended, and this is left of what it took (negative: it used more). All of it, if
        the call was refused after all: as if it had never come."""
        self.in_flight -= 1
        for _, unit, bucket in self._buckets:
            if unused[unit]:
                bucket.give_back(unused[unit], now)

    def buckets_of(self, unit: int) -> Iterator[TokenBucket]:
        return (bucket for _, its, bucket in self._buckets if its == unit)

    def uses(self, now: float) -> list[tuple[LimitKind, int, float]]:
        """Each limit, and how much of it is used now; debts are more than all of it."""
        found: list[tuple[LimitKind, int, float]] = [
            (rate.kind, int(bucket.capacity), max(0.0, bucket.capacity - bucket.fill(now)))
            for rate, _, bucket in self._buckets
        ]
        if self.concurrency is not None:
            found.append(("concurrency", self.concurrency, float(self.in_flight)))
        return found

    def quota(self, unit: int, now: float) -> Quota | None:
        """The tightest of the limits that count this unit."""
        return tightest([_quota(bucket, now) for bucket in self.buckets_of(unit)])


_CONCURRENCY_RETRY_S = 1.0
"""Nobody knows when a call in flight ends; a second is short for a reasoning model."""


def take_all(
    subjects: Sequence[LimitSet], demand: Demand, now: float
) -> tuple[int, Refusal] | None:
    """Take one call of `demand` from every subject, or nothing from any: then `refusal_of` it."""
    refused = refusal_of(subjects, demand, now)
    if refused is None:
        for subject in subjects:
            subject.take(demand)
    return refused


def take_request(subjects: Sequence[LimitSet], now: float) -> tuple[int, Refusal] | None:
    """Take one request that is no call from every subject, or nothing from any and say why."""
    for index, subject in enumerate(subjects):
        if (refusal := subject.request_refusal(now)) is not None:
            return index, refusal
    for subject in subjects:
        subject.take_request()
    return None


def refusal_of(
    subjects: Sequence[LimitSet], demand: Demand, now: float
) -> tuple[int, Refusal] | None:
    """Why one call of `demand` does not fit now, without taking it: the index of the subject that
    takes longest to have room, and its reason."""
    worst: tuple[int, Refusal] | None = None
    for index, subject in enumerate(subjects):
        refusal = subject.refusal(demand, now)
        if refusal is not None and (worst is None or refusal[2] > worst[1].retry_after_s):
            worst = (index, refusal)
    return worst


def _resized(bucket: TokenBucket | None, limit: int, per_s: float, now: float) -> TokenBucket:
    if bucket is None:
        return TokenBucket(limit, limit / per_s, now)
    if bucket.capacity != limit:
        bucket.resize(limit, limit / per_s, now)
    return bucket


def _longer(
    found: Refusal | None, kind: LimitKind, bucket: TokenBucket, permits: float, now: float
) -> Refusal:
    wait_s = bucket.wait_s(permits, now)
    if found is not None and found.retry_after_s >= wait_s:
        return found
    return Refusal(kind, int(bucket.capacity), wait_s)


def _quota(bucket: TokenBucket, now: float) -> Quota:
    level = bucket.fill(now)
    return Quota(
        int(bucket.capacity), max(0, int(level)), (bucket.capacity - level) / bucket.refill_per_s
    )


def tightest(quotas: Iterable[Quota | None]) -> Quota | None:
    """The quota with the least left; the first of equals."""
    known = [quota for quota in quotas if quota is not None]
    return min(known, key=lambda quota: quota.remaining, default=None)
