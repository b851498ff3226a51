"""What the portal's pages share: who visits, in which language, templates, forms, headers."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeVar
from urllib.parse import quote

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from merino.billing.desks import Billing
from merino.control.audit import told
from merino.control.control import Control
from merino.control.overview import OverviewDesk
from merino.control.usage import FirstTokens, UsageSums
from merino.dashboard.oidc import OidcProvider
from merino.dashboard.sessions import PendingSignIns
from merino.domain.account import Account
from merino.domain.currencies import charge_text
from merino.domain.deployment import Deployment
from merino.domain.errors import InvalidCall, MerinoError, NotFound, StoreUnavailable
from merino.domain.key import VirtualKey
from merino.domain.money import format_nanos, with_sign
from merino.domain.person import Member, MemberRole, Person
from merino.pages import figures, moments
from merino.pages.off_loop import off_loop
from merino.portal.catalogues import LANGUAGES, Words, language_of, words_of
from merino.portal.entrance import Entrance, PortalSession
from merino.portal.letters import approved_letter
from merino.portal.ports import Post
from merino.portal.problems import problem_text
from merino.pricing.book import PriceBook
from merino.pricing.price import Price
from merino.settings import Catalog
from merino.settings.sections.portal import PortalSettings

log = structlog.get_logger("merino.portal")

BASE = "/portal"
COOKIE = "merino_portal"
LETTER_COOKIE = "merino_portal_letter"
LANGUAGE_COOKIE = "merino_language"
INVITATION_COOKIE = "merino_invitation"
SESSION_S = 30 * 86_400
FORM_BYTES_MAX = 64 * 1024
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    # A link with a secret in it stays here.
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


@dataclass(slots=True)
class PortalDesk:
    """Everything the portal needs of the relay. What a reload replaces is asked for each time."""

    control: Control
    billing: Billing
    overview: OverviewDesk
    usage: UsageSums
    first_tokens: FirstTokens
    entrance: Entrance
    post: Post
    settings: Callable[[], PortalSettings]
    catalog: Callable[[], Catalog]
    prices: Callable[[], PriceBook]
    price_of: Callable[[Deployment, str | None], Price | None]
    oidc: Callable[[], OidcProvider | None]
    pending: PendingSignIns = field(default_factory=PendingSignIns)

    def welcome(self, person: Person) -> None:
        """Write to somebody whom an operator has let in."""
        settings = self.settings()
        if person.email is not None and settings.enabled:
            url = settings.public_url
            link = None if url is None else f"{url.rstrip('/')}{BASE}"
            words = words_of(person.language)
            self.post.post(person.email, *approved_letter(words, settings.name, link))


@dataclass(slots=True)
class Guest:
    """One request of anybody."""

    request: Request
    desk: PortalDesk
    words: Words
    session: PortalSession | None = None
    problem: Problem | None = None

    @property
    def settings(self) -> PortalSettings:
        return self.desk.settings()

    @property
    def source(self) -> str:
        return self.request.client.host if self.request.client else ""

    @property
    def address(self) -> str:
        """Where this browser reaches the relay."""
        url = self.settings.public_url or str(self.request.base_url)
        return url.rstrip("/")

    def query(self, name: str, default: str = "") -> str:
        return self.request.query_params.get(name, default)

    async def page(self, template: str, status: int = 200, **values: Any) -> Response:
        shown: dict[str, Any] = {
            "_": self.words,
            "language": self.words.language,
            "languages": LANGUAGES,
            "base": BASE,
            "portal": self.settings,
            "path": _page_path(self.request),
            "session": self.session,
            "csrf": "" if self.session is None else self.session.csrf,
            "problem": self.problem,
            "done": self._done(),
            "theme": _theme(self.request),
            "navigation": (),
            "account": None,
            "accounts": (),
            "currency": None,
            "role": None,
        } | values
        text = await made(template, shown)
        if self.problem is not None and status == 200:
            status = 400
        return HTMLResponse(text, status, {**HEADERS, "content-security-policy": _POLICY})

    def _done(self) -> str:
        said = DONE.get(self.query("done"))
        return "" if said is None else self.words(said)


@dataclass(frozen=True, slots=True)
class Problem:
    """A form that was refused: why, at which field, and what was typed."""

    action: str
    message: str
    at: str | None
    values: Mapping[str, str]


@dataclass(slots=True)
class Visit(Guest):
    """One request of a customer, who looks at one of their accounts."""

    person: Person = field(kw_only=True)
    members: tuple[Member, ...] = field(kw_only=True)
    member: Member = field(kw_only=True)

    @property
    def control(self) -> Control:
        return self.desk.control

    @property
    def account(self) -> Account:
        return self.desk.control.accounts.find(self.member.account_id)

    @property
    def role(self) -> MemberRole:
        return self.member.role

    def own_keys(self) -> list[VirtualKey]:
        account_id = self.member.account_id
        return list(self.control.keys.list(account=account_id, limit=100_000).items)

    def key(self, key_id: str) -> VirtualKey:
        """One of this account. What is another's does not exist."""
        for key in self.own_keys():
            if key.id == key_id:
                return key
        raise NotFound("There is no such key.", code="key_not_found")

    async def note(self, action: str, target: str, *details: tuple[str, object]) -> None:
        """In the audit log, under the person's id: a deleted person's name is nowhere."""
        await note(self.desk, f"person {self.person.id}", action, target, *details)

    async def page(self, template: str, status: int = 200, **values: Any) -> Response:
        names = {
            each.account_id: self.control.accounts.find(each.account_id).name
            for each in self.members
        }
        account = self.account
        return await Guest.page(
            self,
            template,
            status,
            account=account,
            accounts=[(each.account_id, names[each.account_id]) for each in self.members],
            person=self.person,
            role=self.role,
            currency=account.currency,
            navigation=NAVIGATION,
            **values,
        )


