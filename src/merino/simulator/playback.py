"""Plays a simulated model's steps in time, and counts what it was asked and what it made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from merino.domain.chance import chance_of
from merino.simulator.kept import Kept
from merino.simulator.messages import in_its_shape
from merino.simulator.options import OptionError, Options, parse_model, parse_options
from merino.simulator.script import script
from merino.simulator.steps import (
    MESSAGES,
    RESPONSES,
    Asked,
    Bytes,
    Cut,
    End,
    Hang,
    Head,
    Step,
    Wait,
    refusal,
)
from merino.wire.state_paths import query_of, state_path
from merino.wire.unreadable import Unreadable
from merino.wire.unreadable import refusal as why_unreadable

COALESCED_BYTES_MAX = 64 * 1024
_REMEMBERED_MODELS_MAX = 10_000
_LATE_S = 0.02


@dataclass(slots=True)
class Tally:
    """What a vendor's own meter would show: the oracle to compare a relay's records with.

    Tokens of cancelled answers count as far as they were made. `cancelled` answers are those whose
    reader left before their end.
    """

    requests: int = 0
    active: int = 0
    finished: int = 0
    cancelled: int = 0
    cut: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Simulation:
    """All simulated models of one place: their seed, their defaults and what they remember."""

    def __init__(
        self,
        *,
        seed: int = 0,
        speed: float = 1.0,
        defaults: str = "",
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`speed` divides every duration; `defaults` are options for every model, written like a
        suffix. Raises `ValueError` when they are wrong."""
        if not speed > 0:
            raise ValueError(f"speed must be above 0; got {speed}")
        self.speed = speed
        self.tally = Tally()
        self._seed = seed
        # Reproducible on purpose; nothing here is secret.
        self._rng = chance_of(seed)
        self._defaults = parse_options(defaults, Options()) if defaults else Options()
        self._now_s = now_s
        self._numbers: dict[str, int] = {}
        self._kept = Kept(now_s, speed, self._count)

    def _count(self, prompt_tokens: int, completion_tokens: int) -> None:
        self.tally.prompt_tokens += prompt_tokens
        self.tally.completion_tokens += completion_tokens

    def ask(self, method: str, target: bytes, body: bytes) -> Iterator[Step] | None:
        """What happens to a request about what is kept; `None` if there is no such path."""
        path = target.partition(b"?")[0]
        if path != b"/v1/conversations" and state_path(path) is None:
            return None
        return self._kept.ask(method, path.decode("latin-1"), query_of(target), body)

    def steps(self, endpoint: str, body: bytes) -> Iterator[Step]:
        """What happens to this request."""
        self.tally.requests += 1
        lacking = (RESPONSES,) if self._defaults.no_responses else ()
        lacking += (MESSAGES,) if self._defaults.no_messages else ()
        if endpoint.startswith(lacking):
            # A place without the path does not read what is asked there.
            return iter(refusal(f"Invalid URL (POST /v1/{endpoint})", status=404))
        steps = self._steps(endpoint, body)
        return in_its_shape(steps) if endpoint.startswith(MESSAGES) else steps

    def _steps(self, endpoint: str, body: bytes) -> Iterator[Step]:
        try:
            asked = msgspec.json.decode(body, type=dict[str, Any])
        except Unreadable as error:
            if not body.lstrip().startswith(b"{"):
                return iter(
                    refusal("We could not parse the JSON body of your request: expected an object.")
                )
            told = why_unreadable(body, error)
            return iter(refusal(told.message, told.param, told.code))
        full_name: object = asked.get("model")
        if not isinstance(full_name, str) or not full_name:
            return iter(refusal("You must provide a model parameter.", "model"))
        try:
            model, options = parse_model(full_name, self._defaults)
        except OptionError as error:
            return iter(refusal(str(error), "model", "unknown_simulator_option"))
        numbers = self._numbers
        number = numbers.get(full_name, 0) + 1
        if number == 1 and len(numbers) >= _REMEMBERED_MODELS_MAX:
            numbers.clear()
        numbers[full_name] = number
        request_id = f"sim{self._seed:x}{self.tally.requests:012x}"
        created_s = int(self._now_s())
        found = Asked(endpoint, asked, model, options, request_id, number, created_s)
        if endpoint == RESPONSES:
            return self._kept.answer(found, lambda each: script(each, self._rng))
        return script(found, self._rng)


class Audience(Protocol):
    """Who a playback plays to."""

    def on_head(self, head: Head) -> None: ...
    def on_pieces(self, pieces: list[bytes]) -> None: ...
    def on_end(self) -> None: ...
    def on_cut(self) -> None: ...


class Playback:
    """Runs until it must wait, is paused, or is over; then goes on by itself."""

    def __init__(
        self, steps: Iterator[Step], audience: Audience, *, speed: float, tally: Tally
    ) -> None:
        self._tally = tally
        self._speed = speed
        self._steps = steps
        self._audience = audience
        self._ahead: Step | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: tuple[Wait, float] | None = None
        self._due: float | None = None
        self._is_paused = False
        self._is_running = False
        self.is_over = False
        self._tally.active += 1

    def run(self) -> None:
        if self._is_running:
            return
        self._is_running = True
        try:
            while not (self._is_paused or self.is_over or self._timer is not None):
                self._advance()
        finally:
            self._is_running = False

    def _advance(self) -> None:
        """Take every piece that is ready, or else one other step."""
        pieces: list[bytes] = []
        size = 0
        step = next(self._steps, None) if self._ahead is None else self._ahead
        while type(step) is Bytes and size < COALESCED_BYTES_MAX:
            pieces.append(step.data)
            size += len(step.data)
            self._tally.completion_tokens += step.output_tokens
            step = next(self._steps, None)
        if pieces:
            self._ahead = End() if step is None else step
            self._audience.on_pieces(pieces)
            return
        self._ahead = None
        if type(step) is Wait:
            self._tally.prompt_tokens += step.input_tokens
            if step.seconds > 0:
                loop = asyncio.get_running_loop()
                now = loop.time()
                # From when the last wait was due, not from when its timer came: else each token
                # would be late by a little more. A pause or a stopped process begins anew.
                began = now if self._due is None or now - self._due > _LATE_S else self._due
                self._due = began + step.seconds / self._speed
                self._waiting = (step, now)
                self._timer = loop.call_at(self._due, self._waited)
            else:
                self._tally.completion_tokens += step.output_tokens
        elif type(step) is Head:
            self._audience.on_head(step)
        elif type(step) is Hang:
            self._ahead = step
            self._is_paused = True
        elif type(step) is Cut:
            self._finish()
            self._tally.cut += 1
            self._audience.on_cut()
        else:
            self._finish()
            self._tally.finished += 1
            self._audience.on_end()

    def _waited(self) -> None:
        assert self._waiting is not None
        self._tally.completion_tokens += self._waiting[0].output_tokens
        self._timer = self._waiting = None
        self.run()

    def _finish(self) -> None:
        self.is_over = True
        self._tally.active -= 1

    def pause(self) -> None:
        self._is_paused = True
        self._due = None

    def resume(self) -> None:
        self._is_paused = False
        self.run()

    def stop(self) -> None:
        """Nobody listens any more. Idempotent."""
        if self.is_over:
            return
        self._finish()
        self._tally.cancelled += 1
        if self._timer is not None and self._waiting is not None:
            self._timer.cancel()
            step, began = self._waiting
            part = (asyncio.get_running_loop().time() - began) * self._speed / step.seconds
            self._tally.completion_tokens += int(step.output_tokens * min(part, 1.0))
            self._timer = self._waiting = None
