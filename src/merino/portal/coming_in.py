"""Signing up, in and out: by a code or link in a letter, by a provider, by an invitation."""

from __future__ import annotations

from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from merino.dashboard.oidc import SignInFailed
from merino.dashboard.sessions import PENDING_S
from merino.domain.errors import Conflict, InvalidCall, MerinoError
from merino.domain.person import Proof, subject_of
from merino.portal.catalogues import LANGUAGES
from merino.portal.visits import (
    BASE,
    COOKIE,
    INVITATION_COOKIE,
    LANGUAGE_COOKIE,
    LETTER_COOKIE,
    SESSION_S,
    Guest,
    GuestForm,
    GuestHandler,
    PortalDesk,
    failed,
    forget_cookie,
    go,
    log,
    note,
    open_to_all,
    sent_by_all,
    set_cookie,
    text_of,
)

_PENDING_COOKIE = "merino_portal_sign_in"
_LETTER_S = 900
_INVITATION_S = 3600
_YEAR_S = 365 * 86_400


def coming_in_routes(desk: PortalDesk) -> list[Route]:
    def page(path: str, handler: GuestHandler) -> Route:
        return Route(f"{BASE}{path}", open_to_all(desk, handler), methods=["GET"])

    def form(path: str, handler: GuestForm, back: GuestHandler | None = None) -> Route:
        return Route(f"{BASE}{path}", sent_by_all(desk, handler, back), methods=["POST"])

    return [
        page("/sign-in", show_sign_in),
        form("/sign-in", ask, show_sign_in),
        page("/code", show_code),
        form("/code", enter_code, show_code),
        page("/link/{link}", show_link),
        form("/link/{link}", follow_link, show_link),
        page("/invitation", show_invitation_form),
        form("/invitation", type_invitation, show_invitation_form),
        page("/invitation/{code}", show_invitation),
        page("/oidc/start", oidc_start),
        page("/oidc/callback", oidc_callback),
        page("/welcome", show_welcome),
        form("/welcome", accept, show_welcome),
        page("/waiting", show_waiting),
        page("/nowhere", show_nowhere),
        form("/sign-out", sign_out),
        form("/language", choose_language),
    ]


async def show_sign_in(guest: Guest) -> Response:
    if guest.session is not None:
        return go(BASE)
    provider = guest.desk.oidc()
    methods = guest.settings.methods
    invited = await _invited(guest)
    return await guest.page(
        "sign_in.html",
        by_mail={"email", "invitation"} & set(methods) and guest.desk.entrance.has_mail,
        provider=provider.name if provider is not None and "oidc" in methods else "",
        takes_invitations="invitation" in methods,
        invited=invited,
    )


async def ask(guest: Guest, form: FormData) -> Response:
    invitation = guest.request.cookies.get(INVITATION_COOKIE, "")
    email = text_of(form, "email")
    token = await guest.desk.entrance.ask(email, guest.source, guest.words, invitation)
    response = go(f"{BASE}/code")
    set_cookie(response, guest.request, LETTER_COOKIE, token, _LETTER_S)
    return response


async def show_code(guest: Guest) -> Response:
    if not guest.request.cookies.get(LETTER_COOKIE):
        return go(f"{BASE}/sign-in")
    return await guest.page("code.html", has_links=guest.settings.public_url is not None)


async def enter_code(guest: Guest, form: FormData) -> Response:
    letter = guest.request.cookies.get(LETTER_COOKIE, "")
    token = await guest.desk.entrance.enter_code(letter, text_of(form, "code"), guest.source)
    if token is None:
        raise InvalidCall("This code is wrong or too old.", param="code", code="wrong_code")
    return await _let_in(guest, token)


async def show_link(guest: Guest) -> Response:
    # A look at the address must not use the link up: mail programs look at every address.
    return await guest.page("link.html", link=guest.request.path_params["link"])


