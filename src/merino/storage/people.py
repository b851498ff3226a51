"""Customers, their accounts and invitations: who comes in, comes in once, in one transaction."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Sequence
from typing import LiteralString

from merino.control.ports import Page, Registration
from merino.domain.account import Account
from merino.domain.errors import Conflict, NotFound
from merino.domain.ledger import FUNDING
from merino.domain.person import Invitation, Member, MemberRole, Person, PersonState, Proof
from merino.sqlite.database import Database, columns_of, marks
from merino.sqlite.readers import Readers
from merino.sqlite.writer import Writer
from merino.storage.accounts import AccountStore
from merino.storage.postings import Posting, Postings, Transaction

_PERSON = ", ".join(columns_of(Person))
_INVITATION = ", ".join(columns_of(Invitation))
_INVITED = f"SELECT {_INVITATION} FROM invitations"
# The newest first; a cursor is the last one's id.
_PEOPLE = f"""
SELECT {_PERSON} FROM people WHERE (? IS NULL OR state = ?)
    AND (? IS NULL OR instr(address, ?) > 0)
    AND (? IS NULL
        OR (created_at_ms, id) < (SELECT created_at_ms, id FROM people WHERE id = ?))
ORDER BY created_at_ms DESC, id DESC LIMIT ?
"""
_INVITATIONS = f"""
{_INVITED} WHERE (? IS NULL OR account_id = ?)
    AND (? IS NULL
        OR (created_at_ms, id) < (SELECT created_at_ms, id FROM invitations WHERE id = ?))
ORDER BY created_at_ms DESC, id DESC LIMIT ?
"""
_INVITE = (
    f"INSERT INTO invitations (code_hash, {_INVITATION})"
    f" VALUES ({marks(1 + len(columns_of(Invitation)))})"
)
# Two who use it at once cannot both change the row: the second one changes none.
_USE = """
UPDATE invitations SET used_at_ms = ?, person_id = ?
WHERE id = ? AND used_at_ms IS NULL AND is_void = 0 AND expires_at_ms > ?
"""
_JOIN = """
INSERT INTO members VALUES (?, ?, ?, ?)
ON CONFLICT (person_id, account_id) DO UPDATE SET role = excluded.role
WHERE (excluded.role = 'owner' AND role <> 'owner')
    OR (excluded.role = 'member' AND role = 'viewer')
