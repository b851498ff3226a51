"""What a call passes through, put together: from the front door to the connections upstream."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter, time

import structlog

from merino.adapters import origin_of
from merino.api.background_calls import BackgroundCalls
from merino.api.errors import status_of
from merino.api.openai import OpenAIFront
from merino.api.state import StateFront
from merino.domain.call import CallRecord
from merino.domain.deployment import Deployment
from merino.domain.errors import NotFound
from merino.gateway.attempts import Attempts
from merino.gateway.conversations import Conversations
from merino.gateway.expectations import Expectations
from merino.gateway.fleet import Fleet
from merino.gateway.health_checks import HealthChecks
from merino.gateway.holds import Holds
from merino.gateway.idempotency import Idempotency
from merino.gateway.kept import Counting, UpstreamsKept
from merino.gateway.keys import Gatekeeper
from merino.gateway.limits import RateLimiter
from merino.gateway.origins import Origins
from merino.gateway.pipeline import Pipeline
from merino.gateway.planning import Planner
from merino.gateway.ports import Keeper, Provider
from merino.gateway.refused import RefusedRequests
from merino.gateway.roads import Roads
from merino.gateway.sealing import Sealer
from merino.gateway.state import RelayState
from merino.live import Live
from merino.pricing.margin import AccountTariff
from merino.providers.dialects import speakers
from merino.running.standstill import Standstill
from merino.running.watchdog import Watchdog
from merino.simulator.drill import DrilledProvider, load_drills
from merino.simulator.provider import SimulatorProvider
from merino.storage import Store
from merino.telemetry.call_log import CallLog, CallWatch
from merino.telemetry.hub import Telemetry
from merino.telemetry.metrics import Metrics
from merino.telemetry.redaction import keep_secret, redact
from merino.translation.table import TRANSLATIONS, Made
from merino.transport.client import UpstreamClient
from merino.transport.connecting import Origin

log = structlog.get_logger("merino")

Watch = Callable[[CallRecord, str, str | None], None]
"""Told of a call: its record, its key's name, its account's currency."""


class DataPlane:
    """Made once; `configure` gives its parts what settings decide, also the first time."""

    def __init__(
        self,
        live: Callable[[], Live],
        store: Store,
        metrics: Metrics,
        environ: Mapping[str, str],
        drill: Path | None,
        watch: Watch | None = None,
    ) -> None:
        """`live` is what is in force; it is asked when a connection is opened. `watch` is told of
        each call that ended, with its key's name and its account's currency."""
        began = live()
        standstill = Standstill()
        self._metrics = metrics
        self.telemetry = Telemetry(metrics.collect)
        metrics.labelled_gauge(
            "merino_telemetry_lost",
            "Traces, log lines and calls that could not be sent and were given up",
            ("sink",),
            lambda: [((sink,), float(count)) for sink, count in self.telemetry.lost.items()],
        )
        self._store = store
        self._watch = watch
        self._is_watched = False
        self._replays = store.replays
        self.watchdog = Watchdog(standstill=standstill)
        self.client = UpstreamClient(environ=environ, standstill=standstill)
        self.limits = RateLimiter()
        store.accounts.subscribe(self.limits.account_changed)
        self.fleet = Fleet(breaker_log=store.uptime, more_secrets=_secrets_of_proxies(environ))
        keep_secret(lambda: self.fleet.secrets)
        self.expectations = Expectations()
        self.expectations.load(store.learned.load())

        def origin(scheme: str, host: str, port: int) -> Origin:
            return origin_of(live().offer.catalog, scheme, host, port)

        spoken = speakers(self.client, origin)
        self.health_checks = HealthChecks(self.fleet, spoken, perf_counter, standstill)
        simulator = SimulatorProvider(seed=began.settings.simulator.seed)
        providers = _providers(began, spoken, simulator, drill)
        self.roads = roads = Roads(TRANSLATIONS, Made)
        self.attempts = Attempts(providers, self.fleet, standstill=standstill, roads=roads)
        self._holds = Holds(store.ledger)
        self._idempotency = Idempotency(store.ledger)
        self.refused = RefusedRequests(
            store.ledger,
            redact=redact,
            on_refused=metrics.request_refused,
            watch=self._show,
        )
        offer = began.offer
        self.tariff = AccountTariff(
            offer.tariff, offer.margins, store.accounts.get, lambda: store.exchange.book
        )
        planner = Planner(
            tariff=self.tariff,
            fleet=self.fleet,
            ledger=store.ledger,
            expectations=self.expectations,
            roads=roads,
        )
        origins = Origins(store.calls)
        sealer = Sealer(store.state_secret)
        self.state = RelayState(store.kept, sealer)
        self.pipeline = self._pipeline_of(planner, origins)
        self._deployments: Mapping[str, Deployment] = {}
        keepers: dict[str, Keeper] = {**spoken, "simulator": simulator}
        upstreams = UpstreamsKept(origins, keepers, self._deployment, lambda: self.fleet.secrets)
        self.gatekeeper = Gatekeeper(store.keys, store.accounts)
        self.background = self._background_of(upstreams, origins, sealer)
        counting = Counting(
            planner, providers, roads, origins, lambda: self.fleet.secrets, self.state
        )
        self.front = self._front_of(upstreams, sealer, counting)

    def _pipeline_of(self, planner: Planner, origins: Origins) -> Pipeline:
        return Pipeline(
            tariff=self.tariff,
            planner=planner,
            limits=self.limits,
            holds=self._holds,
            ledger=self._store.ledger,
            attempts=self.attempts,
            idempotency=self._idempotency,
            recorder=self._metrics,
            watchdog=self.watchdog,
            expectations=self.expectations,
            status_of=status_of,
            refused=self.refused,
            origins=origins,
            state=self.state,
        )

    def _background_of(
        self, upstreams: UpstreamsKept, origins: Origins, sealer: Sealer
    ) -> BackgroundCalls:
        return BackgroundCalls(
            self.pipeline,
            self.state,
            self._store.background,
            sealer,
            upstreams,
            origins,
            find_key=self._store.keys.get,
            hold_of=self._store.ledger.hold_of,
            aliases=lambda: self.front.aliases,
        )

    def _front_of(
        self, upstreams: UpstreamsKept, sealer: Sealer, counting: Counting
    ) -> OpenAIFront:
        state = StateFront(
            upstreams,
            self.state,
            Conversations(self._store.kept, sealer, self.state),
            self.background,
            self.limits,
        )
        return OpenAIFront(
            gatekeeper=self.gatekeeper,
            pipeline=self.pipeline,
            limits=self.limits,
            calls=self._store.calls,
            started_at_s=int(time()),
            state=state,
            counting=counting,
        )

    def _deployment(self, name: str) -> Deployment | None:
        return self._deployments.get(name)

    def _show(self, record: CallRecord) -> None:
        """To whoever watches, with the names that people know."""
        if self._watch is None or not self._is_watched:
            return
        key, currency = "", None
        with contextlib.suppress(NotFound):  # a request without a valid key has neither
            key = self._store.keys.get(record.key_id).name
            currency = self._store.accounts.get(record.account_id).currency
        self._watch(record, key, currency)

    def configure(self, live: Live) -> None:
        settings, catalog = live.settings, live.offer.catalog
        self.client.configure(settings.upstream)
        self.client.trust(live.trusted)
        self.limits.configure(live.limits)
        self.fleet.follow(live.fleet)
        self.fleet.keep(catalog.deployments)
        self._deployments = {each.name: each for each in catalog.deployments}
        self.attempts.configure(live.retries)
        self._holds.configure(settings.hold)
        self._idempotency.configure(settings.idempotency.answer_bytes_max)
        self._replays.keep_for(settings.idempotency.keep_s)
        self.refused.configure(settings.calls.refused_per_minute)
        self.state.configure(settings.responses)
        self.tariff.configure(live.offer.tariff, live.offer.margins)
        # Who has log lines needs no others, and programs that read a log none that are for people.
        self._is_watched = (
            self._watch is not None and not settings.log.calls and settings.log.format == "text"
        )
        self.telemetry.configure(live.telemetry)
        recorder = self.telemetry.recorder(self._metrics)
        if settings.log.calls:
            recorder = CallLog(recorder)
        elif self._is_watched:
            recorder = CallWatch(recorder, self._show)
        self.pipeline.configure(
            recorder,
            live.stream,
            store_content=settings.calls.store_content,
            tracer=self.telemetry.tracer,
            keeps_labels=settings.calls.labels,
            keeps_addresses=settings.calls.addresses,
        )
        aliases = {each.name: each for each in catalog.aliases}
        self.roads.configure(aliases)
        self.front.configure(aliases, settings.server)


def _secrets_of_proxies(environ: Mapping[str, str]) -> list[str]:
    return [
        url for name, url in environ.items() if name.lower().endswith("_proxy") and "://" in url
    ]


def _providers(
    live: Live,
    spoken: Mapping[str, Provider],
    simulator: SimulatorProvider,
    drill: Path | None,
) -> dict[str, Provider]:
    """Every dialect by its name; under a drill, each fails as told."""
    providers: dict[str, Provider] = {**spoken, "simulator": simulator}
    if drill is None:
        return providers
    drills = load_drills(drill, [each.name for each in live.offer.catalog.deployments])
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
