"""A circuit breaker: leave alone what keeps failing, and try it again carefully."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

State = Literal["closed", "open", "half_open"]
Outcome = Literal["success", "failure", "ignored"]
"""`ignored`: it says nothing about the deployment (the caller's own mistake, a hang-up)."""

_SLOTS = 10


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Opens at `failure_share` of at least `outcomes_min` outcomes in `window_s`, or after
    `consecutive_failures`. Stays open for `open_s`, twice as long each time it fails its trial, at
    most `open_max_s`, each ± `jitter_share`. Then `probes_max` trial calls must succeed: one at a
    time at first, one more at once after each success."""

    window_s: float = 60.0
    outcomes_min: int = 10
    failure_share: float = 0.5
    consecutive_failures: int = 5
    open_s: float = 15.0
    open_max_s: float = 300.0
    jitter_share: float = 0.2
    probes_max: int = 3


class Change(NamedTuple):
    """One change of state, for metrics, logs and history."""

    at_s: float
    state: State
    reason: str


class Breaker:
    """`allows` asks, `begin` starts a call that was allowed, `end` tells how it went.

    `on_change` hears of every change of state. `uniform` draws the jitter.
    """

    __slots__ = (
        "_consecutive",
        "_failures",
        "_generation",
        "_on_change",
        "_opened_times",
        "_policy",
        "_probes_in_flight",
        "_probes_succeeded",
        "_slot",
        "_totals",
        "_uniform",
        "reason",
        "reopens_at_s",
        "state",
    )

    def __init__(
        self,
        policy: BreakerPolicy,
        *,
        uniform: Callable[[float, float], float],
        on_change: Callable[[Change], None] | None = None,
    ) -> None:
        self._policy = policy
        self._uniform = uniform
        self._on_change = on_change
        self.state: State = "closed"
        self.reason = ""
        self.reopens_at_s = 0.0
        """When it may be tried again, while open."""
        self._opened_times = 0
        self._generation = 0
        self._probes_in_flight = 0
        self._probes_succeeded = 0
        self._forget(0)

    @property
    def policy(self) -> BreakerPolicy:
        return self._policy

    def configure(self, policy: BreakerPolicy, now: float) -> None:
        """A new policy from now on. Its state stays; what was counted does, too, unless the window
        itself changes, whose slots then mean other times."""
        is_same_window = policy.window_s == self._policy.window_s
        self._policy = policy
        if not is_same_window:
            consecutive = self._consecutive
            self._forget(now)
            self._consecutive = consecutive

    def allows(self, now: float) -> bool:
        """Whether a call may be sent now. An open breaker becomes half-open when its time is up."""
        if self.state == "closed":
            return True
        if self.state == "open":
            if now < self.reopens_at_s:
                return False
            self._probes_in_flight = self._probes_succeeded = 0
            self._set("half_open", "its time is up: trial calls", now)
        return self._probes_in_flight <= self._probes_succeeded

    def begin(self) -> int:
        """A call that was allowed is sent. Returns what `end` wants to know."""
        if self.state == "half_open":
            self._probes_in_flight += 1
        return self._generation

    def end(self, begun: int, outcome: Outcome, now: float, reason: str = "") -> None:
        """How the call went. One that began before the last change of state counts no more."""
        if begun != self._generation:
            return
        if self.state == "half_open":
            self._probes_in_flight -= 1
            if outcome == "failure":
                self._open(f"a trial call failed: {reason}", now)
            elif outcome == "success":
                self._probes_succeeded += 1
                if self._probes_succeeded >= self._policy.probes_max:
                    self._forget(now)
                    self._opened_times = 0
                    self._set("closed", "its trial calls succeeded", now)
            return
        if outcome == "ignored" or self.state == "open":
            return
        self._count(outcome, now)
        if outcome == "success":
            self._consecutive = 0
            return
        self._consecutive += 1
        if self._consecutive >= self._policy.consecutive_failures:
            self._open(f"{self._consecutive} failures in a row, the last: {reason}", now)
            return
        total, failures = sum(self._totals), sum(self._failures)
        if total >= self._policy.outcomes_min and failures >= self._policy.failure_share * total:
            self._open(f"{failures} of {total} calls failed, the last: {reason}", now)

    def force_open(self, reason: str, now: float, *, for_s: float | None = None) -> None:
        """Open at once, whatever was counted: it is known not to work."""
        self._open(reason, now, for_s)

    def force_closed(self, reason: str, now: float) -> None:
        self._forget(now)
        self._opened_times = 0
        self._set("closed", reason, now)

    def retry_after_s(self, now: float) -> float:
        """Time until a call may be allowed again."""
        return max(0.0, self.reopens_at_s - now) if self.state == "open" else 0.0

    def _open(self, reason: str, now: float, for_s: float | None = None) -> None:
        policy = self._policy
        if for_s is None:
            for_s = min(policy.open_max_s, policy.open_s * 2.0 ** min(self._opened_times, 30))
            for_s *= 1.0 + self._uniform(-policy.jitter_share, policy.jitter_share)
        self._opened_times += 1
        self.reopens_at_s = now + for_s
        self._set("open", reason, now)

    def _set(self, state: State, reason: str, now: float) -> None:
        self._generation += 1
        self.state = state
        self.reason = reason
        if self._on_change is not None:
            self._on_change(Change(now, state, reason))

    # The window is a ring of slots, so that counting costs the same however many calls there are.

    def _forget(self, now: float) -> None:
        self._totals = [0] * _SLOTS
        self._failures = [0] * _SLOTS
        self._slot = int(now / self._policy.window_s * _SLOTS)
        self._consecutive = 0

    def _count(self, outcome: Outcome, now: float) -> None:
        slot = int(now / self._policy.window_s * _SLOTS)
        passed = slot - self._slot
        if passed > 0:
            for each in range(self._slot + 1, self._slot + 1 + min(passed, _SLOTS)):
                self._totals[each % _SLOTS] = self._failures[each % _SLOTS] = 0
            self._slot = slot
        index = self._slot % _SLOTS
        self._totals[index] += 1
        if outcome == "failure":
            self._failures[index] += 1
