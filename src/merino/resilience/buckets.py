"""Token buckets and the limits made of them. What a bucket holds is called permits here: LLM tokens
are something else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

LimitKind = Literal["rps", "rpm", "tpm", "concurrency"]


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
    """The limits of one subject: requests per second and minute, LLM tokens per minute, and calls
    in flight; `None` is no limit. `take` after `refusal` said none; `end` once for each `take`."""

    __slots__ = ("concurrency", "in_flight", "rpm", "rps", "tpm")

    def __init__(self) -> None:
        self.rps: TokenBucket | None = None
        self.rpm: TokenBucket | None = None
        self.tpm: TokenBucket | None = None
        self.concurrency: int | None = None
        self.in_flight = 0

    def set(
        self,
        now: float,
        *,
        rps: int | None = None,
        rpm: int | None = None,
        tpm: int | None = None,
        concurrency: int | None = None,
    ) -> None:
        """New values, at once. A limit that stays keeps how far it is used."""
        self.rps = _resized(self.rps, rps, 1.0, now)
        self.rpm = _resized(self.rpm, rpm, 60.0, now)
        self.tpm = _resized(self.tpm, tpm, 60.0, now)
        self.concurrency = concurrency

    def refusal(self, tokens: int, now: float) -> Refusal | None:
        """Why one more call of `tokens` LLM tokens cannot be taken now: what takes longest."""
        found: Refusal | None = None
        if self.concurrency is not None and self.in_flight >= self.concurrency:
            found = Refusal("concurrency", self.concurrency, _CONCURRENCY_RETRY_S)
        if (rps := self.rps) is not None and rps.fill(now) < 1.0:
            found = _longer(found, "rps", rps, 1.0, now)
        if (rpm := self.rpm) is not None and rpm.fill(now) < 1.0:
            found = _longer(found, "rpm", rpm, 1.0, now)
        if (tpm := self.tpm) is not None and tpm.fill(now) < tokens:
            found = _longer(found, "tpm", tpm, tokens, now)
        return found

    def take(self, tokens: int) -> None:
        self.in_flight += 1
        if self.rps is not None:
            self.rps.level -= 1.0
        if self.rpm is not None:
            self.rpm.level -= 1.0
        if self.tpm is not None:
            self.tpm.level -= tokens

    def end(self, unused_tokens: int, now: float) -> None:
        """The call ended, with `unused_tokens` of what it took (negative: it used more)."""
        self.in_flight -= 1
        if self.tpm is not None and unused_tokens:
            self.tpm.give_back(unused_tokens, now)

    def undo(self, tokens: int, now: float) -> None:
        """The call that took `tokens` was refused after all: as if it had never come."""
        self.end(tokens, now)
        for bucket in (self.rps, self.rpm):
            if bucket is not None:
                bucket.give_back(1.0, now)

    def requests(self, now: float) -> Quota | None:
        """The tighter of the request limits."""
        return _tighter(_quota(self.rps, now), _quota(self.rpm, now))

    def tokens(self, now: float) -> Quota | None:
        return _quota(self.tpm, now)


_CONCURRENCY_RETRY_S = 1.0
"""Nobody knows when a call in flight ends; a second is short for a reasoning model."""


def take_all(subjects: Sequence[LimitSet], tokens: int, now: float) -> tuple[int, Refusal] | None:
    """Take one call of `tokens` from every subject, or nothing from any: then `refusal_of` it."""
    refused = refusal_of(subjects, tokens, now)
    if refused is None:
        for subject in subjects:
            subject.take(tokens)
    return refused


def refusal_of(subjects: Sequence[LimitSet], tokens: int, now: float) -> tuple[int, Refusal] | None:
    """Why one call of `tokens` does not fit now, without taking it: the index of the subject that
    takes longest to have room, and its reason."""
    worst: tuple[int, Refusal] | None = None
    for index, subject in enumerate(subjects):
        refusal = subject.refusal(tokens, now)
        if refusal is not None and (worst is None or refusal[2] > worst[1].retry_after_s):
            worst = (index, refusal)
    return worst


def _resized(
    bucket: TokenBucket | None, limit: int | None, per_s: float, now: float
) -> TokenBucket | None:
    if limit is None:
        return None
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


def _quota(bucket: TokenBucket | None, now: float) -> Quota | None:
    if bucket is None:
        return None
    level = bucket.fill(now)
    return Quota(
        int(bucket.capacity), max(0, int(level)), (bucket.capacity - level) / bucket.refill_per_s
    )


def _tighter(one: Quota | None, other: Quota | None) -> Quota | None:
    if one is None or other is None:
        return one or other
    return one if one.remaining <= other.remaining else other


def tightest(quotas: Sequence[Quota | None]) -> Quota | None:
    """The quota with the least left."""
    found: Quota | None = None
    for quota in quotas:
        found = _tighter(found, quota)
    return found