NAVIGATION: tuple[tuple[str, str, str], ...] = (
    ("", "Start", "overview"),
    ("/usage", "Usage", "calls"),
    ("/keys", "Keys", "keys"),
    ("/billing", "Billing", "accounts"),
    ("/prices", "Prices", "models"),
    ("/team", "Team", "admin-keys"),
    ("/me", "My data", "settings"),
)

_WITH_FORMS = frozenset(
    ("/keys", "/billing", "/team", "/me", "/sign-in", "/code", "/welcome", "/invitation")
)

DONE: Mapping[str, str] = {
    "key-off": "The key is off.",
    "key-on": "The key is on again.",
    "saved": "Saved.",
    "card": "The card is deleted.",
    "voucher": "The voucher is credited.",
    "invited": "The invitation is on its way.",
    "withdrawn": "The invitation is withdrawn.",
    "member": "The member is changed.",
    "removed": "The member is removed.",
    "joined": "You belong to this account now.",
    "paid": "Thank you. Your payment is credited as soon as it is confirmed.",
    "unpaid": "Nothing was paid.",
}
"""What was done, as the page after it says."""

Whom = TypeVar("Whom", bound=Guest)
Handler = Callable[[Visit], Awaitable[Response]]
FormHandler = Callable[[Visit, FormData], Awaitable[Response]]
GuestHandler = Callable[[Guest], Awaitable[Response]]
GuestForm = Callable[[Guest, FormData], Awaitable[Response]]
_RANK = {"viewer": 0, "member": 1, "owner": 2}


async def note(
    desk: PortalDesk, actor: str, action: str, target: str, *details: tuple[str, object]
) -> None:
    try:
        await desk.control.audit.note(actor, action, target, told(details))
    except StoreUnavailable:
        log.warning("not in the audit log", action=action, actor=actor)


def open_to_all(desk: PortalDesk, handler: GuestHandler) -> Any:
    """A page for anybody."""
    return _endpoint(desk, _anybody, handler)


