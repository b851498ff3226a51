"""Keys: issue, limit, rotate, disable."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from merino.control.pages import page_of
from merino.control.ports import KeyTerms
from merino.dashboard.guard import CHANGERS, Guard
from merino.dashboard.visit import Visit
from merino.domain.key import VirtualKey

KEYS_SHOWN = 50


def key_routes(guard: Guard) -> list[Route]:
    return [
        Route("/keys", guard.page(_list), methods=["GET"]),
        Route("/keys", guard.page(_create, CHANGERS), methods=["POST"]),
        Route("/keys/{key}", guard.page(_show), methods=["GET"]),
        Route("/keys/{key}", guard.page(_update, CHANGERS), methods=["POST"]),
        Route("/keys/{key}/rotate", guard.page(_rotate, CHANGERS), methods=["POST"]),
        Route("/keys/{key}/disable", guard.page(_disable, CHANGERS), methods=["POST"]),
        Route("/keys/{key}/enable", guard.page(_enable, CHANGERS), methods=["POST"]),
    ]


async def _list(visit: Visit) -> Response:
    query = visit.query
    account = query.optional("account")
    wanted = visit.account_id if account is None else visit.account(account).id
    text = query.text("name").lower()
    keys = [
        key
        for key in reversed(visit.parts.control.keys.all())
        if wanted in (None, key.account_id) and text in key.name.lower()
    ]
    page = page_of(keys, limit=KEYS_SHOWN, cursor=query.optional("cursor"))
    return visit.page(
        "keys.html",
        "keys",
        page=page,
        use=await visit.parts.overview.key_use(page.items),
        total=len(keys),
        names={each.id: each.name for each in visit.accounts()},
        currencies={each.id: each.currency for each in visit.accounts()},
        accounts=visit.accounts(),
        aliases=[alias.name for alias in visit.parts.aliases()],
        fields={"account": account or "", "name": text},
    )


async def _create(visit: Visit) -> Response:
    account = visit.account(visit.form.text("account") or visit.account_id or "")
    key, secret = visit.parts.control.keys.create(
        account.id, visit.form.text("name"), _terms(visit)
    )
    visit.record("create_key", key.name, account.id, _told(_terms(visit)))
    return _with_secret(visit, key, secret, "created")


async def _show(visit: Visit) -> Response:
    key = visit.key(visit.path("key"))
    use = await visit.parts.overview.key_use([key])
    return visit.page(
        "key.html",
        "keys",
        key=key,
        use=use[key.id],
        account=visit.account(key.account_id),
        aliases=[alias.name for alias in visit.parts.aliases()],
    )


async def _update(visit: Visit) -> Response:
    key = visit.key(visit.path("key"))
    terms = _terms(visit)
    if name := visit.form.text("name"):
        terms["name"] = name
    if terms.get("expires_at_ms") == _to_minute(key.expires_at_ms):
        del terms["expires_at_ms"]  # the form shows minutes; what was not changed stays exact
    changed = visit.parts.control.keys.update(key.id, terms)
    visit.record("update_key", changed.name, key.account_id, _told(terms))
    return visit.back(f"/keys/{key.id}", f"Key {changed.name} was changed.")


async def _rotate(visit: Visit) -> Response:
    key = visit.key(visit.path("key"))
    changed, secret = visit.parts.control.keys.rotate(key.id)
    visit.record("rotate_key", key.name, key.account_id)
    return _with_secret(visit, changed, secret, "rotated; the old secret is void")


async def _disable(visit: Visit) -> Response:
    return _switch(visit, disabled=True)


async def _enable(visit: Visit) -> Response:
    return _switch(visit, disabled=False)


def _switch(visit: Visit, *, disabled: bool) -> Response:
    key = visit.key(visit.path("key"))
    visit.parts.control.keys.update(key.id, {"disabled": disabled})
    word = "disabled" if disabled else "enabled"
    visit.record("disable_key" if disabled else "enable_key", key.name, key.account_id)
    return visit.back(f"/keys/{key.id}", f"Key {key.name} was {word}.")


def _with_secret(visit: Visit, key: VirtualKey, secret: str, what: str) -> Response:
    """The answer to the form itself: nothing keeps the secret, not even until a redirect."""
    return visit.page("key_secret.html", "keys", key=key, secret=secret, what=what)


def _terms(visit: Visit) -> KeyTerms:
    form = visit.form
    aliases = tuple(each.strip() for each in form.text("aliases").split(",") if each.strip())
    return {
        "aliases": aliases,
        "expires_at_ms": form.optional_moment("expires_at"),
        "spend_cap_nanos": form.optional_amount("spend_cap"),
        "spend_period": form.period("spend_period") if form.text("spend_period") else "total",
        "rps": form.optional_whole("rps"),
        "rpm": form.optional_whole("rpm"),
        "tpm": form.optional_whole("tpm"),
        "concurrency": form.optional_whole("concurrency"),
    }


def _told(terms: KeyTerms) -> dict[str, object]:
    return {name: value for name, value in terms.items() if value not in (None, ())}


def _to_minute(at_ms: int | None) -> int | None:
    return None if at_ms is None else at_ms - at_ms % 60_000
