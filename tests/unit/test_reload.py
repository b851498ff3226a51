"""A reload: every setting is applied, or reported by name as one that waits for the next start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from merino.app import Relay
from merino.settings import Settings, load
from merino.settings.reloading import AT_START, waiting_for_a_start
from merino.storage import Store
from merino.telemetry.logs import configure_logs

BEFORE = """
[[deployments]]
name = "up"
base_url = "http://127.0.0.1:9/v1"
price = { input = "1.00", output = "2.00" }

[[exchange_rates]]
base = "EUR"
quote = "USD"
rate = "1.1"
valid_from = 2026-01-01
"""

AFTER = """
[server]
host = "127.0.0.2"
port = 18080
drain_s = 3.5
body_bytes_max = 1000000
unauthenticated_body_bytes_max = 1000
arriving_bytes_max = 99999999
head_timeout_s = 3.5
body_timeout_s = 3.5
keep_alive_s = 3.5
write_timeout_s = 3.5
tls = { cert_file = "CERT", key_file = "CERT" }

[stream]
buffer_bytes = 12345
keep_alive_s = 3.5
event_bytes_max = 123456
idle_timeout_s = 3.5

[credits]
start = "7.00"

[hold]
mode = "expected"
when_short = "refuse"
wait_s = 3.5
clamp_output_tokens_min = 17
clamp_floor_tokens = 99
expires_after_s = 77.0

[ledger]
durability = "power"
database_wait_s = 3.5

[calls]
keep_days = 3
refused_per_minute = 7
store_content = true

[idempotency]
keep_s = 33.0
answer_bytes_max = 4321

[batches]
concurrency = 5
tries_max = 2
discount = 0.25
keep_days = 3
account_bytes_max = 1234

[prices]
files = ["PRICES"]
allow_unpriced = true
markup = { factor = "1.5" }
groups.standard = { factor = "2.0", fixed = "0.01", minimum = "0.02" }

[payments]
topup_min = "6.00"
topup_max = "60.00"
automatic_per_day_max = 2
invoice = { instructions = "Pay {amount} {currency}, {reference}." }
[payments.stripe]
secret_key = "env:SECRET"
webhook_secret = "env:SECRET"
success_url = "https://example.org/good"
cancel_url = "https://example.org/bad"
payment_methods = ["card"]
tolerance_s = 33.0
api_base = "http://127.0.0.1:9"

[notices]
webhook_url = "https://example.org/hook"
webhook_secret = "env:SECRET"
[notices.smtp]
host = "mail.example.org"
port = 2525
security = "none"
sender = "merino@example.org"
username = "me"
password = "env:SECRET"
to = ["you@example.org"]

[dashboard.oidc]
issuer = "https://id.example.org"
client_id = "merino"
operators = ["boss@example.org"]

[status]
public = true
objective = 0.9

[log]
format = "json"
level = "warning"
calls = true

[simulator]
enabled = false
seed = 77

[upstream]
connections_max_per_origin = 7
idle_s = 3.5
connect_timeout_s = 1.5
answer_bytes_max = 7654321

[limits]
wait_s = 3.5
waiting_max = 7
accounts."*" = { rps = 7 }

[retries]
attempts_max = 2
backoff_base_s = 0.25
backoff_throttled_s = 3.5
backoff_max_s = 7.5
budget_share = 0.75
budget_min = 17

[breaker]
window_s = 7.5
outcomes_min = 3
failure_share = 0.25
consecutive_failures = 2
slow_first_token_s = 3.5
open_s = 1.5
open_max_s = 3.5
probes_max = 2

[hedging]
delay_min_s = 3.5
samples_min = 7
budget_share = 0.5

[[deployments]]
name = "up"
base_url = "http://127.0.0.1:10/v1"
price = { input = "3.00", output = "4.00" }

[aliases.other]
deployments = ["up"]
timeout_s = 3.5

[[exchange_rates]]
base = "EUR"
quote = "USD"
rate = "1.2"
valid_from = 2026-01-01
"""

PRICES = """
provider = "openai"
source = "https://example.org"

