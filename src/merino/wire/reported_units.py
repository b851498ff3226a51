"""What an upstream reports beside tokens: cache writes by how long they are kept, and what its
tools did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from msgspec.structs import replace

from merino.domain.usage import CACHE_WRITE_UNITS, Units, Usage

COUNT_MAX = 10**9

_IN_USAGE = (
    (("input_tokens_details", "cache_write_tokens_details", "ttl_30m_tokens"), "cache_write_30m"),
    (("input_tokens_details", "cache_write_tokens_details", "ttl_12h_tokens"), "cache_write_12h"),
    (("prompt_tokens_details", "cache_write_tokens_details", "ttl_30m_tokens"), "cache_write_30m"),
    (("prompt_tokens_details", "cache_write_tokens_details", "ttl_12h_tokens"), "cache_write_12h"),
    (("cache_creation", "ephemeral_5m_input_tokens"), "cache_write_5m"),
    (("cache_creation", "ephemeral_1h_input_tokens"), "cache_write_1h"),
    (("server_tool_use", "web_search_requests"), "web_search"),
)
"""Where a usage object has them."""
_BESIDE_USAGE = (
    (("web_search", "num_requests"), "web_search"),
    (("image_gen", "num_images"), "image"),
)
"""Where the object beside it (`tool_usage`) has them."""


def units_of(usage: object, beside: object = None) -> Units:
    """The units in a decoded usage object, and in what tells of tools."""
    found: dict[str, int] = {}
    for value, places in ((usage, _IN_USAGE), (beside, _BESIDE_USAGE)):
        for path, unit in places if isinstance(value, dict) else ():
            count = _count_at(cast("dict[str, Any]", value), path)
            if count:
                found[unit] = max(found.get(unit, 0), count)
    return tuple(sorted(found.items()))


def with_units(usage: Usage | None, units: Units) -> Usage | None:
    """The same with these units; cache writes are never more than there were."""
    if not units or usage is None:
        return usage
    kept: list[tuple[str, int]] = []
    left = usage.cache_write_tokens
    for unit, told in units:
        count = told
        if unit in CACHE_WRITE_UNITS:
            count = min(told, left)
            left -= count
        if count:
            kept.append((unit, count))
    return replace(usage, units=tuple(kept))


def most_units(one: Units, other: Units) -> Units:
    """What two reports of one call say together."""
    if one == other or not other:
        return one
    both = dict(one)
    for unit, count in other:
        both[unit] = max(both.get(unit, 0), count)
    return tuple(sorted(both.items()))


def _count_at(value: Mapping[str, Any], path: tuple[str, ...]) -> int:
    found: object = dict(value)
    for name in path:
        if not isinstance(found, dict):
            return 0
        found = cast("dict[str, object]", found).get(name)
    if isinstance(found, bool) or not isinstance(found, int):
        return 0
    return min(max(found, 0), COUNT_MAX)
