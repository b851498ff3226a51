"""One typed tree of settings from TOML and the environment, and what a relay offers by it."""

from merino.settings.built_in import SIMULATED_MODELS
from merino.settings.catalog import (
    KNOWN_PROVIDERS,
    Catalog,
    KnownProvider,
    resolve,
)
from merino.settings.load import load
from merino.settings.sections.credit import CreditsSettings, HoldSettings, LedgerSettings
from merino.settings.sections.deployments import (
    AliasSettings,
    DeploymentSettings,
    SimulatorSettings,
    UpstreamSettings,
)
from merino.settings.sections.prices import PriceSettings, PricesSettings
from merino.settings.sections.records import CallsSettings, IdempotencySettings, LogSettings
from merino.settings.sections.server import ServerSettings, StreamSettings, TlsSettings
from merino.settings.tree import Settings

__all__ = [
    "KNOWN_PROVIDERS",
    "SIMULATED_MODELS",
    "AliasSettings",
    "CallsSettings",
    "Catalog",
    "CreditsSettings",
    "DeploymentSettings",
    "HoldSettings",
    "IdempotencySettings",
    "KnownProvider",
    "LedgerSettings",
    "LogSettings",
    "PriceSettings",
    "PricesSettings",
    "ServerSettings",
    "Settings",
    "SimulatorSettings",
    "StreamSettings",
    "TlsSettings",
    "UpstreamSettings",
    "load",
    "resolve",
]
