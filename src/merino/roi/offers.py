"""Who could be paid: providers at their list prices, and relays at theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal, cast

from merino.domain.errors import InvalidCall, NotFound
from merino.domain.money import format_nanos, parse_nanos
from merino.pricing.book import PPM, Price, PriceBook, Rates
from merino.pricing.cost import TOKENS_PER_RATE, token_products
from merino.roi.scenario import UsageRow

OfferKind = Literal["direct", "relay"]

PARTS_PER_NANO = TOKENS_PER_RATE * PPM
"""Rates are per a million tokens and factors in millionths, so that costs are whole in these."""

GUIDE = "guide"
GUIDE_DIRECT = "guide-direct"
BOOK = "book"
SIMULATOR = "simulator"
FIRST_VENDOR = "openai"

COUNTERPARTS: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("claude-sonnet-4-5",),
    "gemini": ("gemini-2.5-flash",),
    "deepseek": ("deepseek-chat", "deepseek-v4-flash"),
    "openai": ("gpt-4.1",),
}
"""What stands for a provider that does not offer the model itself, the first that it prices: the
models beside which the guide's table puts o3 and o4. Their tokenizers and answers differ; naming a
model (`anthropic/claude-opus-4-5`) replaces these."""


@dataclass(frozen=True, slots=True)
class OfferedPrice:
    """What one model costs at an offer: rates, and the factor on them in millionths."""

    provider: str
    model: str
    rates: Rates
    ppm: int = PPM
    price_id: str = ""
    source: str = ""

    def cost(self, row: UsageRow) -> int:
        """Exact cost of a row, unrounded, in parts of a nano-dollar: `PARTS_PER_NANO` of them.

        Of many calls summed up, the rates for long contexts are chosen by the average input of a
        call, and left out where the number of calls is not known.
        """
        rates = self.rates
        if rates.steps:
            average = row.usage.input_tokens // row.calls if row.calls else 0
            rates = replace(rates.at(average), steps=())
        products = token_products(row.usage, rates)
        products += row.calls * self.rates.per_call_nanos * TOKENS_PER_RATE
        return products * self.ppm

    @property
    def shown(self) -> str:
        """Input and output rate as text: ``$2.10 / $8.40``."""
        return f"${self._rate(self.rates.input)} / ${self._rate(self.rates.output)}"

    def _rate(self, nanos: int) -> str:
        return format_nanos(nanos * self.ppm // PPM)


@dataclass(frozen=True, slots=True)
class Offer:
    """A provider or a relay, with the price of each model of the rows it can serve.

    `is_as_charged`: what accounts really paid, instead of prices.
    """

    name: str
    kind: OfferKind
    prices: Mapping[tuple[str, str | None], OfferedPrice]
    is_as_charged: bool = False
    note: str = ""

    def cost(self, row: UsageRow) -> int | None:
        """In parts of a nano-dollar; `None` if it has no price for the row."""
        if self.is_as_charged:
            return None if row.charged_nanos is None else row.charged_nanos * PARTS_PER_NANO
        price = self.prices.get((row.model, row.tier))
        return None if price is None else price.cost(row)

    @property
    def models(self) -> str:
        """What it would serve, for people."""
        names = dict.fromkeys(f"{each.provider}/{each.model}" for each in self.prices.values())
        return ", ".join(names) or "as charged"


def provider_offer(
    book: PriceBook,
    spec: str,
    rows: Iterable[UsageRow],
    at_ms: int,
    *,
    name: str | None = None,
    kind: OfferKind = "direct",
) -> Offer:
    """A provider at its list price.

    `spec` is a provider, or ``provider/model`` to name the model that serves all rows. Raises
    `NotFound` if the book does not know them.
    """
    provider, _, model = spec.partition("/")
    known = {each for owner, each in book.models if owner == provider}
    if not known:
        owners = ", ".join(sorted({owner for owner, _ in book.models}))
        raise NotFound(
            f"The price book has no provider {provider[:60]!r}; it has {owners}",
            param="against",
            code="provider_not_found",
        )
    prices: dict[tuple[str, str | None], OfferedPrice] = {}
    note = ""
    for row in rows:
        wanted = [model] if model else [bare_name(row.model), *COUNTERPARTS.get(provider, ())]
        for each in wanted:
            price = book.find(provider, each, at_ms, row.tier)
            if price is not None:
                prices[row.model, row.tier] = upstream_price(price)
                if each not in (bare_name(row.model), model):
                    note = f"{each} stands for {bare_name(row.model)}"
                break
        else:
            if model:
                raise NotFound(
                    f"The price book has no price of {spec[:100]!r}; "
                    f"{provider} has {', '.join(sorted(known)[:12])}",
                    param="against",
                    code="model_not_found",
                )
    return Offer(name or spec, kind, prices, note=note)


def vendor_prices(
    book: PriceBook, rows: Iterable[UsageRow], at_ms: int
) -> dict[tuple[str, str | None], Price]:
    """Each model's price at the vendor that lists it under its own name; OpenAI first."""
    owners = {owner for owner, _ in book.models} - {GUIDE, GUIDE_DIRECT, SIMULATOR}
    found: dict[tuple[str, str | None], Price] = {}
    for row in rows:
        for owner in sorted(owners, key=lambda name: (name != FIRST_VENDOR, name)):
            price = book.find(owner, bare_name(row.model), at_ms, row.tier)
            if price is not None:
                found[row.model, row.tier] = price
                break
    return found


