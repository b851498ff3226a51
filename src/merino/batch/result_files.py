"""The output and error file of an ordered batch, in OpenAI's format."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import msgspec

from merino.domain.batch import BatchCounts

_encode = msgspec.json.Encoder().encode
NEVER_ASKED = {
    "expired": {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    },
    "cancelled": {
        "code": "batch_cancelled",
        "message": "This request was not executed because the batch was cancelled.",
    },
}
"""What is told of items that were not asked, by what the batch became."""


class Ended(Protocol):
    """What became of an item. Neither answer nor status: it was never asked."""

    @property
    def number(self) -> int: ...
    @property
    def custom_id(self) -> str: ...
    @property
    def is_answered(self) -> bool: ...
    @property
    def call_id(self) -> str | None: ...
    @property
    def status(self) -> int | None: ...
    @property
    def answer(self) -> bytes | None: ...


@dataclass(slots=True)
class Written:
    """How much went into each file."""

    counts: BatchCounts
    output_bytes: int = 0
    error_bytes: int = 0


def write_results(
    items: Iterable[Ended],
    batch_id: str,
    output: BinaryIO,
    errors: BinaryIO,
    *,
    ended: str,
) -> Written:
    """A line for each item, in the order of its file: answers to `output`, the rest to `errors`, so
    that both together have every id. `ended` is what the batch became."""
    total = completed = failed = output_bytes = error_bytes = 0
    for item in items:
        total += 1
        never_asked = NEVER_ASKED.get(ended)
        if item.answer is None and never_asked is None:
            continue
        line = _line(item, batch_id, never_asked)
        if item.is_answered:
            completed += 1
            output_bytes += output.write(line)
        else:
            failed += 1
            error_bytes += errors.write(line)
    return Written(BatchCounts(total, completed, failed), output_bytes, error_bytes)


def _line(item: Ended, batch_id: str, never_asked: dict[str, str] | None) -> bytes:
    response: dict[str, object] | None = None
    error: dict[str, str] | None = None
    if item.answer is None:
        error = never_asked
    else:
        # The bytes are the answer's own; a JSON line has no room for its line breaks.
        body = msgspec.Raw(item.answer.replace(b"\r", b"").replace(b"\n", b" "))
        response = {"status_code": item.status, "request_id": item.call_id or "", "body": body}
    return (
        _encode(
            {
                "id": f"batch_req_{batch_id.removeprefix('batch_')}_{item.number}",
                "custom_id": item.custom_id,
                "response": response,
                "error": error,
            }
        )
        + b"\n"
    )
