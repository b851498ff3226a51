"""What settings say, as the values that deciding parts take: policies, limits and prices."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from merino.batch.worker import WorkerPolicy
from merino.control.batches import ITEMS_MAX
from merino.control.credits import parse_rate
from merino.domain.account import Account, AccountLimit
from merino.domain.credits import ExchangeRate
from merino.domain.errors import Conflict, InvalidCall, Misconfigured
from merino.domain.money import scaled
from merino.gateway.attempts import RetryPolicy
from merino.gateway.fleet import FleetPolicy
from merino.gateway.holds import HoldPolicy
from merino.gateway.limits import LimitPolicy, account_limit
from merino.gateway.metering import StreamLimits
from merino.pricing.book import PriceBook
from merino.pricing.margin import Margin
from merino.pricing.price import PPM, Rates
from merino.pricing.price_files import FACTOR_MAX
from merino.pricing.tariff import Tariff, own_price
from merino.resilience.breaker import BreakerPolicy
from merino.settings import KNOWN_PROVIDERS, Catalog, PriceSettings, Settings
from merino.settings.catalog import rates_of


def hold_policy(settings: Settings) -> HoldPolicy:
    hold = settings.hold
    return HoldPolicy(
        mode=hold.mode,
        when_short=hold.when_short,
        wait_s=hold.wait_s,
        clamp_output_tokens_min=hold.clamp_output_tokens_min,
        clamp_floor_tokens=hold.clamp_floor_tokens,
        expires_after_s=hold.expires_after_s,
    )


def limit_policy(settings: Settings, account_of: Callable[[str], Account]) -> LimitPolicy:
    limit_of = account_limits(settings)
    return LimitPolicy(
        account_limit=lambda account_id: limit_of(account_of(account_id)),
        wait_s=settings.limits.wait_s,
        waiting_max=settings.limits.waiting_max,
    )


def account_limits(settings: Settings) -> Callable[[Account], AccountLimit]:
    configured = {
        name: AccountLimit(rates_of(each), each.weight)
        for name, each in settings.limits.accounts.items()
    }
    return lambda account: account_limit(account, configured)


def fleet_policy(settings: Settings) -> FleetPolicy:
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


def retry_policy(settings: Settings) -> RetryPolicy:
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


def stream_limits(settings: Settings) -> StreamLimits:
    return StreamLimits(
        event_bytes_max=settings.stream.event_bytes_max,
        answer_bytes_max=settings.upstream.answer_bytes_max,
        keep_alive_s=settings.stream.keep_alive_s,
        kept_bytes_max=settings.idempotency.answer_bytes_max,
    )


def worker_policy(settings: Settings) -> WorkerPolicy:
    batches = settings.batches
    return WorkerPolicy(
        concurrency_max=batches.concurrency, tries_max=batches.tries_max, items_max=ITEMS_MAX
    )


def price_book(settings: Settings) -> PriceBook:
    return PriceBook.load(settings.prices.files, account_factor=settings.prices.markup.factor)


def tariff_of(settings: Settings, book: PriceBook, catalog: Catalog) -> Tariff:
    """What calls cost: the book's prices, and those that deployments give themselves."""
    factor_ppm = int(settings.prices.markup.factor * PPM)  # the book has checked its decimals
    own = {
        name: own_price(name, _rates(price), _rates(price), factor_ppm)
        for name, price in catalog.prices.items()
    }
    for name, price in catalog.account_prices.items():
        upstream = catalog.prices.get(name)
        own[name] = own_price(name, _rates(upstream or price), _rates(price))
    return Tariff(
        book,
        own,
        [(each.name, each.base_url) for each in KNOWN_PROVIDERS],
        allow_unpriced=settings.prices.allow_unpriced,
    )


def unpriced_warnings(tariff: Tariff, catalog: Catalog, now_ms: int) -> list[str]:
    """What is to be said of deployments that are not used, since nobody could be billed."""
    return [
        f"{each.credential_variable} is set, but no price is known of {each.name}'s models, so "
        "none is offered: name those you want as [[deployments]], each with a price"
        for each in catalog.without_models
    ] + [
        f"deployment '{each.name}' has no price, so calls to it are refused: give it a price = "
        "{ input = ..., output = ... }, a price_model that `merino prices list` has, or a price "
        "file"
        for each in catalog.deployments
        if tariff(each, now_ms, None) is None
    ]


def margins_of(settings: Settings) -> dict[str, Margin]:
    """By the pricing group of accounts. Raises `Misconfigured`."""
    return {
        name: Margin(_ppm(each.factor, name), each.fixed_nanos, each.minimum_nanos)
        for name, each in settings.prices.groups.items()
    }


def _ppm(factor: Decimal, group: str) -> int:
    ppm = scaled(factor, 6, FACTOR_MAX * PPM)
    if ppm is None:
        raise Misconfigured(f"prices.groups.{group}.factor = {factor}: more than six decimals")
    return ppm


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
