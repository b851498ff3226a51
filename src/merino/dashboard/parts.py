"""What every page shares: the request with its session, templates, forms, errors, headers."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import quote, unquote

import structlog
from jinja2 import (
    Environment,
    PackageLoader,
    StrictUndefined,
    pass_context,
    select_autoescape,
)
from jinja2.runtime import Context
from markupsafe import Markup, escape
from msgspec import Struct
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from merino.billing.desks import Billing
from merino.control.audit import told
from merino.control.call_search import CallSearch
from merino.control.control import Control
from merino.control.deployment_health import HealthDesk
from merino.control.overview import OverviewDesk
from merino.control.usage import UsageDesk
from merino.dashboard.identity import Identity, Role, grants_of
from merino.dashboard.navigation import navigation
from merino.dashboard.oidc import OidcProvider
from merino.dashboard.sessions import PendingSignIns, Session, Sessions, SignInLimit
from merino.domain.account import Account
from merino.domain.currencies import charge_text
from merino.domain.deployment import Deployment
from merino.domain.errors import InvalidCall, MerinoError, NotFound
from merino.domain.key import AdminKey, VirtualKey
from merino.domain.limits import (
    LIMIT_WORDS,
    Limits,
    flat,
)
from merino.domain.money import format_nanos, with_sign
from merino.gateway.limits import LimitUse
from merino.operations.forms import from_form
from merino.operations.table import Asked, Operation, perform
from merino.pages import figures, moments
from merino.pages.markdown import markdown
from merino.pages.off_loop import off_loop
from merino.pricing.book import PriceBook
from merino.pricing.price import Price
from merino.settings import Catalog, Settings

log = structlog.get_logger("merino.dashboard")

T = TypeVar("T", bound=Struct)

COOKIE = "merino_session"
THEME_COOKIE = "merino_theme"
"""Light or dark, as the reader chose; a script writes it."""
BASE = "/dashboard"
FORM_BYTES_MAX = 64 * 1024
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'{more}; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_NAME = re.compile("`([^`]+)`")
_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


class ChatAnswer(Protocol):
    """An answer of the relay, as it comes."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def pieces(self) -> AsyncIterator[bytes]: ...


class Chat(Protocol):
    """Makes a call as a key's owner would, with everything that belongs to a call."""

    def __call__(
        self,
        key: VirtualKey,
        body: bytes,
        only: Deployment | None = None,
        *,
        api: str = "chat/completions",
    ) -> Awaitable[ChatAnswer]: ...


class PriceOf(Protocol):
    """What a call to a deployment is billed with: for an account, or as listed."""

    def __call__(self, deployment: Deployment, account_id: str | None, /) -> Price | None: ...


@dataclass(slots=True)
class Desk:
    """Everything the pages need of the relay. What a reload replaces is asked for each time."""

    control: Control
    overview: OverviewDesk
    usage: UsageDesk
    health: HealthDesk
    search: CallSearch
    settings: Callable[[], Settings]
    catalog: Callable[[], Catalog]
    prices: Callable[[], PriceBook]
    price_of: PriceOf
    find_admin: Callable[[bytes], AdminKey | None]
    find_key: Callable[[bytes], VirtualKey | None]
    is_key_good: Callable[[bytes], bool]
    """Whether a key with this hash can still be used."""
    chat: Chat
    limits_now: Callable[[], Sequence[LimitUse]]
    data: Path
    sessions: Sessions
    sign_in_limit: SignInLimit
    pending: PendingSignIns
    oidc: Callable[[], OidcProvider | None]
    environ: Mapping[str, str]
    given: frozenset[str]
    """The variables of `environ` that stand for options of the command line."""

    @property
    def billing(self) -> Billing:
        return self.control.wing(Billing)

    def session_of(self, request: Request) -> Session | None:
        """Who is signed in, if what they signed in with is still good."""
        token = request.cookies.get(COOKIE)
        session = self.sessions.find(token)
        if session is None or self._is_good(session):
            return session
        self.sessions.end(token)
        return None

    def roles_of(self, who: Identity) -> list[tuple[Role, str | None]]:
        """The roles, and the accounts' ids, that the settings give to a person now: one for each
        account, the most first. Operators see every account, so that they have one role only."""
        oidc = self.settings().dashboard.oidc
        found: dict[str, Role] = {}
        for grant in () if oidc is None else grants_of(who, oidc):
            if grant.account is None:
                return [(grant.role, None)]
            try:
                found.setdefault(self.control.accounts.find(grant.account).id, grant.role)
            except NotFound:
                continue
        return [(role, account_id) for account_id, role in found.items()]

    def _is_good(self, session: Session) -> bool:
        if session.key_hash is not None:
            return self.is_key_good(session.key_hash)
        if session.identity is not None:
            return (session.role, session.account_id) in self.roles_of(session.identity)
        return True


