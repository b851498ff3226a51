"""Models and deployments: health, breakers, limits, prices; draining."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, get_args

from markupsafe import Markup
from starlette.datastructures import FormData
from starlette.responses import Response

from merino.control.deployment_health import HEAT_STEPS, Heat, HeatOf, failed_share
from merino.control.usage import Cut, Line, Span, Spread
from merino.dashboard.additions import Said, edited
from merino.dashboard.overview import change
from merino.dashboard.parts import BASE, Visit, go, text_of
from merino.domain.clock import DAY_MS, HOUR_MS, epoch_ms
from merino.domain.deployment import Deployment, DeploymentState
from merino.domain.errors import InvalidCall
from merino.operations.additions import Trial, Tried, test_deployment
from merino.operations.deployments import Drain, drain_deployment
from merino.pages import figures
from merino.pages.plot import Plot, Series, Unit, plotted
from merino.settings.sections.deployments import EndpointName, LimitNames

_PACE_DAYS = 14
_PACE_SLOT_MS = 6 * HOUR_MS
_HEAT_HOURS: Mapping[str, int] = {"24h": 1, "7d": 6}
_HEAT_WORDS: Mapping[HeatOf, str] = {"errors": "Errors", "first_token": "First token"}


async def show_models(visit: Visit) -> Response:
    catalog = visit.desk.catalog()
    states = {each.name: state for each, state in visit.control.list_deployments()}
    deployments = _deployments(visit)
    is_operator = visit.session.is_operator
    health = await _health(visit) if is_operator else {}
    named = visit.query("of")
    return await visit.page(
        "models.html",
        aliases=catalog.aliases,
        change=change,
        deployments=sorted(deployments.values(), key=lambda each: _trouble(health, states, each))
        if is_operator
        else [],
        health=health,
        charts=await _charts(visit, named) if is_operator and named else [],
        of=named,
        states=states,
        heat=await _heat(visit) if is_operator else None,
        last_errors=await visit.desk.health.last_errors() if is_operator else {},
        source_of=visit.control.source_of,
        additions=[each.place for each in visit.control.additions.list()],
        left_out=visit.control.additions.left_out() if is_operator else {},
        edited=edited(visit) if is_operator else None,
        unsaid=Said(),
        apis=get_args(EndpointName),
        limit_names=get_args(LimitNames),
        deployment_names=[each.name for each in catalog.deployments],
        is_editable=visit.desk.settings().upstream.editable,
        references=visit.desk.settings().upstream.references,
        # The list price is in dollars, whatever the accounts are kept in.
        currency="USD" if visit.scope is None else visit.currency,
        keys=[key for key in visit.own_keys() if not key.disabled],
        prices={each.name: visit.desk.price_of(each, visit.scope) for each in deployments.values()},
    )


class HeatMap(NamedTuple):
    """The map as the page shows it: `marks` are what stands above the slots."""

    of: HeatOf
    window: str
    heat: Heat
    marks: Sequence[str]
    steps: Sequence[str]


async def _heat(visit: Visit) -> HeatMap:
    of: HeatOf = "first_token" if visit.query("heat") == "first_token" else "errors"
    window = visit.query("hours") if visit.query("hours") in _HEAT_HOURS else "24h"
    slot_ms = _HEAT_HOURS[window] * HOUR_MS
    now_ms = epoch_ms()
    length_ms = DAY_MS if window == "24h" else 7 * DAY_MS
    first = now_ms // slot_ms * slot_ms - length_ms + slot_ms
    heat = await visit.desk.health.heat(first, now_ms + 1, slot_ms, of)
    marks = [_mark(at_ms, window) for at_ms in heat.slots]
    text = figures.share_text if of == "errors" else figures.duration_text
    bounds = [f"to {text(each)}" if each else "none" for each in HEAT_STEPS[of]]
    return HeatMap(of, window, heat, marks, [*bounds, "more"])


def _mark(at_ms: int, window: str) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    if window == "24h":
        return f"{moment:%H}" if moment.hour % 3 == 0 else ""
    return f"{moment:%a}" if moment.hour == 0 else ""


class Health(NamedTuple):
    """How a deployment did in the last day, and how soon it answered a week before."""

    line: Line
    failed_share: float | None
    p50_ms: float | None
    p95_ms: float | None
    p95_before_ms: float | None


async def _health(visit: Visit) -> dict[str, Health]:
    now_ms = epoch_ms()
    day, week = now_ms - DAY_MS, 7 * DAY_MS
    span = Span(day, now_ms + 1, day - week, now_ms + 1 - week)
    lines = await visit.desk.usage.lines("deployment", span, Cut())
    failed = await visit.desk.health.failed(span.since_ms, span.until_ms)
    now = await visit.desk.usage.spreads("deployment", span.since_ms, span.until_ms, Cut())
    before = await visit.desk.usage.spreads(
        "deployment", span.before_since_ms, span.before_until_ms, Cut()
    )
    return {
        name: Health(
            line,
            failed_share(line.now, failed.get(name, 0)),
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
    if found is not None:
        wrong = found.failed_share or 0.0
        if found.p95_ms and found.p95_before_ms and found.p95_ms > 2 * found.p95_before_ms:
            wrong += 1
    return int(is_well), -wrong, each.name


async def _charts(visit: Visit, deployment: str) -> list[tuple[str, Markup]]:
    """A deployment over two weeks: how soon it answers, what fails, and how fast it writes."""
    now_ms = epoch_ms()
    pace = await visit.desk.health.pace(
        deployment, now_ms - _PACE_DAYS * DAY_MS, now_ms + 1, _PACE_SLOT_MS
    )
    colours = {"p50": 0, "p95": 2, "p99": 4}
    soon = [
        Series(name, values, colour=colours[name]) for name, values in pace.first_token_ms.items()
    ]

    def drawn(title: str, unit: Unit, series: Sequence[Series]) -> tuple[str, Markup]:
        return title, plotted(Plot(title, "lines", unit, pace.slots, pace.slot_ms, series))

    return [
        drawn("Time to first token", "ms", soon),
        drawn("Failed attempts", "share", [Series("of all attempts", pace.errors, colour=4)]),
        drawn("Tokens a second", "count", [Series("of streams", pace.tokens_per_s, colour=1)]),
    ]


async def drain(visit: Visit, _: FormData) -> Response:
    return await _drained(visit, is_drained=True)


async def undrain(visit: Visit, _: FormData) -> Response:
    return await _drained(visit, is_drained=False)


async def try_out(visit: Visit, form: FormData) -> Response:
    """A short call to this deployment alone, billed to the key like any other."""
    name = visit.request.path_params["name"]
    tried: Tried = await visit.perform(test_deployment, Trial(name, text_of(form, "key")))
    if tried.error is not None:
        raise InvalidCall(f"{name} did not answer: {tried.error}")
    return go(f"{BASE}/models", f"{name} answered in {tried.took_ms:,.0f} ms")


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
