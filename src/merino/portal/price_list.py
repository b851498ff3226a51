"""What calls cost here, beside what was measured here: the list of prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response

from merino.control.usage import Cut
from merino.domain.clock import DAY_MS, epoch_ms
from merino.domain.deployment import Deployment
from merino.domain.errors import NotFound
from merino.portal.visits import Guest, PortalDesk, Visit

_DAYS = 30


@dataclass(frozen=True, slots=True)
class Measured:
    """Of all calls here in the last days: times to the first token, and tokens per second after
    it; `None` where there were none."""

    p50_ms: float | None = None
    p99_ms: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Offered:
    """Nano-units of `currency` per million tokens; `list_*` are what the provider itself asks, in
    dollars. `saved` is the share that input and output together are cheaper by."""

    alias: str
    context_tokens: int
    input: int
    cached: int
    output: int
    list_input: int
    list_output: int
    saved: float | None
    measured: Measured


def prices_of(
    desk: PortalDesk, account_id: str | None, measured: Mapping[str, Measured] | None = None
) -> list[Offered]:
    """Every model that is offered and has a price: as this account pays it, or as listed."""
    catalog = desk.catalog()
    found: list[Offered] = []
    for alias in catalog.aliases:
        if not alias.deployments:
            continue
        deployment: Deployment = alias.deployments[0]
        price = desk.price_of(deployment, account_id)
        if price is None:
            continue
        asked, upstream = price.account, price.upstream
        whole, paid = upstream.input + upstream.output, asked.input + asked.output
        found.append(
            Offered(
                alias.name,
                alias.context_tokens_max,
                asked.input,
                asked.cached,
                asked.output,
                upstream.input,
                upstream.output,
                1 - paid / whole if whole > 0 else None,
                (measured or {}).get(alias.name, Measured()),
            )
        )
    return sorted(found, key=lambda each: each.alias)


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
        raise NotFound("There is no such page.")
    return await guest.page(
        "prices.html",
        offered=prices_of(guest.desk, None, await measured_here(guest.desk)),
        currency="USD",
    )


async def show_own(visit: Visit) -> Response:
    return await visit.page(
        "prices.html",
        offered=prices_of(visit.desk, visit.member.account_id, await measured_here(visit.desk)),
    )
