"""Who may send now: places for calls that run at once, permits for requests per time. First come,
first served; who leaves early gives back what it had.

Pure state machines without lock, clock or waiting: the engine asks under its lock, and whoever
drives a call waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from merino.resilience.buckets import TokenBucket

_WAIT_MIN_S = 1e-4
"""Shorter waits are not worth a timer, and a clock may not even tell them."""


class Waiter:
    """Someone in a queue. `wake` is what its driver wants called, from any thread, once it is
    `is_due`; whoever sets `wake` looks at `is_due` afterwards, so that no call gets lost."""

    __slots__ = ("is_due", "wake", "wanted")

    def __init__(self, wanted: tuple[float, ...] = ()) -> None:
        self.is_due = False
        self.wake: Callable[[], None] | None = None
        self.wanted = wanted

    def rouse(self) -> None:
        self.is_due = True
        if self.wake is not None:
            self.wake()


class Places:
    """At most `count` calls at once. A place that is given back goes to who waits longest."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError("max_concurrency must be at least 1")
        self.count = count
        self.taken = 0
        self._queue: deque[Waiter] = deque()

    def try_take(self) -> bool:
        """A place at once, if nobody waits for it."""
        if self._queue or self.taken >= self.count:
            return False
        self.taken += 1
        return True

    def join(self) -> Waiter:
        """Wait for a place; it is there when the waiter is due."""
        waiter = Waiter()
        if self.try_take():
            waiter.is_due = True
        else:
            self._queue.append(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """The waiter does not want its place, or does not need it any more."""
        if waiter.is_due:
            self.give_back()
        else:
            self._queue.remove(waiter)

    def give_back(self) -> None:
        if self._queue:
            self._queue.popleft().rouse()
        else:
            self.taken -= 1


class Permits:
    """The buckets of a client and the queue in front of them. Only who stands first takes permits,
    and only when every bucket has them: in any stretch of time no more are taken than the buckets
    give, whoever comes, waits or leaves."""

    def __init__(self, buckets: list[TokenBucket]) -> None:
        self._buckets = buckets
        self._queue: deque[Waiter] = deque()
        self._ahead = [0.0] * len(buckets)

    def try_take(self, wanted: tuple[float, ...], now: float) -> bool:
        """Take from every bucket at once, or nothing; nobody is overtaken."""
        if self._queue:
            return False
        return self._take(wanted, now)

    def join(self, wanted: tuple[float, ...]) -> Waiter:
        """Stand in the queue; then `wait_s` says when to ask again."""
        waiter = Waiter(wanted)
        self._queue.append(waiter)
        for index, permits in enumerate(wanted):
            self._ahead[index] += permits
        return waiter

    def expected_s(self, now: float) -> float:
        """When whoever came last will have its turn, if nobody in front leaves."""
        return max(
            max(0.0, (ahead - bucket.fill(now)) / bucket.refill_per_s)
            for ahead, bucket in zip(self._ahead, self._buckets, strict=True)
        )

    def wait_s(self, waiter: Waiter, now: float) -> float:
        """0: its permits are taken, and it has left the queue. Else: when to ask again; infinity:
        when it is roused."""
        if self._queue[0] is not waiter:
            waiter.is_due = False
            return float("inf")
        if not self._take(waiter.wanted, now):
            waiter.is_due = False
            return max(
                _WAIT_MIN_S,
                *(
                    bucket.wait_s(permits, now)
                    for permits, bucket in zip(waiter.wanted, self._buckets, strict=True)
                ),
            )
        self._gone(waiter)
        return 0.0

    def leave(self, waiter: Waiter) -> None:
        """It gives up waiting."""
        if waiter in self._queue:
            self._gone(waiter)

    def give_back(self, wanted: tuple[float, ...], now: float) -> None:
        """What was taken was not used after all."""
        for permits, bucket in zip(wanted, self._buckets, strict=True):
            bucket.give_back(permits, now)
        if self._queue:
            self._queue[0].rouse()

    def wanted_by(self, tokens: int, counts_tokens: tuple[bool, ...]) -> tuple[float, ...]:
        """What a request takes of each bucket: never more than the bucket can ever hold."""
        return tuple(
            min(float(tokens), bucket.capacity) if is_tokens else 1.0
            for bucket, is_tokens in zip(self._buckets, counts_tokens, strict=True)
        )

    def _take(self, wanted: tuple[float, ...], now: float) -> bool:
        pairs = list(zip(wanted, self._buckets, strict=True))
        if any(bucket.fill(now) < permits for permits, bucket in pairs):
            return False
        for permits, bucket in pairs:
            bucket.try_take(permits, now)
        return True

    def _gone(self, waiter: Waiter) -> None:
        was_first = self._queue[0] is waiter
        self._queue.remove(waiter)
        for index, permits in enumerate(waiter.wanted):
            self._ahead[index] -= permits
        if was_first and self._queue:
            self._queue[0].rouse()
