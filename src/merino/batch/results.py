"""The files of results, which are also the journal: what is in them is done.

A result is one line, written with one call, so that a killed process leaves at most half a line at
the end; that is cut off before going on. A failure that says nothing about its item (no credit, a
refused key, an outage) is taken out of the failures when a run goes on, and asked for again: every
id has one outcome, and nothing is done that could still be answered.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merino.batch.failures import is_own, verdict_of
from merino.batch.items import Checked, Item, hash_of
from merino.domain.errors import Misconfigured, Verdict
from merino.domain.money import format_nanos, parse_nanos

JOB_SUFFIX = ".job"
_JOB_NAME = re.compile(rb"[!-~]{1,64}\n")
_JOB_BYTES_MAX = 100
_ID = "batch_req_"
_OWN_ID = re.compile(rf"{_ID}([0-9a-f]{{16}})")


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

    @property
    def kind(self) -> str:
        """What a failure is called: a code, or the status."""
        return self.error or str(self.status)


class ResultFiles:
    """Results go to `out`, failures to `errors`. With `resume` they go on where they ended; without
    it the files must not be there."""

    def __init__(self, out: Path, errors: Path, *, resume: bool, in_order: bool = False) -> None:
        self._in_order = in_order
        self._waiting: dict[int, Result] = {}
        self._next = 0
        self._skip: Callable[[int], bool] = lambda _: False
        self._digests: Sequence[int] = ()
        for path in (out, errors):
            if path.exists() and not path.is_file():
                raise Misconfigured(
                    f"{path} is not a plain file; results are also what a resumed run goes on from"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
        self._out_path, self._errors_path = out, errors
        self.done: set[int] = set()
        """Hashes of the ids that have an answer, or were refused for good."""
        self.refused: set[int] = set()
        """Those that were refused."""
        self.spent_nanos = 0
        """What earlier runs of the job spent, as far as their results say."""
        self._asked = array("Q")
        self._asked_untold: set[int] = set()
        self._fds: list[int] = []
        try:
            self._begin(resume=resume)
        except OSError as error:
            self._release()
            if error.filename is None:
                raise OSError(error.errno, error.strerror, str(out)) from None
            raise
        except BaseException:
            self._release()
            raise

    def _begin(self, *, resume: bool) -> None:
        paths = dict.fromkeys((self._out_path, self._errors_path))
        job = self._out_path.with_name(self._out_path.name + JOB_SUFFIX)
        lock = self._kept(os.open(job, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
        _lock(lock, self._out_path)
        for path in paths:
            if path.exists():
                _refuse_locked(path)
        if not resume:
            for path in paths:
                if path.exists() and path.stat().st_size:
                    raise Misconfigured(
                        f"{path} is there already; add --resume to go on with it, or name another"
                    )
        self.job = _name_in(job, lock, resume=resume)
        if resume:
            for path in paths:
                self._take_up(path)
        self._open_all()

    def _open_all(self) -> None:
        opened = {
            path: self._kept(_opened(path))
            for path in dict.fromkeys((self._out_path, self._errors_path))
        }
        for path, fd in opened.items():
            _lock(fd, path)
        self._out, self._errors = opened[self._out_path], opened[self._errors_path]

    def _kept(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def _release(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def _take_up(self, path: Path) -> None:
        """Read what an earlier run left in a file, and take out of it what is asked for again."""
        if not path.exists():
            return
        os.close(_opened(path))  # cuts off half a line
        is_whole = True
        for outcome in _outcomes_in(path):
            self.spent_nanos += outcome.cost_nanos
            is_whole &= outcome.is_done
            if outcome.is_done:
                self.done.add(outcome.hashed)
                if outcome.is_failure:
                    self.refused.add(outcome.hashed)
                if outcome.digest:
                    self._asked.append(outcome.digest)
                else:
                    self._asked_untold.add(outcome.hashed)
        if not is_whole:
            _keep(path, lambda outcome: outcome.is_done)

    def changed(self, checked: Checked) -> list[int]:
        """Numbers of items that are done, but asked for something else when they were."""
        asked = set(self._asked)
        return [
            number
            for number, (hashed, digest) in enumerate(
                zip(checked.hashes, checked.digests, strict=False)
            )
            if hashed in self.done
            and digest not in asked
            and hashed not in self._asked_untold
            and number not in checked.bad
        ]

    def forget(self, hashes: Iterable[int]) -> None:
        """Take what came of these out of the files: they are asked for again."""
        dropped = set(hashes)
        self.done -= dropped
        self.refused -= dropped
        for fd in (self._out, self._errors):
            if fd in self._fds:
                self._fds.remove(fd)
                os.close(fd)
        for path in dict.fromkeys((self._out_path, self._errors_path)):
            _keep(path, lambda outcome: outcome.hashed not in dropped)
        self._open_all()

    def start(self, skip: Callable[[int], bool], digests: Sequence[int] = ()) -> None:
        """`skip(number)`: items that no result will come for; `digests`: of what each item asks."""
        self._skip = skip
        self._digests = digests

    @property
    def held_back(self) -> int:
        """Results that wait for earlier ones, with `in_order`; or for room on the disk."""
        return len(self._waiting)

    def write(self, result: Result) -> None:
        """Raises `OSError` where it cannot be written; then it is kept for `close`."""
        self._waiting[result.item.number] = result
        if not self._in_order:
            self._write_waiting()
            return
        while self._waiting or self._skip(self._next):
            found = self._waiting.get(self._next)
            if found is not None:
                self._write(found)
                del self._waiting[self._next]
            elif not self._skip(self._next):
                return
            self._next += 1

    def close(self) -> list[Result]:
        """Write what waits still. Returns what cannot be written."""
        try:
            with contextlib.suppress(OSError):
                self._write_waiting()
            return list(self._waiting.values())
        finally:
            self._release()

    def _write_waiting(self) -> None:
        for number in sorted(self._waiting):
            self._write(self._waiting[number])
            del self._waiting[number]

    def _write(self, result: Result) -> None:
        number = result.item.number
        shape = _shape(result, self._digests[number] if number < len(self._digests) else 0)
        try:
            line = json.dumps(shape, ensure_ascii=False, separators=(",", ":")) + "\n"
            data = line.encode()
        except UnicodeEncodeError:
            # Half a surrogate pair, which models cut emoji to: JSON can say it, UTF-8 cannot.
            data = json.dumps(shape, separators=(",", ":")).encode() + b"\n"
        fd = self._out if result.is_good else self._errors
        written = os.write(fd, data)
        if written != len(data):
            os.ftruncate(fd, os.fstat(fd).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _opened(path: Path) -> int:
    """A descriptor that appends. What a killed process left half is cut off; a line that lacks only
    its end gets it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(fd).st_size
        position = size
        while position > 0:
            start = max(0, position - 65536)
            newline = os.pread(fd, position - start, start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position != size:
            if _is_whole(os.pread(fd, size - position, position)):
                os.write(fd, b"\n")
            else:
                os.ftruncate(fd, position)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _keep(path: Path, is_kept: Callable[[_Outcome], bool]) -> None:
    """Leave out of a file what is not kept. A run that is killed before the end has lost nothing,
    after it looks again."""
    kept = path.with_name(path.name + ".kept")
    try:
        with kept.open("wb") as file:
            file.writelines(each.line for each in _outcomes_in(path) if is_kept(each))
            file.flush()
            os.fsync(file.fileno())
        kept.replace(path)
    except OSError:
        kept.unlink(missing_ok=True)
        raise


def _shape(result: Result, digest: int) -> dict[str, Any]:
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
        error = {
            "code": result.kind,
            "message": result.message or result.error or f"status {result.kind}",
            # Not in OpenAI's format: whether a resumed run has nothing more to ask.
            "is_final": is_own(result.verdict),
        }
    return {
        # Tells a resumed run what was asked.
        "id": f"{_ID}{digest or hash_of(result.item.custom_id):016x}",
        "custom_id": result.item.custom_id,
        "response": response,
        "error": error,
    }


def _lock(fd: int, path: Path) -> None:
    """Keep other runs from a file of results until it is closed. Raises `Misconfigured`."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Misconfigured(
            f"another run writes {path}; wait until it has ended, or name another file"
        ) from None
    except OSError as error:
        raise Misconfigured(
            f"{path}: {error.strerror}: its file system cannot keep two runs apart; name a file "
            "on another disk"
        ) from None


def _refuse_locked(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        _lock(fd, path)
    finally:
        os.close(fd)


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
    digest: int
    """What it was asked for; 0 if the line does not say."""
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
                hashed = hash_of(result["custom_id"])
                yield _Outcome(
                    hashed,
                    _digest_in(result.get("id"), hashed),
                    parse_nanos(response.get("cost", "0")),
                    is_failure=error is not None,
                    is_done=error is None or _is_final(error, status, response.get("body")),
                    line=raw,
                )
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise Misconfigured(
                    f"{path}:{number} is not a result of a batch; name another output file"
                ) from None


def _digest_in(line_id: object, hashed: int) -> int:
    found = _OWN_ID.fullmatch(line_id) if isinstance(line_id, str) else None
    digest = 0 if found is None else int(found[1], 16)
    return 0 if digest == hashed else digest


def _is_final(error: dict[str, Any], status: int, body: Any) -> bool:
    told = error.get("is_final")
    if isinstance(told, bool):
        return told
    return is_own(verdict_of(status, json.dumps(body).encode()))  # of another program
