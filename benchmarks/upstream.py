"""A mock upstream for streams: 50 events, one every 5 ms, usage in the last. A chat's have about
150 bytes, a response's about 250: at `/v1/responses` it speaks the Responses API, with padding.

One clock serves every stream, so that the mock costs little and all streams tick alike.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

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


def _response_events() -> list[bytes]:
    """The whole stream: what begins it, 42 pieces of text, what ends it."""
    text, item_id = "benchmark" * 42, "msg_benchmark"
    usage = {
        "input_tokens": 180,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 98,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 278,
    }
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    item = {"id": item_id, "type": "message", "role": "assistant", "status": "in_progress"}
    whole = {**item, "status": "completed", "content": [{**part, "text": text}]}
    response = {
        "id": "resp_benchmark",
        "object": "response",
        "created_at": 1790000000,
        "status": "in_progress",
        "model": "o3",
        "output": [],
        "usage": None,
    }
    ended = {**response, "status": "completed", "output": [whole], "usage": usage}
    place = {"item_id": item_id, "output_index": 0, "content_index": 0}
    events: list[dict[str, object]] = [
        {"type": "response.created", "response": response},
        {"type": "response.in_progress", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **place, "part": part},
        *(
            {
                "type": "response.output_text.delta",
                **place,
                "delta": "benchmark",
                "logprobs": [],
                "obfuscation": "benchmarkbenchmark"[: number % 16],
            }
            for number in range(EVENTS - 8)
        ),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": {**part, "text": text}},
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
        {"type": "response.completed", "response": ended},
    ]
    return [_named(number, event) for number, event in enumerate(events)]


def _named(number: int, event: dict[str, object]) -> bytes:
    name = event["type"]
    numbered = {"type": name, "sequence_number": number, **event}
    data = f"event: {name}\ndata: {json.dumps(numbered, separators=(',', ':'))}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CONTENT = _event({"content": "benchmark"}, None)
USAGE = _event({}, {"prompt_tokens": 180, "completion_tokens": 98, "total_tokens": 278})
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
CHAT = [CONTENT] * (EVENTS - 1) + [USAGE + END]
RESPONSE = _response_events()
RESPONSE[-1] += b"0\r\n\r\n"


class StreamingUpstream(asyncio.Protocol):
    def __init__(self, running: dict[StreamingUpstream, int]) -> None:
        self._running = running
        self._parser = httptools.HttpRequestParser(self)
        self._events = CHAT

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._events = RESPONSE if url.endswith(b"/responses") else CHAT

    def on_message_complete(self) -> None:
        self._transport.write(HEAD)
        self._running[self] = 0

    def tick(self) -> None:
        sent = self._running[self]
        self._transport.write(self._events[sent])
        if sent + 1 < EVENTS:
            self._running[self] = sent + 1
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
