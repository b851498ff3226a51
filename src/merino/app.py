"""The composition root: one relay, put together of its planes, and given what settings decide.

`live.py` turns settings into values, `data_plane.py` and `control_plane.py` put the planes
together, `upkeep.py` runs beside the calls, `serving.py` gives the relay its sockets. No other
module names concrete adapters.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import structlog
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from merino.api.batch_calls import BatchCalls
from merino.api.batches import BatchFront
from merino.api.front_door import front_door, not_allowed, not_found
from merino.api.health import health_routes
from merino.api.page_calls import PageCalls
from merino.api.webhooks import payment_routes
from merino.batch.worker import BatchWorker, LocalDispatcher
from merino.billing.senders.letters import LetterBox
from merino.control.batches import ITEMS_MAX, BatchDesk, FileDesk
from merino.control.deployment_health import HealthDesk
from merino.control.overview import OverviewDesk
from merino.control.usage import UsageDesk
from merino.control_plane import ControlPlane
from merino.dashboard.parts import Desk, compile_pages
from merino.dashboard.routes import dashboard_routes
from merino.dashboard.sessions import PendingSignIns, Sessions, SignInLimit
from merino.data_plane import DataPlane, Watch
from merino.domain.addition import Addition, Place
from merino.domain.clock import epoch_ms
from merino.domain.deployment import Deployment
from merino.domain.errors import InvalidCall, KeyRejected, Misconfigured, StoreUnavailable
from merino.gateway.keys import check_usable
from merino.live import Live, live_of
from merino.portal import visits as portal_pages
from merino.portal.entrance import Entrance
from merino.portal.routes import portal_routes
from merino.portal.visits import PortalDesk
from merino.pricing.price import Price
from merino.running.loop_lag import LoopLag
from merino.settings import Settings, load
from merino.settings.account_names import unknown_accounts
from merino.settings.reloading import waiting_for_a_start
from merino.storage import Store
from merino.telemetry.gauges import add_gauges
from merino.telemetry.held_up import HeldUpLog
from merino.telemetry.logs import configure_logs
from merino.telemetry.metrics import Metrics
from merino.upkeep import Upkeep

log = structlog.get_logger("merino")

_CUT_S = 5.0
"""How long cut calls get to settle after the drain."""


class Relay:
    """Everything a running relay is made of. Its parts are made once; what settings decide is given
    to them by `apply`, at the start and at each reload."""

    def __init__(
        self,
        live: Live,
        store: Store,
        environ: Mapping[str, str],
        drill: Path | None = None,
        given: frozenset[str] = frozenset(),
        watch: Watch | None = None,
    ) -> None:
        """`given`: the variables of `environ` that stand for options of the command line. `watch`
        is told of each call that ended."""
        self.live = live
        self._environ = environ
        self._store = store
        self._reloading: asyncio.Task[None] | None = None
        self._is_reload_due = False
        self.metrics = Metrics()
        store.uptime.begin()
        self.data_plane = data = DataPlane(
            lambda: self.live, store, self.metrics, environ, drill, watch
        )
        self.front = data.front
        self._turn = asyncio.Lock()
        """Only one at a time makes what `apply` puts in force."""
        self._page_calls = PageCalls(data.pipeline, data.gatekeeper, lambda: self.front.aliases)
        self._control_plane = ControlPlane(
            store, store.audit, self, data.fleet, data.pipeline, self._page_calls.try_out
        )
        self.control = self._control_plane.control
        self._file_desk = FileDesk(store.files)
        dispatcher = LocalDispatcher()
        self._batches = BatchFront(
            data.gatekeeper,
            self._file_desk,
            BatchDesk(store.batches, store.files, dispatcher.announce),
            lambda: self.front.is_draining,
            data.refused,
        )
        self._batch_calls = BatchCalls(
            data.pipeline, data.gatekeeper, store.keys.get, lambda: self.front.aliases
        )
        self._batch_worker = BatchWorker(
            store.batches,
            store.files,
            self._batch_calls,
            dispatcher,
            new_file=self._file_desk.new,
            live_calls=lambda: self.metrics.in_flight,
            now_ms=epoch_ms,
            items_max=ITEMS_MAX,
        )
        self._overview = OverviewDesk(store.sums, store.uptime)
        self._pages = self._desk_of_pages(environ, given)
        self._letters = LetterBox(epoch_ms)
        self._portal = self._desk_of_portal()
        self.control.people.on_let_in = self._portal.welcome
        self._upkeep = Upkeep(store, data.expectations, data.health_checks.tally)
        add_gauges(
            self.metrics,
            oddities=data.pipeline.oddities,
            limits=data.limits,
            fleet=data.fleet,
            attempts=data.attempts,
            ledger=store.ledger,
            damage=store.damage,
        )
        self.apply(live)

    def _desk_of_pages(self, environ: Mapping[str, str], given: frozenset[str]) -> Desk:
        store = self._store
        return Desk(
            control=self.control,
            overview=self._overview,
            usage=UsageDesk(store.usage, store.first_tokens),
            health=HealthDesk(store.usage, store.first_tokens, store.failed_attempts),
            search=store.call_search,
            settings=lambda: self.live.settings,
            catalog=lambda: self.live.offer.catalog,
            prices=lambda: self.live.offer.book,
            price_of=self._price_of,
            find_admin=store.admin_keys.find,
            find_key=store.keys.find,
            is_key_good=self._is_key_good,
            chat=self._page_calls,
            limits_now=self.data_plane.limits.uses,
            data=store.folder,
            sessions=Sessions(),
            sign_in_limit=SignInLimit(),
            pending=PendingSignIns(),
            oidc=lambda: self.live.oidc,
            environ=environ,
            given=given,
        )

    def _desk_of_portal(self) -> PortalDesk:
        store, people = self._store, self.control.people
        return PortalDesk(
            control=self.control,
            billing=self._control_plane.billing.desks,
            overview=self._overview,
            usage=store.usage,
            first_tokens=store.first_tokens,
            entrance=Entrance(
                people, store.sign_ins, self._letters, lambda: self.live.settings.portal
            ),
            post=self._letters,
            settings=lambda: self.live.settings.portal,
            catalog=lambda: self.live.offer.catalog,
            prices=lambda: self.live.offer.book,
            price_of=self._price_of,
            oidc=lambda: self.live.oidc,
        )

    def apply(self, live: Live) -> None:
        """Put `live` in force, in one step. Nothing else hands out what settings decide, so that a
        reload cannot forget what a start does; a setting that needs a start says so itself."""
        settings, offer = live.settings, live.offer
        if settings.log != self.live.settings.log:  # the start has configured them already
            configure_logs(settings.log.format, settings.log.level)
        self.live = live
        self.data_plane.configure(live)
        self._control_plane.configure(offer, live.limit_of)
        self._control_plane.billing.configure(
            settings.payments, live.payment_providers, live.notice_senders
        )
        self.control.people.configure(settings.portal)
        self.control.sla.configure(settings.sla)
        self._letters.configure(live.mail)
        self._file_desk.configure(settings.batches)
        self._batch_calls.configure(settings.batches)
        self._batch_worker.configure(settings.batches)
        self._overview.configure(settings.status.objective)
        self._upkeep.configure(settings.calls, settings.responses, offer.catalog.aliases)

    def reload_soon(self) -> None:
        """`reload`, by a signal. One that comes meanwhile is answered by another one afterwards."""
        if self._reloading is not None and not self._reloading.done():
            self._is_reload_due = True
            return
        self._is_reload_due = False
        self._reloading = asyncio.get_running_loop().create_task(self.reload())
        self._reloading.add_done_callback(self._reloaded)

    def _reloaded(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("settings not reloaded; the old ones stay", exc_info=error)
        if self._is_reload_due:
            self.reload_soon()

    async def reload(self) -> None:
        """Read the settings again; keep the old ones, and say why, if the new ones are wrong."""
        async with self._turn:
            try:
                live = await asyncio.to_thread(self._read)
            except Misconfigured as error:
                log.error(  # noqa: TRY400 - the operator's mistake, not a fault with a traceback
                    "settings not reloaded; the old ones stay", reason=error.message
                )
                return
            for warning in live.settings.warnings:
                log.warning(warning)
            if waiting := waiting_for_a_start(self.live.settings, live.settings):
                log.warning("some settings take effect at the next start only", settings=waiting)
            self.apply(live)
        self.warn_of_what_is_missing()
        log.info("settings reloaded", aliases=len(live.offer.catalog.aliases))

    def _read(self) -> Live:
        return self._with(load(self.live.file.path, self._environ), self._store.additions.list())

    def _with(self, file: Settings, additions: Sequence[Addition]) -> Live:
        return live_of(file, self._environ, self._store.accounts.get, additions)

    def left_out(self) -> Mapping[Place, str]:
        """Of `control.additions.Offering`."""
        return {place: why.message for place, why in self.live.joined.left_out.items()}

    async def offer(
        self,
        additions: Sequence[Addition],
        changed: Addition | None,
        write: Callable[[], Awaitable[None]],
    ) -> None:
        """Of `control.additions.Offering`: beside the settings as they are, not as a file that was
        edited meanwhile would have them."""
        async with self._turn:
            live = await asyncio.to_thread(self._with, self.live.file, additions)
            live.joined.check_change(self.live.joined.left_out, changed, epoch_ms())
            await write()
            self.apply(live)

    def warn_of_what_is_missing(self) -> None:
        """For once the first account is there: what the settings say of accounts that are not, and
        deployments without a price."""
        for warning in self.live.offer.unpriced_warnings(epoch_ms()):
            log.warning(warning)
        for (kind, name), why in self.left_out().items():
            log.warning("what was added is not used", kind=kind, name=name, reason=why)
        for warning in unknown_accounts(self.live.settings, self._store.accounts.list()):
            log.warning(warning)

    def asgi(self) -> ASGIApp:
        """Everything but the fast lane: admin API, batches, pages, health, metrics."""
        plane = self._control_plane
        return Starlette(
            routes=[
                Route("/", front_door, methods=["GET"]),
                *health_routes(self._why_not_ready, self.metrics.render, self._warnings),
                *self._batches.routes(),
                *dashboard_routes(self._pages),
                *portal_routes(self._portal),
                *payment_routes(plane.billing.desks.topups),
                Mount("/admin/v1", plane.admin),
            ],
            exception_handlers={404: not_found, 405: not_allowed},
        )

    def drain(self) -> None:
        """Take no new calls; those that run go on."""
        self.front.drain()
        self.data_plane.background.leave()

    async def run_background(self) -> None:
        """Deadlines, probes, batches, upkeep; until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.data_plane.watchdog.run())
            tasks.create_task(self.data_plane.health_checks.run())
            tasks.create_task(LoopLag(self.metrics.loop_lag, HeldUpLog()).run())
            tasks.create_task(self._batch_worker.run())
            tasks.create_task(self.data_plane.background.run())
            tasks.create_task(self._upkeep.run())
            tasks.create_task(self.data_plane.telemetry.run())
            tasks.create_task(self._control_plane.billing.loops.run())
            tasks.create_task(self._letters.run())
            tasks.create_task(asyncio.to_thread(compile_pages))
            tasks.create_task(asyncio.to_thread(portal_pages.compile_pages))

    async def close(self) -> None:
        """Wait for cut calls to settle, then close connections."""
        await self._batch_worker.stop(wait_s=_CUT_S)
        await self.data_plane.background.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CUT_S):
                while self.metrics.in_flight:  # noqa: ASYNC110 - once, at the very end
                    await asyncio.sleep(0.01)
        await self.data_plane.telemetry.close()
        await self._upkeep.save_learned()
        with contextlib.suppress(StoreUnavailable):
            await self._store.admin_keys.flush()
        await self.data_plane.client.aclose()

    def _price_of(self, deployment: Deployment, account_id: str | None) -> Price | None:
        """What calls to it are billed with now: for an account, or as listed."""
        if account_id is None:
            return self.data_plane.tariff.listed(deployment, epoch_ms())
        with contextlib.suppress(InvalidCall):  # there is no rate for its currency
            return self.data_plane.tariff(deployment, epoch_ms(), None, account_id)
        return None

    def _is_key_good(self, secret_hash: bytes) -> bool:
        if self._store.admin_keys.with_hash(secret_hash) is not None:
            return True
        key = self._store.keys.with_hash(secret_hash)
        try:
            if key is not None:
                check_usable(key)
        except KeyRejected:
            return False
        return key is not None

    def _why_not_ready(self) -> str | None:
        if self.front.is_draining:
            return "draining"
        return self._store.ledger.why_unavailable

    def _warnings(self) -> list[str]:
        if not self._store.damage():
            return []
        return ["The journal was damaged; `merino ledger verify` says what may be lost by that."]
