"""Notices to systems of account owners and operators: JSON by POST, signed, tried again until it is
taken."""

from __future__ import annotations

from collections.abc import Callable

import httpx2

from merino.billing.nouns import Notice
from merino.billing.senders.outbox import Outbox, again_ms
from merino.wire.signing import SIGNATURE_HEADER, signature

TIMEOUT_S = 10.0


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
