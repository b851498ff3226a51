"""What a call of the admin API used, and of which model at which tier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from merino.domain.usage import Usage

TIERS = frozenset(("flex", "batch", "priority", "scale"))

Call = Mapping[str, Any]


def called_model(call: Call) -> str:
    """What the upstream was asked for; the simulator's names end where its script begins."""
    return str(call["upstream_model"] or call["alias"]).partition("!")[0]


def tier_of(call: Call) -> str | None:
    """The service tier it was billed at, which its price's id names: ``openai/o3:flex@...``."""
    tier = str(call["price_id"] or "").partition("@")[0].rpartition(":")[2]
    return tier if tier in TIERS else None  # models may have colons in their names too


def used_by(call: Call) -> Usage:
    return Usage(
        input_tokens=call["input_tokens"],
        output_tokens=call["output_tokens"],
        cached_tokens=call["cached_tokens"],
        cache_write_tokens=call["cache_write_tokens"],
        reasoning_tokens=call["reasoning_tokens"],
        image_input_tokens=call["image_input_tokens"],
        audio_input_tokens=call["audio_input_tokens"],
        audio_output_tokens=call["audio_output_tokens"],
        units=tuple(sorted(json.loads(call["units"] or "{}").items())),
    )
