"""What the wing does beside the calls, now and then: ordering, telling, summing up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

import structlog

from merino.billing.desks import Billing
from merino.billing.ports import Notices
from merino.billing.stores.statements import StatementReader
from merino.domain.errors import MerinoError, StoreUnavailable
from merino.running.every import every
from merino.sqlite.database import TRANSIENT_ERRORS

log = structlog.get_logger("merino")

_SWEEP_S = 2.0
_SUM_UP_S = 2.0
_SUM_UP_PAUSE_S = 0.02
_SUM_UP_ROWS = 100


class NoticeSender(Protocol):
    """A way on which notices go out."""

    async def send_due(self, outbox: Notices, /) -> int:
        """Try what is due; how many were taken."""
        ...


class BillingLoops:
    def __init__(self, desks: Billing, notices: Notices, statements: StatementReader) -> None:
        self._desks = desks
        self._notices = notices
        self._statements = statements
        self._is_recovered = False
        self._senders: Sequence[NoticeSender] = ()

    def configure(self, senders: Sequence[NoticeSender]) -> None:
        self._senders = senders

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(
            every(_SWEEP_S, self._top_up, at_once=True),
            every(_SWEEP_S, self._ask_again, at_once=True),
            every(_SWEEP_S, self.tell, at_once=True),
            every(_SUM_UP_S, self._sum_up, at_once=True),
        )

    async def _top_up(self) -> None:
        """Payment events of a dead process first; then automatic top-ups. Apart from notices, since
        a payment provider may take its time."""
        try:
            if not self._is_recovered:
                if events := await self._desks.topups.recover():
                    log.info("payment events taken up again", events=events)
                self._is_recovered = True
            await self._desks.automatic.look()
        except (MerinoError, *TRANSIENT_ERRORS) as error:
            log.warning("top-ups wait", reason=str(error))

    async def _ask_again(self) -> None:
        """Refunds that have no answer."""
        try:
            await self._desks.topups.ask_again()
        except (MerinoError, *TRANSIENT_ERRORS) as error:
            log.warning("refunds wait", reason=str(error))

    async def tell(self) -> None:
        """Notices: what there is to say, and sending it."""
        try:
            await self._desks.notices.look()
        except (MerinoError, *TRANSIENT_ERRORS) as error:
            log.warning("notices wait", reason=str(error))
        # One way that is slow or broken keeps no other waiting for good.
        sent = await asyncio.gather(
            *(sender.send_due(self._notices) for sender in self._senders), return_exceptions=True
        )
        for error in sent:
            if isinstance(error, (MerinoError, *TRANSIENT_ERRORS)):
                log.warning("notices wait", reason=str(error))
            elif isinstance(error, BaseException):
                raise error

    async def _sum_up(self) -> float | None:
        """Keep the sums of statements up, a little at a time: calls come first."""
        rows = 0
        with contextlib.suppress(StoreUnavailable, *TRANSIENT_ERRORS):
            rows = await self._statements.sum_up(_SUM_UP_ROWS)
        return _SUM_UP_PAUSE_S if rows >= _SUM_UP_ROWS else None
