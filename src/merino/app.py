"""The composition root: settings become adapters, adapters a pipeline, the pipeline a server.

The only module that names concrete adapters.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from email.utils import parseaddr
from pathlib import Path
from time import perf_counter, time
from typing import Any

import structlog
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from merino import __version__
from merino.api.admin.app import admin_app
from merino.api.batch_calls import BatchCalls
from merino.api.batches import BatchFront
from merino.api.errors import status_of
from merino.api.health import health_routes
from merino.api.openai import OpenAIFront
from merino.api.page_calls import PageCalls
from merino.api.webhooks import payment_routes
from merino.batch.worker import BatchWorker, LocalDispatcher, WorkerPolicy
from merino.control import Control
from merino.control.accounts import is_mail_address
from merino.control.automatic import AutomaticTopUps
from merino.control.batches import ITEMS_MAX, BatchDesk, FileDesk
from merino.control.credits import CreditDesk, parse_rate
from merino.control.keys import epoch_ms
from merino.control.money import Money
from merino.control.notices import NoticeDesk
from merino.control.overview import OverviewDesk
from merino.control.ports import PaymentProvider
from merino.control.statements import StatementDesk
from merino.control.topups import TopUpDesk, TopUpLimits
from merino.dashboard.oidc import OidcProvider
from merino.dashboard.parts import Desk
from merino.dashboard.routes import dashboard_routes
from merino.dashboard.sessions import PendingSignIns, Sessions, SignInLimit
from merino.domain.account import Account, AccountLimit
from merino.domain.credits import ExchangeRate
from merino.domain.errors import (
    Conflict,
    InvalidCall,
    KeyRejected,
    MerinoError,
    Misconfigured,
    StoreUnavailable,
)
from merino.domain.money import format_nanos, scaled
from merino.gateway.attempts import Attempts, RetryPolicy
from merino.gateway.expectations import Expectations, save
from merino.gateway.fleet import Fleet, FleetPolicy
from merino.gateway.health_checks import HealthChecks
from merino.gateway.holds import HoldPolicy, Holds
from merino.gateway.idempotency import Idempotency
from merino.gateway.keys import Gatekeeper, check_usable
from merino.gateway.limits import LimitPolicy, RateLimits, account_limit
from merino.gateway.metering import StreamLimits
from merino.gateway.pipeline import Pipeline
from merino.gateway.planning import Planner
from merino.gateway.ports import Provider, Recorder
from merino.gateway.probe_tally import MINUTE_S
from merino.gateway.watchdog import Watchdog
from merino.payments.invoice import InvoiceProvider
from merino.payments.stripe import StripeProvider, StripeTerms
from merino.pricing.book import FACTOR_MAX, PPM, PriceBook, Rates
from merino.pricing.margin import AccountTariff, Margin
from merino.pricing.tariff import Tariff, own_price
from merino.providers.drill import DrilledProvider, load_drills
from merino.providers.openai import OpenAIProvider
from merino.providers.simulator import SimulatorProvider
from merino.resilience.breaker import BreakerPolicy
from merino.settings import KNOWN_PROVIDERS, Catalog, PriceSettings, Settings, load, resolve
from merino.settings.catalog import rates_of
from merino.settings.credentials import read_secret
from merino.settings.data_folder import ADMIN_SOCKET, admin_socket
from merino.storage import Store
from merino.storage.database import TRANSIENT_ERRORS
from merino.telemetry.call_log import CallLog
from merino.telemetry.logs import configure_logs
from merino.telemetry.mail import MailSender, MailTerms
from merino.telemetry.metrics import Metrics
from merino.telemetry.webhooks import WebhookSender
from merino.transport.client import ClientLimits, Origin, UpstreamClient
from merino.transport.server import ServerLimits, lane_protocol
from merino.wire.errors import error_body

log = structlog.get_logger("merino")

FIRST_ACCOUNT = "default"
_BREAKER_VALUES = {"closed": 0.0, "half_open": 1.0, "open": 2.0}
_SWEEP_HOLDS_S = 5.0
_SWEEP_CALLS_S = 600.0
_SWEEP_NOTICES_S = 2.0
_SUM_UP_S = 2.0
_SUM_UP_PAUSE_S = 0.02
_SUM_UP_ROWS = 100
_REMEMBER_S = 1.0
_SAVE_LEARNED_S = 60.0
_SUMS_KEEP_MS = 400 * 86_400_000
_CUT_S = 5.0
"""How long cut calls get to settle after the drain."""


class Relay:
    """Everything a running relay is made of. `reload` replaces what settings can change."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        environ: Mapping[str, str],
        drill: Path | None = None,
    ) -> None:
        self._environ = environ
        self._store = store
        self.settings = settings
        self.metrics = Metrics()
        self.watchdog = Watchdog()
        self.catalog, book = _catalog(settings, environ)
        store.exchange.configure(configured_rates(settings))
        tariff = _account_tariff(settings, book, store)
        self._client = UpstreamClient(
            ClientLimits(
                connections_max_per_origin=settings.upstream.connections_max_per_origin,
                idle_s=settings.upstream.idle_s,
            )
        )
        self.limits = RateLimits(_limit_policy(settings, store))
        store.accounts.subscribe(self.limits.account_changed)
        store.uptime.begin()
        self.fleet = Fleet(_fleet_policy(settings), breaker_log=store.uptime)
        self.fleet.keep(self.catalog.deployments)
        self._expectations = expectations = Expectations()
        expectations.load(store.learned.load())
        openai = OpenAIProvider(self._client, self._origin_of)
        providers: dict[str, Provider] = {
            "openai": openai,
            "simulator": SimulatorProvider(seed=settings.simulator.seed),
        }
        if drill is not None:
            drills = load_drills(drill, [each.name for each in self.catalog.deployments])
            for each in drills:
                log.warning(
                    "DRILL: this deployment will fail as told, with simulated answers",
                    deployment=each.deployment,
                    fault=each.fault,
                    after_s=each.after_s,
                )
            simulator = providers["simulator"]
            providers = {
                name: DrilledProvider(provider, simulator, drills)
                for name, provider in providers.items()
            }
        self._health_checks = HealthChecks(self.fleet, {"openai": openai}, perf_counter)
        self.attempts = Attempts(
            providers,
            self.fleet,
            _retry_policy(settings),
        )
        self.holds = Holds(store.ledger, _hold_policy(settings))
        pipeline = Pipeline(
            tariff=tariff,
            planner=Planner(
                tariff=tariff,
                fleet=self.fleet,
                ledger=store.ledger,
                expectations=expectations,
            ),
            limits=self.limits,
            holds=self.holds,
            ledger=store.ledger,
            attempts=self.attempts,
            idempotency=Idempotency(store.ledger, settings.idempotency.answer_bytes_max),
            recorder=_recorder(settings, self.metrics),
            watchdog=self.watchdog,
            expectations=expectations,
            stream_limits=StreamLimits(
                event_bytes_max=settings.stream.event_bytes_max,
                keep_alive_s=settings.stream.keep_alive_s,
                kept_bytes_max=settings.idempotency.answer_bytes_max,
            ),
            status_of=status_of,
            store_content=settings.calls.store_content,
        )
        gatekeeper = Gatekeeper(store.keys)
        self.front = OpenAIFront(
            gatekeeper=gatekeeper,
            pipeline=pipeline,
            limits=self.limits,
            calls=store.calls,
            aliases={alias.name: alias for alias in self.catalog.aliases},
            body_bytes_max=settings.server.body_bytes_max,
            unauthenticated_body_bytes_max=settings.server.unauthenticated_body_bytes_max,
            started_at_s=int(time()),
        )
        self._file_desk = FileDesk(
            store.files,
            keep_days=settings.batches.keep_days,
            account_bytes_max=settings.batches.account_bytes_max,
        )
        dispatcher = LocalDispatcher()
        self._batches = BatchFront(
            gatekeeper,
            self._file_desk,
            BatchDesk(store.batches, store.files, dispatcher.announce),
            lambda: self.front.is_draining,
        )
        self._batch_worker = BatchWorker(
            store.batches,
            store.files,
            BatchCalls(
                pipeline, store.keys.get, lambda: self.front.aliases, lambda: self._batch_ppm
            ),
            dispatcher,
            new_file=self._file_desk.new,
            live_calls=lambda: self.metrics.in_flight,
            now_ms=epoch_ms,
            policy=_worker_policy(settings),
        )
        # The folder is ours alone, so whoever else leased anything is dead.
        store.batches.release_others(self._batch_worker.name)
        self.control = _control(settings, store, self.catalog, self.fleet)
        self.control.money = _money(settings, store, self.control, environ)
        self.control.audit = store.audit
        self._prices = _price_book(settings)
        self._oidc = _oidc(settings, environ)
        self._desk = Desk(
            control=self.control,
            overview=OverviewDesk(store.sums, store.uptime, settings.status.objective),
            settings=lambda: self.settings,
            catalog=lambda: self.catalog,
            prices=lambda: self._prices,
            find_admin=store.keys.find_admin,
            find_key=store.keys.find,
            is_key_good=lambda key_hash: _is_key_good(store, key_hash),
            chat=PageCalls(pipeline, lambda: self.front.aliases),
            data=store.folder,
            sessions=Sessions(),
            sign_in_limit=SignInLimit(),
            pending=PendingSignIns(),
            oidc=lambda: self._oidc,
            environ=environ,
        )
        self._notice_senders = _notice_senders(settings, environ, store)
        self.metrics.gauge(
            "merino_ledger_backlog_calls",
            "Settled calls in the journal that the database does not have yet",
            lambda: store.ledger.backlog_calls,
        )
        self.metrics.gauge(
            "merino_holds_open", "Holds of calls in flight", lambda: store.ledger.open_holds
        )
        self.metrics.gauge(
            "merino_calls_waiting", "Calls that wait for a limit", lambda: self.limits.waiting
        )
        self.metrics.labelled_gauge(
            "merino_breaker_state",
            "Breakers: 0 closed, 1 half-open, 2 open",
            ("deployment",),
            lambda: [
                ((each.deployment.name,), _BREAKER_VALUES[each.breaker.state])
                for each in self.fleet.members()
            ],
        )
        self.metrics.labelled_gauge(
            "merino_deployment_calls_in_flight",
            "Attempts running at a deployment",
            ("deployment",),
            lambda: [
                ((each.deployment.name,), float(each.in_flight)) for each in self.fleet.members()
            ],
        )

    def asgi(self) -> ASGIApp:
        """Everything but the fast lane: admin API, health, metrics."""
        admin = admin_app(self.control, self._store.keys.find_admin)
        return Starlette(
            routes=[
                *health_routes(self._why_not_ready, self.metrics.render),
                *self._batches.routes(),
                *dashboard_routes(self._desk),
                *payment_routes(lambda: self._money.topups),
                Mount("/admin/v1", admin),
            ],
            exception_handlers={404: _not_found, 405: _not_allowed},
        )

    def reload(self) -> None:
        """Read the settings again; keep the old ones, and say why, if the new ones are wrong."""
        try:
            settings = load(self.settings.path, self._environ)
            catalog, tariff = _catalog(settings, self._environ)
            money = _money(settings, self._store, self.control, self._environ)
            notice_senders = _notice_senders(settings, self._environ, self._store)
            rates = configured_rates(settings)
            account_tariff = _account_tariff(settings, tariff, self._store)
            oidc = _oidc(settings, self._environ)
        except Misconfigured as error:
            log.error(  # noqa: TRY400 - the operator's mistake, not a fault with a traceback
                "settings not reloaded; the old ones stay", reason=error.message
            )
            return
        for warning in settings.warnings:
            log.warning(warning)
        if settings.server != self.settings.server or settings.ledger != self.settings.ledger:
            log.warning("[server] and [ledger] take effect at the next start only")
        self.settings, self.catalog, self._oidc = settings, catalog, oidc
        self._prices = _price_book(settings)
        self.front.pipeline.tariff = self.front.pipeline.planner.tariff = account_tariff
        self.front.aliases = {alias.name: alias for alias in catalog.aliases}
        self.holds.policy = _hold_policy(settings)
        self.limits.policy = _limit_policy(settings, self._store)
        self.control.accounts.limit_of = _account_limits(settings)
        self.attempts.policy = _retry_policy(settings)
        self._batch_worker.policy = _worker_policy(settings)
        self._file_desk.keep_days = settings.batches.keep_days
        self._file_desk.account_bytes_max = settings.batches.account_bytes_max
        self.front.pipeline.recorder = _recorder(settings, self.metrics)
        self.fleet.keep(catalog.deployments)
        self.control.deployments = catalog.deployments
        self.control.money, self._notice_senders = money, notice_senders
        self._store.exchange.configure(rates)
        log.info("settings reloaded", aliases=len(catalog.aliases))

    async def run_background(self) -> None:
        """Deadlines, overdue holds, retention; until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.watchdog.run())
            tasks.create_task(self._health_checks.run())
            tasks.create_task(self._expire_holds())
            tasks.create_task(self._forget_calls())
            tasks.create_task(self._top_up())
            tasks.create_task(self._tell())
            tasks.create_task(self._batch_worker.run())
            tasks.create_task(self._sum_up())
            tasks.create_task(self._remember_health())
            tasks.create_task(self._save_often())

    async def close(self) -> None:
        """Wait for cut calls to settle, then close connections."""
        await self._batch_worker.stop(wait_s=_CUT_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CUT_S):
                while self.metrics.in_flight:  # noqa: ASYNC110 - once, at the very end
                    await asyncio.sleep(0.01)
        await self._save_learned()
        await self._client.aclose()

    async def _save_often(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_LEARNED_S)
            await self._save_learned()

    async def _save_learned(self) -> None:
        try:
            await save(self._expectations, self._store.learned)
        except StoreUnavailable as error:
            log.warning("what calls usually use was not saved", reason=error.message)

    async def _expire_holds(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_HOLDS_S)
            expired = self._store.ledger.expire_overdue()
            if expired:
                log.warning("holds expired that nobody resolved", holds=expired)

    async def _sum_up(self) -> None:
        """Keep the sums of statements up, a little at a time: calls come first."""
        while True:
            rows = 0
            with contextlib.suppress(StoreUnavailable, *TRANSIENT_ERRORS):
                rows = self._store.statements.sum_up(_SUM_UP_ROWS)
            await asyncio.sleep(_SUM_UP_PAUSE_S if rows >= _SUM_UP_ROWS else _SUM_UP_S)

    async def _remember_health(self) -> None:
        """Breakers' changes soon, health checks by the minute."""
        minute_at = perf_counter() + MINUTE_S
        while True:
            await asyncio.sleep(_REMEMBER_S)
            if (now := perf_counter()) >= minute_at:
                minute_at = max(minute_at + MINUTE_S, now)
                minutes = self._health_checks.tally.minute(self.catalog.aliases, now)
                self._store.uptime.probed(minutes)
            with contextlib.suppress(StoreUnavailable):
                self._store.uptime.flush()

    async def _forget_calls(self) -> None:
        while True:
            await self._store.forget_old(keep_days=self.settings.calls.keep_days)
            with contextlib.suppress(StoreUnavailable):
                await self._store.note_times()
                self._store.files.delete_old()
                self._store.sums.forget(epoch_ms() - _SUMS_KEEP_MS)
                self._store.uptime.forget_old()
            await asyncio.sleep(_SWEEP_CALLS_S)

    @property
    def _batch_ppm(self) -> int:
        return round((1 - self.settings.batches.discount) * PPM)

    @property
    def _money(self) -> Money:
        assert self.control.money is not None
        return self.control.money

    async def _top_up(self) -> None:
        """Payment events of a dead process first; then automatic top-ups. Apart from notices, since
        a payment provider may take its time."""
        is_recovered = False
        while True:
            try:
                if not is_recovered:
                    if events := self._money.topups.recover():
                        log.info("payment events taken up again", events=events)
                    is_recovered = True
                await self._money.automatic.look()
            except (MerinoError, *TRANSIENT_ERRORS) as error:
                log.warning("top-ups wait", reason=str(error))
            await asyncio.sleep(_SWEEP_NOTICES_S)

    async def _tell(self) -> None:
        """Notices: what there is to say, and sending it."""
        while True:
            try:
                self._money.notices.look()
            except (MerinoError, *TRANSIENT_ERRORS) as error:
                log.warning("notices wait", reason=str(error))
            # One way that is slow or broken keeps no other waiting for good.
            sent = await asyncio.gather(
                *(sender.send_due(self._store.notices) for sender in self._notice_senders),
                return_exceptions=True,
            )
            for error in sent:
                if isinstance(error, (MerinoError, *TRANSIENT_ERRORS)):
                    log.warning("notices wait", reason=str(error))
                elif isinstance(error, BaseException):
                    raise error
            await asyncio.sleep(_SWEEP_NOTICES_S)

    def _why_not_ready(self) -> str | None:
        if self.front.is_draining:
            return "draining"
        return self._store.ledger.why_unavailable

    def _origin_of(self, scheme: str, host: str, port: int) -> Origin:
        return Origin(scheme, host, port, self._ca_file_of(host, port))

    def _ca_file_of(self, host: str, port: int) -> str | None:
        for deployment in self.catalog.deployments:
            ca_file = self.catalog.ca_files.get(deployment.name)
            if ca_file is not None:
                origin = Origin.of(deployment.base_url)
                if (origin.host, origin.port) == (host, port):
                    return str(ca_file)
        return None


