"""The composition root: settings become policies and adapters, and these a relay.

`policies.py` and `adapters.py` read the settings, `upkeep.py` runs beside the calls, `serving.py`
gives the relay its sockets. No other module names concrete adapters.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter, time
from typing import NamedTuple

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from merino.adapters import (
    check_proxies,
    notice_senders,
    oidc_provider,
    origin_of,
    payment_providers,
    trust_anew,
)
from merino.api.admin import LOCAL_SCOPE_KEY, admin_app
from merino.api.batch_calls import BatchCalls
from merino.api.batches import BatchFront
from merino.api.errors import status_of
from merino.api.health import health_routes
from merino.api.openai import OpenAIFront
from merino.api.page_calls import PageCalls
from merino.api.webhooks import payment_routes
from merino.batch.worker import BatchWorker, LocalDispatcher
from merino.control.automatic import AutomaticTopUps
from merino.control.batches import BatchDesk, FileDesk
from merino.control.control import Control
from merino.control.credits import CreditDesk
from merino.control.money import Money
from merino.control.notices import NoticeDesk
from merino.control.overview import OverviewDesk
from merino.control.statements import StatementDesk
from merino.control.topups import TopUpDesk, TopUpLimits
from merino.dashboard.parts import Desk
from merino.dashboard.routes import dashboard_routes
from merino.dashboard.sessions import PendingSignIns, Sessions, SignInLimit
from merino.domain.clock import epoch_ms
from merino.domain.deployment import Deployment
from merino.domain.errors import InvalidCall, KeyRejected, Misconfigured
from merino.gateway.attempts import Attempts
from merino.gateway.expectations import Expectations
from merino.gateway.fleet import Fleet
from merino.gateway.health_checks import HealthChecks
from merino.gateway.holds import Holds
from merino.gateway.idempotency import Idempotency
from merino.gateway.keys import Gatekeeper, check_usable
from merino.gateway.limits import RateLimits
from merino.gateway.pipeline import Pipeline
from merino.gateway.planning import Planner
from merino.gateway.ports import Provider, Recorder
from merino.gateway.refused import RefusedRequests
from merino.policies import (
    account_limits,
    configured_rates,
    fleet_policy,
    hold_policy,
    limit_policy,
    margins_of,
    price_book,
    retry_policy,
    stream_limits,
    tariff_of,
    unpriced_warnings,
    worker_policy,
)
from merino.pricing.book import PriceBook
from merino.pricing.margin import AccountTariff
from merino.pricing.price import PPM, Price
from merino.pricing.tariff import Tariff
from merino.providers.dialects import DIALECTS, Speaker, speakers
from merino.running.loop_lag import LoopLag
from merino.running.standstill import Standstill
from merino.running.watchdog import Watchdog
from merino.settings import Catalog, Settings, load, resolve
from merino.settings.account_names import unknown_accounts
from merino.settings.reloading import waiting_for_a_start
from merino.simulator.drill import DrilledProvider, load_drills
from merino.simulator.provider import SimulatorProvider
from merino.storage import Store
from merino.telemetry.call_log import CallLog
from merino.telemetry.held_up import HeldUpLog
from merino.telemetry.logs import configure_logs
from merino.telemetry.metrics import Metrics
from merino.telemetry.redaction import keep_secret, redact
from merino.transport.client import ClientLimits, UpstreamClient
from merino.transport.connecting import Origin
from merino.upkeep import Upkeep
from merino.wire.errors import error_body

log = structlog.get_logger("merino")

_BREAKER_VALUES = {"closed": 0.0, "half_open": 1.0, "open": 2.0}
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
        given: frozenset[str] = frozenset(),
    ) -> None:
        """`given`: the variables of `environ` that stand for options of the command line."""
        self._environ = environ
        self._store = store
        self._reloading: asyncio.Task[None] | None = None
        self._is_reload_due = False
        self.settings = settings
        self.metrics = Metrics()
        self.standstill = Standstill()
        self.watchdog = Watchdog(standstill=self.standstill)
        offer = _offer(settings, environ)
        self.catalog, self._prices = offer.catalog, offer.book
        store.exchange.configure(configured_rates(settings))
        tariff = self._tariff = _account_tariff(settings, offer.tariff, store)
        self._client = UpstreamClient(
            _client_limits(settings), environ=environ, standstill=self.standstill
        )
        trust_anew(self._client, self.catalog)
        self.limits = RateLimits(limit_policy(settings, store.accounts.get))
        store.accounts.subscribe(self.limits.account_changed)
        store.uptime.begin()
        self.fleet = Fleet(
            fleet_policy(settings),
            breaker_log=store.uptime,
            more_secrets=[
                url
                for name, url in environ.items()
                if name.lower().endswith("_proxy") and "://" in url
            ],
        )
        keep_secret(lambda: self.fleet.secrets)
        self.fleet.keep(self.catalog.deployments)
        expectations = Expectations()
        expectations.load(store.learned.load())
        spoken = speakers(self._client, self._origin_of)
        providers = _providers(settings, spoken, self.catalog, drill)
        self._health_checks = HealthChecks(self.fleet, spoken, perf_counter, self.standstill)
        self.attempts = Attempts(
            providers,
            self.fleet,
            retry_policy(settings),
            self.standstill,
        )
        self.holds = Holds(store.ledger, hold_policy(settings))
        self._idempotency = Idempotency(store.ledger, settings.idempotency.answer_bytes_max)
        self.refused = RefusedRequests(
            store.ledger,
            redact=redact,
            on_refused=self.metrics.request_refused,
            per_minute=settings.calls.refused_per_minute,
        )
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
            idempotency=self._idempotency,
            recorder=_recorder(settings, self.metrics),
            watchdog=self.watchdog,
            expectations=expectations,
            stream_limits=stream_limits(settings),
            status_of=status_of,
            store_content=settings.calls.store_content,
            refused=self.refused,
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
            self.refused,
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
            policy=worker_policy(settings),
        )
        # The folder is ours alone, so whoever else leased anything is dead.
        store.batches.release_others(self._batch_worker.name)
        self.control = _control(settings, store, self.catalog, self.fleet)
        self.control.odd_usage = pipeline.oddities.alarming
        self.control.running = lambda: [call.as_running() for call in pipeline.running]
        self.control.money = _money(settings, store, self.control, environ)
        self.control.audit = store.audit
        self._oidc = oidc_provider(settings, environ)
        self._overview = OverviewDesk(store.sums, store.uptime, settings.status.objective)
        self._desk = Desk(
            control=self.control,
            overview=self._overview,
            settings=lambda: self.settings,
            catalog=lambda: self.catalog,
            prices=lambda: self._prices,
            price_of=self._price_of,
            find_admin=store.admin_keys.find,
            find_key=store.keys.find,
            is_key_good=lambda key_hash: _is_key_good(store, key_hash),
            chat=PageCalls(pipeline, lambda: self.front.aliases),
            data=store.folder,
            sessions=Sessions(),
            sign_in_limit=SignInLimit(),
            pending=PendingSignIns(),
            oidc=lambda: self._oidc,
            environ=environ,
            given=given,
        )
        self._notice_senders = notice_senders(settings, environ, store.accounts.get)
        self._upkeep = Upkeep(
            store,
            expectations,
            self._health_checks.tally,
            keep_days=lambda: self.settings.calls.keep_days,
            aliases=lambda: self.catalog.aliases,
            money=lambda: self._money,
            senders=lambda: self._notice_senders,
        )
        self._add_gauges()

    def _add_gauges(self) -> None:
        """What is read when metrics are asked for, instead of counted as it happens."""
        ledger = self._store.ledger
        self.metrics.labelled_gauge(
            "merino_odd_usage_calls",
            "Calls whose usage or bill is odd, since the start",
            ("deployment", "oddity"),
            lambda: [
                ((each.deployment, each.oddity), float(each.count))
                for each in self.front.pipeline.oddities.all()
            ],
        )
        self.metrics.gauge(
            "merino_ledger_backlog_calls",
            "Settled calls in the journal that the database does not have yet",
            lambda: ledger.backlog_calls,
        )
        self.metrics.gauge(
            "merino_journal_damaged",
            "Damaged ends of the journal that nobody has taken note of",
            lambda: len(self._store.damage()),
        )
        self.metrics.gauge(
            "merino_holds_open", "Holds of calls in flight", lambda: ledger.open_holds
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
        self.metrics.labelled_gauge(
            "merino_parameters_refused",
            "Parameters and values that a deployment's models refused, and that are left out",
            ("deployment",),
            lambda: [
                ((name,), float(count)) for name, count in self.attempts.one.parameters.counts()
            ],
        )

    def asgi(self) -> ASGIApp:
        """Everything but the fast lane: admin API, health, metrics."""
        admin = admin_app(self.control, self._store.admin_keys.find)
        return Starlette(
            routes=[
                Route("/", _front_door, methods=["GET"]),
                *health_routes(self._why_not_ready, self.metrics.render, self._warnings),
                *self._batches.routes(),
                *dashboard_routes(self._desk),
                *payment_routes(lambda: self._money.topups),
                Mount("/admin/v1", admin),
            ],
            exception_handlers={404: _not_found, 405: _not_allowed},
        )

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
        """Read the settings again; keep the old ones, and say why, if the new ones are wrong.

        Files are read and prices parsed off the event loop; what is in force changes in one step.
        """
        try:
            settings, offer = await asyncio.to_thread(_read, self.settings.path, self._environ)
            money = _money(settings, self._store, self.control, self._environ)
            senders = notice_senders(settings, self._environ, self._store.accounts.get)
            rates = configured_rates(settings)
            account_tariff = _account_tariff(settings, offer.tariff, self._store)
            oidc = oidc_provider(settings, self._environ)
            trust_anew(self._client, offer.catalog)
        except Misconfigured as error:
            log.error(  # noqa: TRY400 - the operator's mistake, not a fault with a traceback
                "settings not reloaded; the old ones stay", reason=error.message
            )
            return
        for warning in settings.warnings:
            log.warning(warning)
        if waiting := waiting_for_a_start(self.settings, settings):
            log.warning("some settings take effect at the next start only", settings=waiting)
        if settings.log != self.settings.log:
            configure_logs(settings.log.format, settings.log.level)
        catalog = offer.catalog
        self.settings, self.catalog, self._oidc = settings, catalog, oidc
        self._prices, self._tariff = offer.book, account_tariff
        pipeline = self.front.pipeline
        pipeline.tariff = pipeline.planner.tariff = account_tariff
        pipeline.stream_limits = stream_limits(settings)
        pipeline.store_content = settings.calls.store_content
        self.refused.per_minute = settings.calls.refused_per_minute
        self._idempotency.answer_bytes_max = settings.idempotency.answer_bytes_max
        self._store.replays.keep_for(settings.idempotency.keep_s)
        self._client.configure(_client_limits(settings))
        self._overview.objective = settings.status.objective
        self.front.aliases = {alias.name: alias for alias in catalog.aliases}
        self.front.body_bytes_max_of_key = settings.server.body_bytes_max
        self.front.body_bytes_max_of_stranger = settings.server.unauthenticated_body_bytes_max
        self.holds.policy = hold_policy(settings)
        self.limits.policy = limit_policy(settings, self._store.accounts.get)
        self.control.accounts.limit_of = account_limits(settings)
        self.attempts.configure(retry_policy(settings))
        self._batch_worker.configure(worker_policy(settings))
        self._file_desk.keep_days = settings.batches.keep_days
        self._file_desk.account_bytes_max = settings.batches.account_bytes_max
        pipeline.recorder = _recorder(settings, self.metrics)
        self.fleet.follow(fleet_policy(settings))
        self.fleet.keep(catalog.deployments)
        self.control.deployments = catalog.deployments
        self.control.money, self._notice_senders = money, senders
        self._store.exchange.configure(rates)
        self.warn_of_what_is_missing()
        log.info("settings reloaded", aliases=len(catalog.aliases))

    def warn_of_what_is_missing(self) -> None:
        """For once the first account is there: what the settings say of accounts that are not, and
        deployments without a price."""
        tariff = tariff_of(self.settings, self._prices, self.catalog)
        for warning in unpriced_warnings(tariff, self.catalog, epoch_ms()):
            log.warning(warning)
        for warning in unknown_accounts(self.settings, self._store.accounts.list()):
            log.warning(warning)

    async def run_background(self) -> None:
        """Deadlines, probes, batches, upkeep; until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.watchdog.run())
            tasks.create_task(LoopLag(self.metrics.loop_lag, HeldUpLog()).run())
            tasks.create_task(self._health_checks.run())
            tasks.create_task(self._batch_worker.run())
            tasks.create_task(self._upkeep.run())

    async def close(self) -> None:
        """Wait for cut calls to settle, then close connections."""
        await self._batch_worker.stop(wait_s=_CUT_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CUT_S):
                while self.metrics.in_flight:  # noqa: ASYNC110 - once, at the very end
                    await asyncio.sleep(0.01)
        await self._upkeep.save_learned()
        await self._client.aclose()

    @property
    def _batch_ppm(self) -> int:
        return round((1 - self.settings.batches.discount) * PPM)

    @property
    def _money(self) -> Money:
        assert self.control.money is not None
        return self.control.money

    def _price_of(self, deployment: Deployment, account_id: str | None) -> Price | None:
        """What calls to it are billed with now: for an account, or as listed."""
        if account_id is None:
            return self._tariff.listed(deployment, epoch_ms())
        with contextlib.suppress(InvalidCall):  # there is no rate for its currency
            return self._tariff(deployment, epoch_ms(), None, account_id)
        return None

    def _why_not_ready(self) -> str | None:
        if self.front.is_draining:
            return "draining"
        return self._store.ledger.why_unavailable

    def _warnings(self) -> list[str]:
        if not self._store.damage():
            return []
        return ["The journal was damaged; `merino ledger verify` says what may be lost by that."]

    def _origin_of(self, scheme: str, host: str, port: int) -> Origin:
        return origin_of(self.catalog, scheme, host, port)


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
            catalog = _offer(settings, os.environ).catalog
        except Misconfigured as error:
            first, *others = error.message.splitlines()
            more = f"; {len(others)} more: `merino config check`" if others else ""
            print(  # noqa: T201 - for the operator
                f"merino: the settings file is left out, since it is wrong: {first}{more}",
                file=sys.stderr,
            )
            settings = load(None, {})
            catalog = _offer(settings, {}).catalog
        control = _control(settings, store, catalog)
        try:
            store.exchange.configure(configured_rates(settings))
            control.money = _money(settings, store, control, os.environ)
        except Misconfigured as error:
            print(f"merino: no payments: {error.message}", file=sys.stderr)  # noqa: T201 - for the operator
            control.money = _money(load(None, {}), store, control, {})
        admin = admin_app(control, store.admin_keys.find)
        yield _as_local(Starlette(routes=[Mount("/admin/v1", admin)]))
    finally:
        await store.close()


