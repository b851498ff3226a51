"""Notices to systems of account owners and operators: JSON by POST, signed, tried again until it is
taken."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import httpx2

from merino.billing.nouns import Notice
from merino.billing.senders.outbox import Outbox, again_ms

SIGNATURE_HEADER = "merino-signature"
TIMEOUT_S = 10.0


def signature(body: bytes, secret: str, at_s: int) -> str:
    """``t=SECONDS,v1=HEX``: HMAC-SHA256 of ``SECONDS.BODY``, as Stripe signs."""
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256)
    return f"t={at_s},v1={digest.hexdigest()}"


class WebhookSender:
    """Sends to one address."""

    def __init__(self, url: str, secret: str, now_ms: Callable[[], int]) -> None:
        self._url = url
        self._secret = secret
        self._now_ms = now_ms

    async def send_due(self, outbox: Outbox, limit: int = 50) -> int:
        """Try what is due; how many were taken."""
        taken = 0
        async with httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            for notice in await outbox.due("webhook", limit):
                error = await self._send(client, notice)
                if error is None:
                    await outbox.delivered(notice.id, "webhook")
                    taken += 1
                else:
                    again = again_ms(notice, self._now_ms())
                    await outbox.failed(notice.id, "webhook", error, again)
        return taken

    async def _send(self, client: httpx2.AsyncClient, notice: Notice) -> str | None:
        """What went wrong, if anything did."""
        body = notice.body.encode()
        headers = {
            "content-type": "application/json",
            "user-agent": "merino",
            "merino-notice-id": notice.id,
            SIGNATURE_HEADER: signature(body, self._secret, self._now_ms() // 1000),
        }
        try:
            answer = await client.post(self._url, content=body, headers=headers)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return f"{type(error).__name__}: {error}"[:300]
        return None if answer.is_success else f"status {answer.status_code}"
