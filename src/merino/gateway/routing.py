"""Selection policies: pure functions that order an alias's deployments."""

from __future__ import annotations

from collections.abc import Sequence

from merino.domain.deployment import Deployment
from merino.domain.errors import Misconfigured
from merino.gateway.ports import SelectionPolicy


def priority(candidates: Sequence[Deployment]) -> Sequence[Deployment]:
    """As configured: the first is preferred, the others stand in for it."""
    return candidates


POLICIES: dict[str, SelectionPolicy] = {"priority": priority}


def policy_named(name: str) -> SelectionPolicy:
    """Raises `Misconfigured` for a name that is none."""
    policy = POLICIES.get(name)
    if policy is None:
        raise Misconfigured(
            f"selection_policy = {name!r}: must be one of {', '.join(sorted(POLICIES))}"
        )
    return policy
