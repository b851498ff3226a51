"""Models that nobody could be billed for."""

from __future__ import annotations

from collections.abc import Sequence

from merino.doctor.finding import Finding, ok, problem, warning
from merino.pricing.tariff import Tariff
from merino.settings import Catalog

SHOWN_MAX = 10


def check_variables_offer(catalog: Catalog) -> list[Finding]:
    """A provider's variable that offers nothing: the price book has none of its models."""
    return [
        warning(
            "price-missing",
            f"{each.credential_variable} is set, but no price is known of {each.name}'s models, so "
            "none is offered.",
            f"Name them as [[deployments]] with base_url = '{each.base_url}' and a price.",
        )
        for each in catalog.without_models
    ]


def check_prices(
    catalog: Catalog, tariff: Tariff, now_ms: int, *, allow_unpriced: bool
) -> list[Finding]:
    """An alias without any priced deployment is refused; one with some is served by those."""
    if allow_unpriced:
        return [ok("price-missing", "Models without a price are free, as the settings say.")]
    unpriced = {each.name for each in catalog.deployments if tariff(each, now_ms, None) is None}
    refused = [
        alias.name
        for alias in catalog.aliases
        if all(each.name in unpriced for each in alias.deployments)
    ]
    if refused:
        seen = f"No price is known for {_listed(refused)}: calls are refused (model_not_priced)."
        return [problem("price-missing", seen, _MEND)]
    if unpriced:
        seen = f"No price is known for the deployments {_listed(sorted(unpriced))}: not used."
        return [problem("price-missing", seen, _MEND)]
    return [ok("price-missing", f"Each of {len(catalog.aliases)} models has a price.")]


_MEND = (
    "Give the deployment a price = { input = ..., output = ... }, a price_model that the price "
    "book has (`merino prices list`), or a price file."
)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN_MAX]) + (", ..." if len(names) > SHOWN_MAX else "")
