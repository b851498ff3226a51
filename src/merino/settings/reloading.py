"""Which settings a reload cannot change, and which of them it would have to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, is_dataclass
from typing import Any, cast

from merino.domain.money import format_nanos
from merino.settings.load import key_of, settable
from merino.settings.tree import Settings


def waiting_for_a_start(now: Settings, new: Settings) -> list[str]:
    """Names and values of the settings that differ and take effect at the next start only, as
    their declarations say."""
    return [
        f"{name} = {_shown(each, value)}"
        for name, each, value in _changed(now, new)
        if each.metadata.get("holds") == "at start"
    ]


def _changed(now: Any, new: Any, path: str = "") -> Iterator[tuple[str, Field[Any], object]]:
    """Dotted name, declaration and new value of every setting that differs."""
    kind = cast("type[Any]", type(new))
    for each in settable(kind):
        name = f"{path}{key_of(each)}"
        before, after = getattr(now, each.name), getattr(new, each.name)
        if is_dataclass(before) and is_dataclass(after):
            yield from _changed(before, after, f"{name}.")
        elif before != after:
            yield name, each, after


def _shown(each: Field[Any], value: object) -> object:
    if each.metadata.get("amount") and isinstance(value, int):
        return f'"{format_nanos(value)}"'
    return value
