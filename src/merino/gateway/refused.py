"""Refused requests leave a record, too: a limited number for each key and minute.

All requests without a valid key share one such number, so that nobody can fill the disk. The
counter of refused requests counts every one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import time_ns

from merino.domain.call import Attempt, CallRecord
from merino.domain.errors import MerinoError
from merino.gateway.ports import Ledger

REFUSED_PER_MINUTE = 100
REFUSED_PER_MINUTE_IN_ALL = 2_000
"""An owner may make as many keys as they like."""
MESSAGE_LENGTH_MAX = 500
STRANGERS = ""
"""The id of the key and the account of a request without a valid key."""

_MINUTE_MS = 60_000


class RefusedRequests:
    """Keeps records of refused requests, as many as it may. `redact` takes secrets out of what is
    kept; `on_refused` is called with the status and error code of each, `watch` with its record,
    whether it is kept or not."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        redact: Callable[[str], str] = str,
        on_refused: Callable[[int, str], None] = lambda _status, _code: None,
        watch: Callable[[CallRecord], None] = lambda _record: None,
        per_minute: int = REFUSED_PER_MINUTE,
        now_ms: Callable[[], int] = lambda: time_ns() // 1_000_000,
    ) -> None:
        self._ledger = ledger
        self._redact = redact
        self._on_refused = on_refused
        self._watch = watch
        self._per_minute = per_minute
        self._now_ms = now_ms
        self._minute = 0
        self._kept: dict[str, int] = {}
        self._kept_in_all = 0

    def configure(self, per_minute: int) -> None:
        self._per_minute = per_minute

    def keep(self, record: CallRecord, *, is_bounded: bool = True) -> None:
        """Count a refusal, and keep its record if there is room for it in this minute."""
        self.count(record.status, record.error_code or "")
        self._watch(record)
        if not is_bounded or self._has_room(record.key_id):
            self._ledger.record(record)

    def count(self, status: int, code: str) -> None:
        """Count a refusal that leaves no record: the request could not be read."""
        self._on_refused(status, code)

    def told(self, error: BaseException) -> str | None:
        """An error's message as it may be kept."""
        if not isinstance(error, MerinoError):
            return None
        return self._shortened(error.message)

    def redacted(self, attempts: Sequence[Attempt]) -> tuple[Attempt, ...]:
        """Attempts as they may be kept."""
        return tuple(
            each if not each.message else replace(each, message=self._shortened(each.message))
            for each in attempts
        )

    def _shortened(self, message: str) -> str:
        # Cut last: half a secret would no longer look like one.
        message = self._redact(message[: 4 * MESSAGE_LENGTH_MAX])
        if len(message) <= MESSAGE_LENGTH_MAX:
            return message
        return message[: MESSAGE_LENGTH_MAX - 3] + "..."

    def _has_room(self, key_id: str) -> bool:
        minute = self._now_ms() // _MINUTE_MS
        if minute != self._minute:
            self._minute, self._kept_in_all = minute, 0
            self._kept.clear()
        kept = self._kept.get(key_id, 0)
        if kept >= self._per_minute or self._kept_in_all >= REFUSED_PER_MINUTE_IN_ALL:
            return False
        self._kept[key_id] = kept + 1
        self._kept_in_all += 1
        return True
