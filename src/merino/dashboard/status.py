"""The status page: how available each model was, for everybody if it is switched on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from merino.control.days import DAYS, Day, days_of, months_of
from merino.control.overview import (
    AVAILABILITY_FORMULA,
    STATUS_WINDOWS_MS,
    Availability,
    Outage,
)
from merino.dashboard.parts import Desk, rendered
from merino.domain.clock import DAY_MS, epoch_ms, iso
from merino.domain.errors import StoreUnavailable

_INCIDENTS_MAX = 50
_TROUBLED_MAX = 10


def status_endpoint(desk: Desk, *, is_json: bool) -> object:
    """Public if `status.public` is on, else for who is signed in."""

    async def status(request: Request) -> Response:
        settings = desk.settings().status
        session = desk.session_of(request)
        if not settings.public and session is None:
            body = {"error": {"message": "The status page is not public.", "type": "not_found"}}
            if is_json:
                return JSONResponse(body, 404)
            return await rendered("closed.html", 404)
        aliases = shown_names([alias.name for alias in desk.catalog().aliases])
        try:
            rows = await desk.overview.availability(aliases)
            incidents = await _incidents(desk)
            now_ms = epoch_ms()
            sums = await desk.usage.days(now_ms - DAYS * DAY_MS, now_ms + 1)
        except StoreUnavailable as error:
            if is_json:
                body = {"error": {"message": error.message, "type": "store_unavailable"}}
                return JSONResponse(body, 503)
            return await rendered("unknown_status.html", 503)
        if is_json:
            return _json(rows, incidents, settings.objective)
        days = days_of(sums, incidents, now_ms)
        sla, portal = desk.settings().sla, desk.settings().portal
        by_alias: dict[str, dict[str, Availability]] = {}
        for row in rows:
            by_alias.setdefault(row.alias, {})[row.window] = row
        return await rendered(
            "status.html",
            by_alias=by_alias,
            windows=list(STATUS_WINDOWS_MS),
            incidents=incidents,
            objective=settings.objective,
            formula=AVAILABILITY_FORMULA,
            days=days,
            troubled=[each for each in reversed(days) if _is_troubled(each, settings.objective)][
                :_TROUBLED_MAX
            ],
            months=months_of(sums),
            promised=sla.objective if sla.enabled else settings.objective,
            whose=portal.name if portal.enabled else "Merino",
            is_well=not any(each.ended_ms is None for each in incidents),
        )

    return status


def shown_names(aliases: Sequence[str]) -> list[str]:
    """Without those of the simulator, unless there are no others."""
    real = [each for each in aliases if not each.startswith("sim/")]
    return real or list(aliases)


def _is_troubled(day: Day, objective: float) -> bool:
    return day.grade(objective) in ("warn", "bad")


async def _incidents(desk: Desk) -> list[Outage]:
    """The newest first. Deployments are told by a number: their names are the operator's own
    affair."""
    numbers = {
        each.name: f"deployment {number}"
        for number, (each, _) in enumerate(desk.control.list_deployments(), 1)
    }
    return [
        replace(each, deployment=numbers.get(each.deployment, "a former deployment"))
        for each in await desk.overview.outages(_INCIDENTS_MAX)
    ]


def _json(rows: list[Availability], incidents: list[Outage], objective: float) -> Response:
    return JSONResponse(
        {
            "objective": objective,
            "formula": AVAILABILITY_FORMULA,
            "models": [
                {
                    "model": row.alias,
                    "window": row.window,
                    "calls": row.sums.calls,
                    "refused": row.sums.refused,
                    "failed": row.sums.failed,
                    "probes": row.probes.minutes,
                    "unanswered": row.probes.unanswered,
                    "availability": row.availability,
                    "error_budget_used": row.burn,
                }
                for row in rows
            ],
            "incidents": [
                {
                    "deployment": each.deployment,
                    "began_at": iso(each.began_ms),
                    "ended_at": None if each.ended_ms is None else iso(each.ended_ms),
                    "reason": each.reason,
                }
                for each in incidents
            ],
        },
        headers={"cache-control": "no-store"},
    )
