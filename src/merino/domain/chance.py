"""Chance: for jitter and load, and such as comes out the same for the same seed. Never for
secrets."""

from __future__ import annotations

from random import Random


def chance_of(seed: int | str | None = None) -> Random:
    """Without a seed, another one each time."""
    return Random(seed)  # noqa: S311 - nothing of it is secret
