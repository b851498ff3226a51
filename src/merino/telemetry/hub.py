"""All that is told to other systems: traces, metrics and log lines to a collector, finished calls
to sinks. Off, a call passes none of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import random
from typing import Any

from prometheus_client.core import Metric

from merino.domain.call import CallRecord
from merino.domain.clock import epoch_ms
from merino.gateway.ports import Recorder
from merino.gateway.trace import Trace, continued, new_trace
from merino.settings.sections.telemetry import SinkSettings, TelemetrySettings
from merino.telemetry.logs import tell_also
from merino.telemetry.otlp import (
    LogLine,
    Resource,
    Traced,
    encode_logs,
    encode_metrics,
    encode_traces,
)
from merino.telemetry.shipping import Shipper, Shipping
from merino.telemetry.sinks import FileSink, HttpSink, authorized, encode_calls, signed

_OWN_LOGGER = "merino.telemetry"
"""What is said about sending is not sent, or it would never end."""
_ASIDE = frozenset(("event", "level", "logger", "timestamp"))


@dataclass(frozen=True, slots=True)
class TelemetryPlan:
    """What the settings ask for, with the secrets that they refer to."""

    settings: TelemetrySettings
    authorization: str
    sinks: tuple[tuple[SinkSettings, str], ...]


class CallTracer:
    """`gateway.ports.Tracer`."""

    def __init__(self, share: float, put: Callable[[Traced], None]) -> None:
        self._share = share
        self._put = put

    def begin(self, parent: bytes, state: bytes) -> Trace | None:
        trace = continued(parent, state) if parent else None
        if trace is not None:
            return trace
        return new_trace() if self._share >= 1 or random() < self._share else None  # noqa: S311

    def ended(self, trace: Trace, record: CallRecord) -> None:
        if trace.is_sampled:
            self._put(Traced(trace, record))


class SentCalls:
    """`gateway.ports.Recorder` that hands finished calls to sinks."""

    def __init__(self, following: Recorder, puts: Sequence[Callable[[CallRecord], None]]) -> None:
        self._puts = puts
        self.call_started = following.call_started
        self.call_repeated = following.call_repeated
        self._finished = following.call_finished

    def call_finished(self, record: CallRecord) -> None:
        self._finished(record)
        for put in self._puts:
            put(record)


class Telemetry:
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect
        self._started_ms = epoch_ms()
        self._shipping = Shipping()
        self._plan: TelemetryPlan | None = None
        self._puts: list[Callable[[CallRecord], None]] = []
        self._metrics: Shipper[Sequence[Metric]] | None = None
        self._metrics_every_s = 60.0
        self.tracer: CallTracer | None = None

    @property
    def lost(self) -> Mapping[str, int]:
        """By sink, how many things were given up."""
        return self._shipping.lost

    def recorder(self, following: Recorder) -> Recorder:
        return SentCalls(following, self._puts) if self._puts else following

    def configure(self, plan: TelemetryPlan) -> None:
        """Follow these settings; what waits for a former place is sent there first."""
        if plan == self._plan:
            return
        self._plan = plan
        told = plan.settings
        shippers: list[Shipper[Any]] = []
        self.tracer, self._metrics = None, None
        tell_also(None)
        if told.url:
            resource = Resource(told.service, socket.gethostname())
            headers = authorized(plan.authorization)
            base = told.url.rstrip("/")

            def to_collector(name: str, encode: Callable[[Any], bytes]) -> Shipper[Any]:
                sink = HttpSink[Any](f"{base}/v1/{name}", encode, headers)
                shipper = Shipper[Any](f"otlp_{name}", sink, self._shipping.count_lost)
                shippers.append(shipper)
                return shipper

            if told.traces:
                encode = partial(encode_traces, resource=resource, content=told.content)
                traces = to_collector("traces", encode)
                self.tracer = CallTracer(told.sample_share, traces.put)
            if told.metrics:
                self._metrics_every_s = told.metrics_every_s
                self._metrics = to_collector(
                    "metrics",
                    lambda batch: encode_metrics(batch[-1], resource, self._started_ms),
                )
            if told.logs:
                logs = to_collector("logs", partial(encode_logs, resource=resource))
                tell_also(lambda event: _put_line(logs, event))
        self._puts = []
        for sink, secret in plan.sinks:
            for each in _sinks_of(sink, secret):
                shipper = Shipper[CallRecord](sink.name, each, self._shipping.count_lost)
                shippers.append(shipper)
                self._puts.append(shipper.put)
        self._shipping.follow(shippers)

    async def run(self) -> None:
        """Until cancelled."""
        self._shipping.start()
        while True:
            await asyncio.sleep(self._metrics_every_s)
            self._tell_metrics()

    async def close(self) -> None:
        """Send what waits, as the last thing a relay does."""
        self._tell_metrics()
        await self._shipping.stop()

    def _tell_metrics(self) -> None:
        if self._metrics is not None:
            self._metrics.put([*self._collect()])


def _sinks_of(sink: SinkSettings, secret: str) -> Iterator[FileSink | HttpSink[CallRecord]]:
    if sink.path is not None:
        yield FileSink(sink.path)
    if sink.url:
        yield HttpSink(sink.url, encode_calls, signed(secret))


def _put_line(logs: Shipper[LogLine], event: Mapping[str, Any]) -> None:
    if event.get("logger") == _OWN_LOGGER:
        return
    fields = {key: value for key, value in event.items() if key not in _ASIDE}
    level, text = str(event.get("level", "info")), str(event.get("event", ""))
    logs.put(LogLine(epoch_ms(), level, text, fields))