def _recorder(settings: Settings, metrics: Metrics) -> Recorder:
    return CallLog(metrics) if settings.log.calls else metrics


def _limit_policy(settings: Settings, store: Store) -> LimitPolicy:
    limit_of = _account_limits(settings)
    return LimitPolicy(
        account_limit=lambda account_id: limit_of(store.accounts.get(account_id)),
        wait_s=settings.limits.wait_s,
        waiting_max=settings.limits.waiting_max,
    )


def _account_limits(settings: Settings) -> Callable[[Account], AccountLimit]:
    configured = {
        name: AccountLimit(rates_of(each), each.weight)
        for name, each in settings.limits.accounts.items()
    }
    return lambda account: account_limit(account, configured)


def _fleet_policy(settings: Settings) -> FleetPolicy:
    breaker = settings.breaker
    return FleetPolicy(
        breaker=BreakerPolicy(
            window_s=breaker.window_s,
            outcomes_min=breaker.outcomes_min,
            failure_share=breaker.failure_share,
            consecutive_failures=breaker.consecutive_failures,
            open_s=breaker.open_s,
            open_max_s=breaker.open_max_s,
            probes_max=breaker.probes_max,
        ),
        slow_first_token_s=breaker.slow_first_token_s,
        retry_share=settings.retries.budget_share,
        retry_reserve=settings.retries.budget_min,
        hedge_samples_min=settings.hedging.samples_min,
    )


