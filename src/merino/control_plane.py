"""What operators do, put together over a store; and the admin API over a folder without a relay."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from merino.adapters import payment_providers
from merino.api.admin import LOCAL_SCOPE_KEY, admin_app
from merino.control.accounts import AccountDesk
from merino.control.audit import AuditLog
from merino.control.automatic import AutomaticTopUps
from merino.control.control import Control
from merino.control.credits import CreditDesk
from merino.control.money import Money
from merino.control.notices import NoticeDesk
from merino.control.statements import StatementDesk
from merino.control.topups import TopUpDesk
from merino.domain.errors import Misconfigured
from merino.gateway.fleet import Fleet
from merino.gateway.pipeline import Pipeline
from merino.live import limit_of_accounts
from merino.offer import offer_of
from merino.settings import load
from merino.storage import Store

log = structlog.get_logger("merino")


def control_of(
    store: Store,
    fleet: Fleet | None = None,
    pipeline: Pipeline | None = None,
    audit: AuditLog | None = None,
) -> Control:
    """Every desk over `store`, before settings say anything. `fleet` and `pipeline` are those of a
    relay that runs on it."""
    accounts = AccountDesk(store.accounts)
    return Control(
        accounts=accounts,
        keys=store.keys,
        admin_keys=store.admin_keys,
        calls=store.calls,
        reports=store.reports,
        ledger=store.books,
        money=_money(store, accounts, fleet, pipeline),
        states=fleet,
        running=tuple if pipeline is None else pipeline.running_calls,
        audit=audit,
    )


def _money(
    store: Store,
    accounts: AccountDesk,
    fleet: Fleet | None,
    pipeline: Pipeline | None,
) -> Money:
    credit_desk = CreditDesk(
        accounts, store.vouchers, store.transfers, store.exchange, store.statements
    )
    notices = NoticeDesk(
        store.accounts,
        accounts,
        store.notices,
        store.ledger.spent,
        tuple if fleet is None else fleet.troubles,
        odd=tuple if pipeline is None else pipeline.oddities.alarming,
        damage=store.damage,
    )
    topups = TopUpDesk(
        accounts,
        credit_desk,
        store.topups,
        store.cards,
        on_refused=log.warning,
        on_booked=notices.booked,
    )
    automatic = AutomaticTopUps(
        accounts, topups, store.topups, store.cards, notices, on_trouble=log.warning
    )
    return Money(credit_desk, topups, StatementDesk(accounts, store.statements), notices, automatic)


@asynccontextmanager
async def admin_asgi(data: Path, config: Path | None = None) -> AsyncGenerator[ASGIApp]:
    """The admin API over a data folder that no relay runs on. No key needed: who can open the
    folder owns it. A settings file that is wrong is told of and left out: books and keys are there
    all the same."""
    store = Store.open(data)
    await store.start()
    try:
        control = control_of(store)
        _configure(control, store, config)
        admin = admin_app(control, store.admin_keys.find)
        yield as_local(Starlette(routes=[Mount("/admin/v1", admin)]), lambda _: True)
    finally:
        await store.close()


def _configure(control: Control, store: Store, config: Path | None) -> None:
    try:
        settings = load(config, os.environ)
        offer = offer_of(settings, os.environ)
    except Misconfigured as error:
        first, *others = error.message.splitlines()
        more = f"; {len(others)} more: `merino config check`" if others else ""
        _tell(f"the settings file is left out, since it is wrong: {first}{more}")
        settings = load(None, {})
        offer = offer_of(settings, {})
    control.configure(offer.catalog.deployments, limit_of_accounts(settings))
    store.exchange.configure(offer.exchange_rates)
    try:
        control.money.configure(settings.payments, payment_providers(settings, os.environ))
    except Misconfigured as error:
        _tell(f"no payments: {error.message}")


def _tell(what: str) -> None:
    print(f"merino: {what}", file=sys.stderr)  # noqa: T201 - for the operator


def as_local(app: ASGIApp, is_local: Callable[[Scope], bool]) -> ASGIApp:
    """Requests that come by way of the data folder need no key: who can open it owns it."""

    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        scope[LOCAL_SCOPE_KEY] = is_local(scope)
        await app(scope, receive, send)

    return marked
