"""Notices: signed, tried again with growing pauses, given up in the end."""

from __future__ import annotations

import http.server
import threading

import pytest

from merino.billing.nouns import Delivery, Notice
from merino.billing.senders.outbox import ATTEMPTS_MAX
from merino.billing.senders.webhooks import WebhookSender
from merino.wire.signing import signature

NOW_MS = 1_790_000_000_000

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Outbox:
    """One notice that waits."""

    def __init__(self, attempts: int = 0) -> None:
        deliveries = (Delivery("webhook", attempts),)
        self.notice = Notice("ntc_1", "o", "acct_1", "balance.low", NOW_MS, "{}", deliveries)
        self.taken: list[str] = []
        self.failures: list[tuple[str, int | None]] = []

    async def due(self, channel, limit):
        assert "webhook" == channel
        return [] if self.taken else [self.notice]

    async def delivered(self, notice_id, channel):
        self.taken.append(notice_id)

    async def failed(self, notice_id, channel, error, next_attempt_ms):
        self.failures.append((error, next_attempt_ms))


class Endpoint(http.server.ThreadingHTTPServer):
    status = 200


@pytest.fixture
def endpoint():
    """A server that answers with `endpoint.status`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        server: Endpoint

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(self.server.status)
            self.end_headers()

        def log_message(self, *args):
            pass

    with Endpoint(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def sender(server) -> WebhookSender:
    return WebhookSender(f"http://127.0.0.1:{server.server_port}/", "s", lambda: NOW_MS)


def test_the_signature_is_hmac_sha256():
    """A known value, so that receivers written elsewhere agree."""
    known = "b253639bcd705ed1cda3073f66104f16988bd40272584dea7d0d345ae93e61cc"
    assert f"t=1,v1={known}" == signature(b"{}", "s", 1)
    assert signature(b"{}", "s", 1) != signature(b"{}", "t", 1)
    assert signature(b"{}", "s", 1) != signature(b"{}", "s", 2)


async def test_a_taken_notice_is_delivered(endpoint):
    """A 2xx ends it."""
    outbox = Outbox()
    assert 1 == await sender(endpoint).send_due(outbox)
    assert ["ntc_1"] == outbox.taken


@pytest.mark.parametrize(
    ("attempts", "pause_s"), [(0, 10), (1, 20), (5, 320), (12, 3600), (38, 3600)]
)
async def test_a_refused_notice_waits_longer_each_time(endpoint, attempts, pause_s):
    """The pause doubles up to an hour."""
    endpoint.status = 500
    outbox = Outbox(attempts)
    assert 0 == await sender(endpoint).send_due(outbox)
    assert [("status 500", NOW_MS + pause_s * 1000)] == outbox.failures


async def test_a_notice_is_given_up_in_the_end(endpoint):
    """After the last attempt it is not tried again, and what went wrong is kept."""
    endpoint.status = 302
    outbox = Outbox(ATTEMPTS_MAX - 1)
    await sender(endpoint).send_due(outbox)
    assert [("status 302", None)] == outbox.failures


async def test_an_endpoint_that_is_down(endpoint):
    """What cannot be reached is tried again as well."""
    outbox = Outbox()
    await WebhookSender("http://127.0.0.1:9/", "s", lambda: NOW_MS).send_due(outbox)
    [(error, again_ms)] = outbox.failures
    assert error.startswith("ConnectError")
    assert NOW_MS + 10_000 == again_ms
