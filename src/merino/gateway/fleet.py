"""The present state of every deployment: is it up, how busy, how quick, may it be used?"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter, time_ns
from typing import Literal, NamedTuple, Protocol

import structlog

from merino.domain.chance import chance_of
from merino.domain.deployment import (
    BreakerChange,
    Deployment,
    DeploymentState,
)
from merino.domain.errors import (
    HoldOutgrown,
    LimitIgnored,
    NotFound,
    UpstreamFailed,
    UpstreamRefused,
)
from merino.domain.limits import NO_LIMITS, Demand
from merino.resilience.breaker import Breaker, BreakerPolicy, Change, Outcome
from merino.resilience.buckets import LimitSet
from merino.resilience.concurrency import AdaptiveLimit
from merino.resilience.latency import PeakEwma, RollingQuantile
from merino.resilience.retry_budget import RetryBudget
from merino.wire.redaction import Secrets, secrets_of

log = structlog.get_logger("merino.fleet")

HISTORY_MAX = 100
CREDENTIAL_OPEN_S = 300.0
"""How long a deployment whose credential was refused is left alone; no retry fixes that."""
THROTTLED_S = 1.0
"""How long after a 429 that named no time."""
THROTTLED_MAX_S = 120.0

Unusable = Literal["drained", "breaker_open", "throttled", "busy", "rate_limited"]
"""Why a deployment is passed over."""


class BreakerLog(Protocol):
    """Remembers breakers' changes for longer than a process lives. Called on the event loop, in the
    middle of calls: it must not wait."""

    def heard(self, deployment: str, change: BreakerChange) -> None: ...

    def history(self, deployment: str) -> Sequence[BreakerChange]: ...


TroubleKind = Literal["credential", "credit", "gone", "denied"]
"""What only an operator can fix: our credential is refused, our account is empty, there is no such
model or path, or every call is refused and no reason is given."""

_TOLD = {
    "credential": "the provider refused the relay's credential ({status})",
    "credit": "the relay's account at the provider has no credit left ({status})",
    "denied": "the provider refuses calls of several accounts ({status})",
}
_LOGGED = {
    "credential": "a provider refuses the relay's credential; the deployment is left alone",
    "credit": "the relay's account at a provider has no credit or quota left; the deployment is "
    "left alone",
    "gone": "an upstream has no such model or path; calls go elsewhere, or fail",
    "denied": "an upstream refuses calls and does not say why",
}
_SAID_LENGTH_MAX = 300
_DENIED_TIMES = 3
"""After this many refusals in a row that give no reason, an operator should look."""


class Trouble(NamedTuple):
    """What an operator has to fix at a deployment: the kind, the status, since when, and what the
    upstream said."""

    deployment: str
    kind: TroubleKind
    status: int
    since_ms: int
    said: str = ""


@dataclass(frozen=True, slots=True)
class FleetPolicy:
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    slow_first_token_s: float = 0.0
    retry_share: float = 0.2
    retry_reserve: int = 3
    hedge_samples_min: int = 100


class Pace:
    """How soon a deployment begins to answer, in seconds: a stream with its first content, other
    calls with the whole answer."""

    __slots__ = ("ewma", "p95")

    def __init__(self, samples_min: int) -> None:
        self.ewma = PeakEwma()
        self.p95 = RollingQuantile(0.95, samples_min=samples_min)

    def observe(self, seconds: float, now: float, *, is_ranked: bool) -> None:
        """`is_ranked`: keep the quantile too, which only hedging reads and which costs more."""
        self.ewma.observe(seconds, now)
        if is_ranked:
            self.p95.observe(seconds)


class Member:
    """One deployment and its state. Settings may replace `deployment`; the state stays."""

    __slots__ = (
        "_is_limited",
        "_log",
        "adaptive",
        "answers",
        "breaker",
        "budget",
        "deployment",
        "history",
        "in_flight",
        "is_drained",
        "limits",
        "stream_pace",
        "suspect",
        "throttled_until_s",
        "trouble",
        "whole_pace",
    )

    def __init__(
        self,
        deployment: Deployment,
        policy: FleetPolicy,
        now: float,
        uniform: Callable[[float, float], float],
        log: BreakerLog | None = None,
    ) -> None:
        self.deployment = deployment
        self._log = log
        self.breaker = Breaker(policy.breaker, uniform=uniform, on_change=self._on_change)
        self.budget = RetryBudget(policy.retry_share, policy.retry_reserve, now)
        self.in_flight = 0
        self.limits = LimitSet()
        self.adaptive: AdaptiveLimit | None = None
        self.stream_pace = Pace(policy.hedge_samples_min)
        self.whole_pace = Pace(policy.hedge_samples_min)
        known = () if log is None else log.history(deployment.name)
        self.history: deque[BreakerChange] = deque(known, maxlen=HISTORY_MAX)
        self.is_drained = False
        self.throttled_until_s = 0.0
        self.trouble: Trouble | None = None
        """Until it answers again, with its breaker closed."""
        self.suspect: tuple[str, int] | None = None
        """The account whose call was refused without a reason, and how often in a row; `None` once
        any account's call was answered."""
        self.answers = True
        """Whether the last call that was evidence either way was answered. Before the first one,
        nothing speaks against it: after a start, models take their time to answer."""
        self.configure(deployment, now)

    def configure(self, deployment: Deployment, now: float) -> None:
        self.deployment = deployment
        self._is_limited = deployment.limits != NO_LIMITS
        self.limits.in_flight = self.in_flight  # not counted while there was no limit
        self.limits.set(deployment.limits, now)
        if deployment.adaptive_concurrency and self.adaptive is None:
            self.adaptive = AdaptiveLimit()
        elif not deployment.adaptive_concurrency:
            self.adaptive = None

    def follow(self, policy: FleetPolicy, now: float) -> None:
        """Use another policy from now on; what was learned stays."""
        self.breaker.configure(policy.breaker, now)
        self.budget.configure(policy.retry_share, policy.retry_reserve)
        for pace in (self.stream_pace, self.whole_pace):
            pace.p95.configure(policy.hedge_samples_min)

    def pace(self, *, streamed: bool) -> Pace:
        return self.stream_pace if streamed else self.whole_pace

    def why_not(self, demand: Demand, now: float) -> Unusable | None:
        """Why a call of this demand cannot go there now; `None` if it can."""
        if self.is_drained:
            return "drained"
        if self.breaker.state != "closed" and not self.breaker.allows(now):
            return "breaker_open"
        if now < self.throttled_until_s:
            return "throttled"
        if self.adaptive is not None and self.in_flight >= self.adaptive.limit:
            return "busy"
        if not self._is_limited:
            return None
        refusal = self.limits.refusal(demand, now)
        if refusal is None:
            return None
        return "busy" if refusal.kind == "concurrency" else "rate_limited"

    def may_be_used_after(self, wait_s: float, demand: Demand, now: float) -> bool:
        """Whether a call could go there after this time, as far as is known now. Only a question:
        no state changes."""
        if wait_s <= 0:
            return self.why_not(demand, now) is None
        if self.is_drained or self.throttled_until_s - now > wait_s:
            return False
        if self.breaker.retry_after_s(now) > wait_s:
            return False
        refusal = self.limits.refusal(demand, now) if self._is_limited else None
        return refusal is None or refusal.retry_after_s <= wait_s

    def usable_in_s(self, demand: Demand, now: float) -> float:
        """When asking again makes sense; infinity if only an operator can help."""
        if self.is_drained:
            return float("inf")
        wait_s = max(self.breaker.retry_after_s(now), self.throttled_until_s - now, 0.0)
        refusal = self.limits.refusal(demand, now)
        if refusal is not None:
            wait_s = max(wait_s, refusal.retry_after_s)
        return wait_s or 1.0

    def begin(self, demand: Demand) -> int:
        """An attempt is sent. Returns what `end` wants."""
        self.in_flight += 1
        if self._is_limited:
            self.limits.take(demand)
        return self.breaker.begin()

    def end(
        self, begun: int, outcome: Outcome, now: float, *, unused: Demand, reason: str = ""
    ) -> None:
        """How the attempt went."""
        in_flight = self.in_flight
        self.in_flight -= 1
        if self._is_limited:
            self.limits.end(unused, now)
        if outcome != "ignored":
            self.answers = outcome == "success"
            if self.answers and (self.suspect or self.trouble):
                self.suspect = None
                if self.breaker.state == "closed":
                    self.trouble = None
            if self.adaptive is not None:
                if outcome == "success":
                    self.adaptive.succeeded(in_flight)
                else:
                    self.adaptive.overloaded(now)
        self.breaker.end(begun, outcome, now, reason)

    def throttled(self, retry_after_s: float | None, now: float) -> None:
        """It reported too many calls: it gets a rest; this is no failure."""
        rest_s = THROTTLED_S if retry_after_s is None else min(retry_after_s, THROTTLED_MAX_S)
        self.throttled_until_s = max(self.throttled_until_s, now + rest_s)
        if self.adaptive is not None:
            self.adaptive.overloaded(now)

    def failed(self, error: UpstreamFailed, account_id: str, now: float) -> tuple[Outcome, str]:
        """What a failed attempt of an account's call says about the deployment, and what follows:
        the only place where one call may keep others from it. A failure that is the call's own
        fault changes nothing."""
        verdict = error.verdict
        if isinstance(error, HoldOutgrown | LimitIgnored):
            return "success", ""
        if verdict == "throttled":
            self.throttled(error.retry_after_s, now)
            return "ignored", ""
        if verdict in ("credential", "credit"):
            self._in_trouble(verdict, error, now, open_s=CREDENTIAL_OPEN_S)
            return "failure", error.code or type(error).__name__
        if verdict == "gone":
            self._in_trouble("gone", error, now)
        elif verdict in ("denied", "too_dear"):
            self._suspected(error, account_id, now)
        if verdict is not None and verdict != "failed":
            return "ignored", ""
        if isinstance(error, UpstreamRefused):
            return "failure", f"status {error.status}"
        return "failure", error.code or type(error).__name__

    def _suspected(self, error: UpstreamFailed, account_id: str, now: float) -> None:
        """A refusal that may be about the call or about us. It is about us if the next call of
        another account is refused too. One account alone can close nothing, whatever it sends."""
        who, times = self.suspect or (account_id, 0)
        self.suspect = (account_id, times + 1)
        if who != account_id:
            kind: TroubleKind = "credit" if error.verdict == "too_dear" else "denied"
            self._in_trouble(kind, error, now, open_s=0.0)
            self.suspect = None
        elif times + 1 >= _DENIED_TIMES:
            self._in_trouble("denied", error, now)

    def _in_trouble(
        self, kind: TroubleKind, error: UpstreamFailed, now: float, open_s: float | None = None
    ) -> None:
        """Only an operator can fix that. `open_s` is how long it is left alone: 0 for as long as
        its breaker says, `None` for not at all."""
        known = self.trouble
        if open_s is not None and known is not None and self.breaker.state == "open":
            return  # of a call that was under way when it opened
        status = error.refused_with
        is_new = known is None or known.kind != kind
        since_ms = time_ns() // 1_000_000 if known is None or is_new else known.since_ms
        said = (error.said or error.message)[:_SAID_LENGTH_MAX]
        self.trouble = Trouble(self.deployment.name, kind, status, since_ms, said)
        if open_s is not None:
            reason = _TOLD[kind].format(status=status)
            self.breaker.force_open(reason, now, for_s=open_s or None)
        elif not is_new:
            return
        log.error(
            _LOGGED[kind],
            deployment=self.deployment.name,
            status=status,
            said=said,
            left_alone_s=round(self.breaker.retry_after_s(now), 1),
        )

    def state(self, now: float) -> DeploymentState:
        adaptive, breaker, any_call = self.adaptive, self.breaker, Demand()
        is_usable = self.why_not(any_call, now) is None
        return DeploymentState(
            breaker=breaker.state,
            reason=breaker.reason,
            usable_in_s=0.0 if is_usable else self.usable_in_s(any_call, now),
            is_drained=self.is_drained,
            in_flight=self.in_flight,
            concurrency_limit=self.limits.concurrency if adaptive is None else adaptive.limit,
            first_token_s=self.stream_pace.ewma.value_s,
            history=tuple(self.history),
        )

    def _on_change(self, change: Change) -> None:
        seen = BreakerChange(time_ns() // 1_000_000, change.state, change.reason)
        self.history.append(seen)
        if change.state == "closed":
            self.trouble = None
        if self._log is not None:
            self._log.heard(self.deployment.name, seen)
        tell = log.info if change.state == "closed" else log.warning
        tell(
            "breaker changed",
            deployment=self.deployment.name,
            state=change.state,
            reason=change.reason,
        )


class Fleet:
    """Every deployment by name. Their state lives as long as the process, whatever is reloaded."""

    def __init__(
        self,
        policy: FleetPolicy | None = None,
        *,
        clock: Callable[[], float] = perf_counter,
        chance: random.Random | None = None,
        breaker_log: BreakerLog | None = None,
        more_secrets: Iterable[str] = (),
    ) -> None:
        """`more_secrets` are in no deployment: those of proxies' URLs."""
        self._more_secrets = tuple(more_secrets)
        self._secrets: Secrets | None = None
        self._breaker_log = breaker_log
        self.policy = policy or FleetPolicy()
        self.clock = clock
        self.chance = chance or chance_of()
        self._members: dict[str, Member] = {}

    def of(self, deployment: Deployment) -> Member:
        member = self._members.get(deployment.name)
        if member is None:
            member = self._members[deployment.name] = Member(
                deployment, self.policy, self.clock(), self.chance.uniform, self._breaker_log
            )
            self._secrets = None
        elif member.deployment is not deployment:
            member.configure(deployment, self.clock())
            self._secrets = None
        return member

    def follow(self, policy: FleetPolicy) -> None:
        """Use another policy for every deployment from now on."""
        self.policy = policy
        for member in self._members.values():
            member.follow(policy, self.clock())

    def keep(self, deployments: Iterable[Deployment]) -> None:
        """Keep exactly these deployments."""
        wanted = {each.name: each for each in deployments}
        for name in [name for name in self._members if name not in wanted]:
            if self._members.pop(name).breaker.state != "closed" and self._breaker_log is not None:
                gone = BreakerChange(time_ns() // 1_000_000, "closed", "left out of the settings")
                self._breaker_log.heard(name, gone)
        for deployment in wanted.values():
            self.of(deployment)

    def members(self) -> list[Member]:
        return list(self._members.values())

    def named(self, name: str) -> Deployment | None:
        """The deployment of this name, if it was asked since the start."""
        member = self._members.get(name)
        return None if member is None else member.deployment

    def get(self, name: str) -> Member:
        """Raises `NotFound`."""
        member = self._members.get(name)
        if member is None:
            raise NotFound(f"There is no deployment '{name[:100]}'.", code="deployment_not_found")
        return member

    def state_of(self, name: str) -> DeploymentState | None:
        member = self._members.get(name)
        return None if member is None else member.state(self.clock())

    def troubles(self) -> list[Trouble]:
        """What operators have to fix now."""
        found = [each.trouble for each in self._members.values()]
        return [each for each in found if each is not None]

    @property
    def secrets(self) -> Secrets:
        """The secrets of all deployments, which only the relay and its upstreams may know: an
        upstream that is itself a gateway may reveal one deployment's secret to another's caller."""
        if self._secrets is None:
            deployments = [each.deployment for each in self._members.values()]
            self._secrets = secrets_of(deployments, self._more_secrets)
        return self._secrets

    def drain(self, name: str, *, is_drained: bool) -> None:
        """Send no new calls there, or again. Raises `NotFound`."""
        self.get(name).is_drained = is_drained
        log.info("deployment drained" if is_drained else "deployment in use again", deployment=name)
