"""The files of results, which are also the journal: what is in them is done.

A result is one line, written with one call, so that a killed process leaves at most half a line at
the end; that is cut off before going on. A failure that says nothing about its item (no credit, a
refused key, an outage) is taken out of the failures when a run goes on, and asked for again: every
id has one outcome, and nothing is done that could still be answered.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merino.batch.failures import is_own, verdict_of
from merino.batch.items import Item, hash_of
from merino.domain.errors import Misconfigured, Verdict
from merino.domain.money import format_nanos, parse_nanos

JOB_SUFFIX = ".job"
_JOB_NAME = re.compile(rb"[!-~]{1,64}\n")
_JOB_BYTES_MAX = 100


@dataclass(frozen=True, slots=True)
class Result:
    """How an item ended. `body` is the upstream's JSON; `error` is set if there was no answer, and
    `message` says more of it, `verdict` what it is about. `cost_nanos` is `None` when nobody
    knows."""

    item: Item
    status: int
    body: Any = None
    request_id: str = ""
    error: str = ""
    cost_nanos: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    message: str = ""
    verdict: Verdict = "failed"

    @property
    def is_good(self) -> bool:
        """There is an answer."""
        return 200 <= self.status < 300 and not self.error


class ResultFiles:
    """Results go to `out`, failures to `errors`. With `resume` they go on where they ended; without
    it the files must not be there."""

    def __init__(self, out: Path, errors: Path, *, resume: bool, in_order: bool = False) -> None:
        self._in_order = in_order
        self._waiting: dict[int, Result] = {}
        self._next = 0
        self._skip: Callable[[int], bool] = lambda _: False
        for path in (out, errors):
            path.parent.mkdir(parents=True, exist_ok=True)
        job = out.with_name(out.name + JOB_SUFFIX)
        self._lock = _locked(job, out)
        if not resume:
            for path in (out, errors):
                if path.exists() and path.stat().st_size:
                    os.close(self._lock)
                    raise Misconfigured(
                        f"{path} is there already; add --resume to go on with it, or name another"
                    )
        self.job = _name_in(job, self._lock, resume=resume)
        self.done: set[int] = set()
        self.failed_before = 0
        """Items that an earlier run had refused for good."""
        self.spent_nanos = 0
        """What earlier runs of the job spent, as far as their results say."""
        if resume:
            for path in dict.fromkeys((out, errors)):
                self._take_up(path)
        self._out = self._open(out)
        self._errors = self._open(errors) if errors != out else self._out

    def _take_up(self, path: Path) -> None:
        """Read what an earlier run left in a file, and take out of it what is asked for again."""
        if not path.exists():
            return
        os.close(self._open(path))  # cuts off half a line
        is_whole = True
        for outcome in _outcomes_in(path):
            self.spent_nanos += outcome.cost_nanos
            is_whole &= outcome.is_done
            if outcome.is_done:
                self.done.add(outcome.hashed)
                self.failed_before += outcome.is_failure
        if is_whole:
            return
        kept = path.with_name(path.name + ".kept")
        with kept.open("wb") as file:
            file.writelines(each.line for each in _outcomes_in(path) if each.is_done)
            file.flush()
            os.fsync(file.fileno())
        kept.replace(path)  # a run that is killed before has lost nothing, after it asks again

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
        os.close(self._lock)

    def _write(self, result: Result) -> None:
        shape = _shape(result)
        try:
            line = json.dumps(shape, ensure_ascii=False, separators=(",", ":")) + "\n"
            data = line.encode()
        except UnicodeEncodeError:
            # Half a surrogate pair, which models cut emoji to: JSON can say it, UTF-8 cannot.
            data = json.dumps(shape, separators=(",", ":")).encode() + b"\n"
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
        code = result.error or str(result.status)
        error = {
            "code": code,
            "message": result.message or result.error or f"status {code}",
            # Not in OpenAI's format: whether a resumed run has nothing more to ask.
            "is_final": is_own(result.verdict),
        }
    return {
        "id": f"batch_req_{hash_of(result.item.custom_id):016x}",
        "custom_id": result.item.custom_id,
        "response": response,
        "error": error,
    }


def _locked(job: Path, out: Path) -> int:
    """A descriptor that keeps other runs from these results until it is closed."""
    fd = os.open(job, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Misconfigured(
            f"another run writes {out}; wait until it has ended, or name another file"
        ) from None
    return fd


def _name_in(job: Path, fd: int, *, resume: bool) -> str:
    """Names the job in idempotency keys, so that what was paid for is not paid again. It is on the
    disk before anything is sent, so that half a name, or none, was never used."""
    data = os.pread(fd, _JOB_BYTES_MAX, 0) if resume else b""
    if _JOB_NAME.fullmatch(data) is None:
        data = f"{secrets.token_hex(8)}\n".encode()
        os.ftruncate(fd, 0)
        os.pwrite(fd, data, 0)
        os.fsync(fd)
        folder = os.open(job.parent, os.O_RDONLY | os.O_CLOEXEC)
        os.fsync(folder)
        os.close(folder)
    return data.decode().strip()


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A line of a file of results."""

    hashed: int
    cost_nanos: int
    is_failure: bool
    is_done: bool
    """It is an answer, or a refusal of the item itself."""
    line: bytes


def _outcomes_in(path: Path) -> Iterator[_Outcome]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                result: Any = json.loads(raw)
                response: Any = result["response"] or {}
                error: Any = result["error"]
                status = response.get("status_code", 0)
                yield _Outcome(
                    hash_of(result["custom_id"]),
                    parse_nanos(response.get("cost", "0")),
                    is_failure=error is not None,
                    is_done=error is None or _is_final(error, status, response.get("body")),
                    line=raw,
                )
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise Misconfigured(
                    f"{path}:{number} is not a result of a batch; name another output file"
                ) from None


def _is_final(error: dict[str, Any], status: int, body: Any) -> bool:
    told = error.get("is_final")
    if isinstance(told, bool):
        return told
    return is_own(verdict_of(status, json.dumps(body).encode()))  # of another program
