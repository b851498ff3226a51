"""Sends calls by a schedule (open loop) or one after another (closed loop).

In open loop the schedule alone decides when a call is due: a slow server does not slow the calls
down, and a call's latency counts from when it was due. Waiting that a stalled server or a late
generator causes is therefore in the figures, not left out (coordinated omission). In closed loop
each of N callers sends its next call when its last was answered; that measures a server under N
callers, and the report says so.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import msgspec

from merino.bench.caller import Asked, Caller
from merino.bench.samples import INTERRUPTED, CallSample
from merino.bench.scenario import CHARS_PER_TOKEN, Prompt, Scenario
from merino.translation.table import TRANSLATIONS, Made
from merino.wire.chat import CHAT, parse_chat

_SPIN_S = 0.0015
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Load:
    """How calls come. Open loop with `arrivals` (moments in seconds), else closed with so many
    callers. It ends after `duration_s` or `requests`, whichever comes first; `warmup` calls come
    before, in the same way, and are not counted."""

    arrivals: Iterator[float] | None = None
    concurrency: int = 1
    requests: int | None = None
    duration_s: float | None = None
    warmup: int = 0
    in_flight_max: int = 20_000

    @property
    def is_open(self) -> bool:
        return self.arrivals is not None


@dataclass(slots=True)
class Progress:
    """What is known while it runs. `on_sample` hears of every call that ended."""

    samples: list[CallSample] = field(default_factory=list[CallSample])
    sent: int = 0
    in_flight: int = 0
    warmups: int = 0
    spent_nanos: int = 0
    stopped_by: str | None = None
    """`max_cost`, `interrupted`, `in_flight` or `warmup`; `None` for a whole run."""


class Bodies:
    """Request bodies of a scenario, for one model."""

    def __init__(
        self,
        scenario: Scenario,
        model: str,
        *,
        is_streamed: bool,
        output_tokens_max: int | None,
        seed: int = 0,
        wording: str = "",
        api: str = CHAT.name,
    ) -> None:
        """`api` is the endpoint they are for; scenarios are in a chat's words, whatever it is."""
        self._to_api = None if api == CHAT.name else TRANSLATIONS[CHAT.name, api]
        self._scenario = scenario
        self._prompts = scenario.asked(seed, wording)
        self._output_tokens_max = output_tokens_max
        self._fixed: dict[str, Any] = {"model": model, **scenario.body}
        if is_streamed:
            self._fixed |= {"stream": True, "stream_options": {"include_usage": True}}

    def next(self) -> Prompt:
        return next(self._prompts)

    def limit_of(self, prompt: Prompt) -> int | None:
        """How many tokens each of its choices may have."""
        return self._output_tokens_max or prompt.max_output_tokens

    @property
    def choices(self) -> int:
        """How many a call asks for."""
        wanted: object = self._fixed.get("n")
        return wanted if isinstance(wanted, int) else 1

    def body(self, prompt: Prompt, messages: list[Any]) -> bytes:
        limit = self.limit_of(prompt)
        fields = {**self._fixed, "messages": messages}
        if limit is not None:
            fields["max_completion_tokens"] = limit
        body = _encode(fields)
        if self._to_api is None:
            return body
        return self._to_api.carry(parse_chat(body), Made("bench", 0)).body


