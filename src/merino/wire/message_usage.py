"""What an upstream of Anthropic's Messages API says a call used.

Its counts lie side by side where others put one inside the other, and the sums at the top are not
all of it: `iterations` lists every round of the model, with rounds outside the sums and rounds of
other models. `PLACES` says what each count is; `usage_told` makes one usage of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from msgspec.structs import replace

from merino.domain.usage import CACHE_WRITE_UNITS, Usage
from merino.wire.reported_units import most_units, units_of, with_units
from merino.wire.reported_usage import clamped, number_of

Place = Literal["input", "cached", "written", "output", "thought", "image", "sound", "spoken"]
ESTIMATED = "estimated"
"""The member that marks a usage as the relay's own estimate: nothing was reported."""

PLACES: Mapping[tuple[str, ...], Place] = {
    ("input_tokens",): "input",
    ("cache_read_input_tokens",): "cached",
    ("cache_creation_input_tokens",): "written",
    ("output_tokens",): "output",
    ("output_tokens_details", "thinking_tokens"): "thought",
    # Of upstreams with another dialect, whose counts are carried over.
    ("input_tokens_details", "image_tokens"): "image",
    ("input_tokens_details", "audio_tokens"): "sound",
    ("output_tokens_details", "audio_tokens"): "spoken",
}
"""What lies where in a usage object, or in one of its iterations. `cached` and `written` come on
top of `input`; `thought` lies within `output`. Beside tokens: `reported_units.py`."""

_ADVICE = "advisor_message"
"""Rounds of a model that was asked for advice: outside the sums."""
_OTHERS = frozenset((_ADVICE, "fallback_message"))
"""Rounds that say which other model made them."""
_OUTSIDE = "compaction"
"""Rounds of the model that the sums leave out."""
_STANDARD = frozenset(("standard", "auto", "standard_only", ""))
_PRICED_PLACES = frozenset(("us",))


def overlaid(earlier: Mapping[str, Any], later: object) -> dict[str, Any]:
    """The usage of a stream after another report: what it says replaces what was said before, and
    what it leaves out, or has nothing of, stays."""
    found = dict(earlier)
    if isinstance(later, dict) and ESTIMATED not in later:
        for name, value in cast("dict[str, Any]", later).items():
            if value or name not in found:
                found[name] = value
    return found


def usage_told(value: object, *, is_begun_only: bool = False) -> Usage | None:
    """The usage in a decoded usage object; `None` if it reports none. `is_begun_only`: it is that
    of a beginning, whose output is no count of the answer."""
    if not isinstance(value, dict):
        return None
    members = cast("dict[str, Any]", value)
    counts = _counts(members)
    if not counts or ESTIMATED in members:
        return None
    own = _usage(counts)
    rounds = members.get("iterations")
    if isinstance(rounds, list) and not is_begun_only:
        own = _with_rounds(own, cast("list[object]", rounds))
    if is_begun_only:
        own = replace(own, output_tokens=0, reasoning_tokens=0)
    return with_units(own, most_units(own.units, units_of(members)))


def tier_told(value: object) -> str | None:
    """At which of its prices a call was run: the service tier, and what else has a price of its
    own, joined by `+`. `None` if nothing is said."""
    if not isinstance(value, dict):
        return None
    members = cast("dict[str, Any]", value)
    return tier_of(members.get("service_tier"), members.get("speed"), members.get("inference_geo"))


def tier_of(service_tier: object, speed: object, place: object) -> str | None:
    """The same of what was asked or told, one by one."""
    if service_tier is None and speed is None and place is None:
        return None
    parts = ["batch"] if service_tier == "batch" else []
    if isinstance(speed, str) and speed not in _STANDARD:
        parts.append(f"{speed}-mode")
    if place in _PRICED_PLACES:
        parts.append(str(place))
    if not parts and isinstance(service_tier, str) and service_tier not in _STANDARD:
        return service_tier
    return "+".join(parts) or "standard"


def _counts(members: Mapping[str, Any]) -> dict[Place, int]:
    found: dict[Place, int] = {}
    for path, place in PLACES.items():
        value: object = members
        for name in path:
            value = _members(value).get(name)
        number = number_of(value)
        if number is not None:
            found[place] = number
    if "written" not in found:
        # Some servers say only how long it is kept.
        told = sum(count for unit, count in units_of(members) if unit in CACHE_WRITE_UNITS)
        found |= {"written": told} if told else {}
    return found


def _members(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _usage(counts: Mapping[Place, int]) -> Usage:
    cached, written = counts.get("cached", 0), counts.get("written", 0)
    return clamped(
        counts.get("input", 0) + cached + written,
        counts.get("output", 0),
        cached,
        written,
        counts.get("thought", 0),
        counts.get("image", 0),
        counts.get("sound", 0),
        counts.get("spoken", 0),
    )


# -- rounds ---------------------------------------------------------------------------------------


def _with_rounds(sums: Usage, rounds: list[object]) -> Usage:
    """What the rounds say. Those of the asked model, which goes first, are the call's own. Where
    they do not come to what the sums say, the sums are right, and only what certainly lies outside
    is added."""
    own = outside = Usage()
    advice: dict[str, Usage] = {}
    others: dict[str, Usage] = {}
    asked: str | None = None
    count = 0
    for each in rounds:
        if not isinstance(each, dict):
            continue
        count += 1
        members = cast("dict[str, Any]", each)
        kind, said = members.get("type"), members.get("model")
        model = said if isinstance(said, str) and said else None
        used = _usage(_counts(members))
        used = with_units(used, units_of(members)) or used
        if kind not in _OTHERS and asked is None:
            asked = model
        if kind == _OUTSIDE:
            outside = added(outside, used)
        elif model is None or model == asked:
            own = added(own, used)
        else:
            place = advice if kind == _ADVICE else others
            place[model] = added(place.get(model, Usage()), used)
    listed = own
    for used in others.values():
        listed = added(listed, used)
    if listed.input_tokens < sums.input_tokens or listed.output_tokens < sums.output_tokens:
        own, others = sums, {}
    elif not own.reasoning_tokens:
        own = replace(own, reasoning_tokens=min(sums.reasoning_tokens, own.output_tokens))
    elsewhere = tuple(sorted((advice | others).items()))
    return replace(added(own, outside), elsewhere=elsewhere, rounds=max(1, count))


def added(one: Usage, other: Usage) -> Usage:
    """Two usages of one model together."""
    units = dict(one.units)
    for unit, count in other.units:
        units[unit] = units.get(unit, 0) + count
    both = clamped(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cached_tokens + other.cached_tokens,
        one.cache_write_tokens + other.cache_write_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
        one.image_input_tokens + other.image_input_tokens,
        one.audio_input_tokens + other.audio_input_tokens,
        one.audio_output_tokens + other.audio_output_tokens,
    )
    return with_units(both, tuple(sorted(units.items()))) or both
