"""Log lines of what held the event loop up."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import structlog

from merino.running.loop_lag import HeldUp

log = structlog.get_logger("merino")

EVERY_S = 10.0
PLACES_MAX = 200
STARTING_S = 5.0
UNSEEN_S = 0.1


class HeldUpLog:
    """Names each place at most once in ten seconds, with how many hold-ups it left out since.

    Silent while the relay starts, when everything is done for the first time, and about short ones
    that nobody was seen in: then the machine gave this process no time."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._silent_until = clock() + STARTING_S
        self._told: dict[str, tuple[float, int]] = {}

    def __call__(self, held_up: HeldUp) -> None:
        place = held_up.where[0] if held_up.where else ""
        now = self._clock()
        if now < self._silent_until or (not place and held_up.lost_s < UNSEEN_S):
            return
        told_at, left_out = self._told.get(place, (now - EVERY_S, 0))
        if now - told_at < EVERY_S:
            self._told[place] = told_at, left_out + 1
            return
        if len(self._told) >= PLACES_MAX:
            self._told.clear()
        self._told[place] = now, 0
        log.warning(
            "the event loop was held up",
            ms=round(held_up.lost_s * 1000, 1),
            by=" < ".join(held_up.where) or "nobody that was seen",
            task=held_up.task or None,
            left_out=left_out,
        )
