"""All that settings decide, as one value: made off the event loop, handed out by `Relay.apply`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from merino.adapters import (
    mail_terms,
    notice_senders,
    oidc_provider,
    payment_providers,
    telemetry_plan,
    trusted_certificates,
)
from merino.billing.loops import NoticeSender
from merino.billing.ports import PaymentProvider
from merino.billing.senders.mail import MailTerms
from merino.dashboard.oidc import OidcProvider
from merino.domain.account import Account, AccountLimit
from merino.domain.addition import Addition
from merino.domain.limits import limits_in
from merino.gateway.attempts import RetryPolicy
from merino.gateway.fleet import FleetPolicy
from merino.gateway.limits import LimitPolicy, account_limit
from merino.gateway.metering import StreamLimits
from merino.offer import Joined, Offer, joined
from merino.resilience.breaker import BreakerPolicy
from merino.settings import Settings
from merino.telemetry.hub import TelemetryPlan
from merino.transport.connecting import Trusted

LimitOf = Callable[[Account], AccountLimit]


@dataclass(frozen=True, slots=True)
class Live:
    """What is in force. A section of `settings` that is a policy by itself has no field beside it.

    Nothing of it is changed: another one takes its place (a reload), and a call that runs keeps
    what it began with.
    """

    file: Settings
    """The settings without what was added."""
    joined: Joined
    limit_of: LimitOf
    limits: LimitPolicy
    fleet: FleetPolicy
    retries: RetryPolicy
    stream: StreamLimits
    trusted: Trusted
    payment_providers: Mapping[str, PaymentProvider]
    notice_senders: Sequence[NoticeSender]
    mail: MailTerms | None
    oidc: OidcProvider | None
    telemetry: TelemetryPlan

    @property
    def settings(self) -> Settings:
        return self.joined.settings

    @property
    def offer(self) -> Offer:
        return self.joined.offer


def live_of(
    settings: Settings,
    environ: Mapping[str, str],
    account_of: Callable[[str], Account],
    additions: Sequence[Addition] = (),
) -> Live:
    """Reads files and parses prices, which takes a while: not on the event loop. `account_of` is
    kept, and asked there. Raises `Misconfigured`."""
    limit_of = limit_of_accounts(settings)
    return Live(
        file=settings,
        joined=(together := joined(settings, environ, additions)),
        limit_of=limit_of,
        limits=LimitPolicy(
            account_limit=lambda account_id: limit_of(account_of(account_id)),
            wait_s=settings.limits.wait_s,
            waiting_max=settings.limits.waiting_max,
        ),
        fleet=_fleet_policy(settings),
        retries=_retry_policy(settings),
        stream=_stream_limits(settings),
        trusted=trusted_certificates(together.offer.catalog),
        payment_providers=payment_providers(settings, environ),
        notice_senders=notice_senders(settings, environ, account_of),
        mail=mail_terms(settings, environ),
        oidc=oidc_provider(settings, environ),
        telemetry=telemetry_plan(settings, environ),
    )


def limit_of_accounts(settings: Settings) -> LimitOf:
    """What holds for an account: its own limits, else those that the settings give it."""
    configured = {
        name: AccountLimit(limits_in(each), each.weight)
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


def _retry_policy(settings: Settings) -> RetryPolicy:
    retries = settings.retries
    return RetryPolicy(
        attempts_max=retries.attempts_max,
        backoff_base_s=retries.backoff_base_s,
        backoff_throttled_s=retries.backoff_throttled_s,
        backoff_max_s=retries.backoff_max_s,
        hedge_delay_min_s=settings.hedging.delay_min_s,
        hedge_share=settings.hedging.budget_share,
        wait_s=settings.limits.wait_s,
        waiting_max=settings.limits.waiting_max,
    )


def _stream_limits(settings: Settings) -> StreamLimits:
    return StreamLimits(
        event_bytes_max=settings.stream.event_bytes_max,
        answer_bytes_max=settings.upstream.answer_bytes_max,
        keep_alive_s=settings.stream.keep_alive_s,
        kept_bytes_max=settings.idempotency.answer_bytes_max,
    )
