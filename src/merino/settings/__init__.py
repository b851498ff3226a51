"""One typed tree of settings from TOML and the environment, and what a relay offers by it."""

from merino.settings.catalog import (
    KNOWN_PROVIDERS,
    SIMULATED_MODELS,
    Catalog,
    KnownProvider,
    resolve,
)
from merino.settings.load import load
from merino.settings.tree import (
    AliasSettings,
    CallsSettings,
    CreditsSettings,
    DeploymentSettings,
    HoldSettings,
    IdempotencySettings,
    LedgerSettings,
    LogSettings,
    PriceSettings,
    PricesSettings,
    ServerSettings,
    Settings,
    SimulatorSettings,
    StreamSettings,
    TlsSettings,
    UpstreamSettings,
)

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
