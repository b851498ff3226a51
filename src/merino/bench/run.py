"""A run of `merino bench`, put together: connections, callers, loads, and what they come to."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from secrets import token_hex
from time import perf_counter
from typing import Any

from merino.bench.arrivals import ArrivalKind, arrivals
from merino.bench.caller import Caller, CallerPolicy, CostOf
from merino.bench.compare import differences, rounds
from merino.bench.generator import Bodies, Load, LoadGenerator
from merino.bench.results import Result, TargetShown, machine_text, now_text
from merino.bench.samples import INTERRUPTED, CallSample
from merino.bench.scenario import Scenario
from merino.bench.slo import Objective
from merino.bench.summary import Summary, summarize
from merino.bench.sweep import best, sweep
from merino.bench.targets import Target
from merino.bench.validity import served_from_cache, too_long, why_invalid
from merino.settings import UpstreamSettings
from merino.transport.client import UpstreamClient
from merino.transport.connecting import Origin

_CONNECTIONS_MAX = 20_000

LoadMaker = Callable[[], Load]
"""A load as it is wanted; a schedule can be used once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is asked of a run. `command` and `shown` are told in its result."""

    command: list[str]
    shown: dict[str, Any]
    scenario: Scenario
    targets: list[Target]
    objectives: tuple[Objective, ...]
    policy: CallerPolicy
    cost_of: CostOf
    worst_nanos: Callable[[bytes], int]
    """What a call with this body costs at most."""
    max_cost_nanos: int | None
    output_tokens_max: int | None
    seed: int
    same_prompts: bool


class BenchRun:
    """What is measured is kept whatever happens: `interrupt` makes a result of a part."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.samples: list[CallSample] = []
        self.stopped_by: str | None = None
        self.began = perf_counter()
        self._http = UpstreamClient(
            UpstreamSettings(connections_max_per_origin=_CONNECTIONS_MAX), environ=os.environ
        )
        self._running: list[LoadGenerator] = []
        self._spent_nanos = 0
        self._wording = token_hex(8)

    @property
    def in_flight(self) -> int:
        return sum(running.progress.in_flight for running in self._running)

    def samples_so_far(self) -> list[CallSample]:
        """Also those of loads that run."""
        running = (each for load in tuple(self._running) for each in load.progress.samples)
        return [*self.samples, *running]

    def interrupt(self) -> None:
        """What was measured is still written."""
        self.stopped_by = self.stopped_by or INTERRUPTED
        for generator in tuple(self._running):
            generator.stop()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def measure(self, kind: str, make_load: LoadMaker) -> Result:
        """Every target under the same load, one after the other."""
        load = make_load()
        for target in self.setup.targets:
            this = load if target is self.setup.targets[0] else make_load()
            await self._run(self._generator(target), this)
        return self._result(kind, load, self._summaries())

    async def compare(self, make_load: LoadMaker, round_count: int) -> Result:
        """Targets take turns in random order; the first is the baseline."""
        by_name = {target.name: target for target in self.setup.targets}
        names, seed = list(by_name), self.setup.seed
        load = make_load()
        for block, order in enumerate(rounds(names, round_count, seed)):
            for name in order:
                # Connections and caches are warm after the first round.
                this = make_load() if block == 0 else replace(make_load(), warmup=0)
                await self._run(self._generator(by_name[name], block), this)
            if self.stopped_by is not None:
                break
        result = self._result("compare", load, self._summaries())
        result.settings["rounds"] = round_count
        result.differences = differences(self.samples, names[0], names[1:], seed)
        return result

    async def sweep(
        self,
        load: Load,
        arrival_kind: ArrivalKind,
        *,
        start_per_s: float,
        rate_max_per_s: float,
        precision: float,
    ) -> Result:
        """The highest rate that keeps the objectives; `load` is what runs at each rate."""
        setup, target = self.setup, self.setup.targets[0]
        block = 0

        async def measure(rate: float) -> Summary | None:
            nonlocal block
            block += 1
            this = replace(load, arrivals=arrivals(rate, arrival_kind, setup.seed))
            await self._run(self._generator(target, block), this)
            if self.stopped_by == "in_flight":
                self.stopped_by = None  # that is what was looked for
            if self.stopped_by is not None:
                return None
            of_rate = [each for each in self.samples if each.block == block]
            return summarize(target.name, of_rate, setup.objectives)

        steps = await sweep(
            measure, start_per_s=start_per_s, rate_max_per_s=rate_max_per_s, precision=precision
        )
        result = self._result("sweep", replace(load, arrivals=iter(())), ())
        result.steps = steps
        result.best_rate_per_s = best(steps)
        return result

    def _generator(self, target: Target, block: int = 0) -> LoadGenerator:
        setup = self.setup
        send = partial(self._http.send, Origin.of(target.base_url))
        caller = Caller(send, target, setup.policy, setup.cost_of)
        bodies = Bodies(
            setup.scenario,
            target.model,
            is_streamed=setup.policy.is_streamed,
            output_tokens_max=setup.output_tokens_max,
            seed=setup.seed + block,
            # As long for every target of a round; other words, which no cache has seen.
            wording="" if setup.same_prompts else f"{self._wording} {target.name}",
            api=setup.policy.api,
        )
        left = setup.max_cost_nanos
        if left is not None:
            left = max(0, left - self._spent_nanos)
        return LoadGenerator(
            caller,
            bodies,
            setup.scenario,
            max_cost_nanos=left,
            worst_nanos=setup.worst_nanos,
            block=block,
        )

    async def _run(self, generator: LoadGenerator, load: Load) -> None:
        self._running.append(generator)
        try:
            if self.stopped_by is None:
                await generator.run(load, self.began)
        finally:
            self._running.remove(generator)
            self.samples += generator.progress.samples
            self._spent_nanos += generator.progress.spent_nanos
            self.stopped_by = self.stopped_by or generator.progress.stopped_by

    def _summaries(self) -> list[Summary]:
        setup = self.setup
        return [summarize(each.name, self.samples, setup.objectives) for each in setup.targets]

    def _result(self, kind: str, load: Load, summaries: Sequence[Summary]) -> Result:
        setup = self.setup
        shown = setup.shown | {"warmup": load.warmup}
        if not load.is_open:
            shown.pop("arrival_kind", None)
        reasons = why_invalid(load, summaries, self.samples, self.stopped_by)
        if not setup.same_prompts and not setup.scenario.shared_prefix_tokens:
            for target in setup.targets:
                reasons += served_from_cache(target.name, self.samples)
        for target in setup.targets:
            reasons += too_long(target.name, self.samples)
        return Result(
            kind=kind,
            at=now_text(),
            machine=machine_text(),
            python=platform.python_version(),
            command=setup.command,
            settings=shown,
            targets=[
                TargetShown(name=each.name, base_url=each.base_url, model=each.model)
                for each in setup.targets
            ],
            loop="open" if load.is_open else "closed",
            why_invalid=reasons,
            summaries=list(summaries),
        )
