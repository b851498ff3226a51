"""Usage as OpenAI exports it: the usage page's CSV, or the usage API's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from merino.domain.errors import InvalidCall
from merino.domain.usage import Usage
from merino.exports.tables import Cells, moment, read_table
from merino.roi.scenario import UsageRow

MONTH_DAYS = 30
_DAY_S = 86_400
_STANDARD_TIERS = frozenset(("", "default", "standard"))

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
    price. Rows without tokens only count for the time covered. A spreadsheet may have written it
    again, with other separators and grouped numbers.
    """
    table = read_table(text, name, _refused, (*_START, *_END))
    rows: list[UsageRow] = []
    starts: list[int] = []
    ends: list[int] = []
    for cells in table:
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
        tuple(rows), Fraction(seconds, MONTH_DAYS * _DAY_S), moment(since), moment(until)
    )


def _refused(columns: Sequence[str]) -> str | None:
    if any(each in columns for each in (*_INPUT, *_OUTPUT)):
        return None
    return f"has no column {_INPUT[0]!r} or {_OUTPUT[0]!r}"


def _row(cells: Cells) -> UsageRow | None:
    place = cells.place
    if not cells.has((*_INPUT, *_OUTPUT)):
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
