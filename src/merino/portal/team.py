"""Who belongs to an account, and who is invited to it."""

from __future__ import annotations

from typing import get_args

from starlette.datastructures import FormData
from starlette.responses import Response

from merino.domain.errors import Conflict, InvalidCall, NotFound
from merino.domain.person import Invitation, MemberRole
from merino.portal.catalogues import LANGUAGES, words_of
from merino.portal.letters import invitation_letter
from merino.portal.visits import BASE, Visit, go, text_of

_INVITATIONS_MAX = 50
ROLES: tuple[MemberRole, ...] = get_args(MemberRole)


async def show_team(visit: Visit) -> Response:
    return await visit.page(
        "team.html",
        members=await visit.control.people.members_of(visit.account.id),
        invitations=await _open_invitations(visit),
        roles=ROLES,
        is_owner=visit.role == "owner",
        code="",
    )


async def invite(visit: Visit, form: FormData) -> Response:
    """By a letter; whether the address belongs to somebody who is known here is told to nobody."""
    if len(await _open_invitations(visit)) >= _INVITATIONS_MAX:
        raise Conflict(
            f"At most {_INVITATIONS_MAX} invitations are open at once.", code="too_many_invitations"
        )
    account = visit.account
    email = text_of(form, "email")
    if not email:
        raise InvalidCall("Whom?", param="email", code="invalid_email")
    invitation, code = await visit.control.people.invite(
        invited_by=f"person {visit.person.id}",
        email=email,
        account=account.id,
        role=_role(form),
    )
    await visit.note("create_invitation", invitation.id, ("role", invitation.role))
    language = text_of(form, "language")
    words = words_of(language if language in LANGUAGES else visit.words.language)
    url = visit.settings.public_url
    link = None if url is None else f"{url.rstrip('/')}{BASE}/invitation/{code}"
    letter = invitation_letter(
        words, visit.settings.name, account.name, words(invitation.role), link, code
    )
    visit.desk.post.post(email, *letter)
    return go(f"{BASE}/team", "invited")


async def withdraw(visit: Visit, _: FormData) -> Response:
    wanted = visit.request.path_params["invitation"]
    if wanted not in {each.id for each in await _open_invitations(visit)}:
        raise NotFound("There is no such invitation.", code="invitation_not_found")
    await visit.control.people.void_invitation(wanted)
    await visit.note("void_invitation", wanted)
    return go(f"{BASE}/team", "withdrawn")


async def change_role(visit: Visit, form: FormData) -> Response:
    person_id = visit.request.path_params["person"]
    role = _role(form)
    await visit.control.people.set_role(visit.account.id, person_id, role)
    await visit.note("set_role", person_id, ("role", role))
    return go(f"{BASE}/team", "member")


async def remove(visit: Visit, _: FormData) -> Response:
    person_id = visit.request.path_params["person"]
    await visit.control.people.remove(visit.account.id, person_id)
    await visit.note("remove_member", person_id)
    return go(f"{BASE}/team", "removed")


async def _open_invitations(visit: Visit) -> list[Invitation]:
    people = visit.control.people
    page = await people.list_invitations(visit.account.id, limit=500)
    return [each for each in page.items if people.is_open(each)]


def _role(form: FormData) -> MemberRole:
    wanted = text_of(form, "role")
    for role in ROLES:
        if role == wanted:
            return role
    raise InvalidCall("There is no such role.", param="role")
