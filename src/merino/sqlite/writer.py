"""The thread that changes the database, so that the event loop never waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar, cast

from merino.sqlite.database import Database

T = TypeVar("T")

Then = Callable[[T | None, BaseException | None], None]
"""Is told the outcome, or the error, on the event loop."""

_Job = tuple[Callable[[Database], Any], asyncio.AbstractEventLoop, Then[Any]]


class Writer:
    """Does one job after another, in the order given. SQLite releases the interpreter while it
    works. A job's own Python code keeps the event loop waiting, so it should be short.

    The connection is this thread's alone from the first job on until `stop`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: Thread | None = None

    def submit(self, work: Callable[[Database], T], then: Then[T]) -> None:
        """Do this, then report the outcome on the event loop."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name="merino-write", daemon=True)
            self._thread.start()
        self._jobs.put((work, asyncio.get_running_loop(), then))

    async def run(self, work: Callable[[Database], T], then: Then[T] | None = None) -> T:
        """Do this and return the outcome. It is done even if the waiting caller is cancelled; so
        what must follow in memory is `then`, which comes in any case, before the caller."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def ended(found: T | None, error: BaseException | None) -> None:
            try:
                if then is not None:
                    then(found, error)
            finally:
                if not done.done():
                    if error is None:
                        done.set_result(cast("T", found))
                    else:
                        done.set_exception(error)

        self.submit(work, ended)
        return await done

    async def write(
        self,
        what: str,
        work: Callable[[Database], T],
        then: Callable[[T], None] | None = None,
        *,
        lasts: bool = True,
    ) -> T:
        """One transaction, as `Database.writing`. `then` follows only when it is committed."""

        def job(database: Database) -> T:
            with database.writing(what, lasts=lasts):
                return work(database)

        def ended(found: T | None, error: BaseException | None) -> None:
            if then is not None and error is None:
                then(cast("T", found))

        return await self.run(job, ended)

    def stop(self) -> None:
        """Finish all given jobs; the connection is the caller's again."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, loop, then = job
            try:
                found, error = work(self.database), None
            except BaseException as failed:  # noqa: BLE001 - it is told to whoever asked
                found, error = None, failed
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(then, found, error)
            del job, work, then, found, error
