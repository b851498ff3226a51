"""The far side: answers each path with what its provider was recorded to send, byte for byte."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Generator
from typing import Any

from tests.providers.recordings import HARMLESS, ROWS, Row

SECOND_TEXT = "The second one answers."
SECOND = {
    "id": "chatcmpl-second",
    "object": "chat.completion",
    "created": 1,
    "model": "recorded",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": SECOND_TEXT},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15},
}
SECOND_BILL_NANOS = 9 * 1_000 + 6 * 10_000
_CHUNK = {"id": "chatcmpl-second", "object": "chat.completion.chunk", "created": 1, "model": "m"}
SECOND_STREAM = b"".join(
    b"data: %b\n\n" % (each if isinstance(each, bytes) else json.dumps(_CHUNK | each).encode())
    for each in (
        {
            "choices": [
                {"index": 0, "delta": {"role": "assistant", "content": SECOND_TEXT}},
            ]
        },
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": SECOND["usage"]},
        b"[DONE]",
    )
)
_REASONS = {200: "OK", 400: "Bad Request", 422: "Unprocessable Content"}


class RecordedServer:
    """Listens on loopback, a thread a connection."""

    def __init__(self) -> None:
        self._rows = {row.id: row for row in ROWS}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._is_closing = threading.Event()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        self._is_closing.set()
        # Closing alone does not wake who accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as read:
            while line := read.readline():
                target = line.split()[1].decode()
                length = 0
                while (header := read.readline()) not in (b"\r\n", b""):
                    name, _, value = header.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                if not self._answer(connection, target, json.loads(read.read(length))):
                    return

    def _answer(self, connection: socket.socket, target: str, asked: dict[str, Any]) -> bool:
        """Whether the connection may carry another request."""
        name = target.split("/")[1]
        row = self._rows.get(name)
        is_harmless = HARMLESS in json.dumps(asked)
        if row is None or (is_harmless and row.endpoint != "embeddings"):
            if asked.get("stream"):
                head = _head(200, {"content-type": "text/event-stream"}, len(SECOND_STREAM))
                connection.sendall(head + SECOND_STREAM)
            else:
                connection.sendall(_whole(200, json.dumps(SECOND).encode()))
            return True
        if row.refuses is not None and row.refuses in asked:
            connection.sendall(_whole(row.refusal_status, row.refusal.encode()))
            return True
        return self._send(connection, row)

    def _send(self, connection: socket.socket, row: Row) -> bool:
        stream = row.stream and row.status == 200
        kind = "text/event-stream; charset=utf-8" if stream else "application/json"
        headers = {"content-type": kind, **row.headers}
        framing = row.framing or ("chunked" if stream else "length")
        if framing == "length":
            connection.sendall(_head(row.status, headers, len(row.raw)) + row.raw)
            return True
        if framing == "close":
            headers["connection"] = "close"
            connection.sendall(_head(row.status, headers, None))
            for piece in row.pieces:
                connection.sendall(piece)
            return False
        connection.sendall(_head(row.status, headers | {"transfer-encoding": "chunked"}, None))
        for piece in row.pieces:
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        if row.ending == "open":
            # Until the other side leaves, or the tests end.
            connection.settimeout(0.2)
            while not self._is_closing.is_set():
                try:
                    if not connection.recv(1):
                        break
                except TimeoutError:
                    continue
            return False
        if row.ending == "cut":
            return False
        connection.sendall(b"0\r\n\r\n")
        return True


def _whole(status: int, body: bytes) -> bytes:
    return _head(status, {"content-type": "application/json"}, len(body)) + body


def _head(status: int, headers: dict[str, str], length: int | None) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Said')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if length is not None:
        lines.append(f"content-length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


@contextlib.contextmanager
def recorded_server() -> Generator[RecordedServer]:
    server = RecordedServer()
    thread = threading.Thread(target=server.accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(5)
