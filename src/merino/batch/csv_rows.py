"""Rows of a CSV file, one bad row at a time."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from merino.domain.errors import Misconfigured

FIELD_CHARS_MAX = 64 * 1024 * 1024
"""Python's own limit of 131,072 characters is less than a long document has."""

DELIMITERS = ",;\t"
"""Spreadsheets write the second where commas are decimal marks, the third as text."""

Row = dict[str, str]


def rows(path: Path) -> Iterator[tuple[int, Row | str]]:
    """Each row with the number of its last line, from 1; of a row that is none, what is wrong.

    A bad row costs nobody else theirs: where a quote that was never meant as one swallows the lines
    behind it, those are read again by themselves. Raises `Misconfigured` for a file without a first
    line that can be read.
    """
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_CHARS_MAX))
    # What is not UTF-8 survives as lone surrogates, so that it can be told of where it stands.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        records = _Records(file)
        names: list[str] | None = None
        while (record := records.next(names)) is not None:
            line, found = record
            if names is not None:
                yield (
                    line,
                    found if isinstance(found, str) else dict(zip(names, found, strict=True)),
                )
            elif isinstance(found, str):
                raise Misconfigured(f"{path}:{line}: the names of the columns: {found}")
            else:
                names = found


class _Records:
    """Records of a file, with a way back to the lines of one that was none."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        head = file.readline()
        self._again = deque([head])
        self._delimiter = max(DELIMITERS, key=head.count)
        self._read: list[str] = []
        self._line = 0

    def next(self, names: list[str] | None) -> tuple[int, list[str] | str] | None:
        """The next record with its line, or what is wrong with it; `None` at the end."""
        while True:
            self._read = []
            began = self._line
            problem = ""
            fields: list[str] = []
            try:
                fields = next(csv.reader(self._lines(), delimiter=self._delimiter, strict=True))
            except StopIteration:
                return None
            except csv.Error as error:
                problem = f"not CSV: {error}"
            if not problem and names is not None and fields and len(fields) != len(names):
                problem = "has more or fewer columns than the first line"
            if problem and len(self._read) > 1:
                # The lines behind the first may be rows of their own.
                self._again.extendleft(reversed(self._read[1:]))
                self._line = began + 1
            if problem:
                return self._line, problem
            if fields:
                return self._line, fields if all(map(_is_utf8, fields)) else "not UTF-8"

    def _lines(self) -> Iterator[str]:
        while True:
            line = self._again.popleft() if self._again else self._file.readline()
            if not line:
                return
            self._line += 1
            self._read.append(line)
            yield line


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
