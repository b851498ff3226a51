"""Usage as OpenAI exports it: the usage page's CSV, or the usage API's JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, cast

from merino.domain.errors import InvalidCall
from merino.domain.usage import Usage
from merino.roi.numbers import parse_count
from merino.roi.scenario import UsageRow
from merino.wire.marks import encoding_of, not_utf8

MONTH_DAYS = 30
EXPORT_ROWS_MAX = 2_000_000
_DAY_S = 86_400
_EPOCH_S_MAX = 10**11
"""A moment above is told in parts of a second."""
_DAY_NUMBERS = range(20_000, 80_000)
"""What spreadsheets call the days from 1954 to 2119."""
_COMPACT_DAY = re.compile(r"(?:19|20)[0-9]{6}\Z")
_YEAR_FIRST = re.compile(r"([0-9]{4})[/.]([0-9]{1,2})[/.]([0-9]{1,2})(.*)\Z", re.DOTALL)
_TRUE = frozenset(("true", "1", "1.0", "yes"))
_FALSE = frozenset(("", "false", "0", "0.0", "no", "none", "null"))
"""A spreadsheet says it in its own language (`WAHR`, `VRAI`), which is not guessed at."""
_STANDARD_TIERS = frozenset(("", "default", "standard"))
_RETURNS = re.compile(r"\r\n?")
_DELIMITER_LINE = re.compile(r"sep=(.)\s*\Z")

# The names of each count, newest first: the usage API's, the older page's, and Chat's.
_INPUT = ("input_tokens", "n_context_tokens_total", "context_tokens", "prompt_tokens")
_OUTPUT = ("output_tokens", "n_generated_tokens_total", "generated_tokens", "completion_tokens")
_CACHED = ("input_cached_tokens", "n_cached_context_tokens_total", "cached_tokens")
_CACHE_WRITE = ("input_cache_write_tokens",)
_CALLS = ("num_model_requests", "n_requests", "num_requests", "requests")
_MODEL = ("model", "snapshot_id", "model_name")
_START = ("start_time", "aggregation_timestamp", "timestamp")
_END = ("end_time",)


@dataclass(frozen=True, slots=True)
class ExportedUsage:
    """The rows of an export and how many months of 30 days they cover."""

    rows: tuple[UsageRow, ...]
    months: Fraction
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class _Records:
    """What a file holds. `commas_group`: its writer groups thousands by commas, since where commas
    are decimal marks, columns are not separated by them."""

    rows: Iterable[Mapping[str, Any]]
    commas_group: bool = False


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


def read_usage_export(text: str, name: str = "the export") -> ExportedUsage:
    """Read an export. Raises `InvalidCall` that names file, row and field.

    Rows without a model (an export that is not grouped by model) are refused, since they have no
    price. Rows without tokens only count for the time covered. A spreadsheet may have written it
    again, with other separators and grouped numbers.
    """
    stripped = text.lstrip("\ufeff \t\r\n")
    if not stripped:
        raise InvalidCall(f"{name} is empty", code="invalid_export")
    if stripped[0] in "[{":
        records = _Records(_from_json(stripped, name))
    else:
        records = _from_csv(stripped, name)
    rows: list[UsageRow] = []
    starts: list[int] = []
    ends: list[int] = []
    for number, record in enumerate(records.rows, start=1):
        if number > EXPORT_ROWS_MAX:
            raise InvalidCall(f"{name} has more than {EXPORT_ROWS_MAX:,} rows", code="too_large")
        cells = _Cells(record, f"{name}, row {number}", records.commas_group)
        start = cells.time(_START)
        end = cells.time(_END)
        if start is not None:
            starts.append(start)
            ends.append(end if end is not None else start + _DAY_S)
        row = _row(cells)
        if row is not None:
            rows.append(row)
    if not rows:
        raise InvalidCall(
            f"{name} has no rows with tokens; export the usage of completions, by model",
            code="invalid_export",
        )
    if not starts:
        return ExportedUsage(tuple(rows), Fraction(1), None, None)
    since, until = min(starts), max(ends)
    seconds = max(until - since, 1)
    return ExportedUsage(
        tuple(rows), Fraction(seconds, MONTH_DAYS * _DAY_S), _moment(since), _moment(until)
    )


def _row(cells: _Cells) -> UsageRow | None:
    place = cells.place
    if not any(name in cells.record for name in (*_INPUT, *_OUTPUT)):
        raise InvalidCall(
            f"{place} has no token counts ({_INPUT[0]}, {_OUTPUT[0]}); is it an export of costs "
            "instead of usage?",
            code="invalid_export",
        )
    input_tokens = cells.count(_INPUT)
    output_tokens = cells.count(_OUTPUT)
    if not input_tokens and not output_tokens:
        return None
    audio = cells.count(("input_audio_tokens",))
    image = cells.count(("input_image_tokens",))
    audio_output = cells.count(("output_audio_tokens",))
    text_tokens = cells.count(("input_text_tokens",))
    if audio and input_tokens == text_tokens:
        input_tokens += audio  # older exports counted text and audio apart
    if audio_output > output_tokens or (
        audio_output and output_tokens == cells.count(("output_text_tokens",))
    ):
        output_tokens += audio_output
    usage = Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cells.count(_CACHED),
        cache_write_tokens=cells.count(_CACHE_WRITE),
        audio_input_tokens=audio,
        image_input_tokens=image,
        audio_output_tokens=audio_output,
    )
    if not usage.is_consistent():
        raise InvalidCall(
            f"{place}: the token counts contradict each other (more cached, audio or image tokens "
            "than input)",
            code="invalid_export",
        )
    model = cells.first(_MODEL)
    if not isinstance(model, str) or not model.strip():
        raise InvalidCall(
            f"{place} has tokens but no model; export again with usage grouped by model",
            code="invalid_export",
        )
    tier = "batch" if cells.is_true("batch") else str(cells.first(("service_tier",)) or "")
    tier = tier.strip().lower()
    return UsageRow(
        model.strip(), usage, cells.count(_CALLS), None if tier in _STANDARD_TIERS else tier
    )


def _from_csv(text: str, name: str) -> _Records:
    text = _RETURNS.sub("\n", text)
    head, _, rest = text.partition("\n")
    told = _DELIMITER_LINE.match(head.strip())  # Excel's own first line
    if told:
        text, head = rest, rest.partition("\n")[0]
    delimiter = told[1] if told else max(",;\t", key=head.count)
    return _Records(_rows_of(text, delimiter, name), commas_group=delimiter == ",")


def _rows_of(text: str, delimiter: str, name: str) -> Iterator[Mapping[str, Any]]:
    try:
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
        names = [each.strip().lower().replace(" ", "_") for each in next(reader, ())]
        if not any(each in names for each in (*_INPUT, *_OUTPUT)):
            raise InvalidCall(
                f"{name} has no column {_INPUT[0]!r} or {_OUTPUT[0]!r}; its columns are "
                f"{', '.join(names)[:200]}",
                code="invalid_export",
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


def _from_json(text: str, name: str) -> Iterator[Mapping[str, Any]]:
    try:
        content: object = json.loads(text)
    except RecursionError:
        raise InvalidCall(f"{name} is nested too deeply", code="invalid_export") from None
    except ValueError as error:
        try:
            content = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise InvalidCall(f"{name} is not JSON: {error}", code="invalid_export") from None
    yield from _records(content, {})


def _records(content: object, around: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Results in buckets in pages, or plain rows."""
    if isinstance(content, list):
        for item in cast("list[object]", content):
            yield from _records(item, around)
        return
    if not isinstance(content, dict):
        return
    members = cast("dict[str, Any]", content)
    inner: object = members.get("data", members.get("results"))
    if isinstance(inner, list):
        times = {key: members[key] for key in (*_START, *_END) if key in members}
        yield from _records(cast("list[object]", inner), {**around, **times})
    else:
        yield {**around, **members}


@dataclass(frozen=True, slots=True)
class _Cells:
    """One row; `place` says where it stands."""

    record: Mapping[str, Any]
    place: str
    commas_group: bool

    def first(self, names: Iterable[str]) -> Any:
        """The first of these that is there."""
        for name in names:
            value = self.record.get(name)
            if value is not None and value != "":
                return value
        return None

    def count(self, names: tuple[str, ...]) -> int:
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

    def is_true(self, name: str) -> bool:
        word = str(self.first((name,)) or "").strip().lower()
        if word not in _TRUE and word not in _FALSE:
            raise InvalidCall(
                f"{self.place}: {name} = {word[:40]!r} is neither true nor false",
                code="invalid_export",
            )
        return word in _TRUE

    def time(self, names: tuple[str, ...]) -> int | None:
        value = self.first(names)
        if value is None:
            return None
        text = str(value).strip()
        try:
            seconds = _seconds(text)
            _moment(seconds)
        except (ValueError, OverflowError, OSError):
            raise InvalidCall(
                f"{self.place}: {names[0]} = {text[:40]!r} is not a time, or not the same one "
                "everywhere; write 2026-11-24 or seconds since 1970",
                code="invalid_export",
            ) from None
        return seconds


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
    moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
