"""The service level of a month: what each account got, and what it gets back."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.control.sla import ServiceLevel
from merino.operations.fields import In, Reference, given
from merino.operations.shape import shown, shows
from merino.operations.table import Asked, Operations

Month = Annotated[
    str,
    Meta(
        description="Such as 2026-11, in UTC.",
        extra_json_schema={"pattern": r"^20[0-9]{2}-(0[1-9]|1[0-2])$"},
    ),
]


class SlaQuery(In):
    month: Month | UnsetType = UNSET


class SlaConfirmation(In):
    account: Reference
    month: Month


@shows(ServiceLevel)
class ServiceLevelShape(Struct):
    """`answered_share` leaves out what callers made wrong; it is null for too few calls."""

    account_id: str
    month: str
    calls: int
    refused: int
    failed: int
    answered_share: float | None
    spent: str
    due: str
    credited: str


class ServiceLevels(Struct):
    objective: float
    data: list[ServiceLevelShape]


OPERATIONS = Operations()


@OPERATIONS.get("/sla", "Show what each account got of a month, and what it gets back")
async def show_sla(asked: Asked, query: SlaQuery) -> ServiceLevels:
    desk = asked.control.sla
    levels = await desk.month(given(query.month))
    return ServiceLevels(desk.objective, [shown(ServiceLevelShape, each) for each in levels])


@OPERATIONS.post("/sla/confirm", "Give an account back what a missed month is worth; once")
async def confirm_sla(asked: Asked, body: SlaConfirmation) -> ServiceLevelShape:
    level, _ = await asked.control.sla.confirm(body.account, body.month)
    return shown(ServiceLevelShape, level)
