"""CSV that a spreadsheet shows as it is: no text of somebody else's becomes a formula there."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable

_NUMBER = re.compile(r"-[0-9]+(\.[0-9]+)?", re.ASCII)
"""An amount, which begins like a formula and is none."""


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """The lines of a CSV file. Every cell is as `as_text` says."""
    lines = _Lines()
    # With this line end, the writer also quotes lone returns: unquoted, one would begin a line.
    csv.writer(lines, lineterminator="\r\n").writerows(map(as_text, row) for row in rows)
    return "".join(f"{line[:-2]}\n" for line in lines)


class _Lines(list[str]):
    """What the writer wrote, line by line."""

    write = list[str].append


def as_text(value: object) -> object:
    """The value of a cell: what begins like a formula gets an apostrophe in front."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return f"'{value}" if is_formula and not _NUMBER.fullmatch(str(value)) else value
