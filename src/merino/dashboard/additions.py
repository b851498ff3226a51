"""Deployments and aliases of the page of models: added, changed, removed, written out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.datastructures import FormData
from starlette.responses import Response, StreamingResponse

from merino.control.additions import AdditionDesk
from merino.dashboard.parts import BASE, FormHandler, Visit, body_of, go, text_of
from merino.domain.addition import AdditionKind
from merino.domain.errors import InvalidCall
from merino.operations import additions as operations
from merino.operations.additions import (
    AliasChange,
    AliasTerms,
    DeploymentChange,
    DeploymentTerms,
    Named,
    NewAlias,
    NewDeployment,
    OfferExport,
    said_of,
)
from merino.operations.table import Asked

_FLAGS: Mapping[AdditionKind, tuple[str, ...]] = {
    "deployment": ("adaptive_concurrency",),
    "alias": ("reasoning", "hedging", "session_affinity"),
}
_LINES = ("headers",)
_FIELDS: Mapping[AdditionKind, tuple[str, ...]] = {
    "deployment": DeploymentTerms.__struct_fields__,
    "alias": ("deployments", *AliasTerms.__struct_fields__),
}


class Said(dict[str, Any]):
    """What stands in a form's fields; nothing where nothing was said."""

    def __missing__(self, field: str) -> str:
        del field
        return ""


class Edited(NamedTuple):
    """An addition whose form is open: its kind, and what was said of it, by the form's fields."""

    kind: AdditionKind
    said: Said


def edited(visit: Visit) -> Edited | None:
    """That which the address names."""
    if visit.problem is not None:
        for kind in _FIELDS:
            if visit.problem.action.endswith(f"/change-{kind}"):
                return Edited(kind, Said(visit.problem.values))
    name = visit.query("edit")
    kind: AdditionKind = "alias" if visit.query("kind") == "alias" else "deployment"
    desk: AdditionDesk = visit.control.additions
    if not name or (kind, name) not in {each.place for each in desk.list()}:
        return None
    terms = DeploymentChange if kind == "deployment" else AliasChange
    return Edited(kind, Said(said_of(desk.find(kind, name), terms)))


async def _add_deployment(visit: Visit, form: FormData) -> Response:
    body = body_of(form, NewDeployment, "name", *_asked("deployment"), **_told(form, "deployment"))
    await visit.perform(operations.create_deployment, body)
    return _done(f"{body.name} takes calls now")


async def _change_deployment(visit: Visit, form: FormData) -> Response:
    told = _told(form, "deployment")
    body = body_of(form, DeploymentChange, "name", *_asked("deployment"), **told)
    await visit.perform(operations.update_deployment, body)
    return _done(f"{body.name} is changed")


async def _add_alias(visit: Visit, form: FormData) -> Response:
    body = body_of(form, NewAlias, "name", *_asked("alias"), **_told(form, "alias"))
    await visit.perform(operations.create_alias, body)
    return _done(f"{body.name} can be called now")


async def _change_alias(visit: Visit, form: FormData) -> Response:
    body = body_of(form, AliasChange, "name", *_asked("alias"), **_told(form, "alias"))
    await visit.perform(operations.update_alias, body)
    return _done(f"{body.name} is changed")


async def _remove_deployment(visit: Visit, form: FormData) -> Response:
    await visit.perform(operations.remove_deployment, Named(text_of(form, "name")))
    return _done(f"{text_of(form, 'name')} is removed")


async def _remove_alias(visit: Visit, form: FormData) -> Response:
    await visit.perform(operations.remove_alias, Named(text_of(form, "name")))
    return _done(f"{text_of(form, 'name')} is removed")


FORMS: Mapping[str, FormHandler] = {
    "add-deployment": _add_deployment,
    "change-deployment": _change_deployment,
    "remove-deployment": _remove_deployment,
    "add-alias": _add_alias,
    "change-alias": _change_alias,
    "remove-alias": _remove_alias,
}
"""By the end of the address that each is sent to."""


async def export(visit: Visit) -> Response:
    asked = Asked(visit.control, {})
    pieces = await operations.export_additions.act(asked, OfferExport())
    headers = {
        "content-disposition": 'attachment; filename="added.toml"',
        "cache-control": "no-store",
    }
    return StreamingResponse(pieces, media_type="application/toml; charset=utf-8", headers=headers)


def _asked(kind: AdditionKind) -> tuple[str, ...]:
    """Fields that are read as they stand in the form."""
    return tuple(each for each in _FIELDS[kind] if each not in (*_FLAGS[kind], *_LINES))


def _told(form: FormData, kind: AdditionKind) -> dict[str, object]:
    """Boxes that are ticked or not, and texts with a value in each line."""
    told: dict[str, object] = {name: True if form.get(name) else None for name in _FLAGS[kind]}
    if kind == "deployment":
        lines = text_of(form, "headers").splitlines()
        told["headers"] = [line.strip() for line in lines if line.strip()] or None
    elif not form.getlist("deployments"):
        raise InvalidCall("Choose at least one deployment.", param="deployments")
    return told


def _done(words: str) -> Response:
    return go(f"{BASE}/models", words)
