"""Deployments that need no table: the simulator's."""

from __future__ import annotations

from merino.settings.tree import Settings

SIMULATED_MODELS = ("o3", "o3-mini", "o4", "o4-mini")
BUILT_IN_PREFIX = "sim/"


def built_in_names(settings: Settings) -> list[str]:
    """What aliases may name besides the tables of `[[deployments]]`."""
    if not settings.simulator.enabled:
        return []
    return [f"{BUILT_IN_PREFIX}{model}" for model in SIMULATED_MODELS]
