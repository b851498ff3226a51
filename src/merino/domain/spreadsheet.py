"""CSV that a spreadsheet shows as it is: no text of somebody else's becomes a formula there."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

_NUMBER = re.compile(r"-[0-9]+(\.[0-9]+)?", re.ASCII)
"""An amount, which begins like a formula and is none."""


def csv_text(rows: Iterable[Iterable[object]], own_columns: int = 0) -> str:
    """The lines of a CSV file. Every cell is as `as_text` says, but for the first
    `own_columns`, whose words are ours."""
    text = io.StringIO(newline="")
    # With this line end, the writer also quotes lone returns: unquoted, one would begin a line.
    writer = csv.writer(text, lineterminator="\r\n")
    for row in rows:
        writer.writerow(
            [cell if at < own_columns else as_text(cell) for at, cell in enumerate(row)]
        )
        text.seek(text.tell() - 2)
        text.write("\n")
        text.truncate()
    return text.getvalue()


def as_text(value: object) -> object:
    """The value of a cell: what begins like a formula gets an apostrophe in front."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return f"'{value}" if is_formula and not _NUMBER.fullmatch(str(value)) else value
