"""The append-only journal: all records of one turn of the event loop go out in one `os.write`.

A segment is a file of lines, each the CRC-32 of its JSON, a space and the JSON. `lines.py` says
what the lines mean; `applier.py` applies them to SQLite.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from zlib import crc32

from merino.domain.errors import StoreUnavailable
from merino.ledger.disk_room import reserve
from merino.ledger.segments import FORMAT_LINE, frame, segment_paths
from merino.running.signal import Signal
from merino.sqlite.data_folder import FILE_MODE, FOLDER_MODE, sync_folder

Durability = Literal["process", "power"]
SEGMENT_BYTES_MAX = 64 * 1024 * 1024
ROOM_BYTES = 2 * 1024 * 1024
"""The space kept free behind the journal's end when holds are written, for the settlements of some
thousand running calls. Otherwise the disk could be full by the time a call has its answer."""
_ROOM_STEP_BYTES = 256 * 1024
RETRY_S_MIN = 0.02
RETRY_S_MAX = 1.0

Line = tuple[bytes, Any, bool]
"""Framed bytes, their owner, and whether they are kept for another try when writing fails."""


class Owner(Protocol):
    """The code that appends, and is told what became of it."""

    def on_written(self, lines: list[Line]) -> None:
        """These are durable, in this order."""
        ...

    def on_lost(self, lines: list[Line]) -> None:
        """These could not be written and are not tried again."""
        ...

    def carried(self, pending: list[Line]) -> list[bytes]:
        """Framed lines a new segment must begin with, given what is about to follow."""
        ...


class _Group(NamedTuple):
    lines: list[Line]
    offered: Signal | None
    kept: list[Signal]


class Journal:
    """Writes on the event loop's thread; `last_seq` numbers what is appended."""

    def __init__(
        self,
        folder: Path,
        owner: Owner,
        *,
        durability: Durability = "process",
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        last_seq: int = 0,
    ) -> None:
        self.last_seq = last_seq
        self.is_failing = False
        self._folder = folder
        self._owner = owner
        self._is_synced = durability == "power"
        self._segment_bytes_max = segment_bytes_max
        self._number = max((int(path.stem) for path in segment_paths(folder)), default=0)
        self._path: Path | None = None
        self._fd = -1
        self._offset = 0
        self._synced_offset = 0
        self._room_end = 0
        self._is_dirty = False
        self._is_abandoned = False
        self._pending: list[Line] = []
        self._offered: Signal | None = None
        self._kept: list[Signal] = []
        self._is_scheduled = False
        self._loop_: asyncio.AbstractEventLoop | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._retry_s = RETRY_S_MIN
        self._unsynced: list[_Group] = []
        self._sync: asyncio.Future[None] | None = None
        self._retired: list[tuple[Path, int]] = []
        self._undeleted: list[Path] = []
        self._pool: ThreadPoolExecutor | None = None

    # Appending

    def offer(self, body: bytes, owner: Any) -> Signal:
        """Append; if it cannot be written now, it is lost and the signal fails. Everything written
        together shares one signal."""
        self._pending.append((b"%08x %b\n" % (crc32(body), body), owner, False))
        signal = self._offered
        if signal is None:
            signal = self._offered = Signal(self._loop, is_shared=True)
        if not self._is_scheduled:
            self._schedule()
        return signal

    def append(self, body: bytes, owner: Any) -> Signal:
        """Append; if it cannot be written now, it is tried again until it can."""
        self._pending.append((b"%08x %b\n" % (crc32(body), body), owner, True))
        if not self._kept:
            self._kept.append(Signal(self._loop, is_shared=True))
        if not self._is_scheduled:
            self._schedule()
        return self._kept[-1]

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._loop.call_soon(self.flush)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        # Asking for the running loop is a system call in Python 3.11.
        if self._loop_ is None:
            self._loop_ = asyncio.get_running_loop()
        return self._loop_

    # Writing

    def flush(self) -> None:
        """Write what is pending now."""
        self._is_scheduled = False
        if not self._pending:
            return
        if self._is_full() and self._sync is not None:
            return  # the old segment is being synced; `_on_synced` comes back here
        group = _Group(self._pending, self._offered, self._kept)
        self._pending, self._offered, self._kept = [], None, []
        try:
            self._write(group)
        except OSError as error:
            kept = [line for line in group.lines if line[2]]
            if group.offered is not None and kept and self._write_kept(kept, group.kept):
                lost = [line for line in group.lines if not line[2]]
                group = _Group(lost, group.offered, [])
            self._fail([group], error)
            return
        self._on_group_written(group)

    def _write_kept(self, lines: list[Line], signals: list[Signal]) -> bool:
        """Write these even where there is no room for new holds."""
        group = _Group(lines, None, signals)
        try:
            self._write(group)
        except OSError:
            return False
        self._on_group_written(group)
        return True

    def _on_group_written(self, group: _Group) -> None:
        if self._is_synced:
            self._unsynced.append(group)
            self._start_sync()
        else:
            self._succeed(group)

    def _write(self, group: _Group) -> None:
        lines = group.lines
        data = b"".join([line[0] for line in lines])
        if group.offered is not None:
            self._make_ready(lines, len(data))
        elif self._is_dirty or self._fd < 0 or self._is_abandoned:
            self._make_ready(lines, None)
        try:
            _write_all(self._fd, data)
        except OSError:
            self._is_dirty = True
            with contextlib.suppress(OSError):
                self._cut_back(self._offset)
            raise
        self._offset += len(data)

    def _make_ready(self, lines: list[Line], size: int | None) -> None:
        """A segment that can be written to: for lines of `size`, with room for more behind them.
        Settlements go on in a full segment, whose reserve is meant for them."""
        if self._is_dirty:
            self._cut_back(self._offset)
        if self._fd < 0 or self._is_abandoned or (size is not None and self._is_full()):
            self._begin_segment(lines)
        if size is not None and self._offset + size + ROOM_BYTES > self._room_end:
            end = self._offset + size + ROOM_BYTES + _ROOM_STEP_BYTES
            reserve(self._fd, self._offset, end - self._offset)
            self._room_end = end

    def _cut_back(self, offset: int) -> None:
        os.ftruncate(self._fd, offset)
        self._offset = self._room_end = offset
        self._is_dirty = False

    def _succeed(self, group: _Group) -> None:
        self._owner.on_written(group.lines)
        if group.offered is not None:
            self.is_failing = False
            self._retry_s = RETRY_S_MIN
            group.offered.set()
        for signal in group.kept:
            signal.set()

    def _fail(self, groups: list[_Group], error: OSError) -> None:
        self.is_failing = True
        refusal = StoreUnavailable(
            f"The ledger's journal cannot be written: {error.strerror or error}. No call goes out "
            "unrecorded; the relay recovers by itself once it can write again.",
            code="store_unavailable",
            retry_after_s=1.0,
        )
        lines = [line for group in groups for line in group.lines]
        self._pending[:0] = [line for line in lines if line[2]]
        self._kept[:0] = [signal for group in groups for signal in group.kept]
        self._owner.on_lost([line for line in lines if not line[2]])
        for group in groups:
            if group.offered is not None:
                group.offered.fail(refusal)
        self._try_again_later()

    def _try_again_later(self) -> None:
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(self._retry_s, self._try_again)
            self._retry_s = min(self._retry_s * 2, RETRY_S_MAX)

    def _try_again(self) -> None:
        """Even with nothing to write: no call should be needed to find out whether calls can be
        taken."""
        self._retry = None
        self.flush()
        if not self.is_failing or self._retry is not None:
            return
        try:
            if self._sync is not None:
                raise BlockingIOError
            self._make_ready([], 0)
        except OSError:
            self._try_again_later()
        else:
            self.is_failing = False
            self._retry_s = RETRY_S_MIN

    # Syncing, where durability is against a power cut

    def _start_sync(self) -> None:
        if self._sync is not None or not self._unsynced:
            return
        groups, self._unsynced = self._unsynced, []
        # A new segment: its name must last, too, and so must that of its folder.
        folder = self._folder if self._synced_offset == 0 else None
        self._sync = asyncio.get_running_loop().run_in_executor(
            self._executor(), _sync, self._fd, folder
        )
        self._sync.add_done_callback(partial(self._on_synced, groups, self._offset))

    def _on_synced(self, groups: list[_Group], offset: int, sync: asyncio.Future[None]) -> None:
        self._sync = None
        error = sync.exception()
        if error is None:
            self._synced_offset = offset
            for group in groups:
                self._succeed(group)
        elif isinstance(error, OSError):
            # After a failed fsync, what is on the disk is unknown, and a second fsync may lie: all
            # of it goes to another segment.
            groups += self._unsynced
            self._unsynced = []
            self._offset = self._synced_offset
            self._is_dirty = self._is_abandoned = True
            self._fail(groups, error)
        else:
            raise error
        self._start_sync()
        if self._sync is None or not self._is_full():
            self.flush()

    # Segments

    def _is_full(self) -> bool:
        return self._offset >= self._segment_bytes_max or self._is_abandoned

    def _begin_segment(self, pending: list[Line]) -> None:
        self._folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        path = self._folder / f"{self._number + 1:08d}.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(path, flags, FILE_MODE)
        data = b"".join([frame(FORMAT_LINE), *self._owner.carried(pending)])
        try:
            _write_all(fd, data)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        if self._path is not None:
            os.close(self._fd)
            self._retired.append((self._path, self.last_seq))
        self._number += 1
        self._path, self._fd, self._offset, self._synced_offset = path, fd, len(data), 0
        self._room_end = self._offset
        self._is_abandoned = False

    def retire(self, applied_seq: int, before: Callable[[], None]) -> None:
        """Delete segments that SQLite has completely, on another thread, after running `before`
        (which makes SQLite's own files durable)."""
        paths = [path for path, last_seq in self._retired if last_seq <= applied_seq]
        if paths:
            self._retired = self._retired[len(paths) :]
            # A descriptor of its own: this one may be closed by the next rotation meanwhile.
            fd = os.dup(self._fd)
            self._executor().submit(self._delete, paths, fd, before)

    def _delete(self, paths: list[Path], fd: int, before: Callable[[], None]) -> None:
        """On the journal's thread. A segment that cannot be deleted now is tried again with the
        next one; or the next start reads it and finds it applied."""
        paths = [*self._undeleted, *paths]
        try:
            os.fsync(fd)
            sync_folder(self._folder)
            while paths:  # oldest first: no hold remains whose end is deleted
                before()
                paths[0].unlink(missing_ok=True)
                del paths[0]
        except OSError:
            pass
        finally:
            self._undeleted = paths
            os.close(fd)

    def _executor(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="merino-journal")
        return self._pool

    # Ending

    async def drain(self, tries: int = 1) -> bool:
        """Write and sync everything. False if something still cannot be written."""
        for _ in range(tries):
            self.flush()
            while self._sync is not None:
                await asyncio.wait([self._sync])
                await asyncio.sleep(0)
            if not self._pending:
                return True
        return False

    def close(self, *, delete: bool) -> None:
        """Close the files; with `delete`, delete them too."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if delete:
            for path in segment_paths(self._folder):
                path.unlink(missing_ok=True)


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):
        # A short write to a file mostly announces an error; the next one names it.
        more = os.write(fd, memoryview(data)[written:])
        if more == 0:
            raise OSError(0, "nothing more could be written")
        written += more


def _sync(fd: int, folder: Path | None) -> None:
    os.fdatasync(fd)
    if folder is not None:
        sync_folder(folder)
        sync_folder(folder.parent)
