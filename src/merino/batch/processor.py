"""`BatchProcessor`: a queue in memory, worked off with an `AsyncOpenAI`; results in input order."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class ProcessedItem:
    """One request and how it ended: its answer's `content` and `usage`, or its `error`.

    `attempts` are the requests that were sent for it; of a failure, at most so many.
    """

    custom_id: str
    content: str | None
    usage: dict[str, Any] | None
    error: str | None
    attempts: int


@dataclass(frozen=True, slots=True)
class _Queued:
    number: int
    custom_id: str
    fields: dict[str, Any]
    key: str
    """Its idempotency key, the same whatever is tried again."""


class BatchProcessor:
    """Args:
    client: An `AsyncOpenAI`, Merino's or the package's own. Its retries are the only ones.
    max_concurrent: Calls at once of one `process_batch`.
    batch_size: Requests that are made ready at a time.
    retry_attempts: Further attempts for a request that failed in a way that may pass.
    """

    def __init__(
        self,
        client: Any,
        max_concurrent: int = 10,
        batch_size: int = 100,
        retry_attempts: int = 3,
    ) -> None:
        if max_concurrent < 1 or batch_size < 1 or retry_attempts < 0:
            raise ValueError("max_concurrent and batch_size must be at least 1, retry_attempts 0")
        self._client = client.with_options(max_retries=retry_attempts)
        self._max_concurrent = max_concurrent
        self._batch_size = batch_size
        self._attempts_max = 1 + retry_attempts
        self._lock = threading.Lock()
        """Over all that follows: loops of several threads may share a queue."""
        self._queue: list[_Queued] = []
        self._taken: set[int] = set()
        """Numbers that a `process_batch` which runs has taken, and hands out."""
        self._results: dict[int, ProcessedItem] = {}
        """Answered and not handed out yet."""
        self._numbers = 0
        self._running = 0
        self._completed = 0
        self._failed = 0

    def enqueue(self, request: str | Mapping[str, Any], *, model: str = "o3") -> str:
        """Add a prompt, or the fields of a chat completion (with `custom_id`, if you like one of
        your own). Returns the id under which its result comes."""
        fields: dict[str, Any]
        if isinstance(request, str):
            fields = {"model": model, "messages": [{"role": "user", "content": request}]}
        else:
            fields = {"model": model, **request}
        with self._lock:
            self._numbers += 1
            custom_id = str(fields.pop("custom_id", f"request-{self._numbers}"))
            self._queue.append(
                _Queued(self._numbers, custom_id, fields, f"batch-{secrets.token_hex(8)}")
            )
        return custom_id

    async def process_batch(self) -> Sequence[ProcessedItem]:
        """Answer every request of the queue; results in the order in which they were added. Never
        raises for a single request.

        Where it is cancelled, what was answered by then is in the result of the next call, and what
        was not is still queued. It works in any event loop, and in several, one after another or at
        once: each answers what no other has taken, and hands that out.
        """
        places = asyncio.Semaphore(self._max_concurrent)  # of this event loop
        mine: set[int] = set()
        try:
            while taken := self._take(mine):
                try:
                    await asyncio.gather(*(self._one(queued, places) for queued in taken))
                finally:
                    self._drop_answered()
            return self._handed_out(mine)
        finally:
            with self._lock:
                self._taken -= mine

    def _take(self, mine: set[int]) -> list[_Queued]:
        with self._lock:
            free = [each for each in self._queue if each.number not in self._taken]
            found = free[: self._batch_size]
            numbers = {each.number for each in found}
            mine |= numbers
            self._taken |= numbers
        return found

    def _drop_answered(self) -> None:
        with self._lock:
            self._queue = [each for each in self._queue if each.number not in self._results]

    def _handed_out(self, mine: set[int]) -> list[ProcessedItem]:
        """Results of these, and of a run that was cancelled."""
        with self._lock:
            numbers = sorted(n for n in self._results if n in mine or n not in self._taken)
            return [self._results.pop(number) for number in numbers]

    def get_status(self) -> dict[str, int]:
        """``queued``, ``running``, ``completed`` and ``failed`` requests."""
        with self._lock:
            waiting = sum(each.number not in self._results for each in self._queue)
            return {
                "queued": waiting - self._running,
                "running": self._running,
                "completed": self._completed,
                "failed": self._failed,
            }

    async def _one(self, queued: _Queued, places: asyncio.Semaphore) -> None:
        async with places:
            with self._lock:
                self._running += 1
            result: ProcessedItem | None = None
            try:
                result = await self._answer(queued)
            except Exception as error:  # noqa: BLE001 - one request must not cost the others theirs
                result = ProcessedItem(
                    queued.custom_id, None, None, _told(error), self._attempts_max
                )
            finally:
                self._ended(queued, result)

    def _ended(self, queued: _Queued, result: ProcessedItem | None) -> None:
        """`None`: it was cancelled."""
        with self._lock:
            self._running -= 1
            if result is None:
                return
            self._results[queued.number] = result
            self._completed += result.error is None
            self._failed += result.error is not None

    async def _answer(self, queued: _Queued) -> ProcessedItem:
        fields = dict(queued.fields)
        own: dict[str, str] = fields.pop("extra_headers", None) or {}
        headers = {"Idempotency-Key": queued.key, **own}
        raw = await self._client.chat.completions.with_raw_response.create(
            **fields, extra_headers=headers
        )
        answer = raw.parse()
        attempts = 1 + (getattr(raw, "retries_taken", 0) or 0)
        choices = getattr(answer, "choices", None)
        if not choices or getattr(choices[0], "message", None) is None:
            return ProcessedItem(queued.custom_id, None, None, _no_answer(answer), attempts)
        usage = answer.usage.model_dump() if answer.usage is not None else None
        return ProcessedItem(queued.custom_id, choices[0].message.content, usage, None, attempts)


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__


def _no_answer(answer: Any) -> str:
    """What an answer without choices says, if it says why."""
    said: Any = getattr(answer, "error", None)
    message = cast("dict[str, Any]", said).get("message") if isinstance(said, dict) else said
    return f"the answer has no choices: {message}" if message else "the answer has no choices"