async def follow_link(guest: Guest, _: FormData) -> Response:
    link = guest.request.path_params["link"]
    token = await guest.desk.entrance.follow_link(link, guest.source)
    if token is None:
        raise InvalidCall("This link is wrong or too old.", code="wrong_code")
    return await _let_in(guest, token)


async def show_invitation_form(guest: Guest) -> Response:
    return await guest.page("invitation.html")


async def type_invitation(guest: Guest, form: FormData) -> Response:
    return await _with_invitation(guest, text_of(form, "code"))


async def show_invitation(guest: Guest) -> Response:
    return await _with_invitation(guest, guest.request.path_params["code"])


async def _with_invitation(guest: Guest, code: str) -> Response:
    """Kept by the browser until somebody has said who they are. A code that is none is told from
    one that is by who has the whole of it only."""
    invitation = await guest.desk.control.people.invitation(code)
    if invitation is None:
        raise Conflict("This invitation cannot be used.", code="invitation_used")
    session = guest.session
    if session is not None and session.person is not None:
        joined = await guest.desk.control.people.accept(session.person, invitation)
        await note(guest.desk, f"person {session.person.id}", "accept_invitation", joined.id)
        assert joined.account_id is not None
        await guest.desk.entrance.look_at(session, joined.account_id)
        return go(BASE, "joined")
    response = go(f"{BASE}/sign-in")
    set_cookie(response, guest.request, INVITATION_COOKIE, code, _INVITATION_S)
    return response


async def show_welcome(guest: Guest) -> Response:
    """The terms, for who is new, or has not accepted these."""
    session = guest.session
    if session is None:
        return go(f"{BASE}/sign-in")
    people = guest.desk.control.people
    if session.person is not None and (not people.terms or session.person.terms == people.terms):
        return go(BASE)
    invitation = await people.invitation_of(session.invitation_id)
    joins = None if invitation is None else invitation.account_id
    return await guest.page(
        "welcome.html",
        terms=people.terms,
        is_new=session.person is None,
        who=session.proof.email or session.proof.subject,
        joins=None if joins is None else guest.desk.control.accounts.find(joins).name,
        currency=guest.settings.currency,
    )


async def accept(guest: Guest, form: FormData) -> Response:
    session = guest.session
    if session is None:
        return go(f"{BASE}/sign-in")
    people = guest.desk.control.people
    terms = text_of(form, "terms")
    if people.terms and form.get("accepted") != "yes":
        raise InvalidCall("Accept the terms.", param="accepted", code="terms_missing")
    language = guest.words.language
    if session.person is not None:
        await people.accept_terms(session.person, terms, language)
        return go(BASE)
    person, credited = await guest.desk.entrance.register(
        session, terms=terms, language=language, source=guest.source
    )
    actor = f"person {person.id}"
    await note(guest.desk, actor, "sign_up", person.id, ("state", person.state))
    if credited:
        await note(guest.desk, actor, "start_credit", person.id, ("nanos", credited))
    return go(BASE)


async def show_waiting(guest: Guest) -> Response:
    if guest.session is None or guest.session.person is None:
        return go(f"{BASE}/sign-in")
    if guest.session.person.state != "waiting":
        return go(BASE)
    return await guest.page("waiting.html")


async def show_nowhere(guest: Guest) -> Response:
    """For who belongs to no account any more."""
    if guest.session is None or guest.session.person is None:
        return go(f"{BASE}/sign-in")
    if await guest.desk.control.people.accounts_of(guest.session.person.id):
        return go(BASE)
    return await guest.page("nowhere.html")


async def sign_out(guest: Guest, form: FormData) -> Response:
    if guest.session is not None:
        everywhere = form.get("everywhere") == "yes"
        await guest.desk.entrance.leave(guest.session, everywhere=everywhere)
    response = go(f"{BASE}/sign-in")
    forget_cookie(response, COOKIE)
    return response


