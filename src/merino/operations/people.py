"""Customers of the portal, and invitations to it."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from merino.control.people import INVITATION_DAYS_MAX
from merino.control.terms import nanos_of
from merino.domain.clock import epoch_ms
from merino.domain.money import format_nanos
from merino.domain.person import Invitation as DomainInvitation
from merino.domain.person import MemberRole, PersonState
from merino.domain.person import Person as DomainPerson
from merino.operations.fields import (
    In,
    PageQuery,
    PositiveAmount,
    Reference,
    given,
    page_of,
)
from merino.operations.shape import shown, shows
from merino.operations.table import Asked, Operations

MailAddress = Annotated[
    str,
    Meta(
        description="The only address it is for, such as ada@example.org.",
        extra_json_schema={"pattern": r"^[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[a-z]{2,9})?$"},
    ),
]


class PeopleQuery(PageQuery):
    state: PersonState | UnsetType = UNSET
    email: (
        Annotated[str, Meta(max_length=254, description="A part of the address.")] | UnsetType
    ) = UNSET


class NewInvitation(In):
    """Without an account, it lets somebody open one of their own; `credit` is what that one starts
    with."""

    email: MailAddress | None = None
    account: Reference | None = None
    role: MemberRole = "owner"
    credit: PositiveAmount | None = None
    days: Annotated[int, Meta(ge=1, le=INVITATION_DAYS_MAX)] = 14


class InvitationsQuery(PageQuery):
    account: Reference | UnsetType = UNSET


@shows(DomainPerson, hidden={"terms": "a digest of the terms that were accepted"})
class Person(Struct):
    """`subject` is what the OpenID Connect provider calls them."""

    id: str
    email: str | None
    subject: str | None
    state: str
    language: str
    created_at: str
    decided_at: str | None


class People(Struct):
    data: list[Person]
    next_cursor: str | None


class Approved(Struct):
    """The customer who was let in, and what their account started with."""

    person: Person
    credited: str


class Forgotten(Struct):
    """Who was deleted, and the accounts that were closed by that."""

    id: str
    closed_accounts: list[str]


@shows(DomainInvitation, hidden={"is_void": "one of its states"})
class InvitationShape(Struct):
    """`hint` is how the code begins; the code itself is not kept."""

    id: str
    hint: str
    email: str | None
    account_id: str | None
    role: str
    credit: str | None
    state: str
    invited_by: str
    created_at: str
    expires_at: str
    used_at: str | None
    person_id: str | None


class IssuedInvitation(InvitationShape, kw_only=True):
    """An invitation with its code, which is shown this once. `path` is where it leads to, at the
    relay's address."""

    code: str
    path: str


class Invitations(Struct):
    data: list[InvitationShape]
    next_cursor: str | None


S = TypeVar("S", bound=InvitationShape)


def _shown(kind: type[S], invitation: DomainInvitation, **more: Any) -> S:
    state = "open"
    if invitation.used_at_ms is not None:
        state = "used"
    elif invitation.is_void:
        state = "void"
    elif invitation.expires_at_ms <= epoch_ms():
        state = "expired"
    return shown(kind, invitation, state=state, **more)


OPERATIONS = Operations()


@OPERATIONS.get("/people", "List customers of the portal")
async def list_people(asked: Asked, query: PeopleQuery) -> People:
    page = await asked.control.people.list(
        given(query.state), email=given(query.email), **page_of(query)
    )
    return People([shown(Person, each) for each in page.items], page.next_cursor)


@OPERATIONS.get("/people/{person}", "Show one")
async def show_person(asked: Asked) -> Person:
    return shown(Person, await asked.control.people.get(asked.path["person"]))


@OPERATIONS.post(
    "/people/{person}/approve",
    "Let in a customer who waits; their account is opened, with its start credit",
)
async def approve_person(asked: Asked) -> Approved:
    person, nanos = await asked.control.people.approve(asked.path["person"])
    return Approved(shown(Person, person), format_nanos(nanos))


@OPERATIONS.post("/people/{person}/refuse", "Refuse a customer who waits")
async def refuse_person(asked: Asked) -> Person:
    return shown(Person, await asked.control.people.refuse(asked.path["person"]))


@OPERATIONS.post(
    "/people/{person}/block",
    "Sign a customer out and let them in no more; their keys go on until they are disabled",
)
async def block_person(asked: Asked) -> Person:
    return shown(Person, await asked.control.people.block(asked.path["person"]))


@OPERATIONS.post("/people/{person}/unblock", "Let a blocked customer in again")
async def unblock_person(asked: Asked) -> Person:
    return shown(Person, await asked.control.people.unblock(asked.path["person"]))


@OPERATIONS.at(
    "DELETE",
    "/people/{person}",
    "Delete a customer for good; accounts that nobody else owns are closed, their books stay",
)
async def forget_person(asked: Asked) -> Forgotten:
    person = await asked.control.people.get(asked.path["person"])
    return Forgotten(person.id, list(await asked.control.forget_person(person)))


@OPERATIONS.post(
    "/invitations", "Invite somebody; the code is in this answer and nowhere else", status=201
)
async def create_invitation(asked: Asked, body: NewInvitation) -> IssuedInvitation:
    invitation, code = await asked.control.people.invite(
        invited_by="operator",
        email=body.email,
        account=body.account,
        role=body.role,
        credit_nanos=None if body.credit is None else nanos_of(body.credit, "credit"),
        days=body.days,
    )
    return _shown(IssuedInvitation, invitation, code=code, path=f"/portal/invitation/{code}")


@OPERATIONS.get("/invitations", "List invitations")
async def list_invitations(asked: Asked, query: InvitationsQuery) -> Invitations:
    page = await asked.control.people.list_invitations(given(query.account), **page_of(query))
    return Invitations([_shown(InvitationShape, each) for each in page.items], page.next_cursor)


@OPERATIONS.post("/invitations/{invitation}/void", "Withdraw an invitation")
async def void_invitation(asked: Asked) -> InvitationShape:
    found = await asked.control.people.void_invitation(asked.path["invitation"])
    return _shown(InvitationShape, found)