def _price_book(settings: Settings) -> PriceBook:
    return PriceBook.load(settings.prices.files, account_factor=settings.prices.markup.factor)


def _is_key_good(store: Store, secret_hash: bytes) -> bool:
    try:
        key = store.keys.with_hash(secret_hash)
        if key is not None:
            check_usable(key)
    except KeyRejected:
        return False
    return key is not None


def _worker_policy(settings: Settings) -> WorkerPolicy:
    batches = settings.batches
    return WorkerPolicy(
        concurrency_max=batches.concurrency, tries_max=batches.tries_max, items_max=ITEMS_MAX
    )


def _retry_policy(settings: Settings) -> RetryPolicy:
    retries = settings.retries
    return RetryPolicy(
        attempts_max=retries.attempts_max,
        backoff_base_s=retries.backoff_base_s,
        backoff_throttled_s=retries.backoff_throttled_s,
        backoff_max_s=retries.backoff_max_s,
        hedge_delay_min_s=settings.hedging.delay_min_s,
        hedge_share=settings.hedging.budget_share,
    )


class _Server(uvicorn.Server):
    """uvicorn, except that a signal drains the relay and nothing is raised again afterwards."""

    relay: Relay

    def handle_exit(self, sig: int, frame: Any) -> None:
        self.relay.front.is_draining = True
        super().handle_exit(sig, frame)

    def take_signals(self) -> None:
        """From before the banner is out: whoever has read it may send one."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        loop.add_signal_handler(signal.SIGHUP, self.relay.reload)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)


def serve(
    *,
    config: Path | None,
    data: Path,
    host: str | None = None,
    port: int | None = None,
    log_format: str | None = None,
    drill: Path | None = None,
) -> int:
    """Run a relay until it is told to stop. Raises `Misconfigured` if it cannot start."""
    environ = dict(os.environ)
    for name, value in (("HOST", host), ("PORT", port)):
        if value is not None:
            environ[f"MERINO_SERVER__{name}"] = str(value)
    if log_format is not None:
        environ["MERINO_LOG__FORMAT"] = log_format
    settings = load(config, environ)
    configure_logs(settings.log.format, settings.log.level)
    for warning in settings.warnings:
        log.warning(warning)
    return uvloop.run(_serve(settings, data, environ, drill))


async def _serve(
    settings: Settings, data: Path, environ: Mapping[str, str], drill: Path | None
) -> int:
    listener = _listen(settings.server.host, settings.server.port)
    try:
        store = Store.open(
            data,
            durability=settings.ledger.durability,
            keep_replays_s=settings.idempotency.keep_s,
            database_wait_s=settings.ledger.database_wait_s,
        )
    except BaseException:
        listener.close()
        raise
    await store.start()
    try:
        relay = Relay(settings, store, environ, drill)
        await _run(relay, store, listener, data)
    finally:
        await store.close()
    log.info("stopped")
    return 0


async def _run(relay: Relay, store: Store, listener: socket.socket, data: Path) -> None:
    server_settings = relay.settings.server
    protocol = lane_protocol(
        relay.front,
        ServerLimits(
            head_timeout_s=server_settings.head_timeout_s,
            body_timeout_s=server_settings.body_timeout_s,
            keep_alive_s=server_settings.keep_alive_s,
            write_timeout_s=server_settings.write_timeout_s,
            buffer_bytes=relay.settings.stream.buffer_bytes,
        ),
    )
    config = uvicorn.Config(
        _local_admin(relay.asgi()),
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=2048,
        timeout_graceful_shutdown=max(1, round(server_settings.drain_s)),
        ssl_certfile=server_settings.tls.cert_file,
        ssl_keyfile=server_settings.tls.key_file,
    )
    config.load()
    server = _Server(config)
    server.relay = relay
    loop = asyncio.get_running_loop()
    socket_path = data / ADMIN_SOCKET
    socket_path.unlink(missing_ok=True)
    with admin_socket(data) as address:
        local = await loop.create_unix_server(
            lambda: protocol(config=config, server_state=server.server_state, app_state={}),
            path=address,
        )
    socket_path.chmod(0o600)
    server.take_signals()
    first_key, admin_key = _first_start(relay.settings, store)
    print(_banner(relay, listener, first_key, admin_key), flush=True)  # noqa: T201 - for the operator
    background = asyncio.create_task(relay.run_background())
    _calm_garbage_collection()
    try:
        await server.serve(sockets=[listener])
    finally:
        local.close()
        await relay.close()
        background.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await background
        socket_path.unlink(missing_ok=True)


@asynccontextmanager
async def admin_asgi(data: Path, config: Path | None = None) -> AsyncGenerator[ASGIApp]:
    """The admin API over a data folder that no relay runs on. No key needed: who can open the
    folder owns it. A settings file that is wrong is told of and left out: books and keys are there
    all the same."""
    store = Store.open(data)
    await store.start()
    try:
        try:
            settings = load(config, os.environ)
            catalog, _ = _catalog(settings, os.environ)
        except Misconfigured as error:
            print(  # noqa: T201 - for the operator
                f"merino: the settings file is left out, since it is wrong: {error.message}",
                file=sys.stderr,
            )
            settings = load(None, {})
            catalog, _ = _catalog(settings, {})
        control = _control(settings, store, catalog)
        try:
            store.exchange.configure(configured_rates(settings))
            control.money = _money(settings, store, control, os.environ)
        except Misconfigured as error:
            print(f"merino: no payments: {error.message}", file=sys.stderr)  # noqa: T201 - for the operator
            control.money = _money(load(None, {}), store, control, {})
        admin = admin_app(control, store.keys.find_admin)
        yield _as_local(Starlette(routes=[Mount("/admin/v1", admin)]))
    finally:
        await store.close()


def _calm_garbage_collection() -> None:
    """What is alive now lives as long as the process; and a call makes few cycles, so the young
    generation may grow larger before it is worth looking through."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


