"""A mock upstream for batches: every call takes the same time, and a token bucket may limit them.

    python benchmarks/batch_upstream.py DELAY_S [RATE_PER_S BURST]

It prints its port. One clock serves every answer, so that it costs little.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from time import monotonic
from typing import Any

import httptools
import uvloop

from merino.resilience.buckets import TokenBucket

TICK_S = 0.001
BODY = json.dumps(
    {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion",
        "created": 1790000000,
        "model": "o3-mini",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "A flock keeps together."},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    }
).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)
TOO_MANY = b'{"error":{"message":"Rate limit reached","code":"rate_limit_exceeded"}}'


class Upstream(asyncio.Protocol):
    """One connection."""

    def __init__(
        self, due: deque[tuple[float, Upstream]], delay_s: float, bucket: TokenBucket | None
    ):
        self._due = due
        self._delay_s = delay_s
        self._bucket = bucket
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        now = monotonic()
        if self._bucket is not None and not self._bucket.try_take(1.0, now):
            wait_ms = int(self._bucket.wait_s(1.0, now) * 1000) + 1
            self.transport.write(
                b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n"
                b"retry-after-ms: %d\r\ncontent-length: %d\r\n\r\n%b"
                % (wait_ms, len(TOO_MANY), TOO_MANY)
            )
        elif self._delay_s:
            self._due.append((now + self._delay_s, self))
        else:
            self.transport.write(ANSWER)


async def serve(delay_s: float, rate: float | None, burst: float) -> None:
    due: deque[tuple[float, Upstream]] = deque()
    bucket = TokenBucket(burst, rate, monotonic()) if rate else None
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Upstream(due, delay_s, bucket), "127.0.0.1", 0, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        while True:
            await asyncio.sleep(TICK_S)
            now = monotonic()
            while due and due[0][0] <= now:
                due.popleft()[1].transport.write(ANSWER)


if __name__ == "__main__":
    delay, *limit = map(float, sys.argv[1:])
    uvloop.run(serve(delay, limit[0] if limit else None, limit[1] if limit else 1.0))
