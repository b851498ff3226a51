"""An open loop: calls at their own moments, whatever became of the ones before.

    python benchmarks/open_loop.py PORT KEY CALLS_PER_S SECONDS SEED

Moments are drawn from an exponential distribution, and latency counts from the moment a call was
due, so that a gateway that stands still is charged for every call it kept waiting. One thread, with
waits exact to microseconds; prints latencies and how late each call was sent, in microseconds, as
JSON.
"""

from __future__ import annotations

import gc
import json
import random
import select
import socket
import sys
from time import perf_counter

from stand import request_body

FAILED_MAX_S = 30.0
CONNECTIONS_MAX = 900
"""What `select` takes."""


class Connection:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._received = b""

    def fileno(self) -> int:
        return self.socket.fileno()

    def receive(self) -> bool:
        """Whether the answer is complete."""
        piece = self.socket.recv(65536)
        if not piece:
            raise SystemExit("The gateway closed a connection")
        self._received += piece
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"The gateway answered {self._received[:500]!r}")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return False
        self._received = b""
        return True


def run(port: int, key: str, calls_per_s: float, seconds: float, seed: int) -> dict[str, list[int]]:
    body = request_body(streamed=False)
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        b"authorization: Bearer %b\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b"
    ) % (key.encode(), len(body), body)
    chance = random.Random(seed)
    idle = [Connection(port) for _ in range(16)]
    busy: list[Connection] = []
    latencies: list[int] = []
    late: list[int] = []
    left = int(calls_per_s * seconds)
    due = perf_counter() + 0.05
    ends_at = due + seconds + FAILED_MAX_S
    while left or busy:
        now = perf_counter()
        while left and due <= now:
            connection = idle.pop() if idle else Connection(port)
            connection.due = due
            connection.socket.sendall(request)
            late.append(round((perf_counter() - due) * 1e6))
            busy.append(connection)
            left -= 1
            due += chance.expovariate(calls_per_s)
        if now > ends_at or len(busy) > CONNECTIONS_MAX:
            raise SystemExit(f"The gateway does not keep up: {len(busy)} calls wait")
        wait_s = max(0.0, due - perf_counter()) if left else FAILED_MAX_S
        for connection in select.select(busy, (), (), wait_s)[0]:
            if connection.receive():
                latencies.append(round((perf_counter() - connection.due) * 1e6))
                busy.remove(connection)
                idle.append(connection)
    return {"latency_us": latencies, "late_us": late}


if __name__ == "__main__":
    gc.disable()
    port_, key_, rate_, seconds_, seed_ = sys.argv[1:]
    print(json.dumps(run(int(port_), key_, float(rate_), float(seconds_), int(seed_))))
