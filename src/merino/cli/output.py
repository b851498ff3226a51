"""What commands print: JSON for programs, aligned tables in pipes, and on a terminal tables that
fit it, in colour."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from merino.cli.columns import Column, cell_of, text
from merino.cli.terminal import terminal_of
from merino.domain.money import with_sign


def print_json(value: Any) -> None:
    write(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[Column], *, empty: str = "none"
) -> None:
    """`empty` is printed when there are no rows."""
    terminal = terminal_of(sys.stdout)
    other = "pipes" if terminal else "terminals"
    columns = [column for column in columns if column.only != other]
    rows = [*rows]
    if terminal and rows:
        from merino.cli.tables import draw_table

        draw_table(terminal, rows, columns)
        return
    cells = [[cell_of(row, column) for column in columns] for row in rows]
    if not cells:
        write(empty)
        return
    titles = [column.title for column in columns]
    widths = [max(len(line[index]) for line in [titles, *cells]) for index in range(len(columns))]
    for line in [titles, *cells]:
        padded = [
            text.rjust(width) if column.is_number else text.ljust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ]
        write("  ".join(padded).rstrip())


def print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """One thing, a field a line."""
    if terminal := terminal_of(sys.stdout):
        from merino.cli.tables import draw_fields

        draw_fields(terminal, fields)
        return
    shown = [(title, text(value, length_max=10_000)) for title, value in fields]
    width = max(len(title) for title, _ in shown)
    for title, value in shown:
        write(f"{title.ljust(width)}  {value}".rstrip())


def write_secret(issued: Mapping[str, Any]) -> None:
    """The secret of what was issued just now, if it was."""
    if "key" in issued:
        write("")
        write(f"secret, shown this once: {issued['key']}")


def print_page_end(page: Mapping[str, Any]) -> None:
    """Says how to see more."""
    if page.get("next_cursor"):
        write(f"more: --cursor {page['next_cursor']}")


def with_currency(value: str | None, currency: str | None) -> str | None:
    """An amount with its currency, for people: ``-$11.31``."""
    return None if value is None else with_sign(value, currency)


def in_own_currency(name: str) -> Callable[[Mapping[str, Any]], str | None]:
    """A column of amounts that are in their row's `currency`."""
    return lambda row: with_currency(row[name], row["currency"])


def in_dollars(name: str) -> Callable[[Mapping[str, Any]], str | None]:
    """A column of amounts that are in dollars, as upstreams' prices are."""
    return lambda row: with_currency(row[name], "USD")


def moment(value: str | None) -> str:
    """An ISO time, shorter."""
    return "-" if value is None else value[:19].replace("T", " ")


def write(line: str) -> None:
    """A line to standard output, also where that cannot say every character."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "replace").decode(encoding) + "\n")
