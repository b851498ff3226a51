"""Which price a deployment has: its own, or the price book's row for what it calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from urllib.parse import urlsplit

from merino.domain.deployment import Deployment
from merino.pricing.book import PriceBook
from merino.pricing.price import PPM, Price, Rates

FREE = Rates(0, 0, 0, 0, 0, 0, 0)


SIMULATED = Price(
    id="drill",
    provider="simulator",
    model="drill",
    valid_from=date(1970, 1, 1),
    tier=None,
    upstream=FREE,
    account=FREE,
    source="a drill",
)
"""What simulated answers cost in a drill: nobody was asked, so nobody pays."""


class Tariff:
    """Callable as `gateway.pipeline.Tariff`.

    `own` are prices by deployment name. `hosts` tells whose list a deployment is billed by when
    its base URL names a known provider. With `allow_unpriced`, what has no price is free.
    """

    def __init__(
        self,
        book: PriceBook,
        own: Mapping[str, Price],
        hosts: Iterable[tuple[str, str]] = (),
        *,
        allow_unpriced: bool = False,
    ) -> None:
        self._book = book
        self._own = own
        self._hosts = {urlsplit(base_url).hostname: provider for provider, base_url in hosts}
        self._allow_unpriced = allow_unpriced
        self._names: dict[str, tuple[Deployment, str, str]] = {}

    def __call__(self, deployment: Deployment, at_ms: int, tier: str | None) -> Price | None:
        own = self._own.get(deployment.name)
        if own is not None:
            return own
        known = self._names.get(deployment.name)
        if known is None or known[0] is not deployment:
            known = (deployment, *self._listed_as(deployment))
            self._names[deployment.name] = known
        price = self._book.find(known[1], known[2], at_ms, tier)
        if price is None and self._allow_unpriced:
            return own_price(deployment.name, FREE, FREE)
        return price

    def _listed_as(self, deployment: Deployment) -> tuple[str, str]:
        """Provider and model in the book. `price_model` may name both: `deepseek/deepseek-chat`."""
        model = deployment.price_model or deployment.upstream_model
        prefix, _, rest = model.partition("/")
        if rest and (prefix, rest) in self._book.models:
            return prefix, rest
        if deployment.provider == "simulator":
            return "simulator", model.partition("!")[0]  # what follows only scripts its behaviour
        host = urlsplit(deployment.base_url).hostname
        return self._hosts.get(host, deployment.provider), model


def own_price(
    deployment_name: str, upstream: Rates, account: Rates, account_ppm: int = PPM
) -> Price:
    """A price that the configuration gives to one deployment."""
    return Price(
        id=f"deployment/{deployment_name}",
        provider="deployment",
        model=deployment_name,
        valid_from=date(1970, 1, 1),
        tier=None,
        upstream=upstream,
        account=account,
        account_ppm=account_ppm,
        source="the configuration",
    )
