"""What settings offer to callers, and at what price: catalogue, price book and tariff."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from merino.adapters import check_deployments
from merino.billing.credits import parse_rate
from merino.domain.addition import Addition, Place
from merino.domain.currencies import ExchangeRate
from merino.domain.errors import Conflict, InvalidCall, Misconfigured
from merino.domain.money import scaled
from merino.pricing.book import PriceBook
from merino.pricing.margin import Margin
from merino.pricing.price import PPM, Rates
from merino.pricing.price_files import FACTOR_MAX
from merino.pricing.tariff import Tariff, own_price
from merino.settings import KNOWN_PROVIDERS, Catalog, PriceSettings, Settings, resolve
from merino.settings.added import with_added


@dataclass(frozen=True, slots=True)
class Offer:
    """`tariff` is what calls cost; `margins`, by the group of accounts, come on top of it."""

    catalog: Catalog
    book: PriceBook
    tariff: Tariff
    margins: Mapping[str, Margin]
    exchange_rates: tuple[ExchangeRate, ...]

    def unpriced_warnings(self, now_ms: int) -> list[str]:
        """What is to be said of deployments that are not used, since nobody could be billed."""
        return [
            f"{each.credential_variable} is set, but no price is known of {each.name}'s models, so "
            "none is offered: name those you want as [[deployments]], each with a price"
            for each in self.catalog.without_models
        ] + [
            f"deployment '{each.name}' has no price, so calls to it are refused: give it a price = "
            "{ input = ..., output = ... }, a price_model that `merino prices list` has, or a "
            "price file"
            for each in self.catalog.deployments
            if self.tariff(each, now_ms, None) is None
        ]


@dataclass(frozen=True, slots=True)
class Joined:
    """Settings with what was added to the folder, and what they offer together. `left_out` says why
    some of it is not used."""

    settings: Settings
    offer: Offer
    left_out: Mapping[Place, Misconfigured]

    def check_change(
        self, before: Collection[Place], changed: Addition | None, now_ms: int
    ) -> None:
        """Raises `Conflict` if what was `changed` cannot be used, or keeps something else from
        being used that was. `before` is what was left out until now."""
        for place, why in self.left_out.items():
            if place not in before or (changed is not None and place == changed.place):
                raise Conflict(why.message, param=why.param, code="invalid_settings")
        if changed is None or changed.kind != "deployment":
            return
        for each in self.offer.catalog.deployments:
            if each.name == changed.name and self.offer.tariff(each, now_ms, None) is None:
                raise Conflict(
                    f"No price is known of '{each.price_model}', so nobody could be billed. Give "
                    "the deployment prices, or a price_model that `merino prices list` has.",
                    param="price_input",
                    code="invalid_settings",
                )


def joined(settings: Settings, environ: Mapping[str, str], additions: Sequence[Addition]) -> Joined:
    """What was added and is wrong, also since something else changed, is left out: a relay must
    start. Reads price files, which takes a while. Raises `Misconfigured` for the settings alone."""
    base = offer_of(settings, environ)
    offered = [each.name for each in base.catalog.deployments]

    def tried(some: Sequence[Addition]) -> tuple[Settings, Offer]:
        whole = with_added(settings, some, offered=offered, environ=environ)
        return whole, offer_of(whole, environ, base.book)

    if not additions:
        return Joined(settings, base, {})
    if not settings.upstream.editable:
        why = Misconfigured("upstream.editable = false: nothing is used that was added")
        return Joined(settings, base, {each.place: why for each in additions})
    try:
        return Joined(*tried(additions), {})
    except Misconfigured:
        return _as_many_as_possible(Joined(settings, base, {}), additions, tried)


def _as_many_as_possible(
    alone: Joined,
    additions: Sequence[Addition],
    tried: Callable[[Sequence[Addition]], tuple[Settings, Offer]],
) -> Joined:
    """One at a time, until none of those that are left can be used: they may name each other."""
    found = alone.settings, alone.offer
    used: list[Addition] = []
    left = list(additions)
    why: dict[Place, Misconfigured] = {}
    while True:
        still: list[Addition] = []
        for each in left:
            try:
                found = tried([*used, each])
            except Misconfigured as error:
                why[each.place] = error
                still.append(each)
            else:
                used.append(each)
        if len(still) == len(left) or not still:
            return Joined(*found, {each.place: why[each.place] for each in still})
        left = still


def offer_of(
    settings: Settings, environ: Mapping[str, str], book: PriceBook | None = None
) -> Offer:
    """Reads price files if no `book` is given, which takes a while. Raises `Misconfigured`."""
    if book is None:
        book = PriceBook.load(settings.prices.files, account_factor=settings.prices.markup.factor)
    catalog = resolve(settings, environ, sorted(book.models))
    check_deployments(catalog, environ)
    return Offer(
        catalog,
        book,
        tariff_of(settings, book, catalog),
        {
            name: Margin(_ppm(each.factor, name), each.fixed_nanos, each.minimum_nanos)
            for name, each in settings.prices.groups.items()
        },
        _exchange_rates(settings),
    )


def tariff_of(settings: Settings, book: PriceBook, catalog: Catalog) -> Tariff:
    """The book's prices, and those that deployments give themselves."""
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


def _exchange_rates(settings: Settings) -> tuple[ExchangeRate, ...]:
    rates: list[ExchangeRate] = []
    for number, each in enumerate(settings.exchange_rates):
        try:
            rates.append(
                parse_rate(each.base, each.quote, str(each.rate), each.valid_from, "the settings")
            )
        except (InvalidCall, Conflict) as error:
            raise Misconfigured(f"exchange_rates[{number}]: {error.message}") from None
    return tuple(rates)