"""
_OTHER_OWNERS = """
SELECT count(*) FROM members WHERE account_id = ? AND role = 'owner' AND person_id <> ?
"""


class PeopleStore:
    """`control.ports.People`."""

    def __init__(
        self,
        writer: Writer,
        points: Readers,
        postings: Postings,
        accounts: AccountStore,
        pepper: bytes,
        now_ms: Callable[[], int],
    ) -> None:
        self._writer = writer
        self._points = points
        self._postings = postings
        self._accounts = accounts
        self._pepper = pepper
        self._now_ms = now_ms

    # People

    async def find(self, proof: Proof) -> Person | None:
        return await self._points.run(lambda database: _find(database, proof))

    async def get(self, person_id: str) -> Person:
        return await self._points.run(lambda database: _get(database, person_id))

    async def bind(self, person_id: str, subject: str) -> None:
        """This person is called so by a provider from now on, until another provider is asked."""

        def write(database: Database) -> None:
            _bind(database, _get(database, person_id), subject)

        await self._writer.write("whom the provider means", write)

    async def list(
        self, state: PersonState | None, *, email: str | None, limit: int, cursor: str | None
    ) -> Page[Person]:
        part = address_of(email)

        def read(database: Database) -> Page[Person]:
            found = [
                Person(*row)
                for row in database.execute(
                    _PEOPLE, (state, state, part, part, cursor, cursor, limit + 1)
                )
            ]
            return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)

        return await self._points.run(read)

    async def register(self, wanted: Registration) -> tuple[Person, int]:
        """The person, also if they were registered meanwhile; and what was credited."""
        made = self._accounts.new(
            wanted.account_name,
            currency=wanted.currency,
            group=wanted.group,
            notice_email=wanted.proof.email,
        )

        def write(work: Transaction) -> tuple[Person, int, bool]:
            there = _find(work.database, wanted.proof)
            if there is not None:
                if wanted.proof.subject is not None:
                    _bind(work.database, there, wanted.proof.subject)
                return _get(work.database, there.id), 0, False
            person = Person(
                id=f"per_{secrets.token_hex(8)}",
                email=wanted.proof.email,
                subject=wanted.proof.subject,
                state="waiting" if wanted.must_wait else "active",
                language=wanted.language,
                terms=wanted.terms,
                created_at_ms=work.now_ms,
            )
            row = (
                person.id,
                person.email,
                address_of(person.email),
                person.subject,
                person.state,
                person.language,
                person.terms,
                person.created_at_ms,
                None,
            )
            work.database.execute(
                "INSERT INTO people (id, email, address, subject, state, language, terms,"
                f" created_at_ms, decided_at_ms) VALUES ({marks(len(row))})",
                row,
            )
            invitation = None
            if wanted.invitation_id is not None:
                invitation = _use(work, wanted.invitation_id, person.id)
            if invitation is not None and invitation.account_id is not None:
                _join(work, person.id, invitation.account_id, invitation.role)
                return person, 0, False
            if wanted.must_wait:
                return person, 0, False
            nanos = wanted.start_nanos
            if invitation is not None and invitation.credit_nanos is not None:
                nanos = invitation.credit_nanos
            return person, self._open(work, person, made, wanted.claims, nanos), True

        return await self._with_account("signing up", made, write)

    async def approve(self, person_id: str, wanted: Registration) -> tuple[Person, int]:
        """Raises `NotFound`, and `Conflict` for somebody who does not wait."""
        made = self._accounts.new(
            wanted.account_name,
            currency=wanted.currency,
            group=wanted.group,
            notice_email=wanted.proof.email,
        )

        def write(work: Transaction) -> tuple[Person, int, bool]:
            person = _get(work.database, person_id)
            work.database.execute(
                "UPDATE people SET state = 'active', decided_at_ms = ?"
                " WHERE id = ? AND state = 'waiting'",
                (work.now_ms, person_id),
            )
            if not work.database.changes():
                raise Conflict(
                    f"{person_id} does not wait for approval, but is {person.state}",
                    code="not_waiting",
                )
            credited = self._open(work, person, made, wanted.claims, wanted.start_nanos)
            return _get(work.database, person_id), credited, True

        return await self._with_account("the approval", made, write)

    async def set_state(
        self, person_id: str, states: Sequence[PersonState], state: PersonState
    ) -> Person:
        """From one of `states`; a person who is not in one stays as they are. Who may not come in
        any more is signed out. Raises `NotFound`."""

        def write(database: Database) -> Person:
            person = _get(database, person_id)
            if person.state in states:
                database.execute(
                    "UPDATE people SET state = ?, decided_at_ms = ? WHERE id = ?",
                    (state, self._now_ms(), person_id),
                )
            if state != "active":
                database.execute("DELETE FROM portal_sessions WHERE person_id = ?", (person_id,))
            return _get(database, person_id)

        return await self._writer.write("changing the person", write)

    async def update(self, person_id: str, *, language: str, terms: str) -> Person:
        def write(database: Database) -> Person:
            database.execute(
                "UPDATE people SET language = ?, terms = ? WHERE id = ?",
                (language, terms, person_id),
            )
            return _get(database, person_id)

        return await self._writer.write("changing the person", write)

    async def forget(self, person_id: str) -> None:
        """Whoever it was: name, address, roles and sessions go; the row stays for the books."""

        def write(database: Database) -> None:
            email = _get(database, person_id).email
            database.execute("DELETE FROM portal_sessions WHERE person_id = ?", (person_id,))
            database.execute("DELETE FROM members WHERE person_id = ?", (person_id,))
            database.execute("DELETE FROM sign_in_letters WHERE email = ?", (email,))
            database.execute(
                "UPDATE invitations SET email = NULL WHERE person_id = ? OR email = ?",
                (person_id, address_of(email)),
            )
            database.execute(
                "UPDATE people SET email = NULL, address = NULL, subject = NULL,"
                " state = 'deleted', decided_at_ms = ? WHERE id = ?",
                (self._now_ms(), person_id),
            )

        await self._writer.write("deleting the person", write)

    # Members

    async def accounts_of(self, person_id: str) -> Sequence[Member]:
        return await self._points.run(
            lambda database: _members(database, "m.person_id = ?", person_id)
        )

    async def members_of(self, account_id: str) -> Sequence[Member]:
        return await self._points.run(
            lambda database: _members(database, "m.account_id = ?", account_id)
        )

    async def set_role(self, account_id: str, person_id: str, role: MemberRole | None) -> None:
        """`None`: no member any more. Raises `Conflict` where nobody would own the account, and
        `NotFound`."""

        def write(database: Database) -> None:
            held = [
                member.role
                for member in _members(database, "m.account_id = ?", account_id)
                if member.person_id == person_id
            ]
            if not held:
                raise NotFound("There is no such member.", code="member_not_found")
            if role != "owner" and held == ["owner"]:
                if not database.only(_OTHER_OWNERS, (account_id, person_id)):
                    raise Conflict("An account has at least one owner.", code="last_owner")
            if role is None:
                database.execute(
                    "DELETE FROM members WHERE account_id = ? AND person_id = ?",
                    (account_id, person_id),
                )
            else:
                database.execute(
                    "UPDATE members SET role = ? WHERE account_id = ? AND person_id = ?",
                    (role, account_id, person_id),
                )

        await self._writer.write("changing the member", write)

    # Invitations

    async def invite(self, invitation: Invitation, code_hash: bytes) -> None:
        row = [code_hash, *(getattr(invitation, name) for name in columns_of(Invitation))]
        await self._writer.write("the invitation", lambda database: database.change(_INVITE, row))

    async def invitation(self, code_hash: bytes) -> Invitation | None:
        return await self._points.run(
            lambda database: _one(database, f"{_INVITED} WHERE code_hash = ?", code_hash)
        )

    async def invitation_by_id(self, invitation_id: str) -> Invitation | None:
        return await self._points.run(
            lambda database: _one(database, f"{_INVITED} WHERE id = ?", invitation_id)
        )

    async def invitation_for(self, email: str) -> Invitation | None:
        """One that is open, and for this address alone."""
        sql: LiteralString = (
            f"{_INVITED} WHERE email = ? AND used_at_ms IS NULL AND is_void = 0"
            " AND expires_at_ms > ? ORDER BY created_at_ms DESC LIMIT 1"
        )
        now_ms = self._now_ms()
        return await self._points.run(
            lambda database: _one(database, sql, address_of(email), now_ms)
        )

    async def list_invitations(
        self, account_id: str | None, *, limit: int, cursor: str | None
    ) -> Page[Invitation]:
        def read(database: Database) -> Page[Invitation]:
            found = [
                _invitation(row)
                for row in database.execute(
                    _INVITATIONS, (account_id, account_id, cursor, cursor, limit + 1)
                )
            ]
            return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)

        return await self._points.run(read)

    async def void_invitation(self, invitation_id: str) -> Invitation:
        """Raises `NotFound`; one that was used stays so."""

        def write(database: Database) -> Invitation:
            database.execute(
                "UPDATE invitations SET is_void = 1 WHERE id = ? AND used_at_ms IS NULL",
                (invitation_id,),
            )
            return _invited(database, invitation_id)

        return await self._writer.write("voiding the invitation", write)

    async def accept(self, invitation_id: str, person_id: str) -> Invitation:
        """Somebody who is a customer already joins the account. Raises `Conflict`."""

        def write(work: Transaction) -> Invitation:
            invitation = _use(work, invitation_id, person_id)
            if invitation.account_id is None:
                raise Conflict("You have an account already.", code="not_new")
            _join(work, person_id, invitation.account_id, invitation.role)
            return invitation

        return await self._postings.transact("joining the account", write)

    def hashed(self, text: str) -> bytes:
        """As codes and claims are kept: with the folder's secret, so that nobody can try them out
        with the database alone."""
        return hmac.digest(self._pepper, text.encode("utf-8", "replace"), "sha256")

    # Within a transaction

    async def _with_account(
        self,
        what: str,
        made: Account,
        write: Callable[[Transaction], tuple[Person, int, bool]],
    ) -> tuple[Person, int]:
        """In memory, the account has to be there before its credit is."""

        def opened(done: tuple[Person, int, bool]) -> None:
            if done[2]:
                self._accounts.opened(made)

        person, credited, _ = await self._postings.transact(what, write, first=opened)
        return person, credited

    def _open(
        self,
        work: Transaction,
        person: Person,
        account: Account,
        claims: Sequence[str],
        nanos: int,
    ) -> int:
        """An account of their own, with the start credit if none of their claims had one."""
        self._accounts.insert(work.database, account)
        _join(work, person.id, account.id, "owner")
        hashes = [self.hashed(claim) for claim in claims]
        before = [
            row
            for claim in hashes
            for row in work.database.execute(
                "SELECT 1 FROM start_credits WHERE claim = ?", (claim,)
            )
        ]
        if nanos <= 0:
            return 0
        for claim in hashes:
            work.database.execute(
                "INSERT OR IGNORE INTO start_credits VALUES (?, ?, ?)",
                (claim, person.id, work.now_ms),
            )
        if before:
            return 0
        work.post(Posting(account, "credit", nanos, FUNDING, "start credit", person.id))
        return nanos


def address_of(email: str | None) -> str | None:
    """As addresses are compared: they may hold ASCII only, so small letters are enough."""
    return None if email is None else email.lower()


def _find(database: Database, proof: Proof) -> Person | None:
    """Raises `Conflict` for an address that belongs to somebody else of the same provider: an
    address may be given to another person, what a provider calls somebody never is."""
    # Both are looked for, whoever asks: what is found takes no other time than what is not.
    by_subject = database.one(
        f"SELECT {_PERSON} FROM people WHERE subject = ?", (proof.subject or "",)
    )
    by_address = database.one(
        f"SELECT {_PERSON} FROM people WHERE address = ?", (address_of(proof.email) or "",)
    )
    row = by_subject or by_address
    if row is None:
        return None
    person = Person(*row)
    if proof.subject is not None and person.is_another(proof.subject):
        raise Conflict(
            "This address belongs to somebody else here. Ask whoever runs this portal.",
            code="address_of_another",
        )
    return person


def _bind(database: Database, person: Person, subject: str) -> None:
    if person.subject != subject:
        database.execute("UPDATE people SET subject = ? WHERE id = ?", (subject, person.id))


def _get(database: Database, person_id: str) -> Person:
    row = database.one(f"SELECT {_PERSON} FROM people WHERE id = ?", (person_id,))
    if row is None:
        raise NotFound(f"There is no person '{person_id[:100]}'.", code="person_not_found")
    return Person(*row)


def _members(database: Database, where: LiteralString, value: str) -> list[Member]:
    return [
        Member(*row)
        for row in database.execute(
            "SELECT m.person_id, m.account_id, m.role, m.since_ms, p.email FROM members m"
            f" JOIN people p ON p.id = m.person_id WHERE {where}"
            " ORDER BY m.since_ms, m.account_id, m.person_id",
            (value,),
        )
    ]


def _join(work: Transaction, person_id: str, account_id: str, role: MemberRole) -> None:
    work.database.execute(_JOIN, (person_id, account_id, role, work.now_ms))


def _use(work: Transaction, invitation_id: str, person_id: str) -> Invitation:
    work.database.execute(_USE, (work.now_ms, person_id, invitation_id, work.now_ms))
    if not work.database.changes():
        raise Conflict(
            "This invitation was used, withdrawn or is too old. Ask for another.",
            code="invitation_used",
        )
    return _invited(work.database, invitation_id)


def _invited(database: Database, invitation_id: str) -> Invitation:
    found = _one(database, f"{_INVITED} WHERE id = ?", invitation_id)
    if found is None:
        raise NotFound(
            f"There is no invitation '{invitation_id[:100]}'.", code="invitation_not_found"
        )
    return found


def _one(database: Database, sql: LiteralString, *values: object) -> Invitation | None:
    row = database.one(sql, values)
    return None if row is None else _invitation(row)


def _invitation(row: Sequence[object]) -> Invitation:
    fields = list(row)
    index = columns_of(Invitation).index("is_void")
    fields[index] = bool(fields[index])
    return Invitation(*fields)  # type: ignore[arg-type]
