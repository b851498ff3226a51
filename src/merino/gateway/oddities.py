"""What is odd about the usage that upstreams report: counted for metrics, kept for the operator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from time import time_ns
from typing import Any

import msgspec
import structlog

from merino.domain.clock import HOUR_MS
from merino.domain.usage import Usage
from merino.gateway.reckoning import Oddity

log = structlog.get_logger("merino")

ALARMING: frozenset[Oddity] = frozenset(("impossible", "runaway", "zero_charge", "unpriced_unit"))
"""Oddities that an operator is notified of, not only shown."""
_LOGGED_EVERY_MS = HOUR_MS
_TOLD = {
    "impossible": "an upstream reports a usage that cannot be; what went through was counted",
    "runaway": "an upstream ignores output limits: it went far beyond that of a call",
    "too_low": "an upstream reports less usage than went through",
    "above_limit": "an upstream went beyond the output limit of a call",
    "unpriced_unit": "a call used a tool of its vendor that has no price here",
    "zero_charge": "a call that produced something and has a price cost nothing",
}


@dataclass(slots=True)
class OddUsage:
    """One kind of oddity at one deployment. `call_id` and `said` are the last one's."""

    deployment: str
    oddity: Oddity
    count: int = 0
    last_ms: int = 0
    call_id: str = ""
    said: str = ""
    logged_ms: int = 0


class Oddities:
    """Bounded by deployments times kinds; lives as long as the process."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Oddity], OddUsage] = {}

    def note(self, deployment: str, oddity: Oddity, call_id: str, said: str) -> None:
        """One more."""
        each = self._found.get((deployment, oddity))
        if each is None:
            each = self._found[deployment, oddity] = OddUsage(deployment, oddity)
        each.count += 1
        each.last_ms = now_ms = time_ns() // 1_000_000
        each.call_id, each.said = call_id, said
        if now_ms - each.logged_ms >= _LOGGED_EVERY_MS:
            each.logged_ms = now_ms
            log.warning(
                _TOLD[oddity], deployment=deployment, oddity=oddity, request_id=call_id, said=said
            )

    def all(self) -> list[OddUsage]:
        return list(self._found.values())

    def alarming(self) -> list[OddUsage]:
        """Those that an operator must know about."""
        return [each for each in self._found.values() if each.oddity in ALARMING]


def usage_json(usage: Usage) -> str:
    """A usage as it is stored: input, output, and the parts that are known."""
    said = msgspec.structs.asdict(usage)
    said["units"] = dict(usage.units)
    said["elsewhere"] = _elsewhere(usage)
    said["rounds"] = usage.rounds if usage.rounds > 1 else 0
    counts = {name: count for name, count in said.items() if count or "put_tokens" in name}
    return json.dumps(counts)


def elsewhere_json(usage: Usage) -> str:
    """What other models used, each under its name."""
    return json.dumps(_elsewhere(usage))


def _elsewhere(usage: Usage) -> dict[str, Any]:
    """One model may be named several times."""
    found: dict[str, Any] = {}
    for model, used in usage.elsewhere:
        told = json.loads(usage_json(used))
        if model in found:
            found[model].append(told)
        else:
            found[model] = [told]
    return found