# -- parts ----------------------------------------------------------------------------------------


def _catalog(settings: Settings, environ: Mapping[str, str]) -> tuple[Catalog, Tariff]:
    book = _price_book(settings)
    catalog = resolve(settings, environ, sorted(book.models))
    factor_ppm = int(settings.prices.markup.factor * PPM)  # the book has checked its decimals
    own = {
        name: own_price(name, _rates(price), _rates(price), factor_ppm)
        for name, price in catalog.prices.items()
    }
    for name, price in catalog.account_prices.items():
        upstream = catalog.prices.get(name)
        own[name] = own_price(name, _rates(upstream or price), _rates(price))
    checker = OpenAIProvider(_NoClient(), lambda scheme, host, port: None)
    for deployment in catalog.deployments:
        if deployment.provider == "openai":
            checker.check(deployment)
    tariff = Tariff(
        book,
        own,
        [(each.name, each.base_url) for each in KNOWN_PROVIDERS],
        allow_unpriced=settings.prices.allow_unpriced,
    )
    return catalog, tariff


def _account_tariff(settings: Settings, tariff: Tariff, store: Store) -> AccountTariff:
    margins = {
        name: Margin(_ppm(each.factor, name), each.fixed_nanos, each.minimum_nanos)
        for name, each in settings.prices.groups.items()
    }
    return AccountTariff(tariff, margins, store.accounts.get, lambda: store.exchange.book)


