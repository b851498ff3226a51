"""Sends the items of a batch: as many at once as the upstream bears, and within the budget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from merino.batch.failures import is_everybodys, is_own
from merino.batch.items import Checked, Item, Source
from merino.batch.latencies import Latencies
from merino.batch.results import Result, ResultFiles
from merino.resilience.concurrency import AdaptiveLimit, Strain

START_AT_ONCE = 64
STRAIN_SAMPLES_MIN = 50
STRAIN_SHARE = 0.9
"""What is left of the calls at once after a round in which they waited for each other."""
GIVE_UP_S = 120.0
"""So long nothing was answered and nothing was being waited for: the batch stops."""
WAITED_FOR_S = 1.0
"""An attempt that runs for so long has a server that works on it."""
REFUSED_ALIKE_MAX = 5
"""So many items refused one after the other for what is no item's fault (a key, a bill, an
address): the others would be, too."""
READ_AHEAD_MAX = 10_000
"""With results in order: items that may be sent ahead of the oldest that is missing."""


class Sender(Protocol):
    """Sends one item and comes back with how it ended; never raises for what an upstream does."""

    async def send(
        self, item: Item, idempotency_key: str, on_overload: Callable[[], None]
    ) -> Result | None:
        """`on_overload` is called when the upstream says that it gets too much. `None`: it was
        stopped before there was an answer."""
        ...

    def stop(self) -> None:
        """Send nothing more; what is under way ends."""
        ...

    @property
    def longest_s(self) -> float:
        """How long the oldest attempt that is under way has been waiting for its answer."""
        ...


Worst = Callable[[Item], int]
"""What an item costs at most, in nano-units."""


@dataclass(slots=True)
class Progress:
    """How far a batch is. Money in nano-units; `held_nanos` is the worst case of what runs,
    `spent_before_nanos` what earlier runs of the job spent."""

    total: int
    done: int = 0
    good: int = 0
    skipped: int = 0
    failed_before: int = 0
    """Of those skipped: refused for good by an earlier run."""
    in_flight: int = 0
    limit: int = 0
    spent_nanos: int = 0
    spent_before_nanos: int = 0
    held_nanos: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unpriced: int = 0
    errors: dict[str, int] = field(default_factory=dict[str, int])
    latencies: Latencies = field(default_factory=Latencies)
    """Of answers, their waits included."""
    began_s: float = field(default_factory=monotonic)
    stopped_by_cost: bool = False
    gave_up: bool = False
    """Nothing was answered for `GIVE_UP_S`."""
    refused: str = ""
    """What refuses every item alike, so that the batch stopped: a code, or a status."""
    was_interrupted: bool = False
    write_error: str = ""
    """Why results could not be written, so that the batch stopped."""
    unwritten: int = 0
    """Answers that came and could not be written."""

    @property
    def left(self) -> int:
        """Items without an outcome."""
        return self.total - self.skipped - self.done

    @property
    def per_s(self) -> float:
        elapsed_s = monotonic() - self.began_s
        return self.done / elapsed_s if elapsed_s > 0 else 0.0

    @property
    def eta_s(self) -> float:
        return self.left / self.per_s if self.per_s else float("inf")


class BatchRunner:
    """Runs one batch. With `max_cost_nanos` an item is sent only while everything spent, by earlier
    runs of the job, too, everything in flight at its worst and the item at its worst stay below
    it."""

    def __init__(
        self,
        source: Source,
        checked: Checked,
        files: ResultFiles,
        sender: Sender,
        *,
        concurrency_max: int,
        worst: Worst | None = None,
        max_cost_nanos: int | None = None,
        in_order: bool = False,
    ) -> None:
        self._source = source
        self._checked = checked
        self._files = files
        self._sender = sender
        self._worst = worst
        self._max_cost_nanos = max_cost_nanos
        self._in_order = in_order
        self._limit = AdaptiveLimit(
            min(START_AT_ONCE, concurrency_max), limit_max=concurrency_max, quick=True
        )
        skipped = [
            hashed
            for number, hashed in enumerate(checked.hashes)
            if number not in checked.bad and hashed in files.done
        ]
        self.progress = Progress(
            checked.items - len(checked.bad),
            limit=self._limit.limit,
            skipped=len(skipped),
            failed_before=len(files.refused.intersection(skipped)),
            spent_before_nanos=files.spent_nanos,
        )
        self._strain = Strain()
        self._workers: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        """Nothing more is begun: there is no more, or no more may be."""
        self._is_stopped = False
        """What was taken and not sent yet is not sent, either."""
        self._is_cut = False
        self._answered_s = monotonic()
        self._refused_alike = 0
        self._room = asyncio.Event()

    def stop(self) -> None:
        """Send nothing more; what runs finishes. The second time: cut what runs."""
        self._is_cut = self.progress.was_interrupted
        self.progress.was_interrupted = True
        self._stop()

    def _stop(self) -> None:
        self._is_stopping = self._is_stopped = True
        self._sender.stop()
        self._room.set()

    async def run(self) -> Progress:
        """Send everything that is not done yet."""
        items = self._pending()
        self._files.start(self._is_skipped, self._checked.digests)
        self._spawn(items)
        try:
            while self._workers:
                done, _ = await asyncio.wait(
                    self._workers, return_when=asyncio.FIRST_EXCEPTION, timeout=0.5
                )
                self._workers -= done
                for worker in done:
                    worker.result()
                if self._sender.longest_s > WAITED_FOR_S:
                    self._answered_s = monotonic()  # reasoning takes its time
                if monotonic() - self._answered_s > GIVE_UP_S:
                    self.progress.gave_up = self._is_cut = True
                if self._is_cut:
                    break
        finally:
            for worker in self._workers:
                worker.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)
            for result in self._files.close():
                self._uncount(result)
        return self.progress

    def _is_skipped(self, number: int) -> bool:
        checked = self._checked
        if number >= len(checked.hashes):
            return False
        return number in checked.bad or checked.hashes[number] in self._files.done

    def _pending(self) -> Iterator[Item]:
        for number, each in enumerate(self._source.items()):
            if not isinstance(each, Item) or number in self._checked.bad:
                continue
            if self._checked.hashes[number] in self._files.done:
                continue
            yield (
                each
                if each.number == number
                else Item(number, each.line, each.custom_id, each.url, each.body)
            )

    def _spawn(self, items: Iterator[Item]) -> None:
        while len(self._workers) < self._limit.limit and not self._is_stopping:
            self._workers.add(asyncio.create_task(self._work(items)))

    async def _work(self, items: Iterator[Item]) -> None:
        progress = self.progress
        while not self._is_stopping:
            if progress.in_flight >= self._limit.limit:
                return  # the limit fell: there are workers enough
            while self._in_order and self._files.held_back >= READ_AHEAD_MAX:
                self._room.clear()
                await self._room.wait()
            item = None if self._is_stopping else next(items, None)
            if item is None:
                self._is_stopping = True
                return
            worst_nanos = self._worst(item) if self._worst is not None else 0
            while not self._affords(worst_nanos):
                if not progress.in_flight:
                    progress.stopped_by_cost = self._is_stopping = True
                    return
                # What runs may cost less than it could.
                self._room.clear()
                await self._room.wait()
                if self._is_stopped:
                    return
            await self._one(item, worst_nanos)
            self._spawn(items)

    def _affords(self, worst_nanos: int) -> bool:
        if self._max_cost_nanos is None:
            return True
        progress = self.progress
        spent_nanos = self._files.spent_nanos + progress.spent_nanos
        return spent_nanos + progress.held_nanos + worst_nanos <= self._max_cost_nanos

    async def _one(self, item: Item, worst_nanos: int) -> None:
        progress, limit = self.progress, self._limit
        progress.in_flight += 1
        progress.held_nanos += worst_nanos
        was_overloaded = False

        def on_overload() -> None:
            nonlocal was_overloaded
            was_overloaded = True
            limit.overloaded(monotonic())

        try:
            began_s, at_once = monotonic(), progress.in_flight
            result = await self._sender.send(item, self._key(item), on_overload)
            latency_s = monotonic() - began_s
            if result is not None and result.is_good:
                progress.latencies.add(latency_s)
                if not was_overloaded:
                    self._succeeded(latency_s, at_once)
        finally:
            progress.in_flight -= 1
            progress.held_nanos -= worst_nanos
        progress.limit = limit.limit
        if result is not None:
            self._count(result)
            self._judge(result)
            self._write(result)
        self._room.set()

    def _key(self, item: Item) -> str:
        """The same for the same question, so that it is paid once; another one for what was changed
        before the run went on."""
        known = self._checked.digests or self._checked.hashes
        return f"{self._files.job}-{known[item.number]:016x}"

    def _write(self, result: Result) -> None:
        try:
            self._files.write(result)
        except OSError as error:
            # What runs is paid for: it ends, and is written if there is room again by then.
            self.progress.write_error = error.strerror or str(error)
            self._stop()

    def _succeeded(self, latency_s: float, at_once: int) -> None:
        limit, strain = self._limit, self._strain
        was_strained = strain.is_strained
        if strain.observe(latency_s, at_once, max(STRAIN_SAMPLES_MIN, limit.limit)):
            limit.strained(STRAIN_SHARE, is_first=not was_strained)
        elif not strain.is_strained:
            limit.succeeded(self.progress.in_flight)

    def _count(self, result: Result) -> None:
        progress = self.progress
        progress.done += 1
        progress.good += result.is_good
        progress.input_tokens += result.input_tokens
        progress.output_tokens += result.output_tokens
        if result.cost_nanos is not None:
            progress.spent_nanos += result.cost_nanos
        elif result.is_good:
            progress.unpriced += 1
        if not result.is_good:
            progress.errors[result.kind] = progress.errors.get(result.kind, 0) + 1

    def _uncount(self, result: Result) -> None:
        """It could not be written: it is not done, though it is paid for."""
        progress = self.progress
        progress.unwritten += 1
        progress.done -= 1
        progress.good -= result.is_good
        if not result.is_good:
            progress.errors[result.kind] -= 1

    def _judge(self, result: Result) -> None:
        """What it says of the others."""
        if result.is_good or is_own(result.verdict):
            self._answered_s = monotonic()
        is_alike = not result.is_good and is_everybodys(result.verdict)
        self._refused_alike = self._refused_alike + 1 if is_alike else 0
        is_certain = result.status == 401 or result.verdict == "credit"
        if is_alike and (is_certain or self._refused_alike >= REFUSED_ALIKE_MAX):
            self.progress.refused = result.kind
            self._stop()
