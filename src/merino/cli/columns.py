"""Columns of what is listed, and their cells as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

CELL_LENGTH_MAX = 60


@dataclass(frozen=True, slots=True)
class Column:
    """`value` is a field's name, or makes the cell from the row.

    The rest is of terminals: what is `whole`, such as an id, is never cut, like numbers; a column
    with a `spare` rank is left out where there is no room; `total` is the field that is summed up
    in the last line, in the row's currency or in this `currency`. Some columns are only in pipes,
    where they have been from the beginning, or only on terminals.
    """

    title: str
    value: str | Callable[[Mapping[str, Any]], Any]
    is_number: bool = False
    whole: bool = False
    spare: int = 0
    total: str | None = None
    currency: str | None = None
    only: Literal["pipes", "terminals"] | None = None


def text(value: Any, length_max: int = CELL_LENGTH_MAX) -> str:
    """A value as one printable line."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    line = "".join(char if char.isprintable() else "?" for char in str(value))
    return line if len(line) <= length_max else line[: length_max - 3] + "..."


def cell_of(row: Mapping[str, Any], column: Column, length_max: int = CELL_LENGTH_MAX) -> str:
    value = column.value
    return text(value(row) if callable(value) else row.get(value), length_max)
