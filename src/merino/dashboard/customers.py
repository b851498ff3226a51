"""Customers of the portal: who they are and who may come in, invitations, what a missed month gives
back. For operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args
from urllib.parse import urlencode

from starlette.datastructures import FormData
from starlette.responses import Response

from merino.dashboard.parts import BASE, Visit, body_of, go, text_of
from merino.domain.errors import NotFound
from merino.domain.person import Invitation, MemberRole, Person, PersonState
from merino.operations import people as operations
from merino.operations import sla
from merino.operations.people import Approved, IssuedInvitation, NewInvitation
from merino.operations.sla import SlaConfirmation
from merino.operations.table import Operation

_PEOPLE = 50
_INVITATIONS = 50
_MONTHS = 12
_STATES: tuple[PersonState, ...] = get_args(PersonState)
_BY_NAME: Mapping[str, PersonState] = {each: each for each in _STATES}
_ROLES: tuple[MemberRole, ...] = get_args(MemberRole)
_DECISIONS: Mapping[str, tuple[Operation, str]] = {
    "approve": (operations.approve_person, "is let in"),
    "refuse": (operations.refuse_person, "is refused"),
    "block": (operations.block_person, "is blocked and signed out"),
    "unblock": (operations.unblock_person, "may come in again"),
    "delete": (operations.forget_person, "is deleted"),
}


async def list_people(visit: Visit) -> Response:
    people = visit.control.people
    wanted = visit.query("state")
    state = _BY_NAME.get(wanted)
    text = visit.query("q")[:254].strip()
    page = await people.list(
        state, email=text or None, limit=_PEOPLE, cursor=visit.query("cursor") or None
    )
    more = {"state": state or "", "q": text, "cursor": page.next_cursor or ""}
    return await visit.page(
        "people.html",
        people=page.items,
        members={each.id: await people.accounts_of(each.id) for each in page.items},
        state=state,
        states=_STATES,
        text=text,
        waiting=len((await people.list("waiting", limit=_PEOPLE)).items),
        waiting_max=_PEOPLE,
        is_on=visit.desk.settings().portal.enabled,
        older=urlencode(more) if page.next_cursor else "",
    )


async def ask_to_delete(visit: Visit) -> Response:
    """What goes with somebody, before they are deleted for good."""
    people = visit.control.people
    person = await people.get(visit.request.path_params["person"])
    closes = [visit.control.accounts.show(each) for each in await people.owned_alone(person)]
    return await visit.page("person_delete.html", person=person, who=_shown(person), closes=closes)


async def decide(visit: Visit, _: FormData) -> Response:
    """Let somebody in or not, for now or for good."""
    person_id = visit.request.path_params["person"]
    operation, what = _DECISIONS.get(visit.request.path_params["decision"], (None, ""))
    if operation is None:
        raise NotFound("There is no such page.")
    person = await visit.control.people.get(person_id)
    done: Approved | Any = await visit.perform(operation, person=person_id)
    if isinstance(done, Approved) and done.credited != "0.00":
        what += f", with a start credit of {done.credited}"
    return go(f"{BASE}/people", f"{_shown(person)} {what}")


def _shown(person: Person) -> str:
    return person.email or person.subject or person.id


async def list_invitations(visit: Visit) -> Response:
    return await _invitations(visit)


async def invite(visit: Visit, form: FormData) -> Response:
    # An invitation to an account gives no credit, and the other way round: empty fields are left.
    names = ("email", "account", "role", "credit", "days")
    wanted = [name for name in names if text_of(form, name)]
    body = body_of(form, NewInvitation, *wanted)
    return await _invitations(visit, await visit.perform(operations.create_invitation, body))


async def withdraw(visit: Visit, _: FormData) -> Response:
    wanted = visit.request.path_params["invitation"]
    await visit.perform(operations.void_invitation, invitation=wanted)
    return go(f"{BASE}/invitations", "The invitation is withdrawn")


async def _invitations(visit: Visit, made: IssuedInvitation | None = None) -> Response:
    page = await visit.control.people.list_invitations(
        limit=_INVITATIONS, cursor=visit.query("cursor") or None
    )
    settings = visit.desk.settings().portal
    origin = (settings.public_url or str(visit.request.base_url)).rstrip("/")
    return await visit.page(
        "invitations.html",
        invitations=[(each, _state(visit, each)) for each in page.items],
        made=made,
        link="" if made is None else f"{origin}{made.path}",
        roles=_ROLES,
        account_choices=[("", "One of their own"), *_accounts(visit)],
        portal_currency=settings.currency,
        is_on=settings.enabled,
        older=urlencode({"cursor": page.next_cursor}) if page.next_cursor else "",
    )


def _accounts(visit: Visit) -> list[tuple[str, str]]:
    return [(each.name, each.name) for each in visit.own_accounts() if not each.disabled]


def _state(visit: Visit, invitation: Invitation) -> str:
    if invitation.used_at_ms is not None:
        return "used"
    if invitation.is_void:
        return "withdrawn"
    return "open" if visit.control.people.is_open(invitation) else "expired"


async def show_levels(visit: Visit) -> Response:
    desk = visit.control.sla
    months = desk.months(_MONTHS)
    wanted = visit.query("month")
    month = wanted if wanted in months else months[0]
    accounts = {each.id: each for each in visit.own_accounts()}
    return await visit.page(
        "service_levels.html",
        levels=await desk.month(month) if desk.is_on else (),
        accounts=accounts,
        month=month,
        months=months,
        is_over=month != months[0],
        is_on=desk.is_on,
        objective=desk.objective,
        calls_min=visit.desk.settings().sla.calls_min,
        credits=visit.desk.settings().sla.credits,
    )


async def confirm_level(visit: Visit, form: FormData) -> Response:
    """Give back what a month is worth, once."""
    account, month = text_of(form, "account"), text_of(form, "month")
    level = await visit.perform(sla.confirm_sla, SlaConfirmation(account, month))
    name = visit.account(account).name
    return go(f"{BASE}/service-levels", f"{level.credited} was given back to {name} for {month}")
