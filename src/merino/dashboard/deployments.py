"""Models and deployments: health, breakers, limits, prices; draining."""

from __future__ import annotations

from starlette.datastructures import FormData
from starlette.responses import Response

from merino.control.keys import epoch_ms
from merino.dashboard.parts import BASE, Visit, go
from merino.domain.deployment import Deployment
from merino.pricing.book import Price


async def show_models(visit: Visit) -> Response:
    catalog = visit.desk.catalog()
    states = {each.name: state for each, state in visit.control.list_deployments()}
    deployments = {
        each.name: each
        for alias in catalog.aliases
        for each in (*alias.deployments, *alias.standins)
    } | {each.name: each for each in catalog.deployments}
    return visit.page(
        "models.html",
        aliases=catalog.aliases,
        deployments=list(deployments.values()) if visit.session.is_operator else [],
        states=states,
        prices={each.name: _price(visit, each) for each in deployments.values()},
    )


async def drain(visit: Visit, _: FormData) -> Response:
    return _drained(visit, is_drained=True)


async def undrain(visit: Visit, _: FormData) -> Response:
    return _drained(visit, is_drained=False)


def _drained(visit: Visit, *, is_drained: bool) -> Response:
    name = visit.request.path_params["name"]
    visit.control.drain(name, is_drained=is_drained)
    what = "drain_deployment" if is_drained else "undrain_deployment"
    visit.note(what, name)
    word = "gets no new calls" if is_drained else "gets calls again"
    return go(f"{BASE}/models", f"{name} {word}")


def _price(visit: Visit, deployment: Deployment) -> Price | None:
    model = deployment.price_model or deployment.upstream_model
    provider = "simulator" if deployment.provider == "simulator" else deployment.provider
    return visit.desk.prices().find(provider, model.partition("!")[0], epoch_ms())