def _ppm(factor: Decimal, group: str) -> int:
    ppm = scaled(factor, 6, FACTOR_MAX * PPM)
    if ppm is None:
        raise Misconfigured(f"prices.groups.{group}.factor = {factor}: more than six decimals")
    return ppm


class _NoClient:
    """For checking deployments without sending anything."""

    async def send(self, origin: None, data: bytes, *, connect_timeout_s: float) -> Any:
        raise AssertionError("nothing is sent while settings are checked")


def _rates(price: PriceSettings) -> Rates:
    plain_in, plain_out = price.input_nanos, price.output_nanos
    return Rates(
        input=plain_in,
        cached=plain_in if price.cached_nanos is None else price.cached_nanos,
        cache_write=plain_in if price.cache_write_nanos is None else price.cache_write_nanos,
        output=plain_out,
        audio_input=plain_in if price.audio_input_nanos is None else price.audio_input_nanos,
        audio_output=plain_out if price.audio_output_nanos is None else price.audio_output_nanos,
        image_input=plain_in if price.image_input_nanos is None else price.image_input_nanos,
    )


def _hold_policy(settings: Settings) -> HoldPolicy:
    hold = settings.hold
    return HoldPolicy(
        mode=hold.mode,
        when_short=hold.when_short,
        wait_s=hold.wait_s,
        clamp_output_tokens_min=hold.clamp_output_tokens_min,
        clamp_floor_tokens=hold.clamp_floor_tokens,
        expires_after_s=hold.expires_after_s,
    )


