"""Usage as OpenAI exports it: the usage page's CSV, or the usage API's JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, cast

from merino.domain.errors import InvalidCall
from merino.domain.usage import Usage
from merino.roi.scenario import TOKENS_MAX, UsageRow

MONTH_DAYS = 30
EXPORT_ROWS_MAX = 2_000_000
_DAY_S = 86_400
_MAYBE_GROUPED = re.compile(r"[0-9]{1,3}\.[0-9]{3}\Z")

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


def read_usage_export(text: str, name: str = "the export") -> ExportedUsage:
    """Read an export. Raises `InvalidCall` that names file, row and field.

    Rows without a model (an export that is not grouped by model) are refused, since they have no
    price. Rows without tokens only count for the time covered.
    """
    stripped = text.lstrip("\ufeff \t\r\n")
    if not stripped:
        raise InvalidCall(f"{name} is empty", code="invalid_export")
    records = _from_json(stripped, name) if stripped[0] in "[{" else _from_csv(stripped, name)
    rows: list[UsageRow] = []
    starts: list[int] = []
    ends: list[int] = []
    for number, record in enumerate(records, start=1):
        if number > EXPORT_ROWS_MAX:
            raise InvalidCall(f"{name} has more than {EXPORT_ROWS_MAX:,} rows", code="too_large")
        place = f"{name}, row {number}"
        start = _time(record, _START, place)
        end = _time(record, _END, place)
        if start is not None:
            starts.append(start)
            ends.append(end if end is not None else start + _DAY_S)
        row = _row(record, place)
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


def _row(record: Mapping[str, Any], place: str) -> UsageRow | None:
    if not any(name in record for name in (*_INPUT, *_OUTPUT)):
        raise InvalidCall(
            f"{place} has no token counts ({_INPUT[0]}, {_OUTPUT[0]}); is it an export of costs "
            "instead of usage?",
            code="invalid_export",
        )
    input_tokens = _count(record, _INPUT, place)
    output_tokens = _count(record, _OUTPUT, place)
    if not input_tokens and not output_tokens:
        return None
    audio = _count(record, ("input_audio_tokens",), place)
    image = _count(record, ("input_image_tokens",), place)
    audio_output = _count(record, ("output_audio_tokens",), place)
    text_tokens = _count(record, ("input_text_tokens",), place)
    if audio and input_tokens == text_tokens:
        input_tokens += audio  # older exports counted text and audio apart
    if audio_output > output_tokens or (
        audio_output and output_tokens == _count(record, ("output_text_tokens",), place)
    ):
        output_tokens += audio_output
    usage = Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=_count(record, _CACHED, place),
        cache_write_tokens=_count(record, _CACHE_WRITE, place),
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
    model = _first(record, _MODEL)
    if not isinstance(model, str) or not model.strip():
        raise InvalidCall(
            f"{place} has tokens but no model; export again with usage grouped by model",
            code="invalid_export",
        )
    is_batch = str(record.get("batch", "")).strip().lower() in {"true", "1"}
    tier = _first(record, ("service_tier",))
    if is_batch:
        tier = "batch"
    return UsageRow(
        model.strip(),
        usage,
        _count(record, _CALLS, place),
        tier.strip() if isinstance(tier, str) and tier.strip() not in {"", "default"} else None,
    )


def _from_csv(text: str, name: str) -> Iterator[Mapping[str, Any]]:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    try:
        reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True)
        names = [each.strip().lower() for each in reader.fieldnames or ()]
        if not any(each in names for each in (*_INPUT, *_OUTPUT)):
            raise InvalidCall(
                f"{name} has no column {_INPUT[0]!r} or {_OUTPUT[0]!r}; its columns are "
                f"{', '.join(names)[:200]}",
                code="invalid_export",
            )
        reader.fieldnames = names
        yield from reader
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


def _first(record: Mapping[str, Any], names: Iterable[str]) -> Any:
    for name in names:
        value = record.get(name)
        if value is not None and value != "":
            return value
    return None


def _count(record: Mapping[str, Any], names: tuple[str, ...], place: str) -> int:
    value = _first(record, names)
    if value is None:
        return 0
    text = str(value).strip()
    try:
        # "1.000" is one to some and a thousand to others.
        count = Fraction(-1) if _MAYBE_GROUPED.match(text) else Fraction(text)
    except (ValueError, ZeroDivisionError):
        count = Fraction(-1)
    if count.denominator != 1 or not 0 <= count <= TOKENS_MAX:
        raise InvalidCall(
            f"{place}: {names[0]} = {text[:40]!r} is not a count; write it in digits alone",
            code="invalid_export",
        )
    return int(count)


def _time(record: Mapping[str, Any], names: tuple[str, ...], place: str) -> int | None:
    value = _first(record, names)
    if value is None:
        return None
    text = str(value).strip()
    try:
        if text.replace(".", "", 1).isdigit():
            seconds = int(float(text))
            _moment(seconds)
            return seconds
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, OSError):
        raise InvalidCall(
            f"{place}: {names[0]} = {text[:40]!r} is not a time", code="invalid_export"
        ) from None


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