def _client_limits(settings: Settings) -> ClientLimits:
    return ClientLimits(
        connections_max_per_origin=settings.upstream.connections_max_per_origin,
        idle_s=settings.upstream.idle_s,
        unpacked_bytes_max=settings.upstream.answer_bytes_max,
    )


def _recorder(settings: Settings, metrics: Metrics) -> Recorder:
    return CallLog(metrics) if settings.log.calls else metrics


def _is_key_good(store: Store, secret_hash: bytes) -> bool:
    if store.admin_keys.with_hash(secret_hash) is not None:
        return True
    try:
        key = store.keys.with_hash(secret_hash)
        if key is not None:
            check_usable(key)
    except KeyRejected:
        return False
    return key is not None


class _Offer(NamedTuple):
    """What the settings offer to callers, and at what price."""

    catalog: Catalog
    book: PriceBook
    tariff: Tariff


def _read(path: Path | None, environ: Mapping[str, str]) -> tuple[Settings, _Offer]:
    """Raises `Misconfigured`."""
    settings = load(path, environ)
    return settings, _offer(settings, environ)


def _offer(settings: Settings, environ: Mapping[str, str]) -> _Offer:
    book = price_book(settings)
    catalog = resolve(settings, environ, sorted(book.models))
    for deployment in catalog.deployments:
        if deployment.provider in DIALECTS:
            DIALECTS[deployment.provider].check(deployment)
    check_proxies(catalog, environ)
    return _Offer(catalog, book, tariff_of(settings, book, catalog))