[[price]]
model = "only-mine"
input = 1.0
output = 2.0
"""

Look = Callable[[Relay], Any]
"""What is in force of one setting, read where it is used. Compared before and after."""


def _member(relay: Relay) -> Any:
    return relay.fleet.get("up")


def _nanos_of(relay: Relay) -> int:
    price = relay._prices.find("openai", "o3", 10**13)
    assert price is not None
    return price.account_rate(price.account.input)


_HOLD: Look = lambda relay: relay.holds.policy  # noqa: E731
_MONEY: Look = lambda relay: id(relay.control.money)  # noqa: E731
_SENDERS: Look = lambda relay: [type(each) for each in relay._notice_senders]  # noqa: E731
IN_FORCE: dict[str, Look] = {
    "server.body_bytes_max": lambda relay: relay.front.body_bytes_max_of_key,
    "server.unauthenticated_body_bytes_max": lambda relay: relay.front.body_bytes_max_of_stranger,
    "stream.keep_alive_s": lambda relay: relay.front.pipeline.stream_limits.keep_alive_s,
    "stream.event_bytes_max": lambda relay: relay.front.pipeline.stream_limits.event_bytes_max,
    "stream.idle_timeout_s": lambda relay: _member(relay).deployment.idle_timeout_s,
    "hold.mode": lambda relay: _HOLD(relay).mode,
    "hold.when_short": lambda relay: _HOLD(relay).when_short,
    "hold.wait_s": lambda relay: _HOLD(relay).wait_s,
    "hold.clamp_output_tokens_min": lambda relay: _HOLD(relay).clamp_output_tokens_min,
    "hold.clamp_floor_tokens": lambda relay: _HOLD(relay).clamp_floor_tokens,
    "hold.expires_after_s": lambda relay: _HOLD(relay).expires_after_s,
    "calls.keep_days": lambda relay: relay._upkeep._keep_days(),
    "calls.refused_per_minute": lambda relay: relay.front.pipeline.refused.per_minute,
    "calls.store_content": lambda relay: relay.front.pipeline.store_content,
    "idempotency.keep_s": lambda relay: relay._store._replays.kept_for_s,
    "idempotency.answer_bytes_max": lambda relay: (
        relay.front.pipeline._idempotency.answer_bytes_max,
        relay.front.pipeline.stream_limits.kept_bytes_max,
    ),
    "batches.concurrency": lambda relay: relay._batch_worker._limit._max,
    "batches.tries_max": lambda relay: relay._batch_worker.policy.tries_max,
    "batches.discount": lambda relay: relay._batch_ppm,
    "batches.keep_days": lambda relay: relay._file_desk.keep_days,
    "batches.account_bytes_max": lambda relay: relay._file_desk.account_bytes_max,
    "prices.files": lambda relay: relay._prices.find("openai", "only-mine", 10**13) is not None,
    "prices.markup.factor": _nanos_of,
    "prices.groups": lambda relay: relay.front.pipeline.tariff._margins,
    "prices.allow_unpriced": lambda relay: relay.front.pipeline.tariff._tariff._allow_unpriced,
    "payments.topup_min_nanos": lambda relay: relay._money.topups._limits.least_nanos,
    "payments.topup_max_nanos": lambda relay: relay._money.topups._limits.most_nanos,
    "payments.automatic_per_day_max": lambda relay: relay._money.automatic._per_day_max,
    "payments.invoice": lambda relay: "invoice" in relay._money.topups.providers,
    "payments.stripe": lambda relay: "stripe" in relay._money.topups.providers,
    "notices.webhook_url": lambda relay: "WebhookSender" in str(_SENDERS(relay)),
    "notices.webhook_secret": lambda relay: "WebhookSender" in str(_SENDERS(relay)),
    "notices.smtp": lambda relay: "MailSender" in str(_SENDERS(relay)),
    "dashboard.oidc": lambda relay: relay._desk.oidc() is not None,
    "status.public": lambda relay: relay._desk.settings().status.public,
    "status.objective": lambda relay: relay._desk.overview.objective,
    "log.format": lambda _: _renderer(),
    "log.level": lambda _: logging.getLogger().level,
    "log.calls": lambda relay: type(relay.front.pipeline.recorder),
    "simulator.enabled": lambda relay: "sim/o3" in relay.front.aliases,
    "upstream.connections_max_per_origin": lambda relay: (
        relay._client.limits.connections_max_per_origin
    ),
    "upstream.answer_bytes_max": lambda relay: (
        relay._client.limits.unpacked_bytes_max,
        relay.front.pipeline.stream_limits.answer_bytes_max,
    ),
    "upstream.idle_s": lambda relay: relay._client.limits.idle_s,
    "upstream.connect_timeout_s": lambda relay: _member(relay).deployment.connect_timeout_s,
    "limits.wait_s": lambda relay: (relay.limits.policy.wait_s, relay.attempts.policy.wait_s),
    "limits.waiting_max": lambda relay: (
        relay.limits.policy.waiting_max,
        relay.attempts.policy.waiting_max,
    ),
    "limits.accounts": lambda relay: relay.limits.policy.account_limit(
        relay._store.accounts.list()[0].id
    ),
    "retries.attempts_max": lambda relay: relay.attempts.policy.attempts_max,
    "retries.backoff_base_s": lambda relay: relay.attempts.policy.backoff_base_s,
    "retries.backoff_throttled_s": lambda relay: relay.attempts.policy.backoff_throttled_s,
    "retries.backoff_max_s": lambda relay: relay.attempts.policy.backoff_max_s,
    "retries.budget_share": lambda relay: _member(relay).budget.share,
    "retries.budget_min": lambda relay: _member(relay).budget.reserve,
    "breaker.window_s": lambda relay: _member(relay).breaker.policy.window_s,
    "breaker.outcomes_min": lambda relay: _member(relay).breaker.policy.outcomes_min,
    "breaker.failure_share": lambda relay: _member(relay).breaker.policy.failure_share,
    "breaker.consecutive_failures": (
        lambda relay: _member(relay).breaker.policy.consecutive_failures
    ),
    "breaker.slow_first_token_s": lambda relay: relay.fleet.policy.slow_first_token_s,
    "breaker.open_s": lambda relay: _member(relay).breaker.policy.open_s,
    "breaker.open_max_s": lambda relay: _member(relay).breaker.policy.open_max_s,
    "breaker.probes_max": lambda relay: _member(relay).breaker.policy.probes_max,
    "hedging.delay_min_s": lambda relay: relay.attempts.policy.hedge_delay_min_s,
    "hedging.samples_min": lambda relay: _member(relay).stream_pace.p95.samples_min,
    "hedging.budget_share": lambda relay: relay.attempts.policy.hedge_share,
    "deployments": lambda relay: _member(relay).deployment.base_url,
    "aliases": lambda relay: "other" in relay.front.aliases,
    "exchange_rates": lambda relay: relay._store.exchange.book.find("EUR", "USD", 10**13),
}


def _renderer() -> str:
    formatter: Any = logging.getLogger().handlers[0].formatter
    return type(formatter.processors[-1]).__name__


def names_of(kind: Any, name: str = "") -> list[str]:
    """Dotted names of all settings; a section that may be left out counts as one."""
    found: list[str] = []
    for each in fields(kind):
        if not name and each.name in ("path", "warnings"):
            continue
        dotted = f"{name}.{each.name}" if name else each.name
        value = getattr(kind, each.name)
        found += names_of(value, dotted) if is_dataclass(value) else [dotted]
    return found


def _is_at_start(name: str) -> bool:
    return any(name == fixed or name.startswith(f"{fixed}.") for fixed in AT_START)


@pytest.fixture
def logs():
    """The process's logging, put back afterwards."""
    root = logging.getLogger()
    kept = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], level, config = kept
    root.setLevel(level)
    structlog.configure(**config)


