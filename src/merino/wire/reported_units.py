"""What an upstream reports beside tokens: cache writes by how long they are kept, and what its
tools did."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from merino.domain.usage import CACHE_WRITE_UNITS, Units, Usage

COUNT_MAX = 10**9

_IN_USAGE = (
    (("input_tokens_details", "cache_write_tokens_details", "ttl_30m_tokens"), "cache_write_30m"),
    (("input_tokens_details", "cache_write_tokens_details", "ttl_12h_tokens"), "cache_write_12h"),
    (("prompt_tokens_details", "cache_write_tokens_details", "ttl_30m_tokens"), "cache_write_30m"),
    (("prompt_tokens_details", "cache_write_tokens_details", "ttl_12h_tokens"), "cache_write_12h"),
    (("input_tokens_details", "cache_write_tokens_details", "ttl_5m_tokens"), "cache_write_5m"),
    (("input_tokens_details", "cache_write_tokens_details", "ttl_1h_tokens"), "cache_write_1h"),
    (("cache_creation", "ephemeral_5m_input_tokens"), "cache_write_5m"),
    (("cache_creation", "ephemeral_1h_input_tokens"), "cache_write_1h"),
    (("server_tool_use", "web_search_requests"), "web_search"),
)
"""Where a usage object has them."""
_BESIDE_USAGE = (
    (("web_search", "num_requests"), "web_search"),
    (("image_gen", "num_images"), "image"),
    (("image_gen", "input_tokens_details", "text_tokens"), "image_gen_text"),
    (("image_gen", "input_tokens_details", "image_tokens"), "image_gen_image"),
    (("image_gen", "output_tokens"), "image_gen_output"),
)
"""Where the object beside it (`tool_usage`) has them."""


_TOLD_BESIDE = {"web_search": "web_search", "image_gen": "image"}
"""What need not be counted where the object beside the usage tells of it."""
_ITEMS = re.compile(rb'"(?:web_search|file_search|code_interpreter|image_generation)_call"').search


class ItemUnits:
    """Counts what a vendor's tools did by the items that they leave in an answer."""

    def __init__(self) -> None:
        self._found: dict[str, set[str]] = {}

    def note(self, item: bytes) -> None:
        """A whole item has come."""
        if _ITEMS(item) is None:
            return
        try:
            told = _decode_call(item)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return
        unit = _UNIT_OF_ITEM.get(told.type or "")
        if unit is None or (unit == "web_search" and not told.is_search):
            return
        name = told.container_id if unit == "code_interpreter" else told.id
        seen = self._found.setdefault(unit, set())
        seen.add(name or str(len(seen)))

    def units(self, beside: object = None) -> Units:
        """What was counted and is not told in the object beside the usage."""
        told = cast("dict[str, Any]", beside) if isinstance(beside, dict) else {}
        left = {unit for name, unit in _TOLD_BESIDE.items() if told.get(name) is not None}
        return tuple(
            sorted((unit, len(seen)) for unit, seen in self._found.items() if unit not in left)
        )


_UNIT_OF_ITEM = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image",
}


class _Call(msgspec.Struct, gc=False):
    type: str | None = None
    id: str | None = None
    container_id: str | None = None
    action: Any = None

    @property
    def is_search(self) -> bool:
        """A search is billed, opening a page of what it found is not."""
        action: object = self.action
        if not isinstance(action, dict):
            return True
        return cast("dict[str, Any]", action).get("type", "search") == "search"


_decode_call = msgspec.json.Decoder(_Call).decode


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
    found: object = value
    for name in path:
        if not isinstance(found, dict):
            return 0
        found = cast("dict[str, object]", found).get(name)
    if isinstance(found, bool) or not isinstance(found, int):
        return 0
    return min(max(found, 0), COUNT_MAX)
