"""`BatchProcessor`: a queue in memory, worked off with an `AsyncOpenAI`; results in input order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai


@dataclass(frozen=True, slots=True)
class ProcessedItem:
    """One request and how it ended: its answer's `content` and `usage`, or its `error`."""

    custom_id: str
    content: str | None
    usage: dict[str, Any] | None
    error: str | None
    attempts: int


class BatchProcessor:
    """Args:
    client: An `AsyncOpenAI`; Merino's brings its own limits and retries.
    max_concurrent: Calls at once.
    batch_size: Requests one `process_batch` takes from the queue.
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
        self._client = client
        self._batch_size = batch_size
        self._retry_attempts = retry_attempts
        self._places = asyncio.Semaphore(max_concurrent)
        self._queue: list[tuple[str, dict[str, Any]]] = []
        self._numbers = 0
        self._running = 0
        self._completed = 0
        self._failed = 0

    def enqueue(self, request: str | Mapping[str, Any], *, model: str = "o3") -> str:
        """Add a prompt, or the fields of a chat completion (with `custom_id`, if you like one of
        your own). Returns the id under which its result comes."""
        self._numbers += 1
        fields: dict[str, Any]
        if isinstance(request, str):
            fields = {"model": model, "messages": [{"role": "user", "content": request}]}
        else:
            fields = {"model": model, **request}
        custom_id = str(fields.pop("custom_id", f"request-{self._numbers}"))
        self._queue.append((custom_id, fields))
        return custom_id

    async def process_batch(self) -> Sequence[ProcessedItem]:
        """Take up to `batch_size` requests from the queue and answer them; results in the order in
        which they were added. Never raises for a single request."""
        taken, self._queue = self._queue[: self._batch_size], self._queue[self._batch_size :]
        return await asyncio.gather(*(self._one(custom_id, fields) for custom_id, fields in taken))

    def get_status(self) -> dict[str, int]:
        """``queued``, ``running``, ``completed`` and ``failed`` requests."""
        return {
            "queued": len(self._queue),
            "running": self._running,
            "completed": self._completed,
            "failed": self._failed,
        }

    async def _one(self, custom_id: str, fields: dict[str, Any]) -> ProcessedItem:
        async with self._places:
            self._running += 1
            try:
                return await self._attempts(custom_id, fields)
            finally:
                self._running -= 1

    async def _attempts(self, custom_id: str, fields: dict[str, Any]) -> ProcessedItem:
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self._client.chat.completions.create(**fields)
            except openai.OpenAIError as error:
                status = getattr(error, "status_code", None)
                may_pass = status is None or status >= 500 or status in (408, 409, 429)
                if not may_pass or attempt > self._retry_attempts:
                    self._failed += 1
                    return ProcessedItem(custom_id, None, None, str(error), attempt)
                await asyncio.sleep(min(0.05 * 2**attempt, 5.0))
            else:
                self._completed += 1
                usage = answer.usage.model_dump() if answer.usage is not None else None
                content = answer.choices[0].message.content
                return ProcessedItem(custom_id, content, usage, None, attempt)
