"""Notices that wait to be sent, and when what failed is tried again. How they are sent is each
sender's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from merino.billing.nouns import Notice, NoticeChannel

RETRY_S_MIN = 10.0
RETRY_S_MAX = 3600.0
ATTEMPTS_MAX = 40
"""With the pauses above: about a day and a half."""


class Outbox(Protocol):
    """The notices that wait. Nothing is lost by a crash: a notice waits until it was taken, so that
    it may come twice; its id tells."""

    async def due(self, channel: NoticeChannel, limit: int) -> Sequence[Notice]: ...

    async def delivered(self, notice_id: str, channel: NoticeChannel) -> None: ...

    async def failed(
        self, notice_id: str, channel: NoticeChannel, error: str, next_attempt_ms: int | None
    ) -> None: ...


def again_ms(notice: Notice, now_ms: int) -> int | None:
    """When to try again what failed just now; `None`: no more."""
    attempts = sum(each.attempts for each in notice.deliveries)
    if attempts + 1 >= ATTEMPTS_MAX:
        return None
    return now_ms + int(min(RETRY_S_MAX, RETRY_S_MIN * 2**attempts) * 1000)
