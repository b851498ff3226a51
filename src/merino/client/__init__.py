"""The production client: the `openai` package's clients with limits, one retry loop, breakers,
failover and metrics."""

from __future__ import annotations

from merino.client.clients import AsyncOpenAI, OpenAI
from merino.client.errors import (
    CircuitOpen,
    DeadlineExceeded,
    NoAnswer,
    OutOfCredits,
    ReasoningBudgetExhausted,
)
from merino.client.metrics import AttemptEvent, CallEvent, ClientMetrics, MetricsSink
from merino.client.policy import ClientPolicy, Endpoint, HedgePolicy
from merino.client.relay_client import RelayClient
from merino.client.sinks import LoggingSink, OpenTelemetrySink, PrometheusSink

__all__ = [
    "AsyncOpenAI",
    "AttemptEvent",
    "CallEvent",
    "CircuitOpen",
    "ClientMetrics",
    "ClientPolicy",
    "DeadlineExceeded",
    "Endpoint",
    "HedgePolicy",
    "LoggingSink",
    "MetricsSink",
    "NoAnswer",
    "OpenAI",
    "OpenTelemetrySink",
    "OutOfCredits",
    "PrometheusSink",
    "ReasoningBudgetExhausted",
    "RelayClient",
]
