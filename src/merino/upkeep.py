"""What a relay does beside its calls, now and then: sweeping, saving."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from time import perf_counter

import structlog

from merino.domain.clock import DAY_MS, epoch_ms
from merino.domain.deployment import Alias
from merino.domain.errors import StoreUnavailable
from merino.gateway.expectations import Expectations, save
from merino.gateway.probe_tally import MINUTE_S, ProbeTally
from merino.running.every import every
from merino.settings import CallsSettings
from merino.settings.sections.responses import ResponsesSettings
from merino.storage import Store

log = structlog.get_logger("merino")

_SWEEP_HOLDS_S = 5.0
_SWEEP_CALLS_S = 600.0
_PAUSE_S = 0.01
_REMEMBER_S = 1.0
_SAVE_LEARNED_S = 60.0
_SUMS_KEEP_MS = 400 * DAY_MS


class Upkeep:
    def __init__(self, store: Store, expectations: Expectations, probes: ProbeTally) -> None:
        self._store = store
        self._expectations = expectations
        self._probes = probes
        self._minute_at = 0.0
        self.configure(CallsSettings(), ResponsesSettings(), ())

    def configure(
        self, calls: CallsSettings, responses: ResponsesSettings, aliases: Sequence[Alias]
    ) -> None:
        """What is kept and probed from now on."""
        self._keep_said_days = responses.keep_days
        self._keep_days = calls.keep_days
        self._aliases = aliases

    async def run(self) -> None:
        """Until cancelled."""
        self._minute_at = perf_counter() + MINUTE_S
        await asyncio.gather(
            every(_SWEEP_HOLDS_S, self._expire_holds),
            every(_SWEEP_CALLS_S, self._forget_calls, at_once=True),
            every(_REMEMBER_S, self._remember_health),
            every(_SAVE_LEARNED_S, self.save_learned),
        )

    async def save_learned(self) -> None:
        """What calls usually use, for the next start."""
        try:
            await save(self._expectations, self._store.learned)
        except StoreUnavailable as error:
            log.warning("what calls usually use was not saved", reason=error.message)

    async def _expire_holds(self) -> None:
        expired = self._store.ledger.expire_overdue()
        if expired:
            log.warning("holds expired that nobody resolved", holds=expired)

    async def _remember_health(self) -> None:
        """Breakers' changes soon, health checks by the minute."""
        if (now := perf_counter()) >= self._minute_at:
            self._minute_at = max(self._minute_at + MINUTE_S, now)
            self._store.uptime.probed(self._probes.minute(self._aliases, now))
            with contextlib.suppress(StoreUnavailable):
                await self._store.admin_keys.flush()
        with contextlib.suppress(StoreUnavailable):
            await self._store.uptime.flush()

    async def _forget_calls(self) -> None:
        await self._store.forget_old(keep_days=self._keep_days)
        with contextlib.suppress(StoreUnavailable):
            await self._store.note_times()
            await self._store.files.delete_old()
            while await self._store.kept.delete_old():  # noqa: ASYNC110 - nothing is waited for
                await asyncio.sleep(_PAUSE_S)
            old_ms = epoch_ms() - self._keep_said_days * DAY_MS
            while await self._store.background.forget(old_ms):  # noqa: ASYNC110 - as above
                await asyncio.sleep(_PAUSE_S)
            await self._store.sums.forget(epoch_ms() - _SUMS_KEEP_MS)
            await self._store.uptime.forget_old()
