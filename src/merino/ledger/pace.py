"""How soon a relay speaks with a bank that others share, and how long it keeps what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How soon a relay speaks, in seconds."""

    gather_s: float = 0.02
    """Calls are told together that end within this."""
    beat_s: float = 2.0
    """With nothing to say."""
    ask_again_s: float = 0.05
    retry_s: float = 0.3
    idle_s: float = 30.0
    """What was never held for so long goes home."""
    ahead_s: float = 30.0
    """How long an advance should last."""
    kept_s: float = 600.0
    """How long lines are kept that are booked, should the bank lose its last second."""
    lines_max: int = 256
