"""Many calls in one order: an uploaded file, its items, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

FilePurpose = Literal["batch", "batch_output"]

BatchStatus = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
"""As OpenAI names them. `failed`: the file is no batch; calls that fail do not fail a batch."""

UNFINISHED: frozenset[BatchStatus] = frozenset(
    ("validating", "in_progress", "finalizing", "cancelling")
)


class ItemRef(NamedTuple):
    """Which item of which batch."""

    batch_id: str
    number: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that an account keeps here. Its content lies beside the database."""

    id: str
    account_id: str
    filename: str
    purpose: FilePurpose
    size_bytes: int
    created_at_ms: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class BatchProblem:
    """What is wrong with a batch's file; `line` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """Items: all of them, those answered, and those that ended with an error."""

    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """An account's order to make every call of a file within a window.

    `moments_ms` tells when it reached each status it has had.
    """

    id: str
    account_id: str
    key_id: str
    endpoint: str
    input_file_id: str
    status: BatchStatus
    created_at_ms: int
    expires_at_ms: int
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    moments_ms: Mapping[BatchStatus, int] = field(default_factory=dict[BatchStatus, int])
    problems: tuple[BatchProblem, ...] = ()
    counts: BatchCounts = field(default_factory=BatchCounts)
    output_file_id: str | None = None
    error_file_id: str | None = None
    output_expires_after_s: int | None = None
    """How long its results are kept, counted from when each file is made, if that was asked for."""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One call of a batch: where its line lies in the file, and how often it was tried."""

    ref: ItemRef
    offset: int
    size_bytes: int
    tries: int


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """What became of an item's call. `is_kept`: its settlement has kept the answer. `is_put_off`: a
    limit of ours had no room for it. `status` and `body` are what its caller would have got."""

    status: int
    body: bytes
    call_id: str
    is_kept: bool = False
    is_put_off: bool = False
    may_retry: bool = False
    retry_after_s: float | None = None
