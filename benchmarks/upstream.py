"""A mock upstream for streams: 50 events of about 150 bytes, one every 5 ms, usage in the last.

One clock serves every stream, so that the mock costs little and all streams tick alike.
"""

from __future__ import annotations

import asyncio
import json
import sys

import httptools
import uvloop

EVENTS = 50
TICK_S = 0.005


def _event(delta: dict[str, str], usage: dict[str, object] | None) -> bytes:
    document: dict[str, object] = {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion.chunk",
        "created": 1790000000,
        "model": "o3",
        "choices": [] if usage else [{"index": 0, "delta": delta, "finish_reason": None}],
    }
    if usage:
        document["usage"] = usage
    data = f"data: {json.dumps(document, separators=(',', ':'))}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CONTENT = _event({"content": "benchmark"}, None)
USAGE = _event({}, {"prompt_tokens": 180, "completion_tokens": 98, "total_tokens": 278})
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class StreamingUpstream(asyncio.Protocol):
    def __init__(self, running: dict[StreamingUpstream, int]) -> None:
        self._running = running
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(HEAD)
        self._running[self] = 0

    def tick(self) -> None:
        sent = self._running[self] + 1
        self._transport.write(CONTENT if sent < EVENTS else USAGE + END)
        if sent < EVENTS:
            self._running[self] = sent
        else:
            del self._running[self]

    def connection_lost(self, exc: Exception | None) -> None:
        self._running.pop(self, None)


async def serve(port: int) -> None:
    running: dict[StreamingUpstream, int] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: StreamingUpstream(running), "127.0.0.1", port)
    async with server:
        while True:
            await asyncio.sleep(TICK_S)
            for stream in list(running):
                stream.tick()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
