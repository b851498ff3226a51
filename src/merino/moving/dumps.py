"""Reads another relay's database: a plain dump of PostgreSQL, a file of SQLite, CSV, JSON or JSON
lines. Each becomes tables of rows."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from merino.domain.errors import Misconfigured

Row = dict[str, Any]
Tables = dict[str, list[Row]]

_COPY = re.compile(
    r'^COPY (?:[\w"]+\.)?"?(\w+)"? \(([^)]*)\) FROM stdin;\n(.*?)^\\\.$', re.DOTALL | re.MULTILINE
)
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v"}


def read_tables(path: Path, columns_of: Mapping[str, frozenset[str]]) -> Tables:
    """The tables in a file. One without names is known by its columns: those that `columns_of`
    has for a table must all be there. Raises `Misconfigured`."""
    with path.open("rb") as file:
        is_sqlite = file.read(16) == b"SQLite format 3\0"
    if is_sqlite:
        return _from_sqlite(path, columns_of)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise Misconfigured(
            f"{path} is no text. Of PostgreSQL, export it in the plain format: pg_dump --data-only"
        ) from None
    if _COPY.search(text):
        return {found[1]: _copied(found[2], found[3]) for found in _COPY.finditer(text)}
    if text.lstrip()[:1] in {"{", "["}:
        return _from_json(path, text, columns_of)
    rows: list[Row] = [
        {name: None if value == "" else value for name, value in row.items() if name is not None}
        for row in csv.DictReader(io.StringIO(text))
    ]
    return {_table_of(path, rows, columns_of): rows} if rows else {}


def _from_sqlite(path: Path, tables: Iterable[str]) -> Tables:
    """It is only read, and may be in use."""
    found: Tables = {}
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            names = {row[0] for row in database.execute("SELECT name FROM sqlite_schema")}
            for table in tables:
                if table in names:
                    # The names are our own: those that a reader asks for.
                    rows = database.execute(f'SELECT * FROM "{table}"')  # noqa: S608
                    found[table] = [dict(row) for row in rows]
    except sqlite3.Error as error:
        raise Misconfigured(f"{path} cannot be read: {error}") from None
    return found


def _copied(columns: str, block: str) -> list[Row]:
    names = [name.strip().strip('"') for name in columns.split(",")]
    return [
        dict(zip(names, map(_unescaped, line.split("\t")), strict=True))
        for line in block.splitlines()
    ]


def _unescaped(value: str) -> str | None:
    if value == r"\N":
        return None
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), value)


def _from_json(path: Path, text: str, columns_of: Mapping[str, frozenset[str]]) -> Tables:
    try:
        found: Any = json.loads(text)
    except ValueError:
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise Misconfigured(f"{path} is not JSON: {error}") from None
    if isinstance(found, dict):
        tables: Tables = {}
        for name, rows in cast("dict[str, Any]", found).items():
            # One thing is answered as itself, several as a list.
            if not isinstance(rows, list) and name != "data":
                continue
            kept = _rows(cast("list[Any]", rows if isinstance(rows, list) else [rows]))
            if kept:
                tables[name if name in columns_of else _table_of(path, kept, columns_of)] = kept
        return tables
    rows = _rows(found)
    return {_table_of(path, rows, columns_of): rows} if rows else {}


def _rows(found: Iterable[Any]) -> list[Row]:
    return [cast("Row", row) for row in found if isinstance(row, dict)]


def _table_of(path: Path, rows: list[Row], columns_of: Mapping[str, frozenset[str]]) -> str:
    have = {name for row in rows[:50] for name in row}
    for table, columns in columns_of.items():
        if columns <= have:
            return table
    raise Misconfigured(
        f"{path} is of no table that is known here: its columns are {', '.join(sorted(have)[:12])}"
    )