class LoadGenerator:
    """Runs one load against one target. `stop` ends it early; what was measured stays."""

    def __init__(
        self,
        caller: Caller,
        bodies: Bodies,
        scenario: Scenario,
        *,
        max_cost_nanos: int | None = None,
        worst_nanos: Callable[[bytes], int] | None = None,
        progress: Progress | None = None,
        block: int = 0,
        first_number: int = 0,
    ) -> None:
        self.progress = progress or Progress()
        self._caller = caller
        self._bodies = bodies
        self._scenario = scenario
        self._max_cost_nanos = max_cost_nanos
        self._worst_nanos = worst_nanos
        self._reserved_nanos = 0
        self._warmup = 0
        self._has_worked = False
        self._block = block
        self._number = first_number
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def stop(self, why: str = INTERRUPTED) -> None:
        """Send nothing more; running calls are cut if it is `interrupted`."""
        if self.progress.stopped_by is None:
            self.progress.stopped_by = why
        self._stopping.set()
        if why == INTERRUPTED:
            for task in self._tasks:
                task.cancel()

    async def run(self, load: Load, began: float | None = None) -> Progress:
        """`began` is the run's zero, if several generators share one."""
        progress = self.progress
        self._warmup = load.warmup
        with _calm():
            self._caller.began = perf_counter() if began is None else began
            try:
                if load.is_open:
                    await self._open(load)
                else:
                    await self._closed(load)
            finally:
                if self._tasks:
                    await asyncio.wait(self._tasks)
        return progress

    # -- open loop -------------------------------------------------------------------------------

    async def _open(self, load: Load) -> None:
        assert load.arrivals is not None
        caller, stopping = self._caller, self._stopping
        zero = perf_counter() - caller.began
        first_measured: float | None = None
        for sent, moment in enumerate(load.arrivals):
            is_warmup = sent < load.warmup
            due = zero + moment
            if not is_warmup:
                if first_measured is None:
                    first_measured = due
                if load.requests is not None and sent - load.warmup >= load.requests:
                    break
                if load.duration_s is not None and due - first_measured >= load.duration_s:
                    break
            await _until(caller.began + due, stopping)
            if stopping.is_set():
                break
            if self.progress.in_flight >= load.in_flight_max:
                self.stop("in_flight")
                break
            if not self._start(due, is_warmup=is_warmup):
                break

    def _start(self, due: float, *, is_warmup: bool) -> bool:
        prompt = self._bodies.next()
        body = self._bodies.body(prompt, list(prompt.messages))
        if not self._reserve(body):
            return False
        task = asyncio.create_task(self._session(prompt, body, due, is_warmup=is_warmup))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    # -- closed loop -----------------------------------------------------------------------------

    async def _closed(self, load: Load) -> None:
        left = load.warmup
        deadline = float("inf")
        measured = 0
        clock = self._caller

        async def caller(*, is_warmup: bool) -> None:
            nonlocal left, measured
            while not self._stopping.is_set():
                now = perf_counter() - clock.began
                if is_warmup:
                    if left <= 0:
                        return
                    left -= 1
                else:
                    if now >= deadline or (load.requests is not None and measured >= load.requests):
                        return
                    measured += 1
                prompt = self._bodies.next()
                body = self._bodies.body(prompt, list(prompt.messages))
                if not self._reserve(body):
                    return
                await self._session(prompt, body, None, is_warmup=is_warmup)

        for is_warmup in (True, False):
            if not is_warmup and load.duration_s is not None:
                deadline = perf_counter() - clock.began + load.duration_s
            tasks = [
                asyncio.create_task(caller(is_warmup=is_warmup)) for _ in range(load.concurrency)
            ]
            self._tasks.update(tasks)
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tasks.clear()

    # -- one session -----------------------------------------------------------------------------

    async def _session(
        self, prompt: Prompt, body: bytes, due: float | None, *, is_warmup: bool
    ) -> None:
        """A call, and one more for each further turn: due when its answer was read and thought."""
        messages: list[Any] = list(prompt.messages)
        turns = iter(prompt.turns)
        progress = self.progress
        while True:
            scheduled = due if due is not None else perf_counter() - self._caller.began
            asked = Asked(
                number=self._number,
                body=body,
                scheduled_s=scheduled,
                input_tokens_estimate=len(body) // CHARS_PER_TOKEN,
                output_tokens_max=(self._bodies.limit_of(prompt) or 0) * self._bodies.choices
                or None,
                scenario=self._scenario.name,
                block=self._block,
                is_warmup=is_warmup,
                keeps_text=bool(prompt.turns),
            )
            self._number += 1
            progress.sent += 1
            progress.in_flight += 1
            worst = self._worst_of(body)
            try:
                sample = await self._caller.call(asked)
            finally:
                progress.in_flight -= 1
                self._reserved_nanos -= worst
            progress.spent_nanos += sample.cost_nanos or 0
            progress.samples.append(sample)
            if is_warmup:
                self._warmed_up(sample)
            said = next(turns, None)
            if said is None or sample.error is not None or self._stopping.is_set():
                return
            messages += [
                {"role": "assistant", "content": asked.text},
                {"role": "user", "content": said},
            ]
            body = self._bodies.body(prompt, messages)
            if not self._reserve(body):
                return
            due = sample.end_s + self._scenario.think_s
            await _until(self._caller.began + due, self._stopping)
            if self._stopping.is_set():
                return

    def _warmed_up(self, sample: CallSample) -> None:
        """The warm-up shows whether calls can work at all: if none does, no others are sent."""
        self.progress.warmups += 1
        self._has_worked = self._has_worked or sample.error is None
        if self.progress.warmups >= self._warmup and not self._has_worked:
            self.stop("warmup")

    def _worst_of(self, body: bytes) -> int:
        if self._max_cost_nanos is None or self._worst_nanos is None:
            return 0
        return self._worst_nanos(body)

    def _reserve(self, body: bytes) -> bool:
        """Whether a call may be sent: all that is spent and could be spent must fit."""
        worst = self._worst_of(body)
        if self._max_cost_nanos is None:
            return True
        if self.progress.spent_nanos + self._reserved_nanos + worst > self._max_cost_nanos:
            self.stop("max_cost")
            return False
        self._reserved_nanos += worst
        return True


async def _until(moment: float, stopping: asyncio.Event) -> None:
    """Sleep until a reading of `perf_counter()`. The last bit is spun: timers are a millisecond
    coarse, and so would be every latency."""
    while not stopping.is_set():
        left = moment - perf_counter()
        if left <= 0:
            return
        if left > 0.25:
            try:
                await asyncio.wait_for(stopping.wait(), left - 0.2)
            except TimeoutError:
                continue
        elif left > _SPIN_S:
            await asyncio.sleep(left - _SPIN_S)
        else:
            await asyncio.sleep(0)


@contextmanager
def _calm() -> Generator[None]:
    """Collect garbage rarely: a full collection would stop the clock of every call in flight."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
