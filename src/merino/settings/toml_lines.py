"""On which line of a TOML text each key stands.

Only for texts `tomllib` has accepted: it checks nothing, it only keeps count. `tomllib` itself
tells no positions.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t]|#[^\n]*)*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LITERALS = {
    '"""': re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}', re.DOTALL),
    "'''": re.compile(r"'''(?:[^']|'(?!''))*'{3,5}", re.DOTALL),
    '"': re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    "'": re.compile(r"'[^'\n]*'"),
}
_SCALAR = re.compile(r"[^,\]}#\r\n]*")


class LineOf:
    """`LineOf(text)[("deployments", 0, "base_url")]` is a line number, counted from 1.

    A path that is not in the text has the line of its nearest parent, or 0.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[Path, int] = {}
        self._array_tables: Counter[Path] = Counter()
        self._scan()

    def __getitem__(self, path: Path) -> int:
        while path:
            if (line := self._lines.get(path)) is not None:
                return line
            path = path[:-1]
        return 0

    def _scan(self) -> None:
        table: Path = ()
        while True:
            self._skip(_BLANK_LINES)
            if self._at >= len(self._text):
                return
            if self._text.startswith("[[", self._at):
                line = self._line()
                self._at += 2
                keys = self._resolved(self._keys())
                self._array_tables[keys] += 1
                table = (*keys, self._array_tables[keys] - 1)
                self._note(keys, line)
                self._lines[table] = line
                self._at = self._end_of_line()
            elif self._text[self._at] == "[":
                line = self._line()
                self._at += 1
                table = self._resolved(self._keys())
                self._note(table, line)
                self._at = self._end_of_line()
            else:
                self._pair(table)

    def _note(self, table: Path, line: int) -> None:
        """A table's header is also where the tables around it begin, if they have none before."""
        for length in range(1, len(table) + 1):
            self._lines.setdefault(table[:length], line)

    def _resolved(self, keys: tuple[str, ...]) -> Path:
        """A header's path: below an array of tables it means the array's latest table."""
        path: Path = ()
        for key in keys[:-1]:
            path = (*path, key)
            if count := self._array_tables[path]:
                path = (*path, count - 1)
        return (*path, keys[-1])

    def _pair(self, table: Path) -> None:
        line = self._line()
        path: Path = table
        for key in self._keys():
            path = (*path, key)
            self._lines.setdefault(path, line)
        self._at += 1  # the equals sign
        self._skip(_BLANK)
        self._value(path)

    def _value(self, path: Path) -> None:
        for quote, literal in _LITERALS.items():
            if self._text.startswith(quote, self._at):
                self._skip(literal)
                return
        opening = self._text[self._at : self._at + 1]
        if opening == "[":
            self._elements(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            self._skip(_SCALAR)

    def _elements(self, path: Path) -> None:
        self._at += 1
        index = 0
        while not self._closes("]"):
            self._lines[*path, index] = self._line()
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while not self._closes("}"):
            self._pair(path)

    def _closes(self, bracket: str) -> bool:
        """Skip what may stand between elements; take the bracket if it comes next."""
        self._skip(_BLANK_LINES)
        if self._text.startswith(",", self._at):
            self._at += 1
            self._skip(_BLANK_LINES)
        if self._at >= len(self._text) or self._text[self._at] == bracket:
            self._at += 1
            return True
        return False

    def _keys(self) -> tuple[str, ...]:
        """A dotted key; leaves off at what follows it."""
        keys: list[str] = []
        while True:
            self._skip(_BLANK)
            start = self._at
            quote = self._text[start : start + 1]
            if quote in ('"', "'"):
                self._skip(_LITERALS[quote])
                keys.append(self._text[start + 1 : self._at - 1])
            else:
                self._skip(_BARE_KEY)
                keys.append(self._text[start : self._at])
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return tuple(keys)
            self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if match := pattern.match(self._text, self._at):
            self._at = match.end()

    def _line(self) -> int:
        return bisect_left(self._newlines, self._at) + 1

    def _end_of_line(self) -> int:
        end = self._text.find("\n", self._at)
        return len(self._text) if end < 0 else end