@dataclass(frozen=True, slots=True)
class FormProblem:
    """A form sent to `action` that was refused: why, at which field, and what was typed."""

    action: str
    message: str
    at: str | None
    values: Mapping[str, str]


@dataclass(slots=True)
class Visit:
    """One request of somebody who is signed in. `problem` is what was wrong with the form that it
    sent, which the page it came from shows then."""

    request: Request
    desk: Desk
    session: Session
    problem: FormProblem | None = None

    @property
    def control(self) -> Control:
        return self.desk.control

    @property
    def scope(self) -> str | None:
        """The account whose data may be seen; `None` for all."""
        return self.session.account_id

    def query(self, name: str, default: str = "") -> str:
        return self.request.query_params.get(name, default)

    def account(self, reference: str) -> Account:
        """An account, if this visitor may see it. What they may not see does not exist."""
        found = self.control.accounts.find(reference)
        if self.scope is not None and found.id != self.scope:
            raise NotFound(f"There is no account '{reference[:100]}'.", code="account_not_found")
        return found

    def key(self, reference: str) -> VirtualKey:
        found = self.control.keys.find(reference)
        if self.scope is not None and found.account_id != self.scope:
            raise NotFound(f"There is no key '{reference[:100]}'.", code="key_not_found")
        return found

    def own_keys(self) -> list[VirtualKey]:
        """Those that may be seen."""
        found = self.control.keys.list(limit=100_000).items
        return [key for key in found if self.scope in (None, key.account_id)]

    def own_accounts(self) -> list[Account]:
        found = self.control.accounts.all()
        return [account for account in found if self.scope in (None, account.id)]

    @property
    def currency(self) -> str | None:
        """That of all accounts that may be seen; `None` if there are several."""
        found = {account.currency for account in self.own_accounts()}
        return found.pop() if len(found) == 1 else None

    def choices(self) -> list[tuple[str | None, Role]]:
        """The accounts that may be looked at instead of another; none if there is no choice."""
        who = self.session.identity
        found = [] if who is None else self.desk.roles_of(who)
        return [(account_id, role) for role, account_id in found] if len(found) > 1 else []

    async def perform(self, operation: Operation, body: Struct | None = None, **path: str) -> Any:
        """What an operation answers. A change is told of in the audit log, as this visitor's."""
        asked = Asked(self.control, path, body=body)
        answer, _ = await perform(operation, asked, self.session.actor)
        return answer

    async def note(self, action: str, target: str, *details: tuple[str, object]) -> None:
        """Leave a line in the audit log, about what is no operation."""
        await self.control.audit.note(self.session.actor, action, target, told(details))

    async def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """A page of a signed-in visitor."""
        names = {account.id: account.name for account in self.control.accounts.all()}
        values.setdefault("currency", self.currency)
        theme = self.request.cookies.get(THEME_COOKIE)
        settings = self.desk.settings()
        return await rendered(
            template,
            status if self.problem is None else 400,
            session=self.session,
            csrf=self.session.csrf,
            path=self.request.url.path,
            theme=theme if theme in ("light", "dark") else "",
            navigation=navigation(
                self.session,
                has_portal=settings.portal.enabled,
                has_sla=settings.sla.enabled,
            ),
            problem=self.problem,
            account_names=names,
            choices=self.choices(),
            notice=self.request.query_params.get("done", ""),
            **values,
        )


Handler = Callable[[Visit], Awaitable[Response]]
FormHandler = Callable[[Visit, FormData], Awaitable[Response]]


@pass_context
def _money(page: Context, nanos: int | None, column: int = 0) -> Markup:
    """In the page's `currency`."""
    return figures.money(nanos, page.get("currency"), column)


