"""Works through ordered batches: look the file through, make its calls, write what came back.

Calls run beside live traffic and below it: fewer at once while live calls run, and none waits in
line before a live one. What a call answered is kept in the transaction that books it, so a worker
that dies leaves nothing half done: its leases end, and the rest is done by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, Protocol

import structlog

from merino.batch.order_file import ItemPlace, OrderFile
from merino.batch.result_files import Ended, Written, write_results
from merino.domain.batch import (
    Batch,
    BatchCounts,
    BatchItem,
    BatchProblem,
    BatchStatus,
    FilePurpose,
    ItemOutcome,
    ItemRef,
    StoredFile,
)
from merino.domain.chance import chance_of
from merino.domain.errors import MerinoError, StoreUnavailable
from merino.resilience.concurrency import AdaptiveLimit
from merino.running.every import every
from merino.settings.sections.batches import BatchesSettings

log = structlog.get_logger("merino.batch")

LEASE_S = 60.0
_RENEW_S = 15.0
_LOOK_S = 1.0
_CLAIMED_AT_ONCE = 32
_QUEUED_AT_ONCE = 250
_FORGOTTEN_AT_ONCE = 100
_FORGET_PAUSE_S = 0.005
_BACKOFF_BASE_S = 1.0
_BACKOFF_MAX_S = 60.0
_PUT_OFF_MAX_S = 5.0


Send = Callable[[Batch, ItemRef, bytes], Awaitable[ItemOutcome]]
"""Make one call: the batch, which item, its line. Never raises."""


class Queue(Protocol):
    """The batches and their items. Several workers may share it."""

    async def unfinished(self) -> Sequence[Batch]: ...
    async def find(self, batch_id: str) -> Batch | None: ...
    async def advance(
        self,
        batch: Batch,
        status: BatchStatus,
        problems: Sequence[BatchProblem] = (),
        total: int | None = None,
    ) -> bool: ...
    async def finish(
        self,
        batch: Batch,
        status: BatchStatus,
        counts: BatchCounts,
        files: Mapping[str, StoredFile],
    ) -> None: ...
    async def forget_items(self, batch_id: str, limit: int) -> int: ...
    async def leftovers(self) -> Sequence[str]: ...
    async def add_items(
        self, batch_id: str, items: Sequence[tuple[int, str, int, int]]
    ) -> None: ...
    async def claim(
        self, batch_id: str, worker: str, *, limit: int, lease_ms: int
    ) -> list[BatchItem]: ...
    async def renew(self, worker: str, *, lease_ms: int) -> None: ...
    async def release(self, ref: ItemRef, *, after_ms: int = 0, counts: bool = True) -> None: ...
    async def release_others(self, worker: str) -> None: ...
    async def fail(self, ref: ItemRef, call_id: str | None, status: int, answer: bytes) -> None: ...
    async def has_open(self, batch_id: str) -> bool: ...
    async def read_items(
        self, batch_id: str, consume: Callable[[Iterator[Ended]], Any], /
    ) -> Any: ...


class Shelf(Protocol):
    """Where the content of files lies."""

    def path(self, file_id: str) -> Path: ...
    def writing(self, file_id: str) -> contextlib.AbstractContextManager[BinaryIO]: ...


class Dispatcher(Protocol):
    """How a worker hears that there is something to do. In one process an event; between machines
    a message system can carry it."""

    def announce(self) -> None: ...
    async def wait(self, timeout_s: float) -> None: ...


class LocalDispatcher:
    """`Dispatcher` inside one process."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def announce(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout_s)
        self._event.clear()


def _limit_of(settings: BatchesSettings) -> AdaptiveLimit:
    most = float(settings.concurrency)
    return AdaptiveLimit(min(4.0, most), limit_max=most, quick=True)


