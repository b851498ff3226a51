"""Active health checks: probe deployments before a caller finds out the hard way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from merino.domain.deployment import Deployment
from merino.domain.errors import UpstreamFailed
from merino.gateway.blame import is_our_own
from merino.gateway.fleet import Fleet, Member
from merino.gateway.probe_tally import ProbeTally
from merino.running.every import every
from merino.running.standstill import Standstill

FAILURES_MIN = 2
"""One lost check proves nothing."""
TIMEOUT_S = 10.0
_TICK_S = 0.5
_REASON = "health check failed"


class Pingable(Protocol):
    """A provider whose health can be checked without running a model."""

    async def ping(self, deployment: Deployment) -> int:
        """The HTTP status of a cheap request. Raises `UpstreamFailed`."""
        ...


class HealthChecks:
    """Opens a deployment's breaker after two failed checks, and closes what it opened once one
    succeeds. A refusal (4xx) is an answer: the server is up."""

    def __init__(
        self,
        fleet: Fleet,
        providers: Mapping[str, Pingable],
        clock: Callable[[], float],
        standstill: Standstill | None = None,
    ) -> None:
        self._standstill = standstill or Standstill()
        self._fleet = fleet
        self._providers = providers
        self._clock = clock
        self.tally = ProbeTally()
        """What the checks found, for the status page."""
        self._due: dict[str, float] = {}
        self._failed: dict[str, int] = {}

    async def run(self) -> None:
        """Check what is due, until cancelled."""
        async with asyncio.TaskGroup() as tasks:

            async def look() -> None:
                for member in self.due(self._clock()):
                    tasks.create_task(self.check(member))

            await every(_TICK_S, look, at_once=True)

    def due(self, now: float) -> list[Member]:
        """Members whose check is due; their next one is set."""
        found: list[Member] = []
        for member in self._fleet.members():
            deployment = member.deployment
            if deployment.health_check_s <= 0 or deployment.provider not in self._providers:
                continue
            if self._due.get(deployment.name, 0.0) <= now:
                self._due[deployment.name] = now + deployment.health_check_s
                found.append(member)
        return found

    async def check(self, member: Member) -> None:
        """One check, and what follows from it."""
        deployment = member.deployment
        reason = ""
        began = self._clock()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._providers[deployment.provider].ping(deployment)
            if status >= 500:
                reason = f"status {status}"
        except TimeoutError:
            reason = f"no answer within {TIMEOUT_S:g} s"
        except UpstreamFailed as error:
            if is_our_own(error):
                return
            reason = error.code or type(error).__name__
        now = self._clock()
        if reason and self._standstill.lost_since(began, now):
            return  # the relay itself stood still
        self.tally.heard(deployment, is_answered=not reason, now=now)
        if not reason:
            self._failed.pop(deployment.name, None)
            if member.breaker.state != "closed" and member.breaker.reason.startswith(_REASON):
                member.breaker.force_closed("health check succeeded", now)
            return
        failures = self._failed[deployment.name] = self._failed.get(deployment.name, 0) + 1
        if failures >= FAILURES_MIN:
            member.breaker.force_open(
                f"{_REASON}: {reason}", now, for_s=2 * deployment.health_check_s
            )
