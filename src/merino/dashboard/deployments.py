"""Models and deployments: health, breakers, limits, prices; draining."""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import perf_counter
from typing import NamedTuple

from markupsafe import Markup
from starlette.datastructures import FormData
from starlette.responses import Response

from merino.control.usage import Cut, Line, Span, Spread
from merino.dashboard.overview import change
from merino.dashboard.parts import BASE, Visit, go, text_of
from merino.domain.clock import DAY_MS, HOUR_MS, epoch_ms
from merino.domain.deployment import Deployment, DeploymentState
from merino.domain.errors import InvalidCall, NotFound
from merino.operations.deployments import Drain, drain_deployment
from merino.pages.plot import Plot, Series, plotted
from merino.wire.errors import parse_error

_SPEED_DAYS = 14

_TEST = {
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_completion_tokens": 256,
}


async def show_models(visit: Visit) -> Response:
    catalog = visit.desk.catalog()
    states = {each.name: state for each, state in visit.control.list_deployments()}
    deployments = _deployments(visit)
    is_operator = visit.session.is_operator
    health = await _health(visit) if is_operator else {}
    cut = Cut.of({"deployment": [visit.query("of")]} if visit.query("of") else {})
    return await visit.page(
        "models.html",
        aliases=catalog.aliases,
        change=change,
        deployments=sorted(deployments.values(), key=lambda each: _trouble(health, states, each))
        if is_operator
        else [],
        health=health,
        chart=await _speeds(visit, cut) if is_operator and visit.query("of") else "",
        of=visit.query("of"),
        states=states,
        # The list price is in dollars, whatever the accounts are kept in.
        currency="USD" if visit.scope is None else visit.currency,
        keys=[key for key in visit.own_keys() if not key.disabled],
        prices={each.name: visit.desk.price_of(each, visit.scope) for each in deployments.values()},
    )


class Health(NamedTuple):
    """How a deployment did in the last day, and how soon it answered a week before."""

    line: Line
    p50_ms: float | None
    p95_ms: float | None
    p95_before_ms: float | None


async def _health(visit: Visit) -> dict[str, Health]:
    now_ms = epoch_ms()
    day, week = now_ms - DAY_MS, 7 * DAY_MS
    span = Span(day, now_ms + 1, day - week, now_ms + 1 - week)
    lines = await visit.desk.usage.lines("deployment", span, Cut())
    now = await visit.desk.usage.spreads("deployment", span.since_ms, span.until_ms, Cut())
    before = await visit.desk.usage.spreads(
        "deployment", span.before_since_ms, span.before_until_ms, Cut()
    )
    return {
        name: Health(
            line,
            now.get(name, Spread({})).at(0.5),
            now.get(name, Spread({})).at(0.95),
            before.get(name, Spread({})).at(0.95),
        )
        for name, line in lines.items()
    }


def _trouble(
    health: Mapping[str, Health], states: Mapping[str, DeploymentState | None], each: Deployment
) -> tuple[int, float, str]:
    """The order of the table: what an operator has to look at comes first."""
    state = states.get(each.name)
    is_well = state is not None and state.breaker == "closed" and not state.is_drained
    found = health.get(each.name)
    wrong = 0.0
    if found is not None and found.line.now.calls:
        wrong = found.line.now.failed / found.line.now.calls
        if found.p95_ms and found.p95_before_ms and found.p95_ms > 2 * found.p95_before_ms:
            wrong += 1
    return int(is_well), -wrong, each.name


async def _speeds(visit: Visit, cut: Cut) -> Markup:
    """Percentiles of one deployment's time to first token over two weeks."""
    now_ms = epoch_ms()
    slot = 6 * HOUR_MS
    first = (now_ms - _SPEED_DAYS * DAY_MS) // slot * slot
    rows = await visit.desk.usage.spreads_over_time(first, now_ms + 1, cut, slot)
    slots = list(range(first, now_ms + 1, slot))
    series = [
        Series(name, [rows[at].at(share) if at in rows else None for at in slots], colour=colour)
        for name, share, colour in (("p50", 0.5, 0), ("p95", 0.95, 2), ("p99", 0.99, 4))
    ]
    return plotted(Plot("Time to first token", "lines", "ms", slots, slot, series))


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
