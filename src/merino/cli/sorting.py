"""`--sort`: by a column as its title says, numbers the largest first."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import click
from click.shell_completion import CompletionItem

from merino.cli.columns import Column


class By(click.ParamType[tuple[Column, bool]]):
    """A column, and whether the largest comes first."""

    name = "column[:asc|:desc]"

    def __init__(self, columns: Sequence[Column]) -> None:
        self._by_name = {_name(each): each for each in columns}

    @property
    def names(self) -> list[str]:
        return [*self._by_name]

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Column, bool]:
        name, _, way = str(value).partition(":")
        column = self._by_name.get(name.lower())
        if column is None:
            self.fail(f"{name!r} is not one of {', '.join(self._by_name)}", param, ctx)
        if way not in {"", "asc", "desc"}:
            self.fail(f"{way!r} is neither asc nor desc", param, ctx)
        return column, way == "desc" or (not way and column.is_number)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(each) for each in self._by_name if each.startswith(incomplete)]


def sort_rows(rows: list[dict[str, Any]], by: tuple[Column, bool]) -> None:
    """In place; what has no value comes last, equals stay in their order."""
    column, is_falling = by
    keys = {id(row): _key(row, column) for row in rows}
    rows.sort(key=lambda row: keys[id(row)][1], reverse=is_falling)
    rows.sort(key=lambda row: keys[id(row)][0])


def _name(column: Column) -> str:
    return column.title.lower().replace(" ", "-")


def _key(row: dict[str, Any], column: Column) -> tuple[bool, Any]:
    value = row.get(column.total) if column.total else None
    if value is None:
        value = column.value(row) if callable(column.value) else row.get(column.value)
    if value is None or value == "":
        return True, Decimal(0) if column.is_number else ""
    if not column.is_number:
        return False, str(value)
    try:
        return False, Decimal("".join(char for char in str(value) if char in "0123456789.-"))
    except InvalidOperation:
        return True, Decimal(0)