def _account_tariff(settings: Settings, tariff: Tariff, store: Store) -> AccountTariff:
    return AccountTariff(
        tariff, margins_of(settings), store.accounts.get, lambda: store.exchange.book
    )


def _providers(
    settings: Settings, spoken: Mapping[str, Speaker], catalog: Catalog, drill: Path | None
) -> dict[str, Provider]:
    """Every dialect by its name; under a drill, each fails as told."""
    simulator = SimulatorProvider(seed=settings.simulator.seed)
    providers: dict[str, Provider] = {**spoken, "simulator": simulator}
    if drill is None:
        return providers
    drills = load_drills(drill, [each.name for each in catalog.deployments])
    for each in drills:
        log.warning(
            "DRILL: this deployment will fail as told, with simulated answers",
            deployment=each.deployment,
            fault=each.fault,
            after_s=each.after_s,
        )
    return {
        name: DrilledProvider(provider, simulator, drills) for name, provider in providers.items()
    }


def _control(
    settings: Settings, store: Store, catalog: Catalog, fleet: Fleet | None = None
) -> Control:
    control = Control(
        keys=store.keys,
        admin_keys=store.admin_keys,
        accounts=store.accounts,
        calls=store.calls,
        reports=store.reports,
        ledger=store.books,
        deployments=catalog.deployments,
        states=fleet,
    )
    control.accounts.limit_of = account_limits(settings)
    return control


def _money(settings: Settings, store: Store, control: Control, environ: Mapping[str, str]) -> Money:
    credit_desk = CreditDesk(
        control.accounts, store.vouchers, store.transfers, store.exchange, store.statements
    )
    notices = NoticeDesk(
        store.accounts,
        control.accounts,
        store.notices,
        store.ledger.spent,
        control.troubles,
        odd=lambda: control.odd_usage(),  # noqa: PLW0108 - it is set after this
        damage=store.damage,
    )
    topups = TopUpDesk(
        control.accounts,
        credit_desk,
        store.topups,
        store.cards,
        payment_providers(settings, environ),
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


def _as_local(app: ASGIApp) -> ASGIApp:
    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        scope[LOCAL_SCOPE_KEY] = True
        await app(scope, receive, send)

    return marked


async def _front_door(request: Request) -> Response:
    """People who type the address in come to the dashboard; programs are told what there is."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/dashboard", status_code=302)
    return _not_found(request, HTTPException(404))


def _not_found(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    body = error_body(
        f"Unknown path '{request.url.path[:200]}'. Calls go to /v1/..., administration to "
        "/admin/v1/...; people go to /dashboard; /livez, /readyz and /metrics tell how the relay "
        "is.",
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
