"""All desks of the control plane together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from merino.control.accounts import AccountDesk
from merino.control.additions import AdditionDesk
from merino.control.admin_keys import AdminKeyDesk
from merino.control.audit import AuditLog
from merino.control.keys import KeyDesk
from merino.control.people import PeopleDesk
from merino.control.ports import (
    AdminKeys,
    Books,
    CallFilter,
    Calls,
    DeploymentStates,
    EntryFilter,
    ExportFormat,
    Keys,
    Page,
    ReportBy,
    ReportRow,
    Reports,
    Trouble,
    Verification,
)
from merino.control.sla import SlaDesk
from merino.domain.account import Account, AccountLimit
from merino.domain.addition import AdditionKind, Place
from merino.domain.call import CallRecord, RunningCall
from merino.domain.deployment import Alias, Deployment, DeploymentState
from merino.domain.errors import Conflict, NotFound
from merino.domain.key import VirtualKey
from merino.domain.ledger import Entry
from merino.domain.person import Person
from merino.running.one_by_one import OneByOne

T = TypeVar("T")
_KEYS_MAX = 100_000
Trial = Callable[[VirtualKey, Deployment], Awaitable[tuple[int, float, str | None]]]
"""Makes a short call to one deployment."""


class Control:
    """Every use case, in one place. It is whole when it is made: nothing is put into it later."""

    def __init__(
        self,
        *,
        accounts: AccountDesk,
        keys: Keys,
        admin_keys: AdminKeys,
        calls: Calls,
        reports: Reports,
        ledger: Books,
        audit: AuditLog,
        people: PeopleDesk,
        sla: SlaDesk,
        additions: AdditionDesk,
        wings: Sequence[object] = (),
        states: DeploymentStates | None = None,
        running: Callable[[], Sequence[RunningCall]] = tuple,
        trial: Trial | None = None,
    ) -> None:
        """`audit` is where changes are noted, `wings` are the desks of further ones; `states`,
        `running` calls, the oldest first, and the `trial` of a deployment are those of a relay that
        runs."""
        self.accounts = accounts
        self.repeats = OneByOne()
        """Movements under the same idempotency key come one after another: the second is answered
        from what the first one booked."""
        self.keys = KeyDesk(keys, accounts)
        self.admin_keys = AdminKeyDesk(admin_keys)
        self.people = people
        self.sla = sla
        self.audit = audit
        self._wings = {type(each): each for each in wings}
        self.additions = additions
        self.aliases: Sequence[Alias] = ()
        self._deployments: Sequence[Deployment] = ()
        self._sources: Mapping[Place, str] = {}
        self._trial = trial
        self._states = states
        self._running = running
        self._calls = calls
        self._reports = reports
        self._ledger = ledger

    def configure(
        self,
        deployments: Sequence[Deployment],
        limit_of: Callable[[Account], AccountLimit],
        aliases: Sequence[Alias] = (),
        sources: Mapping[Place, str] | None = None,
    ) -> None:
        """Where calls go from now on, under which names, and where each of these is from; and what
        limits the settings give to accounts."""
        self._deployments = deployments
        self.aliases = aliases
        self._sources = sources or {}
        self.accounts.configure(limit_of)

    def wing(self, desks: type[T]) -> T:
        """The desks of a wing, by what they are."""
        found = self._wings[desks]
        assert isinstance(found, desks)
        return found

    async def forget_person(self, person: Person) -> Sequence[str]:
        """Delete a customer: who they were is forgotten, and accounts that nobody else owns are
        closed, with their keys. Returns the closed accounts' ids."""
        for account_id in await self.people.owned_alone(person):
            for key in self.keys.list(account=account_id, limit=_KEYS_MAX).items:
                await self.keys.disable(key.id)
        return await self.people.forget(person)

    def source_of(self, kind: AdditionKind, name: str) -> str:
        """The file, the environment, added, or built in."""
        return self._sources.get((kind, name), "file")

    async def try_out(self, name: str, key: str) -> tuple[int, float, str | None]:
        """A short call to a deployment alone, billed to the key: its status, how long it took in
        milliseconds, and what was wrong. Raises `NotFound`, `Conflict`."""
        deployment = self._deployment(name)
        if self._trial is None:
            raise Conflict(
                "No relay is running on this data folder, so nobody can be called. Start it first.",
                code="relay_not_running",
            )
        return await self._trial(self.keys.find(key), deployment)

    def _deployment(self, name: str) -> Deployment:
        found = next((each for each in self._deployments if each.name == name), None)
        if found is None:
            raise NotFound(
                f"There is no deployment '{name[:100]}'. `merino deployments list` shows them.",
                code="deployment_not_found",
            )
        return found

    def list_deployments(self) -> list[tuple[Deployment, DeploymentState | None]]:
        """Where calls go, and the state of each if a relay runs."""
        states = self._states
        return [
            (each, states.state_of(each.name) if states else None) for each in self._deployments
        ]

    def troubles(self) -> Sequence[Trouble]:
        """What operators have to mend at deployments now."""
        return self._states.troubles() if self._states else ()

    def drain(self, name: str, *, is_drained: bool) -> tuple[Deployment, DeploymentState | None]:
        """Send a deployment no new calls, or again. Raises `NotFound`, `Conflict`."""
        found = self._deployment(name)
        if self._states is None:
            raise Conflict(
                "No relay is running on this data folder, so nothing is sent anywhere. Start it "
                "first: draining lasts until it stops.",
                code="relay_not_running",
            )
        self._states.drain(name, is_drained=is_drained)
        return found, self._states.state_of(name)

    async def list_calls(
        self, wanted: CallFilter, *, limit: int, cursor: str | None = None
    ) -> Page[CallRecord]:
        """The newest first. In the filter, account and key may be given by name."""
        if wanted.account_id is not None:
            wanted = replace(wanted, account_id=self.accounts.find(wanted.account_id).id)
        if wanted.key_id is not None:
            wanted = replace(wanted, key_id=self.keys.find(wanted.key_id).id)
        return await self._calls.list(wanted, limit=limit, cursor=cursor)

    async def show_call(self, call_id: str) -> CallRecord:
        return await self._calls.get(call_id)

    def running_calls(self, account_id: str | None = None) -> list[RunningCall]:
        """The oldest first; of one account, given by name or id, or of all."""
        if account_id is None:
            return list(self._running())
        account_id = self.accounts.find(account_id).id
        return [call for call in self._running() if call.account_id == account_id]

    async def list_entries(
        self, wanted: EntryFilter, *, limit: int, cursor: str | None = None
    ) -> Page[Entry]:
        """The newest first. In the filter, the account may be given by name."""
        if wanted.account_id is not None:
            wanted = replace(wanted, account_id=self.accounts.find(wanted.account_id).id)
        return await self._ledger.entries(wanted, limit=limit, cursor=cursor)

    async def report(
        self,
        by: ReportBy,
        then: ReportBy | None = None,
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> Sequence[ReportRow]:
        return await self._reports.by(by, then, since_ms=since_ms, until_ms=until_ms)

    async def verify(self) -> Verification:
        """Recompute every balance from the entries."""
        return await self._ledger.verify()

    def export(self, form: ExportFormat) -> AsyncIterator[bytes]:
        """Every entry, the oldest first, in pieces."""
        return self._ledger.export(form)
