"""The files of results, which are also the journal: what is in them is done.

A result is one line, written with one call, so that a killed process leaves at most half a line at
the end; that is cut off before going on.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merino.batch.items import Item, hash_of
from merino.domain.errors import Misconfigured
from merino.domain.money import format_nanos, parse_nanos

JOB_SUFFIX = ".job"


@dataclass(frozen=True, slots=True)
class Result:
    """How an item ended. `body` is the upstream's JSON; `error` is set if there was no answer.
    `cost_nanos` is `None` when nobody knows."""

    item: Item
    status: int
    body: Any = None
    request_id: str = ""
    error: str = ""
    cost_nanos: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300


class ResultFiles:
    """Results go to `out`, failures to `errors`. With `resume` they go on where they ended; without
    it the files must not be there."""

    def __init__(self, out: Path, errors: Path, *, resume: bool, in_order: bool = False) -> None:
        self._in_order = in_order
        self._waiting: dict[int, Result] = {}
        self._next = 0
        self._skip: Callable[[int], bool] = lambda _: False
        if not resume:
            for path in (out, errors):
                if path.exists() and path.stat().st_size:
                    raise Misconfigured(
                        f"{path} is there already; add --resume to go on with it, or name another"
                    )
        self.job = self._job(out, resume=resume)
        self._out = self._open(out)
        self._errors = self._open(errors) if errors != out else self._out
        self.done: set[int] = set()
        self.spent_nanos = 0
        """What earlier runs of the job spent, as far as their results say."""
        if resume:
            for path in {out, errors}:
                for hashed, cost_nanos in _done_in(path):
                    self.done.add(hashed)
                    self.spent_nanos += cost_nanos

    @staticmethod
    def _job(out: Path, *, resume: bool) -> str:
        """Names this job in idempotency keys, so that what was paid for is not paid again."""
        path = out.with_name(out.name + JOB_SUFFIX)
        if resume and path.exists():
            return path.read_text().strip()
        job = secrets.token_hex(8)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(job + "\n")
        return job

    @staticmethod
    def _open(path: Path) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        size = os.fstat(fd).st_size
        # A line that a killed process left half.
        position = size
        while position > 0:
            start = max(0, position - 65536)
            chunk = os.pread(fd, position - start, start)
            newline = chunk.rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position != size:
            os.ftruncate(fd, position)
        return fd

    def start(self, skip: Callable[[int], bool]) -> None:
        """`skip(number)`: items that no result will come for."""
        self._skip = skip

    @property
    def held_back(self) -> int:
        """Results that wait for earlier ones, with `in_order`."""
        return len(self._waiting)

    def write(self, result: Result) -> None:
        if not self._in_order:
            self._write(result)
            return
        self._waiting[result.item.number] = result
        while self._waiting or self._skip(self._next):
            found = self._waiting.pop(self._next, None)
            if found is not None:
                self._write(found)
            elif not self._skip(self._next):
                return
            self._next += 1

    def close(self) -> None:
        for number in sorted(self._waiting):
            self._write(self._waiting.pop(number))
        os.close(self._out)
        if self._errors != self._out:
            os.close(self._errors)

    def _write(self, result: Result) -> None:
        line = json.dumps(_shape(result), ensure_ascii=False, separators=(",", ":")) + "\n"
        data = line.encode(errors="replace")
        fd = self._out if result.is_good else self._errors
        written = os.write(fd, data)
        if written != len(data):
            raise OSError(28, "the result could not be written whole")


def _shape(result: Result) -> dict[str, Any]:
    response: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    if result.status:
        response = {
            "status_code": result.status,
            "request_id": result.request_id,
            "body": result.body,
        }
        if result.cost_nanos is not None:
            # Not in OpenAI's format; a resumed batch with a budget counts it.
            response["cost"] = format_nanos(result.cost_nanos)
    if not result.is_good:
        error = {"code": result.error or str(result.status), "message": _message(result)}
    return {
        "id": f"batch_req_{hash_of(result.item.custom_id):016x}",
        "custom_id": result.item.custom_id,
        "response": response,
        "error": error,
    }


def _message(result: Result) -> str:
    try:
        return str(result.body["error"]["message"])
    except (KeyError, TypeError):
        return result.error or f"status {result.status}"


def _done_in(path: Path) -> Iterator[tuple[int, int]]:
    """Hashes of the ids in a file of results, and what each cost."""
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            try:
                result: Any = json.loads(raw)
                response: Any = result["response"] or {}
                yield hash_of(result["custom_id"]), parse_nanos(response.get("cost", "0"))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise Misconfigured(
                    f"{path}:{line} is not a result of a batch; name another output file"
                ) from None