def sent_by_all(desk: PortalDesk, handler: GuestForm, back: GuestHandler | None = None) -> Any:
    """A form of anybody. Before there is a session there is no token: that the form is ours is told
    by its origin. `back` makes the page it stands on."""

    async def answer(guest: Guest) -> Response:
        form = await read_form(guest.request)
        session = guest.session
        is_ours = is_same_origin(guest.request) if session is None else _is_token(form, session)
        if not is_ours:
            raise InvalidCall("This form did not come from this page.", code="not_from_here")
        return await _taken(guest, form, handler, back)

    return _endpoint(desk, _anybody, answer)


def guarded(desk: PortalDesk, handler: Handler) -> Any:
    """A page for customers; others are asked to sign in, or to finish signing up."""
    return _endpoint(desk, _visit, handler)


def posted(
    desk: PortalDesk,
    handler: FormHandler,
    *,
    role: MemberRole = "owner",
    back: Handler | None = None,
) -> Any:
    """A form of a customer with at least this role, from a page of ours."""

    async def answer(visit: Visit) -> Response:
        form = await read_form(visit.request)
        assert visit.session is not None
        if not _is_token(form, visit.session):
            raise InvalidCall("This form did not come from this page.", code="not_from_here")
        if _RANK[visit.role] < _RANK[role]:
            raise InvalidCall("Your role does not allow this.", code="not_allowed")
        return await _taken(visit, form, handler, back)

    return _endpoint(desk, _visit, answer)


def _endpoint(
    desk: PortalDesk,
    who: Callable[[Guest], Awaitable[Whom | Response]],
    answer: Callable[[Whom], Awaitable[Response]],
) -> Any:
    """`who` says who comes, or sends them elsewhere. What goes wrong becomes a page that says so,
    made for them."""

    async def endpoint(request: Request) -> Response:
        guest = await _guest(desk, request)
        try:
            found = await who(guest)
            if isinstance(found, Response):
                return found
            guest = found
            return await answer(found)
        except MerinoError as error:
            return await failed(guest, error)
        except Exception:
            log.exception("a page failed", path=request.url.path)
            return await broken(guest)

    return endpoint


async def _anybody(guest: Guest) -> Guest:
    return guest


async def _taken(
    guest: Whom,
    form: FormData,
    handler: Callable[[Whom, FormData], Awaitable[Response]],
    back: Callable[[Whom], Awaitable[Response]] | None,
) -> Response:
    """What a form does. What is wrong with it is said on the page it stands on."""
    try:
        return await handler(guest, form)
    except MerinoError as error:
        if back is None or isinstance(error, NotFound):
            raise
        guest.problem = _problem(guest, form, error)
        response = await back(guest)
        if error.retry_after_s is not None:
            response.status_code = 429
        return _with_wait(response, error)


async def _guest(desk: PortalDesk, request: Request) -> Guest:
    session = await desk.entrance.session(request.cookies.get(COOKIE))
    return Guest(request, desk, words_of(_language(request, session)), session)


