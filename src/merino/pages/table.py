"""Tables, which scroll by themselves where a screen is narrower than they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from markupsafe import Markup

_TAGS = {"th": Markup("<th{}>{}</th>"), "td": Markup("<td{}>{}</td>")}


class Cell(NamedTuple):
    """`kind` is a class of the stylesheet; `title` appears on hover."""

    text: str | Markup
    kind: str = ""
    title: str = ""


class Row(NamedTuple):
    """`strong` is what it is about, `sum` what the others add up to."""

    cells: Sequence[str | Markup | Cell]
    kind: str = ""


def table(
    heads: Sequence[str],
    rows: Iterable[Row | Sequence[str | Markup | Cell]],
    kinds: str,
    caption: str = "",
) -> Markup:
    """`kinds` has a letter for each column: ``n`` for figures, ``d`` for what keeps to one line,
    ``t`` for text. Texts are escaped."""
    lines = [
        Markup("<tr{}>{}</tr>").format(_attributes(row.kind), _cells("td", row.cells, kinds))
        for row in (each if isinstance(each, Row) else Row(each) for each in rows)
    ]
    if not lines:
        return Markup("")
    return Markup('<div class="scroll"><table>{}{}<tbody>{}</tbody></table></div>').format(
        Markup("<caption>{}</caption>").format(caption) if caption else "",
        Markup("<thead><tr>{}</tr></thead>").format(_cells("th", heads, kinds)) if heads else "",
        Markup("\n").join(lines),
    )


def _cells(tag: Literal["th", "td"], cells: Sequence[str | Markup | Cell], kinds: str) -> Markup:
    found: list[Markup] = []
    for cell, letter in zip(cells, kinds, strict=True):
        whole = cell if isinstance(cell, Cell) else Cell(cell)
        kind = " ".join(each for each in (letter.replace("t", ""), whole.kind) if each)
        attributes = _attributes(kind, whole.title)
        found.append(_TAGS[tag].format(attributes, whole.text))
    return Markup("").join(found)


def _attributes(kind: str, title: str = "") -> Markup:
    given = Markup(' class="{}"').format(kind) if kind else Markup("")
    return given + (Markup(' title="{}"').format(title) if title else Markup(""))
