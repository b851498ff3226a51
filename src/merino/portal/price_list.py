"""What calls cost here, beside what was measured here: the list of prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response

from merino.control.usage import Cut
from merino.domain.clock import DAY_MS, epoch_ms
from merino.domain.deployment import Deployment
from merino.domain.errors import MerinoError, NotFound
from merino.portal.visits import Guest, PortalDesk, Visit

_DAYS = 30
_MAKERS = ("openai", "anthropic", "gemini", "deepseek")
"""Whose list prices models are compared with, where a deployment's own provider has none."""
_SIMULATED = "sim/"


@dataclass(frozen=True, slots=True)
class Measured:
    """Of all calls here in the last days: times to the first token, and tokens per second after
    it; `None` where there were none."""

    p50_ms: float | None = None
    p99_ms: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Offered:
    """Nano-units of the account's currency per million tokens; `list_*` are what whoever makes the
    model asks for it, in the same currency. `saved` is the share that input and output together
    are cheaper by; below zero they are dearer."""

    alias: str
    context_tokens: int
    input: int
    cached: int
    output: int
    list_input: int | None
    list_output: int | None
    saved: float | None
    measured: Measured


def prices_of(
    desk: PortalDesk,
    account_id: str | None,
    currency: str = "USD",
    measured: Mapping[str, Measured] | None = None,
) -> list[Offered]:
    """Every model that is offered and has a price: as this account pays it, or as listed. Those of
    the simulator are there only where there are no others."""
    catalog = desk.catalog()
    found: list[Offered] = []
    for alias in catalog.aliases:
        if not alias.deployments:
            continue
        deployment: Deployment = alias.deployments[0]
        price = desk.price_of(deployment, account_id)
        if price is None:
            continue
        asked = price.account
        listed = _list_price(desk, deployment, currency)
        found.append(
            Offered(
                alias.name,
                alias.context_tokens_max,
                asked.input,
                asked.cached,
                asked.output,
                None if listed is None else listed[0],
                None if listed is None else listed[1],
                saved_share(asked.input + asked.output, listed),
                (measured or {}).get(alias.name, Measured()),
            )
        )
    real = [each for each in found if not each.alias.startswith(_SIMULATED)]
    return sorted(real or found, key=lambda each: each.alias)


def saved_share(asked: int, listed: tuple[int, int] | None) -> float | None:
    """How much less `asked` is than input and output of a list price; `None` without one."""
    whole = 0 if listed is None else sum(listed)
    return 1 - asked / whole if whole > 0 else None


def _list_price(desk: PortalDesk, deployment: Deployment, currency: str) -> tuple[int, int] | None:
    """Input and output of whoever makes the model, in a currency. `None` if the book has none, or
    there is no exchange rate."""
    book, now_ms = desk.prices(), epoch_ms()
    model = deployment.upstream_model.partition("!")[0].rpartition("/")[2]
    asked = [(each, model) for each in _MAKERS]
    if deployment.provider != "simulator":  # its prices are nobody's
        asked.insert(0, (deployment.provider, deployment.upstream_model))
    found = (book.find(provider, name, now_ms) for provider, name in asked)
    price = next((each for each in found if each is not None), None)
    if price is None:
        return None
    try:
        rates = (price.upstream.input, price.upstream.output)
        return (
            desk.billing.credits.exchange(rates[0], "USD", currency)[0],
            desk.billing.credits.exchange(rates[1], "USD", currency)[0],
        )
    except MerinoError:
        return None


async def measured_here(desk: PortalDesk) -> dict[str, Measured]:
    now_ms = epoch_ms()
    since_ms = now_ms - _DAYS * DAY_MS
    spreads = await desk.first_tokens.spreads("alias", since_ms, now_ms, Cut())
    spread = {row.group: row.spread for row in spreads}
    return {
        row.group: Measured(
            spread[row.group].at(0.5) if row.group in spread else None,
            spread[row.group].at(0.99) if row.group in spread else None,
            row.tokens_per_s,
        )
        for row in await desk.overview.by_alias(_DAYS)
    }


async def show_public(guest: Guest) -> Response:
    """For everybody, if the settings say so: prices without an account's own."""
    if not guest.settings.public_prices:
        raise NotFound("There is no such page.", code="page_not_found")
    return await guest.page(
        "prices.html",
        offered=prices_of(guest.desk, None, measured=await measured_here(guest.desk)),
        currency="USD",
    )


async def show_own(visit: Visit) -> Response:
    return await visit.page(
        "prices.html",
        offered=prices_of(
            visit.desk,
            visit.member.account_id,
            visit.account.currency,
            await measured_here(visit.desk),
        ),
    )