def test_every_setting_is_either_applied_or_named():
    """A new setting has to say how a reload applies it, or that it waits for a start."""
    missing = [
        name for name in names_of(Settings()) if name not in IN_FORCE and not _is_at_start(name)
    ]

    assert [] == missing
    assert [] == [name for name in IN_FORCE if _is_at_start(name)]


def test_a_reload_applies_every_setting_that_it_does_not_name(tmp_path, logs):
    """All settings are changed at once; each takes effect, or is reported by its name."""
    asyncio.run(_change_every_setting(tmp_path))


async def _change_every_setting(tmp_path: Path) -> None:
    config, prices = tmp_path / "merino.toml", tmp_path / "prices.toml"
    prices.write_text(PRICES)
    (tmp_path / "cert.pem").write_text("x")
    config.write_text(BEFORE)
    environ = {"SECRET": "s3cret-value"}
    store = Store.open(tmp_path / "data")
    await store.start()
    try:
        store.accounts.create("default")
        relay = Relay(load(config, environ), store, environ)
        began = relay.settings
        configure_logs(began.log.format, began.log.level)
        before = {name: look(relay) for name, look in IN_FORCE.items()}
        config.write_text(
            AFTER.replace("PRICES", str(prices)).replace("CERT", str(tmp_path / "cert.pem"))
        )
        await relay.reload()
        after = {name: look(relay) for name, look in IN_FORCE.items()}
        told = waiting_for_a_start(began, relay.settings)
    finally:
        await store.close()

    assert relay.settings.status.public, "the new settings were not taken"
    unchanged = [
        name for name in names_of(Settings()) if _of(began, name) == _of(relay.settings, name)
    ]
    assert [] == unchanged, "this test has to change every setting"
    assert [] == [name for name in IN_FORCE if before[name] == after[name]]
    assert [] == [
        name
        for name in names_of(Settings())
        if _is_at_start(name) and not any(each.startswith(f"{name} ") for each in told)
    ]


def _of(settings: Settings, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value
