"""Tables and fields on a terminal: as wide as it is, in its colours, with the sums below."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from merino.cli.columns import Column, cell_of, text
from merino.cli.figures import count, money, shortened
from merino.cli.layout import GAP, Fit, fit, need
from merino.cli.terminal import Terminal, console_of

ABSENT = "-"
_CELL_MAX = 400
_STYLES = {
    **dict.fromkeys(("in use", "paid", "usable", "fine", "ok", "answered", "running"), "green"),
    **dict.fromkeys(
        ("drained", "pending", "partly refunded", "interrupted", "waiting", "simulated"), "yellow"
    ),
    **dict.fromkeys(
        ("revoked", "disabled", "failed", "expired", "void", "not paid", "stopped"), "red"
    ),
    **dict.fromkeys(("used", "refunded", "redeemed"), "dim"),
}
"""States, by the word that they are told with."""
_ASIDE = frozenset(("ID", "HINT", "CALL", "TIME", "CREATED", "EXPIRES", "SINCE"))
"""What is looked up, not read."""

Row = Mapping[str, Any]


def draw_table(terminal: Terminal, rows: Sequence[Row], columns: Sequence[Column]) -> None:
    console = console_of(sys.stdout, terminal)
    lines = [[_shown(row, column) for column in columns] for row in rows]
    sums = _sums(rows, columns)
    for at in range(len(columns)):
        _align_points([*lines, *sums], at)
    needs = [
        need(
            cell_len(column.title),
            [cell_len(line[at]) for line in (*lines, *sums)],
            is_whole=column.is_number or column.whole,
            spare=column.spare,
        )
        for at, column in enumerate(columns)
    ]
    found = fit(needs, terminal.width)
    if found is None:
        _draw_cards(console, terminal, columns, lines)
        return
    _draw(console, columns, found, lines, sums)
    left_out = [each.title for at, each in enumerate(columns) if at not in found.shown]
    if left_out:
        _say(console, f"no room for {', '.join(left_out)}: widen the window, or use --json")


def draw_fields(terminal: Terminal, fields: Iterable[tuple[str, Any]]) -> None:
    """A field a line; what is longer than the line goes on below itself."""
    console = console_of(sys.stdout, terminal)
    shown = [(title, _of_field(value)) for title, value in fields]
    _draw_pairs(console, terminal, shown)


def _of_field(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return count(value)
    return text(value, length_max=10_000) or ABSENT


def _shown(row: Row, column: Column) -> str:
    raw = column.value(row) if callable(column.value) else row.get(column.value)
    if isinstance(raw, int) and not isinstance(raw, bool) and column.is_number:
        return count(raw)
    cell = cell_of(row, column, _CELL_MAX)
    return (shortened(cell) if column.is_number else cell) or ABSENT


def _sums(rows: Sequence[Row], columns: Sequence[Column]) -> list[list[str]]:
    """A line for each currency: sums over several have no meaning."""
    if len(rows) < 2 or not any(column.total for column in columns):
        return []
    by_currency: dict[str | None, list[Row]] = {}
    for row in rows:
        by_currency.setdefault(row.get("currency"), []).append(row)
    lines: list[list[str]] = []
    for currency, some in sorted(by_currency.items(), key=lambda each: each[0] or ""):
        line = [_sum(some, column, currency) for column in columns]
        line[0] = "total" if len(by_currency) == 1 else f"total {currency or ''}".rstrip()
        lines.append(line)
    return lines


def _sum(rows: Sequence[Row], column: Column, currency: str | None) -> str:
    if column.total is None:
        return ""
    total = sum(int(row.get(column.total) or 0) for row in rows)
    is_money = column.total.endswith("_nanos")
    return money(total, column.currency or currency) if is_money else count(total)


def _align_points(lines: Sequence[list[str]], at: int) -> None:
    """Amounts stand with their points below each other."""
    decimals = [len(line[at].rpartition(".")[2]) if "." in line[at] else -1 for line in lines]
    for line, here in zip(lines, decimals, strict=True):
        if line[at] and max(decimals) >= 0:
            line[at] += " " * (max(decimals) - here)


def _draw(
    console: Console,
    columns: Sequence[Column],
    found: Fit,
    lines: Sequence[Sequence[str]],
    sums: Sequence[Sequence[str]],
) -> None:
    def put(line: Sequence[str], style: str = "", *, is_row: bool = False) -> None:
        whole = Text()
        for number, width in zip(found.shown, found.widths, strict=True):
            column, content = columns[number], line[number]
            cell = Text(content, style=_style(column, content) if is_row else style)
            cell.truncate(width, overflow="ellipsis")
            blanks = " " * (width - cell.cell_len)
            whole.append(blanks if column.is_number else "")
            whole.append_text(cell)
            whole.append(("" if column.is_number else blanks) + " " * GAP)
        whole.rstrip()
        _put(console, whole)

    rule = Text("─" * (sum(found.widths) + GAP * (len(found.widths) - 1)), style="dim")
    put([column.title for column in columns], "bold")
    _put(console, rule)
    for line in lines:
        put(line, is_row=True)
    if sums:
        _put(console, rule)
    for line in sums:
        put(line, "bold")


def _draw_cards(
    console: Console,
    terminal: Terminal,
    columns: Sequence[Column],
    lines: Sequence[Sequence[str]],
) -> None:
    """For a terminal that the columns find no room on: one thing below the other."""
    for number, line in enumerate(lines):
        if number:
            _put(console, Text())
        pairs = [
            (each.title.lower(), cell.strip()) for each, cell in zip(columns, line, strict=True)
        ]
        _draw_pairs(console, terminal, pairs)


def _draw_pairs(console: Console, terminal: Terminal, pairs: Sequence[tuple[str, str]]) -> None:
    """The value beside its label; one with a word that finds no room there stands below it."""
    width = terminal.width
    labels = max((cell_len(title) for title, _ in pairs), default=0) + GAP
    for title, value in pairs:
        label, shown = Text(title, style="dim"), Text(value, style=_STYLES.get(value, ""))
        longest = max(cell_len(word) for word in value.split(" "))
        indent = labels
        if longest > width - labels:
            label.truncate(width, overflow="ellipsis")
            _put(console, label)
            indent = GAP if longest <= width - GAP else 0
            label = Text()
        label.append(" " * (indent - label.cell_len))
        for line in shown.wrap(console, width - indent, overflow="fold"):
            line.rstrip()
            _put(console, Text.assemble(label, line))
            label = Text(" " * indent)


def _put(console: Console, line: Text) -> None:
    console.print(line, no_wrap=True, overflow="ignore", crop=False, soft_wrap=True)


def say(terminal: Terminal, line: str) -> None:
    """A remark below what was shown."""
    _say(console_of(sys.stdout, terminal), line)


def _say(console: Console, line: str) -> None:
    for each in Text(line, style="dim").wrap(console, console.width, overflow="fold"):
        _put(console, each)


def _style(column: Column, content: str) -> str:
    word = content.strip()
    if column.title == "STATUS" and word.isdigit():
        return "red" if word >= "500" else "yellow" if word >= "400" else "green"
    if word == ABSENT:
        return "dim"
    if column.title == "DISABLED":
        return "red" if word == "yes" else "dim"
    if column.title in {"FAILED", "ERROR"} and word != "0":
        return "red"
    if word.startswith("breaker"):
        return "red"
    return _STYLES.get(word, "dim" if column.title in _ASIDE else "")