def vendor_offer(book: PriceBook, rows: Iterable[UsageRow], at_ms: int) -> Offer:
    """Every model called at its own vendor."""
    found = vendor_prices(book, rows, at_ms)
    vendors = dict.fromkeys(price.provider for price in found.values())
    name = next(iter(vendors)) if len(vendors) == 1 else "the vendors"
    return Offer(name, "direct", {key: upstream_price(price) for key, price in found.items()})


def book_offer(book: PriceBook, rows: Iterable[UsageRow], at_ms: int) -> Offer:
    """This relay: what its accounts pay by its price book, with the vendors behind it."""
    found = vendor_prices(book, rows, at_ms)
    prices = {key: account_price(price) for key, price in found.items()}
    return Offer("relay (own book)", "relay", prices)


def quoted_offer(name: str, quotes: Mapping[str, OfferedPrice], rows: Iterable[UsageRow]) -> Offer:
    """A relay by the prices it quotes itself, `quotes` by model name."""
    prices: dict[tuple[str, str | None], OfferedPrice] = {}
    for row in rows:
        for wanted in (row.model, bare_name(row.model), f"openai/{bare_name(row.model)}"):
            if wanted in quotes:
                prices[row.model, row.tier] = quotes[wanted]
                break
    return Offer(name, "relay", prices)


def quotes_of(models: object, source: str) -> dict[str, OfferedPrice]:
    """Prices out of a relay's list of models.

    Understood are OpenRouter's ``pricing: {prompt, completion, input_cache_read}`` and LiteLLM's
    ``input_cost_per_token``, both in dollars per token. Models without a price are left out.
    """
    data = cast("dict[str, Any]", models).get("data") if isinstance(models, dict) else models
    quotes: dict[str, OfferedPrice] = {}
    for item in cast("list[Any]", data) if isinstance(data, list) else []:
        if not isinstance(item, dict):
            continue
        members = cast("dict[str, Any]", item)
        name = members.get("id") or members.get("model_name")
        rates = _quoted_rates(members)
        if isinstance(name, str) and rates is not None:
            quotes[name] = OfferedPrice("relay", name, rates, price_id=name, source=source)
    return quotes


def _quoted_rates(members: dict[str, Any]) -> Rates | None:
    pricing: object = members.get("pricing")
    names = ("prompt", "completion", "input_cache_read", "input_cache_write")
    if not isinstance(pricing, dict):
        info: object = members.get("model_info")
        pricing = cast("dict[str, Any]", info) if isinstance(info, dict) else members
        names = (
            "input_cost_per_token",
            "output_cost_per_token",
            "cache_read_input_token_cost",
            "cache_creation_input_token_cost",
        )
    quoted = cast("dict[str, Any]", pricing)
    amounts = [_per_million(quoted.get(name)) for name in names]
    if amounts[0] is None or amounts[1] is None:
        return None
    plain_in, plain_out = amounts[0], amounts[1]
    cached = plain_in if amounts[2] is None else amounts[2]
    cache_write = plain_in if amounts[3] is None else amounts[3]
    return Rates(plain_in, cached, cache_write, plain_out, plain_in, plain_out, plain_in)


def _per_million(per_token: object) -> int | None:
    if isinstance(per_token, bool) or not isinstance(per_token, str | int | float):
        return None
    try:
        # Quotes may have more decimals than money has here; a rate of a million tokens has not.
        amount = Decimal(repr(per_token) if isinstance(per_token, float) else str(per_token))
        nanos = parse_nanos(round(amount * TOKENS_PER_RATE, 9))
    except (ValueError, ArithmeticError):
        return None
    return nanos if nanos >= 0 else None


def upstream_price(price: Price) -> OfferedPrice:
    """What the vendor charges."""
    return OfferedPrice(price.provider, price.model, price.upstream, PPM, price.id, price.source)


def account_price(price: Price) -> OfferedPrice:
    """What an account pays."""
    return OfferedPrice(
        price.provider, price.model, price.account, price.account_ppm, price.id, price.source
    )


def bare_name(model: str) -> str:
    """A model without the provider or `sim/` before it."""
    return model.rpartition("/")[2]


def refuse_unpriced(offer: Offer, rows: Iterable[UsageRow]) -> None:
    """Raises `InvalidCall` if the offer can price no row at all."""
    if not any(offer.cost(row) is not None for row in rows):
        models = ", ".join(dict.fromkeys(row.model for row in rows)) or "nothing"
        raise InvalidCall(
            f"{offer.name} has no price of {models[:200]}; name a model it prices, or leave it out",
            param="model",
            code="model_not_priced",
        )