@pass_context
def _price(page: Context, nanos: int) -> Markup:
    return figures.price(nanos, page.get("currency"))


def prose(text: str) -> Markup:
    """Words of ours with `names` in them."""
    return Markup(_NAME.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def _quoted(text: object) -> str:
    """One part of a path."""
    return quote(str(text), safe="")


def _pairs(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Choices whose words are their values."""
    return [(text, text) for text in texts]


def _listed(said: str | None) -> str:
    """A list or an object that a call's record keeps as JSON, as people read it."""
    found: Any = json.loads(said) if said else []
    if isinstance(found, dict):
        found = [f"{name}={value}" for name, value in cast("dict[str, str]", found).items()]
    return ", ".join(found)


def _slug(text: str) -> str:
    """An address as a name that an element of a page may have."""
    return re.sub(r"\W+", "-", text.removeprefix(BASE)).strip("-")


_ADDRESS_MAX = 2000
_WANTED_S = 600
WANTED_COOKIE = "merino_wanted"
"""The page that somebody asked for before they signed in."""


def _limits(limits: Limits) -> str:
    """Those that there are, in a table's cell."""
    named = {"at once" if kind == "concurrency" else kind: n for kind, n in flat(limits).items()}
    return ", ".join(f"{name} {n}" for name, n in named.items() if n) or "none"


_FORM_LABELS = {
    "rps": "Requests/s",
    "rpm": "Requests/min",
    "tpm": "Tokens/min",
    "concurrency": "Calls at once",
}


_templates = Environment(
    loader=PackageLoader("merino.dashboard"),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_FILTERS: dict[str, Any] = {
    "money": _money,
    "money_in": figures.money,
    "price": _price,
    "amounts": figures.amounts,
    "decimals": figures.decimals_in,
    "moment": moments.moment,
    "utc": moments.moment_text,
    "day": moments.day_text,
    "prose": prose,
    "markdown": markdown,
    "slug": _slug,
    "pairs": _pairs,
    "sign": partial(with_sign, ""),
    "count": figures.count,
    "ms": figures.duration,
    "percent": figures.share_text,
    "ms_text": figures.duration_text,
    "share_words": figures.share_text,
    "listed": _listed,
    "exact": format_nanos,
    "path": _quoted,
    "limits": _limits,
    "charge": charge_text,
}
_templates.filters.update(_FILTERS)


def compile_pages() -> None:
    """Compile every template, which takes much longer than to fill it in: off the event loop,
    before somebody looks at the first page."""
    for name in _templates.list_templates():
        _templates.get_template(name)


async def rendered(
    template: str, status: int = 200, *, pays_at: str = "", **values: Any
) -> Response:
    """A page with the headers that keep it to itself. `pays_at` is where a form may lead to."""
    text = await off_loop(
        _made, template, base=BASE, limit_labels={**LIMIT_WORDS, **_FORM_LABELS}, **values
    )
    more = f" {pays_at}" if pays_at else ""
    headers = {**_HEADERS, "content-security-policy": _POLICY.format(more=more)}
    return HTMLResponse(text, status, headers)


async def fragment(template: str, **values: Any) -> str:
    """A part of a page, for a script to put in its place."""
    return await off_loop(_made, template, base=BASE, **values)


def _made(template: str, /, **values: Any) -> str:
    return _templates.get_template(template).render(values)


def go(path: str, done: str = "") -> Response:
    """To another page, with a word about what was done."""
    query = f"?done={quote(done)}" if done else ""
    return RedirectResponse(f"{path}{query}", 303, {"cache-control": "no-store"})


def to_sign_in(request: Request) -> Response:
    """Asked for a page by somebody who is not signed in: to be shown to them afterwards."""
    response = go(f"{BASE}/sign-in")
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        if page_of_ours(asked) is not None:
            response.set_cookie(
                WANTED_COOKIE,
                quote(asked, safe=""),
                max_age=_WANTED_S,
                path=BASE,
                secure=request.url.scheme == "https",
                httponly=True,
                samesite="lax",
            )
    return response


def wanted_page(request: Request) -> str:
    """Where a sign-in leads to."""
    return page_of_ours(unquote(request.cookies.get(WANTED_COOKIE, ""))) or BASE


def page_of_ours(text: str) -> str | None:
    """An address within the dashboard; `None` if it is none."""
    is_inside = text == BASE or text.startswith((f"{BASE}/", f"{BASE}?"))
    is_plain = text.isascii() and text.isprintable() and "\\" not in text and ".." not in text
    return text if is_inside and is_plain and len(text) <= _ADDRESS_MAX else None


def guarded(desk: Desk, handler: Handler, *, operator: bool = False) -> Any:
    """A page for who is signed in; others are asked to. Owners do not learn of operators' pages."""

    async def endpoint(request: Request) -> Response:
        session = desk.session_of(request)
        if session is None:
            return to_sign_in(request)
        visit = Visit(request, desk, session)
        try:
            if operator and not session.is_operator:
                raise NotFound("There is no such page.")
            return await handler(visit)
        except MerinoError as error:
            return await failed(visit, error)
        except Exception:
            log.exception("a page failed", path=request.url.path)
            return await broken(visit)

    return endpoint


def posted(
    desk: Desk,
    handler: FormHandler,
    *,
    operator: bool = False,
    viewer: bool = False,
    back: Handler | None = None,
) -> Any:
    """A form of who is signed in and may change things, and that came from a page of ours. With
    `viewer` it changes nothing, so that viewers may send it, too. `back` makes the page that it
    stands on: what is wrong with it is said there, beside what was typed."""

    async def endpoint(request: Request) -> Response:
        session = desk.session_of(request)
        if session is None:
            return go(f"{BASE}/sign-in")
        visit = Visit(request, desk, session)
        try:
            form = await read_form(request)
            if not session.is_csrf(form.get("csrf")):
                return await visit.page(
                    "problem.html",
                    403,
                    title="Not from here",
                    message="This form did not come from a page of this dashboard, or it is too "
                    "old. Go back, reload the page and try again.",
                )
            if operator and not session.is_operator:
                raise NotFound("There is no such page.")
            if not session.may_change and not viewer:
                return await visit.page(
                    "problem.html",
                    403,
                    title="Only looking",
                    message="You are signed in to look at this account, not to change it.",
                )
            try:
                return await handler(visit, form)
            except MerinoError as error:
                if back is None or isinstance(error, NotFound):
                    raise
                visit.problem = _problem(request.url.path, form, error)
                return await back(visit)
        except MerinoError as error:
            return await failed(visit, error)
        except Exception:
            log.exception("a page failed", path=request.url.path)
            return await broken(visit)

    return endpoint


def _problem(action: str, form: FormData, error: MerinoError) -> FormProblem:
    values = {name: text for name, text in form.items() if isinstance(text, str) and name != "csrf"}
    param = error.param if error.param in values else None
    return FormProblem(action, error.message, param, values)


async def failed(visit: Visit, error: MerinoError) -> Response:
    visit.problem = None
    status = 404 if isinstance(error, NotFound) else 400
    title = "Not found" if status == 404 else "That did not work"
    return await visit.page("problem.html", status, title=title, message=error.message)


async def broken(visit: Visit) -> Response:
    """A fault of ours: the log says what, the page only that."""
    message = "The relay could not make this page; its log says why."
    return await visit.page("problem.html", 500, title="That went wrong", message=message)


async def read_form(request: Request) -> FormData:
    """Raises `InvalidCall` for what is no small form."""
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > FORM_BYTES_MAX:
        raise InvalidCall("The form is too large.")
    try:
        return await request.form(max_files=0, max_fields=50)
    except (HTTPException, MultiPartException) as error:
        # Starlette raises the former wherever an app serves the request.
        reason = error.message if isinstance(error, MultiPartException) else error.detail
        raise InvalidCall(f"The form cannot be read: {reason}") from None


def body_of(form: FormData, kind: type[T], *wanted: str, **given: object) -> T:
    """An operation's body from those fields of a form that are `wanted`, and what is `given`."""
    texts = {
        name: [text for text in form.getlist(name) if isinstance(text, str)] for name in wanted
    }
    return from_form(texts, kind, *wanted, **given)


def text_of(form: FormData, name: str) -> str:
    value = form.get(name)
    return value.strip() if isinstance(value, str) else ""