def _control(
    settings: Settings, store: Store, catalog: Catalog, fleet: Fleet | None = None
) -> Control:
    control = Control(
        keys=store.keys,
        accounts=store.accounts,
        calls=store.calls,
        reports=store.reports,
        ledger=store.books,
        deployments=catalog.deployments,
        states=fleet,
    )
    control.accounts.limit_of = _account_limits(settings)
    return control


def _money(settings: Settings, store: Store, control: Control, environ: Mapping[str, str]) -> Money:
    credit_desk = CreditDesk(
        control.accounts, store.vouchers, store.transfers, store.exchange, store.statements
    )
    notices = NoticeDesk(store.accounts, control.accounts, store.notices, store.ledger.spent)
    topups = TopUpDesk(
        control.accounts,
        credit_desk,
        store.topups,
        store.cards,
        _payment_providers(settings, environ),
        TopUpLimits(settings.payments.topup_min_nanos, settings.payments.topup_max_nanos),
        on_refused=log.warning,
        on_booked=notices.booked,
    )
    automatic = AutomaticTopUps(
        control.accounts,
        topups,
        store.topups,
        store.cards,
        notices,
        per_day_max=settings.payments.automatic_per_day_max,
        on_trouble=log.warning,
    )
    statements = StatementDesk(control.accounts, store.statements)
    return Money(credit_desk, topups, statements, notices, automatic)