async def choose_language(guest: Guest, form: FormData) -> Response:
    language = text_of(form, "language")
    if language not in LANGUAGES:
        raise InvalidCall("There is no such language.", code="invalid_language")
    session = guest.session
    if session is not None and session.person is not None:
        people = guest.desk.control.people
        await people.set_language(session.person, language)
    response = go(_page_of_ours(text_of(form, "back")))
    set_cookie(response, guest.request, LANGUAGE_COOKIE, language, _YEAR_S)
    return response


async def oidc_start(guest: Guest) -> Response:
    provider = guest.desk.oidc()
    if provider is None or "oidc" not in guest.settings.methods:
        return go(f"{BASE}/sign-in")
    try:
        url, pending = await provider.begin(f"{guest.address}{BASE}/oidc/callback")
    except SignInFailed as failure:
        return await _not_signed_in(guest, failure)
    response = RedirectResponse(url, 303, {"cache-control": "no-store"})
    token = guest.desk.pending.add(pending)
    set_cookie(response, guest.request, _PENDING_COOKIE, token, int(PENDING_S))
    return response


async def oidc_callback(guest: Guest) -> Response:
    provider = guest.desk.oidc()
    if provider is None or "oidc" not in guest.settings.methods:
        return go(f"{BASE}/sign-in")
    asked = guest.request.query_params
    pending = guest.desk.pending.take(
        guest.request.cookies.get(_PENDING_COOKIE), asked.get("state", "")
    )
    if pending is None:
        raise InvalidCall("This sign-in did not begin here.", code="not_from_here")
    try:
        who, _ = await provider.finish(pending, asked, f"{guest.address}{BASE}/sign-in")
    except SignInFailed as failure:
        return await _not_signed_in(guest, failure)
    proof = Proof(who.email, subject_of(who.issuer, who.subject or who.name))
    invitation = guest.request.cookies.get(INVITATION_COOKIE, "")
    token = await guest.desk.entrance.come_by(proof, invitation)
    response = await _let_in(guest, token)
    forget_cookie(response, _PENDING_COOKIE)
    return response


async def _not_signed_in(guest: Guest, failure: SignInFailed) -> Response:
    log.warning("a sign-in failed", reason=failure.reason)
    error = InvalidCall("Nobody was signed in.", code="not_signed_in")
    # What is set up wrongly is for the log, and others sign in here by other ways than there.
    detail = failure.message if failure.status == 403 else ""
    response = await failed(guest, error, failure.status, detail)
    forget_cookie(response, _PENDING_COOKIE)
    return response


async def _let_in(guest: Guest, token: str) -> Response:
    """A new session, whatever the browser had before. Who was invited to an account that they do
    not belong to yet, joins it now if they are a customer already."""
    if guest.session is not None:
        await guest.desk.entrance.leave(guest.session)
    session = await guest.desk.entrance.session(token)
    response = go(BASE)
    if session is not None and session.person is not None and session.invitation_id is not None:
        people = guest.desk.control.people
        invitation = await people.invitation_of(session.invitation_id)
        if invitation is not None and invitation.account_id is not None:
            try:
                await people.accept(session.person, invitation)
                await guest.desk.entrance.look_at(session, invitation.account_id)
                response = go(BASE, "joined")
            except MerinoError:
                log.info("an invitation was not accepted", invitation=invitation.id)
    set_cookie(response, guest.request, COOKIE, token, SESSION_S)
    forget_cookie(response, LETTER_COOKIE)
    forget_cookie(response, INVITATION_COOKIE)
    return response


async def _invited(guest: Guest) -> bool:
    code = guest.request.cookies.get(INVITATION_COOKIE, "")
    return bool(code) and await guest.desk.control.people.invitation(code) is not None


def _page_of_ours(text: str) -> str:
    is_inside = text == BASE or text.startswith(f"{BASE}/")
    is_plain = text.isascii() and text.isprintable() and "\\" not in text and ".." not in text
    return text if is_inside and is_plain and len(text) <= 500 else BASE
