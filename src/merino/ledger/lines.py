"""What the journal's lines say, and how a call becomes a row.

A call's row is built once: the same tuple is encoded for the journal and bound to SQLite's insert.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, cast

import msgspec

from merino.domain.call import Attempt, CallRecord
from merino.domain.ledger import Hold
from merino.gateway.ports import Replay
from merino.sqlite.database import columns_of

Record = tuple[Any, ...]
"""``(seq, "hold", call_id, account_id, key_id, amount_nanos, at_ms, expires_after_s)`` or
``(seq, "call", at_ms, row, replay)``: a call that ended, with or without a hold, or
``(seq, "late", at_ms, row, None)``: the same for a call that has a row, since its hold expired."""

CALL_COLUMNS = columns_of(CallRecord)
"""Columns of the table `calls` are the fields of the record."""

UNNAMED_COLUMNS = (
    "id", "account_id", "key_id", "alias", "endpoint", "at_ms", "status", "deployment",
    "upstream_model", "streamed", "error_code", "finish_reason", "resolution", "duration_ms",
    "ttft_ms", "queue_ms", "relay_ms", "upstream_ms", "input_tokens", "output_tokens",
    "cached_tokens", "cache_write_tokens", "reasoning_tokens", "usage_source", "held_nanos",
    "charged_nanos", "overrun_nanos", "upstream_nanos", "price_id", "idempotency_key", "attempts",
    "request_json", "response_text",
)  # fmt: skip
"""The columns of rows in old journals that do not name them. Never change this."""

ID = CALL_COLUMNS.index("id")
ACCOUNT_ID = CALL_COLUMNS.index("account_id")
KEY_ID = CALL_COLUMNS.index("key_id")
ALIAS = CALL_COLUMNS.index("alias")
AT_MS = CALL_COLUMNS.index("at_ms")
STATUS = CALL_COLUMNS.index("status")
DEPLOYMENT = CALL_COLUMNS.index("deployment")
STREAMED = CALL_COLUMNS.index("streamed")
DURATION = CALL_COLUMNS.index("duration_ms")
FIRST_TOKEN = CALL_COLUMNS.index("ttft_ms")
INPUT_TOKENS = CALL_COLUMNS.index("input_tokens")
OUTPUT_TOKENS = CALL_COLUMNS.index("output_tokens")
CACHED_TOKENS = CALL_COLUMNS.index("cached_tokens")
REASONING_TOKENS = CALL_COLUMNS.index("reasoning_tokens")
CHARGED = CALL_COLUMNS.index("charged_nanos")
OVERRUN = CALL_COLUMNS.index("overrun_nanos")
UPSTREAM = CALL_COLUMNS.index("upstream_nanos")
PRICE_ID = CALL_COLUMNS.index("price_id")
END_USER = CALL_COLUMNS.index("end_user")
TAGS = CALL_COLUMNS.index("tags")
METADATA = CALL_COLUMNS.index("metadata")
ATTEMPTS = CALL_COLUMNS.index("attempts")

_values_of = cast("Callable[[CallRecord], tuple[Any, ...]]", attrgetter(*CALL_COLUMNS))


def row_of(record: CallRecord) -> tuple[Any, ...]:
    """The row of a call record, as the journal and SQLite take it."""
    values = _values_of(record)
    attempts = "[]"
    if record.attempts:
        try:
            attempts = encode(record.attempts).decode()
        except UnicodeEncodeError:
            # An upstream's words may hold half a surrogate pair; the call is still settled.
            attempts = encode(_storable(record.attempts)).decode()
    return (*values[:ATTEMPTS], attempts, *values[ATTEMPTS + 1 :])


def row_reader(columns: Sequence[str]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """A function that turns a row with its journal's columns into one with today's. A newer column
    gets its field's default; a dropped one is left out."""
    if tuple(columns) == CALL_COLUMNS:
        return tuple
    places = {name: place for place, name in enumerate(columns)}
    absent = dict(zip(CALL_COLUMNS, row_of(CallRecord("", "", "", "", "", 0, 0)), strict=True))
    sources = [(places.get(name), absent[name]) for name in CALL_COLUMNS]

    def read(row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple([default if place is None else row[place] for place, default in sources])

    return read


_INT64_MAX = 2**63 - 1
_encoder = msgspec.json.Encoder()
encode = _encoder.encode
_attempts = msgspec.json.Decoder(tuple[Attempt, ...])


def encode_record(record: Record) -> bytes:
    """The journal's line of a record, also when a vendor's text or number in it is impossible."""
    try:
        return encode(record)
    except (UnicodeEncodeError, OverflowError):
        return encode(_storable(record))


def encode_hold(seq: int, hold: Hold) -> bytes:
    return encode(
        (
            seq,
            "hold",
            hold.call_id,
            hold.account_id,
            hold.key_id,
            hold.amount_nanos,
            hold.at_ms,
            hold.expires_after_s,
        )
    )


def decode_hold(record: Sequence[Any]) -> Hold:
    _, _, call_id, account_id, key_id, amount_nanos, at_ms, expires_after_s, *_ = record
    return Hold(call_id, account_id, key_id, amount_nanos, at_ms, expires_after_s)


def decode_ended(record: Sequence[Any]) -> Record:
    """A `call` or `late` record as it was before it was encoded."""
    seq, kind, at_ms, row, replay, *_ = record
    if not isinstance(row[ATTEMPTS], str):  # the format from before rows were built once
        row = (*row[:ATTEMPTS], encode(row[ATTEMPTS]).decode(), *row[ATTEMPTS + 1 :])
    return seq, kind, at_ms, tuple(row), msgspec.convert(replay, Replay | None)


def attempts_of(text: str) -> tuple[Attempt, ...]:
    """The attempts of a row."""
    return _attempts.decode(text)


def record_of(row: Sequence[Any]) -> CallRecord:
    """A call record from the columns of its row."""
    record = CallRecord(*row)
    record.streamed = bool(record.streamed)
    record.attempts = _attempts.decode(row[ATTEMPTS])
    return record


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return max(-_INT64_MAX, min(value, _INT64_MAX))
    if isinstance(value, tuple | list):
        return tuple(_storable(item) for item in cast("Sequence[Any]", value))
    if isinstance(value, Attempt):
        return _storable(msgspec.to_builtins(value))
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in cast("dict[str, Any]", value).items()}
    return value


def storable(record: Record) -> Record:
    """A record with every number inside 64 bits and every text valid UTF-8."""
    return tuple(_storable(item) for item in record)