def _payment_providers(
    settings: Settings, environ: Mapping[str, str]
) -> dict[str, PaymentProvider]:
    providers: dict[str, PaymentProvider] = {}
    stripe = settings.payments.stripe
    if stripe is not None:
        terms = StripeTerms(
            secret_key=_secret(settings, environ, "payments.stripe.secret_key", stripe.secret_key),
            webhook_secret=_secret(
                settings, environ, "payments.stripe.webhook_secret", stripe.webhook_secret
            ),
            success_url=stripe.success_url,
            cancel_url=stripe.cancel_url,
            payment_methods=stripe.payment_methods,
            tolerance_s=stripe.tolerance_s,
            api_base=stripe.api_base,
        )
        providers["stripe"] = StripeProvider(terms, time)
    if settings.payments.invoice is not None:
        providers["invoice"] = InvoiceProvider(settings.payments.invoice.instructions)
    return providers


def _oidc(settings: Settings, environ: Mapping[str, str]) -> OidcProvider | None:
    oidc = settings.dashboard.oidc
    if oidc is None:
        return None
    secret = ""
    if oidc.client_secret:
        secret = _secret(settings, environ, "dashboard.oidc.client_secret", oidc.client_secret)
    return OidcProvider(oidc, secret)


def _notice_senders(
    settings: Settings, environ: Mapping[str, str], store: Store
) -> list[WebhookSender | MailSender]:
    notices = settings.notices
    senders: list[WebhookSender | MailSender] = []
    if notices.webhook_url is not None:
        if not notices.webhook_url.startswith(("https://", "http://")):
            raise Misconfigured(
                f"notices.webhook_url = {notices.webhook_url[:80]!r}: must begin with https://"
            )
        secret = _secret(settings, environ, "notices.webhook_secret", notices.webhook_secret)
        senders.append(WebhookSender(notices.webhook_url, secret, epoch_ms))
    smtp = notices.smtp
    if smtp is not None:
        password = ""
        if smtp.username:
            password = _secret(settings, environ, "notices.smtp.password", smtp.password)
        terms = MailTerms(
            host=smtp.host,
            port=smtp.port,
            security=smtp.security,
            sender=smtp.sender,
            username=smtp.username,
            password=password,
            to=smtp.to,
            ca_file=None if smtp.ca_file is None else str(smtp.ca_file),
        )
        for address in (parseaddr(smtp.sender)[1], *smtp.to):
            if not is_mail_address(address):
                raise Misconfigured(f"notices.smtp: {address[:100]!r} is not a mail address")
        senders.append(
            MailSender(terms, lambda id_: store.accounts.get(id_).notice_email, epoch_ms)
        )
    return senders


