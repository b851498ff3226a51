"""What a relay does beside its calls, now and then: sweeping, saving, summing up, telling."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from time import perf_counter

import structlog

from merino.adapters import NoticeSender
from merino.control.money import Money
from merino.domain.clock import DAY_MS, epoch_ms
from merino.domain.deployment import Alias
from merino.domain.errors import MerinoError, StoreUnavailable
from merino.gateway.expectations import Expectations, save
from merino.gateway.probe_tally import MINUTE_S, ProbeTally
from merino.running.every import every
from merino.settings import CallsSettings
from merino.settings.sections.responses import ResponsesSettings
from merino.sqlite.database import TRANSIENT_ERRORS
from merino.storage import Store

log = structlog.get_logger("merino")

_SWEEP_HOLDS_S = 5.0
_SWEEP_CALLS_S = 600.0
_SWEEP_NOTICES_S = 2.0
_SUM_UP_S = 2.0
_SUM_UP_PAUSE_S = 0.02
_SUM_UP_ROWS = 100
_PAUSE_S = 0.01
_REMEMBER_S = 1.0
_SAVE_LEARNED_S = 60.0
_SUMS_KEEP_MS = 400 * DAY_MS


class Upkeep:
    def __init__(
        self, store: Store, expectations: Expectations, probes: ProbeTally, money: Money
    ) -> None:
        self._store = store
        self._expectations = expectations
        self._probes = probes
        self._money = money
        self._is_recovered = False
        self._minute_at = 0.0
        self.configure(CallsSettings(), ResponsesSettings(), (), ())

    def configure(
        self,
        calls: CallsSettings,
        responses: ResponsesSettings,
        aliases: Sequence[Alias],
        senders: Sequence[NoticeSender],
    ) -> None:
        """What is kept, probed and told from now on."""
        self._keep_said_days = responses.keep_days
        self._keep_days = calls.keep_days
        self._aliases = aliases
        self._senders = senders

    async def run(self) -> None:
        """Until cancelled."""
        self._minute_at = perf_counter() + MINUTE_S
        await asyncio.gather(
            every(_SWEEP_HOLDS_S, self._expire_holds),
            every(_SWEEP_CALLS_S, self._forget_calls, at_once=True),
            every(_SWEEP_NOTICES_S, self._top_up, at_once=True),
            every(_SWEEP_NOTICES_S, self._tell, at_once=True),
            every(_SUM_UP_S, self._sum_up, at_once=True),
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

    async def _sum_up(self) -> float | None:
        """Keep the sums of statements up, a little at a time: calls come first."""
        rows = 0
        with contextlib.suppress(StoreUnavailable, *TRANSIENT_ERRORS):
            rows = await self._store.statements.sum_up(_SUM_UP_ROWS)
        return _SUM_UP_PAUSE_S if rows >= _SUM_UP_ROWS else None

    async def _remember_health(self) -> None:
        """Breakers' changes soon, health checks by the minute."""
        if (now := perf_counter()) >= self._minute_at:
            self._minute_at = max(self._minute_at + MINUTE_S, now)
            self._store.uptime.probed(self._probes.minute(self._aliases, now))
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

    async def _top_up(self) -> None:
        """Payment events of a dead process first; then automatic top-ups. Apart from notices, since
        a payment provider may take its time."""
        try:
            if not self._is_recovered:
                if events := await self._money.topups.recover():
                    log.info("payment events taken up again", events=events)
                self._is_recovered = True
            await self._money.automatic.look()
        except (MerinoError, *TRANSIENT_ERRORS) as error:
            log.warning("top-ups wait", reason=str(error))

    async def _tell(self) -> None:
        """Notices: what there is to say, and sending it."""
        try:
            await self._money.notices.look()
        except (MerinoError, *TRANSIENT_ERRORS) as error:
            log.warning("notices wait", reason=str(error))
        # One way that is slow or broken keeps no other waiting for good.
        sent = await asyncio.gather(
            *(sender.send_due(self._store.notices) for sender in self._senders),
            return_exceptions=True,
        )
        for error in sent:
            if isinstance(error, (MerinoError, *TRANSIENT_ERRORS)):
                log.warning("notices wait", reason=str(error))
            elif isinstance(error, BaseException):
                raise error
