"""What operators do, put together over a store; and the admin API over a folder without a relay."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from merino.adapters import payment_providers
from merino.api.admin import LOCAL_SCOPE_KEY, admin_app
from merino.billing.wing import BillingWing
from merino.control.accounts import AccountDesk
from merino.control.additions import AdditionDesk, Offering
from merino.control.audit import AuditLog, NoLog
from merino.control.control import Control, Trial
from merino.control.people import PeopleDesk
from merino.control.sla import SlaDesk
from merino.domain.addition import Addition, Place
from merino.domain.clock import epoch_ms
from merino.domain.errors import Misconfigured
from merino.gateway.fleet import Fleet
from merino.gateway.pipeline import Pipeline
from merino.live import LimitOf, limit_of_accounts
from merino.offer import Joined, Offer, joined
from merino.operations import (
    accounts,
    additions,
    admin_keys,
    calls,
    deployments,
    entries,
    keys,
    people,
    sla,
)
from merino.settings import Settings, load
from merino.storage import Store

OPERATIONS = (
    *accounts.OPERATIONS,
    *keys.OPERATIONS,
    *admin_keys.OPERATIONS,
    *people.OPERATIONS,
    *sla.OPERATIONS,
    *calls.OPERATIONS,
    *entries.OPERATIONS,
    *deployments.OPERATIONS,
    *additions.OPERATIONS,
    *BillingWing.operations,
)
"""All that operators can do."""


class ControlPlane:
    """Every desk over `store`, made once; `configure` gives them what settings decide, also the
    first time. `fleet` and `pipeline` are those of a relay that runs on it."""

    def __init__(
        self,
        store: Store,
        audit: AuditLog,
        offering: Offering,
        fleet: Fleet | None = None,
        pipeline: Pipeline | None = None,
        trial: Trial | None = None,
    ) -> None:
        desk = AccountDesk(store.accounts)
        self._exchange = store.exchange
        self.billing = BillingWing(
            store,
            desk,
            troubles=tuple if fleet is None else fleet.troubles,
            odd=tuple if pipeline is None else pipeline.oddities.alarming,
        )
        self.control = Control(
            accounts=desk,
            keys=store.keys,
            admin_keys=store.admin_keys,
            calls=store.calls,
            reports=store.reports,
            ledger=store.books,
            audit=audit,
            people=PeopleDesk(store.people, desk),
            sla=SlaDesk(store.usage, desk),
            additions=AdditionDesk(store.additions, offering),
            wings=(self.billing.desks,),
            states=fleet,
            running=tuple if pipeline is None else pipeline.running_calls,
            trial=trial,
        )
        self.control.people.on_closing = self.billing.desks.closing
        self.admin = admin_app(self.control, OPERATIONS, store.admin_keys.find)

    def configure(self, offer: Offer, limit_of: LimitOf) -> None:
        catalog = offer.catalog
        self.control.configure(catalog.deployments, limit_of, catalog.aliases, catalog.sources)
        self._exchange.configure(offer.exchange_rates)


@asynccontextmanager
async def admin_asgi(data: Path, config: Path | None = None) -> AsyncGenerator[ASGIApp]:
    """The admin API over a data folder that no relay runs on. No key needed: who can open the
    folder owns it. A settings file that is wrong is told of and left out: books and keys are there
    all the same."""
    store = Store.open(data)
    await store.start()
    try:
        folder = FolderOffering(store, config)
        plane = folder.plane
        yield as_local(Starlette(routes=[Mount("/admin/v1", plane.admin)]), lambda _: True)
    finally:
        await store.close()


class FolderOffering:
    """`control.additions.Offering` of a folder that no relay runs on."""

    def __init__(self, store: Store, config: Path | None) -> None:
        self._environ: Mapping[str, str] = os.environ
        try:
            self._settings = load(config, self._environ)
            self._joined = joined(self._settings, self._environ, store.additions.list())
        except Misconfigured as error:
            first, *others = error.message.splitlines()
            more = f"; {len(others)} more: `merino config check`" if others else ""
            _tell(f"the settings file is left out, since it is wrong: {first}{more}")
            self._environ = {}
            self._settings = load(None, {})
            self._joined = joined(self._settings, {}, store.additions.list())
        self.plane = ControlPlane(store, NoLog(), self)
        self._limit_of = limit_of_accounts(self._settings)
        self._use(self._joined)
        _configure(self.plane, self._settings)

    def left_out(self) -> Mapping[Place, str]:
        return {place: why.message for place, why in self._joined.left_out.items()}

    async def offer(
        self,
        additions: Sequence[Addition],
        changed: Addition | None,
        write: Callable[[], Awaitable[None]],
    ) -> None:
        new = joined(self._settings, self._environ, additions)
        new.check_change(self._joined.left_out, changed, epoch_ms())
        await write()
        self._use(new)

    def _use(self, new: Joined) -> None:
        self._joined = new
        self.plane.configure(new.offer, self._limit_of)


def _configure(plane: ControlPlane, settings: Settings) -> None:
    plane.control.people.configure(settings.portal)
    plane.control.sla.configure(settings.sla)
    try:
        plane.billing.configure(settings.payments, payment_providers(settings, os.environ))
    except Misconfigured as error:
        _tell(f"no payments: {error.message}")


def _tell(what: str) -> None:
    sys.stderr.write(f"merino: {what}\n")


def as_local(app: ASGIApp, is_local: Callable[[Scope], bool]) -> ASGIApp:
    """Requests that come by way of the data folder need no key: who can open it owns it."""

    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        scope[LOCAL_SCOPE_KEY] = is_local(scope)
        await app(scope, receive, send)

    return marked