def configured_rates(settings: Settings) -> list[ExchangeRate]:
    """The settings' own exchange rates. Raises `Misconfigured`."""
    rates: list[ExchangeRate] = []
    for number, each in enumerate(settings.exchange_rates):
        try:
            rates.append(
                parse_rate(each.base, each.quote, str(each.rate), each.valid_from, "the settings")
            )
        except (InvalidCall, Conflict) as error:
            raise Misconfigured(f"exchange_rates[{number}]: {error.message}") from None
    return rates


def _secret(settings: Settings, environ: Mapping[str, str], key: str, reference: str) -> str:
    folder = Path() if settings.path is None else settings.path.parent
    try:
        secret = read_secret(reference, folder=folder, environ=environ)
    except ValueError as error:
        raise Misconfigured(f"{key}: {error}", param=key) from None
    if not secret:
        raise Misconfigured(f"{key} is empty; give it as env:NAME or file:PATH", param=key)
    return secret


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise Misconfigured(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port, or "
            "stop what uses it."
        ) from None


def _local_admin(app: ASGIApp) -> ASGIApp:
    """Requests over the folder's unix socket need no key: its permissions are the folder's."""

    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        server = scope.get("server")
        scope["merino.local"] = server is not None and server[1] is None
        await app(scope, receive, send)

    return marked


def _as_local(app: ASGIApp) -> ASGIApp:
    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        scope["merino.local"] = True
        await app(scope, receive, send)

    return marked


def _not_found(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    body = error_body(
        f"Unknown path '{request.url.path[:200]}'. Calls go to /v1/..., administration to "
        "/admin/v1/...; /livez, /readyz and /metrics tell how the relay is.",
        "invalid_request_error",
        None,
        "not_found",
    )
    return Response(body, status_code=404, media_type="application/json")


def _not_allowed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("Allow", "")
    body = error_body(
        f"{request.method} is not allowed here; use {allowed}.",
        "invalid_request_error",
        None,
        "method_not_allowed",
    )
    headers = {"allow": allowed}
    return Response(body, status_code=405, media_type="application/json", headers=headers)


def _first_start(settings: Settings, store: Store) -> tuple[str | None, str | None]:
    """Make the first account, key and admin key; their secrets are returned this once."""
    if store.accounts.list():
        return None, None
    account = store.accounts.create(FIRST_ACCOUNT)
    if settings.credits.start_nanos:
        store.accounts.credit(account.id, settings.credits.start_nanos, "start credit")
    _, first_key = store.keys.create(account_id=account.id, name="first")
    _, admin_key = store.keys.create_admin("first")
    return first_key, admin_key


def _banner(
    relay: Relay, listener: socket.socket, first_key: str | None, admin_key: str | None
) -> str:
    host, port = listener.getsockname()[:2]
    scheme = "https" if relay.settings.server.tls.cert_file else "http"
    any_host = "0.0.0.0"  # noqa: S104 - compared, not bound
    shown_host = {any_host: "127.0.0.1", "::": "[::1]"}.get(
        host, f"[{host}]" if ":" in host else host
    )
    url = f"{scheme}://{shown_host}:{port}"
    catalog = relay.catalog
    names = [alias.name for alias in catalog.aliases]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    lines = [f"Merino {__version__}", f"Listening on {url}", f"Models: {shown}"]
    if catalog.is_simulated:
        lines += [
            "",
            "SIMULATED: no provider is configured, so only the built-in simulator answers.",
            "Set OPENAI_API_KEY (or another provider's) or write merino.toml for real models.",
        ]
    if first_key is not None and admin_key is not None:
        credit = format_nanos(relay.settings.credits.start_nanos)
        model = "o3" if "o3" in names else names[0] if names else "MODEL"
        lines += [
            "",
            f"First start: account '{FIRST_ACCOUNT}' has ${credit} of credit. Shown this once:",
            f"  key        {first_key}",
            f"  admin key  {admin_key}",
            "",
            "Try it:",
            f"  curl {url}/v1/chat/completions \\",
            f"    -H 'Authorization: Bearer {first_key}' -H 'Content-Type: application/json' \\",
            f'    -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hi"}}]}}\'',
            "",
            "  from openai import OpenAI",
            f'  client = OpenAI(base_url="{url}/v1", api_key="{first_key}")',
            f'  answer = client.chat.completions.create(model="{model}",',
            '      messages=[{"role": "user", "content": "Hi"}])',
            "  print(answer.choices[0].message.content)",
        ]
    return "\n".join(lines)
