"""Models and deployments: health, breakers, limits, prices; draining."""

from __future__ import annotations

import json
from time import perf_counter

from starlette.datastructures import FormData
from starlette.responses import Response

from merino.dashboard.parts import BASE, Visit, go, text_of
from merino.domain.deployment import Deployment
from merino.domain.errors import InvalidCall, NotFound
from merino.operations.deployments import Drain, drain_deployment
from merino.wire.errors import parse_error

_TEST = {
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_completion_tokens": 256,
}


async def show_models(visit: Visit) -> Response:
    catalog = visit.desk.catalog()
    states = {each.name: state for each, state in visit.control.list_deployments()}
    deployments = _deployments(visit)
    return visit.page(
        "models.html",
        aliases=catalog.aliases,
        deployments=list(deployments.values()) if visit.session.is_operator else [],
        states=states,
        # The list price is in dollars, whatever the accounts are kept in.
        currency="USD" if visit.scope is None else visit.currency,
        keys=[key for key in visit.own_keys() if not key.disabled],
        prices={each.name: visit.desk.price_of(each, visit.scope) for each in deployments.values()},
    )


async def drain(visit: Visit, _: FormData) -> Response:
    return await _drained(visit, is_drained=True)


async def undrain(visit: Visit, _: FormData) -> Response:
    return await _drained(visit, is_drained=False)


async def try_out(visit: Visit, form: FormData) -> Response:
    """A short call to this deployment alone, billed to the key like any other."""
    deployment = _deployments(visit).get(visit.request.path_params["name"])
    if deployment is None:
        raise NotFound("There is no such deployment.", code="deployment_not_found")
    key = visit.key(text_of(form, "key"))
    began = perf_counter()
    answer = await visit.desk.chat(
        key, json.dumps({**_TEST, "model": deployment.name}).encode(), deployment
    )
    said = b"".join([piece async for piece in answer.pieces])
    took_ms = (perf_counter() - began) * 1000
    await visit.note("test_deployment", deployment.name, ("status", answer.status))
    if answer.status == 200:
        return go(f"{BASE}/models", f"{deployment.name} answered in {took_ms:,.0f} ms")
    problem = parse_error(said)
    why = problem[0] if problem else f"status {answer.status}"
    raise InvalidCall(f"{deployment.name} did not answer: {why}")


def _deployments(visit: Visit) -> dict[str, Deployment]:
    catalog = visit.desk.catalog()
    return {
        each.name: each
        for alias in catalog.aliases
        for each in (*alias.deployments, *alias.standins)
    } | {each.name: each for each in catalog.deployments}


async def _drained(visit: Visit, *, is_drained: bool) -> Response:
    name = visit.request.path_params["name"]
    await visit.perform(drain_deployment, Drain(name, is_drained))
    word = "gets no new calls" if is_drained else "gets calls again"
    return go(f"{BASE}/models", f"{name} {word}")