class BatchWorker:
    """`live_calls` tells how many calls of live traffic run; `new_file` names a file to be."""

    def __init__(
        self,
        queue: Queue,
        shelf: Shelf,
        send: Send,
        dispatcher: Dispatcher,
        *,
        new_file: Callable[[str, str, FilePurpose, int, int | None], StoredFile],
        live_calls: Callable[[], int],
        now_ms: Callable[[], int],
        items_max: int,
        settings: BatchesSettings | None = None,
    ) -> None:
        self.name = f"worker_{secrets.token_hex(8)}"
        self._settings = settings or BatchesSettings()
        self._items_max = items_max
        self._queue = queue
        self._shelf = shelf
        self._send = send
        self._dispatcher = dispatcher
        self._new_file = new_file
        self._live_calls = live_calls
        self._now_ms = now_ms
        self._limit = _limit_of(self._settings)
        self._running: dict[asyncio.Task[None], ItemRef] = {}
        self._files: dict[str, int] = {}
        self._chance = chance_of()
        self._is_stopping = False
        self._is_alone = False
        self._has_leftovers = asyncio.Event()
        self._has_leftovers.set()  # of a worker that died

    def configure(self, settings: BatchesSettings) -> None:
        """For what is started from now on."""
        if settings.concurrency != self._settings.concurrency:
            self._limit = _limit_of(settings)
        self._settings = settings

    @property
    def in_flight(self) -> int:
        return len(self._running)

    async def run(self) -> None:
        """Work until cancelled. Starts nothing more after `stop`."""
        beside = [
            asyncio.create_task(each) for each in (every(_RENEW_S, self._renew), self._clear())
        ]
        try:
            while not self._is_stopping:
                started = 0
                try:
                    if not self._is_alone:
                        # The folder is ours alone, so whoever else leased anything is dead.
                        await self._queue.release_others(self.name)
                        self._is_alone = True
                    for batch in await self._queue.unfinished():
                        started += await self._step(batch)
                except StoreUnavailable as error:
                    log.warning("batches wait", reason=error.message)
                except Exception:
                    log.exception("a batch could not be worked on")
                if not started:
                    await self._dispatcher.wait(_LOOK_S)
        finally:
            for each in beside:
                each.cancel()

    async def stop(self, wait_s: float) -> None:
        """Start nothing more; what runs after `wait_s` is cut and goes back into the queue."""
        self._is_stopping = True
        self._dispatcher.announce()
        if self._running:
            await asyncio.wait(list(self._running), timeout=wait_s)
        cut = list(self._running)
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()

    # -- one batch -------------------------------------------------------------------------------

    async def _step(self, batch: Batch) -> int:
        """Do what can be done about a batch now; how much was started."""
        if batch.status == "validating":
            await self._look_through(batch)
            return 1
        is_over = self._now_ms() >= batch.expires_at_ms
        if batch.status == "in_progress" and not is_over:
            if started := await self._start_some(batch):
                return started
            if not self._is_busy_with(batch) and not await self._queue.has_open(batch.id):
                await self._queue.advance(batch, "finalizing")
                return 1
            return 0
        if self._is_busy_with(batch):
            return 0
        if batch.status == "in_progress":
            await self._finish(batch, "expired")
        elif batch.status == "cancelling":
            await self._finish(batch, "cancelled")
        else:
            await self._finish(batch, "completed")
        return 1

    async def _look_through(self, batch: Batch) -> None:
        path = self._shelf.path(batch.input_file_id)
        file = OrderFile(path, batch.endpoint, self._items_max)
        try:
            problems = await asyncio.to_thread(file.check)
            if problems:
                await self._queue.advance(batch, "failed", problems)
                return
            await self._forget_items(batch.id)  # of a worker that died here
            places: list[ItemPlace] = await asyncio.to_thread(lambda: list(file.places()))
        except OSError as error:
            problem = BatchProblem("file_unreadable", f"The file cannot be read: {error.strerror}.")
            await self._queue.advance(batch, "failed", [problem])
            return
        for start in range(0, len(places), _QUEUED_AT_ONCE):
            await self._queue.add_items(batch.id, places[start : start + _QUEUED_AT_ONCE])
        await self._queue.advance(batch, "in_progress", total=len(places))
        log.info("batch begun", batch=batch.id, items=len(places))

    async def _start_some(self, batch: Batch) -> int:
        room = min(self._room(), _CLAIMED_AT_ONCE)
        if room <= 0 or self._is_stopping:
            return 0
        fd = await self._opened(batch.input_file_id)
        items = await self._queue.claim(
            batch.id, self.name, limit=room, lease_ms=int(LEASE_S * 1000)
        )
        for item in items:
            task = asyncio.create_task(self._answer(batch, item, fd))
            self._running[task] = item.ref
            task.add_done_callback(self._ended)
        return len(items)

    def _room(self) -> int:
        live = max(0, self._live_calls() - len(self._running))
        return max(1, self._limit.limit - live) - len(self._running)

    def _is_busy_with(self, batch: Batch) -> bool:
        return any(ref.batch_id == batch.id for ref in self._running.values())

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._dispatcher.announce()

    # -- one item --------------------------------------------------------------------------------

    async def _answer(self, batch: Batch, item: BatchItem, fd: int) -> None:
        is_ended = False
        try:
            line = await asyncio.to_thread(os.pread, fd, item.size_bytes, item.offset)
            sent = await self._send(batch, item.ref, line)
            if sent.is_kept:
                self._limit.succeeded(len(self._running))
            is_ended = sent.is_kept or await self._settle(item, sent)
        except MerinoError as error:
            log.warning("an item goes back into its queue", batch=batch.id, reason=error.message)
        finally:
            if not is_ended:
                # Without room for this write its lease runs out, which comes to the same.
                with contextlib.suppress(StoreUnavailable):
                    await self._queue.release(item.ref, after_ms=1000)

    async def _settle(self, item: BatchItem, sent: ItemOutcome) -> bool:
        if sent.is_put_off:
            after_s = min(sent.retry_after_s or _LOOK_S, _PUT_OFF_MAX_S)
            await self._queue.release(item.ref, after_ms=int(after_s * 1000), counts=False)
            return True
        if sent.status in (429, 503):
            self._limit.overloaded(monotonic())
        if sent.may_retry and item.tries < self._settings.tries_max:
            bound = min(_BACKOFF_MAX_S, _BACKOFF_BASE_S * 2.0**item.tries)
            after_s = max(sent.retry_after_s or 0.0, self._chance.uniform(0, bound))
            await self._queue.release(item.ref, after_ms=int(after_s * 1000))
            return True
        await self._queue.fail(item.ref, sent.call_id, sent.status, sent.body)
        return True

    async def _opened(self, file_id: str) -> int:
        """One descriptor for all items of a file. Threads open and read it: a slow disk must
        not keep the loop of the calls waiting."""
        fd = self._files.get(file_id)
        if fd is None:
            flags = os.O_RDONLY | os.O_CLOEXEC
            fd = await asyncio.to_thread(os.open, self._shelf.path(file_id), flags)
            self._files[file_id] = fd
        return fd

    async def _renew(self) -> None:
        if self._running:
            with contextlib.suppress(StoreUnavailable):
                await self._queue.renew(self.name, lease_ms=int(LEASE_S * 1000))

    async def _clear(self) -> None:
        """Delete the items of batches that have ended, a little at a time: calls come first."""
        while True:
            await self._has_leftovers.wait()
            self._has_leftovers.clear()
            try:
                for batch_id in await self._queue.leftovers():
                    await self._forget_items(batch_id)
            except StoreUnavailable:
                self._has_leftovers.set()
                await asyncio.sleep(_LOOK_S)

    async def _forget_items(self, batch_id: str) -> None:
        gone = 1
        while gone:
            gone = await self._queue.forget_items(batch_id, _FORGOTTEN_AT_ONCE)
            await asyncio.sleep(_FORGET_PAUSE_S)

    # -- the end ---------------------------------------------------------------------------------

    async def _finish(self, batch: Batch, status: BatchStatus) -> None:
        kept_s = batch.output_expires_after_s
        new = {
            "output": self._new_file(
                batch.account_id, f"{batch.id}_output.jsonl", "batch_output", 0, kept_s
            ),
            "error": self._new_file(
                batch.account_id, f"{batch.id}_error.jsonl", "batch_output", 0, kept_s
            ),
        }

        def write(items: Iterator[Ended]) -> Written:
            with (
                self._shelf.writing(new["output"].id) as output,
                self._shelf.writing(new["error"].id) as errors,
            ):
                return write_results(items, batch.id, output, errors, ended=status)

        written: Written = await self._queue.read_items(batch.id, write)
        sizes = {"output": written.output_bytes, "error": written.error_bytes}
        files: dict[str, StoredFile] = {}
        for kind, size_bytes in sizes.items():
            file = new[kind]
            if size_bytes:
                files[kind] = StoredFile(
                    file.id,
                    file.account_id,
                    file.filename,
                    file.purpose,
                    size_bytes,
                    file.created_at_ms,
                    file.expires_at_ms,
                )
            else:
                self._shelf.path(file.id).unlink(missing_ok=True)
        await self._queue.finish(batch, status, written.counts, files)
        self._has_leftovers.set()
        fd = self._files.pop(batch.input_file_id, None)
        if fd is not None:
            os.close(fd)
        log.info(
            "batch ended",
            batch=batch.id,
            status=status,
            completed=written.counts.completed,
            failed=written.counts.failed,
        )