def _language(request: Request, session: PortalSession | None) -> str:
    for wanted in (request.query_params.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if wanted is not None and wanted in LANGUAGES:
            return wanted
    if session is not None and session.person is not None:
        return session.person.language
    return language_of(request.headers.get("accept-language", ""))


async def _visit(guest: Guest) -> Visit | Response:
    session = guest.session
    if session is None:
        return go(f"{BASE}/sign-in")
    person = session.person
    people = guest.desk.control.people
    if person is None or (people.terms and person.terms != people.terms):
        return go(f"{BASE}/welcome")
    if person.state == "waiting":
        return go(f"{BASE}/waiting")
    members = tuple(await people.accounts_of(person.id))
    if not members:
        return go(f"{BASE}/nowhere")
    member = next((each for each in members if each.account_id == session.account_id), members[0])
    return Visit(
        guest.request,
        guest.desk,
        guest.words,
        session,
        person=person,
        members=members,
        member=member,
    )


async def failed(
    guest: Guest, error: MerinoError, status: int | None = None, detail: str = ""
) -> Response:
    """`detail` is what somebody else said of it, in their own language."""
    guest.problem = None
    if status is None:
        status = 404 if isinstance(error, NotFound) else 400
    if error.retry_after_s is not None:
        status = 429
    message = problem_text(error, guest.words)
    response = await guest.page(
        "problem.html", status, message=message, detail=detail, is_missing=status == 404
    )
    return _with_wait(response, error)


def _with_wait(response: Response, error: MerinoError) -> Response:
    if error.retry_after_s is not None:
        response.headers["retry-after"] = str(max(1, int(error.retry_after_s)))
    return response


async def broken(guest: Guest) -> Response:
    """A fault of ours: the log says what, the page only that."""
    guest.problem = None
    message = guest.words("The page could not be made. Try again in a minute.")
    return await guest.page("problem.html", 500, message=message, detail="", is_missing=False)


def go(path: str, done: str = "") -> Response:
    query = f"?done={quote(done)}" if done else ""
    return RedirectResponse(f"{path}{query}", 303, {"cache-control": "no-store"})


async def read_form(request: Request) -> FormData:
    """Raises `InvalidCall` for what is no small form."""
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > FORM_BYTES_MAX:
        raise InvalidCall("The form is too large.")
    try:
        return await request.form(max_files=0, max_fields=50)
    except (HTTPException, MultiPartException) as error:
        raise InvalidCall("The form cannot be read.") from error


def text_of(form: FormData, name: str) -> str:
    value = form.get(name)
    return value.strip() if isinstance(value, str) else ""


def is_same_origin(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host", "")


def set_cookie(response: Response, request: Request, name: str, value: str, age_s: int) -> None:
    response.set_cookie(
        name,
        value,
        max_age=age_s,
        path=BASE,
        secure=request.url.scheme == "https",
        httponly=True,
        # Lax: who comes back from a payment page, a provider or a letter is still known.
        samesite="lax",
    )


def forget_cookie(response: Response, name: str) -> None:
    response.delete_cookie(name, path=BASE, httponly=True, samesite="lax")


def _is_token(form: FormData, session: PortalSession) -> bool:
    given = form.get("csrf")
    return isinstance(given, str) and hmac.compare_digest(given.encode(), session.csrf.encode())


def _problem(guest: Guest, form: FormData, error: MerinoError) -> Problem:
    values = {name: text for name, text in form.items() if isinstance(text, str) and name != "csrf"}
    at = error.param if error.param in values else None
    return Problem(guest.request.url.path, problem_text(error, guest.words), at, values)


def _page_path(request: Request) -> str:
    """The page that this is: of a form's answer, the one that the form stands on."""
    path = request.url.path
    if request.method == "GET":
        return path
    first = f"/{path.removeprefix(BASE).lstrip('/').partition('/')[0]}"
    return f"{BASE}{first}" if first in _WITH_FORMS else BASE


def _theme(request: Request) -> str:
    theme = request.cookies.get("merino_theme", "")
    return theme if theme in ("light", "dark") else ""


@pass_context
def _money(page: Context, nanos: int | None) -> Markup:
    return figures.money(nanos, page.get("currency"))


@cache
def templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("merino.portal"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "money": _money,
        "money_in": figures.money,
        "money_text": figures.money_text,
        "sign": partial(with_sign, ""),
        "count": figures.count,
        "ms": figures.duration,
        "percent": figures.share_text,
        "moment": moments.moment,
        "utc": moments.moment_text,
        "exact": format_nanos,
        "plain": _plain,
        "day": moments.day_text,
        "charge": charge_text,
        "path": partial(quote, safe=""),
    }
    environment.filters.update(filters)
    return environment


async def made(template: str, shown: Mapping[str, Any]) -> str:
    """A template, filled in off the loop."""
    return await off_loop(_made, template, shown)


def _made(template: str, shown: Mapping[str, Any]) -> str:
    return templates().get_template(template).render(shown)


def _plain(nanos: int | None) -> str:
    """As it is typed."""
    return "" if nanos is None else format_nanos(nanos)


def compile_pages() -> None:
    """Off the event loop, before somebody looks at the first page."""
    environment = templates()
    for name in environment.list_templates():
        environment.get_template(name)
