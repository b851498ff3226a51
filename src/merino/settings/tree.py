"""Every setting with its unit, its default and one sentence of meaning: the typed tree.

Its branches are in `sections/`. `load.py` fills it from TOML and the environment, `checks.py` looks
across it, `catalog.py` turns it into deployments and aliases, and `reference.py` prints it as
documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from merino.domain.addition import Place
from merino.settings.declaring import named_sections, section, sections
from merino.settings.sections.batches import BatchesSettings
from merino.settings.sections.credit import CreditsSettings, HoldSettings, LedgerSettings
from merino.settings.sections.dashboard import DashboardSettings, StatusSettings
from merino.settings.sections.deployments import (
    AliasSettings,
    DeploymentSettings,
    SimulatorSettings,
    UpstreamSettings,
)
from merino.settings.sections.limits import LimitsSettings
from merino.settings.sections.notices import NoticesSettings
from merino.settings.sections.payments import PaymentsSettings
from merino.settings.sections.portal import PortalSettings
from merino.settings.sections.prices import ExchangeRateSettings, PricesSettings
from merino.settings.sections.records import CallsSettings, IdempotencySettings, LogSettings
from merino.settings.sections.resilience import BreakerSettings, HedgingSettings, RetriesSettings
from merino.settings.sections.responses import ResponsesSettings
from merino.settings.sections.server import ServerSettings, StreamSettings
from merino.settings.sections.sla import SlaSettings
from merino.settings.sections.telemetry import SinkSettings, TelemetrySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    server: ServerSettings = section(ServerSettings, "The relay's own port.")
    stream: StreamSettings = section(StreamSettings, "Streamed answers.")
    credits: CreditsSettings = section(CreditsSettings, "Credit given by itself.")
    hold: HoldSettings = section(HoldSettings, "Credit reserved before each call.")
    ledger: LedgerSettings = section(LedgerSettings, "The books.")
    calls: CallsSettings = section(CallsSettings, "What is remembered of each call.")
    idempotency: IdempotencySettings = section(IdempotencySettings, "Repeated calls.")
    responses: ResponsesSettings = section(
        ResponsesSettings, "What is kept of `/v1/responses`, and `/v1/conversations`."
    )
    batches: BatchesSettings = section(BatchesSettings, "`/v1/files` and `/v1/batches`.")
    prices: PricesSettings = section(PricesSettings, "What calls cost.")
    payments: PaymentsSettings = section(PaymentsSettings, "Top-ups that are paid for.")
    notices: NoticesSettings = section(NoticesSettings, "What account owners are told.")
    dashboard: DashboardSettings = section(DashboardSettings, "The dashboard.")
    portal: PortalSettings = section(PortalSettings, "The portal of customers.")
    sla: SlaSettings = section(SlaSettings, "The service level of each month.")
    status: StatusSettings = section(StatusSettings, "The status page.")
    exchange_rates: tuple[ExchangeRateSettings, ...] = sections(
        ExchangeRateSettings, "Exchange rates, besides those of `merino rates`; dated."
    )
    log: LogSettings = section(LogSettings, "Log lines.")
    telemetry: TelemetrySettings = section(
        TelemetrySettings, "Traces, metrics and log lines for a collector."
    )
    sinks: tuple[SinkSettings, ...] = sections(
        SinkSettings, "Where finished calls are sent besides, one table each."
    )
    simulator: SimulatorSettings = section(SimulatorSettings, "The built-in provider.")
    upstream: UpstreamSettings = section(UpstreamSettings, "Connections to providers.")
    limits: LimitsSettings = section(LimitsSettings, "Requests, LLM tokens and calls in flight.")
    retries: RetriesSettings = section(RetriesSettings, "Further attempts of a call.")
    breaker: BreakerSettings = section(BreakerSettings, "When a deployment is left alone.")
    hedging: HedgingSettings = section(HedgingSettings, "Second attempts of slow calls.")
    deployments: tuple[DeploymentSettings, ...] = sections(
        DeploymentSettings, "Where calls go, one table each."
    )
    aliases: Mapping[str, AliasSettings] = named_sections(
        AliasSettings, "The model names callers send, one table each."
    )
    added: frozenset[Place] = field(default=frozenset())
    """Which of its deployments and aliases were added to the folder; they stand in no file."""
    path: Path | None = field(default=None)
    """The file this was read from."""
    warnings: tuple[str, ...] = field(default=())
    """What is allowed but unwise, worded for the operator."""
