"""An endpoint of whoever is told of things, over real sockets."""

from __future__ import annotations

import http.server
import json
import threading
import time


class NoticeServer:
    """Takes notices at `url`, after as many failures as told."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.taken: list[dict] = []
        self.headers: list[dict] = []
        self.bodies: list[bytes] = []

    def __enter__(self):
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if server.failures:
                    server.failures -= 1
                    self.send_response(503)
                else:
                    server.bodies.append(body)
                    server.headers.append(dict(self.headers.items()))
                    server.taken.append(json.loads(body))
                    self.send_response(204)
                self.end_headers()

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/notices"
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_for(self, count: int, timeout_s: float = 20.0) -> list[dict]:
        deadline = time.monotonic() + timeout_s
        while len(self.taken) < count:
            assert time.monotonic() < deadline, f"{len(self.taken)} of {count} notices came"
            time.sleep(0.05)
        return self.taken
