"""Rows of an export, in CSV or JSON, with cells that are read right or refused by their place."""

from __future__ import annotations

import csv
import io
import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, cast

from merino.domain.errors import InvalidCall
from merino.exports.numbers import parse_count
from merino.wire.marks import encoding_of, not_utf8

ROWS_MAX = 2_000_000
_EPOCH_S_MAX = 10**11
"""A moment above is told in parts of a second."""
_DAY_NUMBERS = range(20_000, 80_000)
"""What spreadsheets call the days from 1954 to 2119."""
_COMPACT_DAY = re.compile(r"(?:19|20)[0-9]{6}\Z")
_YEAR_FIRST = re.compile(r"([0-9]{4})[/.]([0-9]{1,2})[/.]([0-9]{1,2})(.*)\Z", re.DOTALL)
_TRUE = frozenset(("true", "1", "1.0", "yes"))
_FALSE = frozenset(("", "false", "0", "0.0", "no", "none", "null"))
"""A spreadsheet says it in its own language (`WAHR`, `VRAI`), which is not guessed at."""
_RETURNS = re.compile(r"\r\n?")
_DELIMITER_LINE = re.compile(r"sep=(.)\s*\Z")
_AMOUNT_DIGITS_MAX = 40
_BUCKETS = ("data", "results")


@dataclass(frozen=True, slots=True)
class Table:
    """What a file holds. `commas_group`: its writer grouped thousands by commas, since where commas
    are decimal marks, columns are not separated by them."""

    name: str
    rows: Iterable[Mapping[str, Any]]
    commas_group: bool = False

    def __iter__(self) -> Iterator[Cells]:
        """Raises `InvalidCall` that names file and row."""
        for number, record in enumerate(self.rows, start=1):
            if number > ROWS_MAX:
                raise InvalidCall(f"{self.name} has more than {ROWS_MAX:,} rows", code="too_large")
            yield Cells(record, f"{self.name}, row {number}", self.commas_group)


def export_text(data: bytes, name: str = "the export") -> str:
    """The text of a file: UTF-8, or UTF-16 that says so, as spreadsheets write it. Raises
    `InvalidCall` that names any other encoding."""
    try:
        if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) and encoding_of(data[:4]) == "UTF-16":
            return data.decode("utf-16")
        if (foreign := encoding_of(data[:4])) is not None:
            raise InvalidCall(f"{name} is {not_utf8(foreign)}", code="invalid_export")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidCall(
            f"{name} is not UTF-8 text; save it as UTF-8", code="invalid_export"
        ) from None


def read_table(
    text: str, name: str, refuse: Callable[[Sequence[str]], str | None], bucket: Sequence[str]
) -> Table:
    """The rows of a file.

    `refuse` sees the columns of a CSV and says what is wrong with them. In JSON, results lie in
    buckets, and take over from theirs what `bucket` names, such as its times. Raises `InvalidCall`
    that names the file.
    """
    stripped = text.lstrip("\ufeff \t\r\n")
    if not stripped:
        raise InvalidCall(f"{name} is empty", code="invalid_export")
    if stripped[0] in "[{":
        return Table(name, _from_json(stripped, name, bucket))
    return _from_csv(stripped, name, refuse)


def _from_csv(text: str, name: str, refuse: Callable[[Sequence[str]], str | None]) -> Table:
    text = _RETURNS.sub("\n", text)
    head, _, rest = text.partition("\n")
    told = _DELIMITER_LINE.match(head.strip())  # Excel's own first line
    if told:
        text, head = rest, rest.partition("\n")[0]
    delimiter = told[1] if told else max(",;\t", key=head.count)
    return Table(name, _rows_of(text, delimiter, name, refuse), commas_group=delimiter == ",")


def _rows_of(
    text: str, delimiter: str, name: str, refuse: Callable[[Sequence[str]], str | None]
) -> Iterator[Mapping[str, Any]]:
    try:
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
        names = [each.strip().lower().replace(" ", "_") for each in next(reader, ())]
        if (wrong := refuse(names)) is not None:
            raise InvalidCall(
                f"{name} {wrong}; its columns are {', '.join(names)[:200]}", code="invalid_export"
            )
        for number, cells in enumerate((each for each in reader if each), 1):
            if len(cells) < len(names) or any(cells[len(names) :]):
                # A number with a comma that is not quoted moves all that stands behind it.
                raise InvalidCall(
                    f"{name}, row {number} has {len(cells)} columns, the first line {len(names)}",
                    code="invalid_export",
                )
            yield dict(zip(names, cells, strict=False))
    except csv.Error as error:
        raise InvalidCall(f"{name} is not readable CSV: {error}", code="invalid_export") from None


