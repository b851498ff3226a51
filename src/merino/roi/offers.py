"""Who could be paid: providers at their list prices, and relays at theirs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, cast

from merino.domain.errors import InvalidCall, NotFound
from merino.domain.money import format_nanos, parse_nanos
from merino.domain.usage import NO_USAGE
from merino.pricing.book import PriceBook
from merino.pricing.cost import TOKENS_PER_RATE, token_products
from merino.pricing.price import CHEAPER_TIERS, PPM, Price, Rates
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
    """What one model costs at an offer: rates, and the factor on them in millionths. `tiers`:
    the prices of service tiers, where somebody quotes them together."""

    provider: str
    model: str
    rates: Rates
    ppm: int = PPM
    price_id: str = ""
    source: str = ""
    tiers: Mapping[str, OfferedPrice] = field(default_factory=dict[str, "OfferedPrice"])

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
                note = note or _tier_note(price, row)
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
    prices = {key: upstream_price(price) for key, price in found.items()}
    return Offer(name, "direct", prices, note=_tier_notes(found))


def book_offer(book: PriceBook, rows: Iterable[UsageRow], at_ms: int) -> Offer:
    """This relay: what its accounts pay by its price book, with the vendors behind it."""
    found = vendor_prices(book, rows, at_ms)
    prices = {key: account_price(price) for key, price in found.items()}
    return Offer("relay (own book)", "relay", prices, note=_tier_notes(found))


def quoted_offer(name: str, quotes: Mapping[str, OfferedPrice], rows: Sequence[UsageRow]) -> Offer:
    """A relay by the prices it quotes itself, `quotes` by model name."""
    prices: dict[tuple[str, str | None], OfferedPrice] = {}
    tiers: dict[str, None] = {}
    """Those that are not quoted."""
    for row in rows:
        for wanted in (row.model, bare_name(row.model), f"openai/{bare_name(row.model)}"):
            if wanted in quotes:
                plain = quotes[wanted]
                tiered = plain.tiers.get(row.tier or "")
                prices[row.model, row.tier] = tiered or plain
                if row.tier and tiered is None:
                    tiers[row.tier] = None
                break
    note = f"it lists no prices of tier {', '.join(tiers)}; its plain ones stand" if tiers else ""
    return Offer(name, "relay", prices, note=note)


def _tier_notes(found: Mapping[tuple[str, str | None], Price]) -> str:
    notes = (
        _tier_note(price, UsageRow(model, NO_USAGE, tier=tier))
        for (model, tier), price in found.items()
    )
    return next((note for note in notes if note), "")


def _tier_note(price: Price, row: UsageRow) -> str:
    """Where a cheaper tier was asked for, and the book has none of that model."""
    if row.tier not in CHEAPER_TIERS or price.tier == row.tier:
        return ""
    return f"the book has no {row.tier} price of {price.model}; its standard price stands"


def quotes_of(models: object, source: str) -> dict[str, OfferedPrice]:
    """Prices out of a relay's list of models.

    Understood are OpenRouter's ``pricing: {prompt, completion, input_cache_read, request}``, and
    LiteLLM's ``input_cost_per_token`` and ``input_cost_per_request``, also with the rates of long
    contexts (``..._above_200k_tokens``) and of service tiers (``..._flex``, ``..._priority``,
    ``..._batches``), all in dollars. Models without a price are left out.
    """
    data = cast("dict[str, Any]", models).get("data") if isinstance(models, dict) else models
    quotes: dict[str, OfferedPrice] = {}
    for item in cast("list[Any]", data) if isinstance(data, list) else []:
        if not isinstance(item, dict):
            continue
        members = cast("dict[str, Any]", item)
        name = members.get("id") or members.get("model_name")
        quoted, names = _quoted_in(members)
        rates = _quoted_rates(quoted, names)
        if isinstance(name, str) and rates is not None:
            plain = OfferedPrice("relay", name, rates, price_id=name, source=source)
            tiers = {
                tier: replace(plain, rates=tiered, price_id=f"{name}:{tier}")
                for tier, suffix in _TIERS.items()
                if (tiered := _quoted_rates(quoted, names, suffix)) is not None
            }
            quotes[name] = replace(plain, tiers=tiers)
    return quotes


_OPENROUTER = ("prompt", "completion", "input_cache_read", "input_cache_write")
_LITELLM = (
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
)
_PER_CALL = ("request", "input_cost_per_request", "cost_per_request")
_TIERS = {"flex": "_flex", "priority": "_priority", "batch": "_batches"}
_ABOVE = re.compile(r"_above_(?P<thousands>[0-9]{1,6})k_tokens")


def _quoted_in(members: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Where a model's prices stand, and what they are called there."""
    pricing: object = members.get("pricing")
    if isinstance(pricing, dict):
        return cast("dict[str, Any]", pricing), _OPENROUTER
    info: object = members.get("model_info")
    return (cast("dict[str, Any]", info) if isinstance(info, dict) else members), _LITELLM


def _quoted_rates(quoted: dict[str, Any], names: tuple[str, ...], suffix: str = "") -> Rates | None:
    """The rates whose names end so; `None` without them. A fee per call is that of all tiers."""
    base = _rates_of([_nanos(quoted.get(name + suffix), TOKENS_PER_RATE) for name in names])
    if base is None:
        return None
    fees = [fee for name in _PER_CALL if (fee := _nanos(quoted.get(name), 1)) is not None]
    steps: list[tuple[int, Rates]] = []
    for above in sorted(
        {int(found["thousands"]) for name in quoted if (found := _ABOVE.search(name))}
    ):
        amounts = [
            _nanos(quoted.get(f"{name}_above_{above}k_tokens{suffix}"), TOKENS_PER_RATE)
            for name in names
        ]
        if not any(amounts):
            continue
        # What a step does not name costs what it costs below.
        below = (base.input, base.output, base.cached, base.cache_write)
        step = _rates_of(
            [old if new is None else new for new, old in zip(amounts, below, strict=True)]
        )
        if step is not None:
            steps.append((above * 1000, step))
    return replace(base, per_call_nanos=max(fees, default=0), steps=tuple(steps))


def _rates_of(amounts: list[int | None]) -> Rates | None:
    """Input, output, cached and written to the cache; the last two may be unknown."""
    plain_in, plain_out, cached, cache_write = amounts
    if plain_in is None or plain_out is None:
        return None
    return Rates(
        plain_in,
        plain_in if cached is None else cached,
        plain_in if cache_write is None else cache_write,
        plain_out,
        plain_in,
        plain_out,
        plain_in,
    )


def _nanos(amount: object, times: int) -> int | None:
    if isinstance(amount, bool) or not isinstance(amount, str | int | float):
        return None
    try:
        # Quotes may have more decimals than money has here; a rate of a million tokens has not.
        dollars = Decimal(repr(amount) if isinstance(amount, float) else str(amount))
        nanos = parse_nanos(round(dollars * times, 9))
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