def _from_json(text: str, name: str, bucket: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    try:
        content: object = json.loads(text, parse_float=Decimal)
    except RecursionError:
        raise InvalidCall(f"{name} is nested too deeply", code="invalid_export") from None
    except ValueError as error:
        try:
            lines = [line for line in text.splitlines() if line.strip()]
            content = [json.loads(line, parse_float=Decimal) for line in lines]
        except (ValueError, RecursionError):
            raise InvalidCall(f"{name} is not JSON: {error}", code="invalid_export") from None
    yield from _records(content, {}, bucket)


def _records(
    content: object, around: Mapping[str, Any], bucket: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """Results in buckets in pages, or plain rows. Objects inside a row are told with its name and
    theirs: ``amount_value``, as the CSV of the same vendor names them."""
    if isinstance(content, list):
        for item in cast("list[object]", content):
            yield from _records(item, around, bucket)
        return
    if not isinstance(content, dict):
        return
    members = cast("dict[str, Any]", content)
    inner = next((members[each] for each in _BUCKETS if isinstance(members.get(each), list)), None)
    if inner is None:
        yield {**around, **_flat(members)}
        return
    taken = {key: members[key] for key in bucket if key in members}
    yield from _records(inner, {**around, **taken}, bucket)


def _flat(members: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in members.items():
        if isinstance(value, dict):
            for inner, each in cast("dict[str, Any]", value).items():
                row[f"{key}_{inner}"] = each
        else:
            row[key] = value
    return row


@dataclass(frozen=True, slots=True)
class Cells:
    """One row; `place` says where it stands."""

    record: Mapping[str, Any]
    place: str
    commas_group: bool

    def has(self, names: Iterable[str]) -> bool:
        """Whether the table has one of these columns."""
        return any(name in self.record for name in names)

    def first(self, names: Iterable[str]) -> Any:
        """The first of these that is there and not empty."""
        for name in names:
            value = self.record.get(name)
            if value is not None and value != "":
                return value
        return None

    def text(self, names: Iterable[str]) -> str:
        value = self.first(names)
        return "" if value is None else str(value).strip()

    def count(self, names: Sequence[str]) -> int:
        value = self.first(names)
        if value is None:
            return 0
        text = str(value)
        found = parse_count(text, commas_group=self.commas_group)
        if found is None:
            raise InvalidCall(
                f"{self.place}: {names[0]} = {text[:40]!r} is not a count, or not the same one "
                "everywhere; write it in digits alone",
                code="invalid_export",
            )
        return found

    def amount(self, names: Sequence[str]) -> Fraction:
        """An amount of money, with a point before its decimals; exactly what is written."""
        text = self.text(names)
        if not text:
            return Fraction(0)
        try:
            if len(text) > _AMOUNT_DIGITS_MAX:
                raise InvalidOperation
            amount = Decimal(text.removeprefix("$"))
            if not amount.is_finite() or abs(amount.adjusted()) > _AMOUNT_DIGITS_MAX:
                raise InvalidOperation
        except InvalidOperation:
            raise InvalidCall(
                f"{self.place}: {names[0]} = {text[:40]!r} is not an amount; write 1234.56",
                code="invalid_export",
            ) from None
        return Fraction(amount)

    def is_true(self, name: str) -> bool:
        word = self.text((name,)).lower()
        if word not in _TRUE and word not in _FALSE:
            raise InvalidCall(
                f"{self.place}: {name} = {word[:40]!r} is neither true nor false",
                code="invalid_export",
            )
        return word in _TRUE

    def time(self, names: Sequence[str]) -> int | None:
        """Seconds since 1970; `None` if the cell is empty."""
        text = self.text(names)
        if not text:
            return None
        try:
            seconds = _seconds(text)
            moment(seconds)
        except (ValueError, OverflowError, OSError):
            raise InvalidCall(
                f"{self.place}: {names[0]} = {text[:40]!r} is not a time, or not the same one "
                "everywhere; write 2026-11-24 or seconds since 1970",
                code="invalid_export",
            ) from None
        return seconds


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _seconds(text: str) -> int:
    """A moment as seconds since 1970. Raises `ValueError`, also for a day in an order that is not
    the same everywhere, and for the number that a spreadsheet has for a day."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) and not _COMPACT_DAY.match(text):
        seconds = int(text.partition(".")[0])
        if seconds in _DAY_NUMBERS:
            raise ValueError("a spreadsheet's number of a day")
        while seconds > _EPOCH_S_MAX:
            seconds //= 1000
        return seconds
    if found := _YEAR_FIRST.match(text):
        year, month, day, rest = found.groups()
        text = f"{year}-{int(month):02d}-{int(day):02d}{rest}"
    at = datetime.fromisoformat(text.removesuffix(" UTC"))
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
