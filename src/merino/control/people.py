"""Customers of the portal: who may sign up, who is let in, who belongs to an account."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence

from merino.control.accounts import AccountDesk, is_mail_address
from merino.control.ports import Page, People, Registration
from merino.domain.account import Account
from merino.domain.clock import DAY_MS, epoch_ms
from merino.domain.errors import Conflict, InvalidCall
from merino.domain.person import Invitation, Member, MemberRole, Person, PersonState, Proof
from merino.settings.sections.portal import PortalSettings

INVITATION_PREFIX = "mi-"
INVITATION_DAYS = 14
INVITATION_DAYS_MAX = 365
_ROBUST = re.compile(r"[^A-Za-z0-9]+")
_GOOGLE = frozenset({"gmail.com", "googlemail.com"})


class PeopleDesk:
    """Use cases around customers. What is asked for an address is the same work whether somebody
    is known by it or not."""

    def __init__(
        self, people: People, accounts: AccountDesk, now_ms: Callable[[], int] = epoch_ms
    ) -> None:
        self._people = people
        self._accounts = accounts
        self._now_ms = now_ms
        self._settings = PortalSettings()
        self.on_let_in: Callable[[Person], None] = _tell_nobody
        """Is told of whom an operator has approved."""
        self.on_closing: Callable[[Account], Awaitable[None]] = _do_nothing
        """What else ends with an account that is about to be closed."""

    def configure(self, settings: PortalSettings) -> None:
        """Who may sign up from now on, and what they are given."""
        self._settings = settings

    @property
    def terms(self) -> str:
        """A digest of the terms in force; what was accepted is compared with it. Empty: none."""
        settings = self._settings
        if not settings.terms and settings.terms_url is None:
            return ""
        text = f"{settings.terms_url or ''}\n{settings.terms}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    # Coming in

    async def find(self, proof: Proof) -> Person | None:
        return await self._people.find(proof)

    async def recognise(self, proof: Proof) -> Person | None:
        """For whom a provider vouches. Somebody whom we knew by their address only is known by what
        the provider calls them from now on. Raises `Conflict` for another's address."""
        person = await self._people.find(proof)
        if person is not None and proof.subject not in (None, person.subject):
            await self._people.bind(person.id, proof.subject)
        return person

    async def get(self, person_id: str) -> Person:
        return await self._people.get(person_id)

    def may_sign_up(self, proof: Proof, invitation: Invitation | None) -> bool:
        """Whether somebody who is not known yet may become a customer."""
        email = proof.email
        if email is not None and not self._is_domain_good(email):
            return False
        if email is None and self._settings.domains:
            return False  # there is no domain to be in
        if invitation is not None and self._fits(invitation, email):
            # To an account, its owner invites; otherwise only where operators say so.
            return True
        way = "oidc" if proof.subject is not None else "email"
        return way in self._settings.methods

    async def may_come_in(self, email: str, invitation: Invitation | None) -> bool:
        """Whether a letter to this address lets its reader in: as who is there, or as new."""
        person = await self._people.find(Proof(email))
        invited = await self._people.invitation_for(email)
        may = self.may_sign_up(Proof(email), invitation or invited)
        if person is None:
            return may
        return person.state in ("active", "waiting")

    async def register(
        self,
        proof: Proof,
        *,
        language: str,
        terms: str,
        invitation_id: str | None = None,
    ) -> tuple[Person, int]:
        """Somebody who has proved who they are and accepted the terms becomes a customer, or is one
        already. What was credited. Raises `Conflict`."""
        if terms != self.terms:
            raise Conflict(
                "The terms have changed meanwhile. Read and accept them anew.", code="terms_changed"
            )
        invitation = None
        if invitation_id is not None:
            invitation = await self._people.invitation_by_id(invitation_id)
        elif proof.email is not None:
            invitation = await self._people.invitation_for(proof.email)
        if invitation is not None and not self._fits(invitation, proof.email):
            invitation = None
        there = await self._people.find(proof)
        if there is None and not self.may_sign_up(proof, invitation):
            raise Conflict("Nobody can sign up this way here.", code="sign_up_closed")
        registration = self._registration(
            proof,
            language=language,
            invitation=invitation,
            must_wait=self._settings.approval and invitation is None,
        )
        async with self._accounts.turn:
            return await self._people.register(registration)

    async def accept_terms(self, person: Person, terms: str, language: str) -> Person:
        if terms != self.terms:
            raise Conflict(
                "The terms have changed meanwhile. Read and accept them anew.", code="terms_changed"
            )
        return await self._people.update(person.id, language=language, terms=terms)

    async def set_language(self, person: Person, language: str) -> Person:
        return await self._people.update(person.id, language=language, terms=person.terms)

    def _registration(
        self,
        proof: Proof,
        *,
        language: str,
        invitation: Invitation | None = None,
        must_wait: bool = False,
    ) -> Registration:
        settings = self._settings
        return Registration(
            proof=proof,
            language=language,
            terms=self.terms,
            account_name=_account_name(proof),
            currency=settings.currency,
            group=settings.group,
            start_nanos=settings.start_credit_nanos,
            claims=claims_of(proof, invitation),
            invitation_id=None if invitation is None else invitation.id,
            must_wait=must_wait,
        )

    # What operators decide

    async def list(
        self,
        state: PersonState | None = None,
        *,
        email: str | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> Page[Person]:
        """The newest first; only those with `email` in their address."""
        return await self._people.list(state, email=email or None, limit=limit, cursor=cursor)

    async def approve(self, person_id: str) -> tuple[Person, int]:
        """Let somebody in who waits: their account is opened, and credited, now."""
        person = await self._people.get(person_id)
        proof = Proof(person.email, person.subject)
        registration = self._registration(proof, language=person.language)
        async with self._accounts.turn:
            approved, credited = await self._people.approve(person_id, registration)
        self.on_let_in(approved)
        return approved, credited

    async def refuse(self, person_id: str) -> Person:
        """Of somebody who waits. Raises `Conflict`."""
        return await self._decided(person_id, ("waiting",), "refused")

    async def block(self, person_id: str) -> Person:
        """Signed out, and never in again until `unblock`. Keys go on: disable those, or the
        account, too."""
        return await self._decided(person_id, ("active",), "blocked")

    async def unblock(self, person_id: str) -> Person:
        return await self._decided(person_id, ("blocked",), "active")

    async def _decided(
        self, person_id: str, states: Sequence[PersonState], state: PersonState
    ) -> Person:
        person = await self._people.set_state(person_id, states, state)
        if person.state != state:
            raise Conflict(
                f"{person.id} is {person.state}; only somebody {states[0]} can be {state}",
                code="wrong_state",
            )
        return person

    # Invitations

    async def invite(
        self,
        *,
        invited_by: str,
        email: str | None = None,
        account: str | None = None,
        role: MemberRole = "owner",
        credit_nanos: int | None = None,
        days: int = INVITATION_DAYS,
    ) -> tuple[Invitation, str]:
        """An invitation with its code, which nobody can tell afterwards."""
        if email is not None and not is_mail_address(email):
            raise InvalidCall(
                f"email {email[:100]!r} is not a mail address such as ada@example.org",
                param="email",
                code="invalid_email",
            )
        if not 1 <= days <= INVITATION_DAYS_MAX:
            raise InvalidCall(
                f"days must be from 1 to {INVITATION_DAYS_MAX}", param="days", code="invalid_time"
            )
        if credit_nanos == 0:
            raise InvalidCall(
                "credit must be more than zero; leave it out for the start credit of everybody",
                param="credit",
                code="invalid_amount",
            )
        account_id = None if account is None else self._accounts.find(account).id
        if account_id is not None and credit_nanos is not None:
            raise InvalidCall(
                "credit is for an account of their own; leave out one of credit and account",
                param="credit",
                code="invalid_amount",
            )
        now_ms = self._now_ms()
        code = INVITATION_PREFIX + secrets.token_urlsafe(24)
        invitation = Invitation(
            id=f"inv_{secrets.token_hex(8)}",
            hint=code[: len(INVITATION_PREFIX) + 4],
            email=None if email is None else email.lower(),
            account_id=account_id,
            role=role,
            credit_nanos=credit_nanos,
            created_at_ms=now_ms,
            expires_at_ms=now_ms + days * DAY_MS,
            invited_by=invited_by,
        )
        await self._people.invite(invitation, self._people.hashed(code))
        return invitation, code

    async def invitation(self, code: str) -> Invitation | None:
        """The one with this code, if it can still be used."""
        found = await self._people.invitation(self._people.hashed(code))
        return found if found is not None and self.is_open(found) else None

    async def invitation_of(self, invitation_id: str | None) -> Invitation | None:
        """The one with this id, if it can still be used."""
        if invitation_id is None:
            return None
        found = await self._people.invitation_by_id(invitation_id)
        return found if found is not None and self.is_open(found) else None

    async def list_invitations(
        self, account: str | None = None, *, limit: int, cursor: str | None = None
    ) -> Page[Invitation]:
        account_id = None if account is None else self._accounts.find(account).id
        return await self._people.list_invitations(account_id, limit=limit, cursor=cursor)

    async def void_invitation(self, invitation_id: str) -> Invitation:
        """Raises `Conflict` for one that was used."""
        found = await self._people.void_invitation(invitation_id)
        if found.used_at_ms is not None:
            raise Conflict(
                f"invitation {found.id} was used; remove the member instead",
                code="invitation_used",
            )
        return found

    async def accept(self, person: Person, invitation: Invitation) -> Invitation:
        """Join an account by an invitation. Raises `Conflict` for one that is for another."""
        if not self._fits(invitation, person.email):
            raise Conflict(
                "This invitation is for another address. Sign in with that one.",
                code="invitation_for_another",
            )
        return await self._people.accept(invitation.id, person.id)

    def _fits(self, invitation: Invitation, email: str | None) -> bool:
        is_theirs = invitation.email is None or invitation.email == (email or "").lower()
        is_asked_for = invitation.account_id is not None or "invitation" in self._settings.methods
        return is_theirs and is_asked_for and self.is_open(invitation)

    def is_open(self, invitation: Invitation) -> bool:
        return (
            invitation.used_at_ms is None
            and not invitation.is_void
            and invitation.expires_at_ms > self._now_ms()
        )

    # Members

    async def accounts_of(self, person_id: str) -> Sequence[Member]:
        """The oldest first; of accounts that are disabled, too: there is money in them."""
        return await self._people.accounts_of(person_id)

    async def members_of(self, account_id: str) -> Sequence[Member]:
        return await self._people.members_of(account_id)

    async def set_role(self, account_id: str, person_id: str, role: MemberRole) -> None:
        await self._people.set_role(account_id, person_id, role)

    async def remove(self, account_id: str, person_id: str) -> None:
        await self._people.set_role(account_id, person_id, None)

    async def owned_alone(self, person: Person) -> Sequence[str]:
        """The accounts that nobody else owns: they are closed when this person is deleted."""
        return [
            member.account_id
            for member in await self._people.accounts_of(person.id)
            if member.role == "owner"
            and not any(
                each.role == "owner" and each.person_id != person.id
                for each in await self._people.members_of(member.account_id)
            )
        ]

    async def forget(self, person: Person) -> Sequence[str]:
        """Delete a person. Accounts that nobody else owns are closed: they make no calls and have
        no card any more. Their books stay, under no name. Returns the closed accounts' ids."""
        closed = await self.owned_alone(person)
        for account_id in closed:
            await self.on_closing(self._accounts.find(account_id))
            await self._accounts.update(
                account_id,
                {
                    "disabled": True,
                    "name": f"closed {account_id.removeprefix('acct_')}",
                    "notice_email": None,
                    "topup_nanos": None,
                    "topup_below_nanos": None,
                },
            )
        await self._people.forget(person.id)
        return closed

    def _is_domain_good(self, email: str) -> bool:
        domain = email.rpartition("@")[2].lower()
        settings = self._settings
        if any(_is_within(domain, each) for each in settings.blocked_domains):
            return False
        wanted = [each.lower().removeprefix("@") for each in settings.domains]
        return not wanted or domain in wanted


def _tell_nobody(_: Person) -> None:
    """A folder without a relay sends no letters."""


async def _do_nothing(_: Account) -> None:
    """Nothing hangs on accounts."""


def claims_of(proof: Proof, invitation: Invitation | None = None) -> list[str]:
    """What a start credit is given for, each once: the mailbox, what a provider calls somebody, the
    invitation."""
    claims: list[str] = []
    if proof.email is not None:
        claims.append(f"mailbox {mailbox_of(proof.email)}")
    if proof.subject is not None:
        claims.append(f"subject {proof.subject}")
    if invitation is not None:
        claims.append(f"invitation {invitation.id}")
    return claims


def mailbox_of(email: str) -> str:
    """The mailbox that an address leads to, as far as its form tells: a tag after `+` leads to the
    same one everywhere it is known, and Google ignores dots."""
    local, _, domain = email.lower().rpartition("@")
    local = local.partition("+")[0] or local
    if domain in _GOOGLE:
        local, domain = local.replace(".", "") or local, "gmail.com"
    return f"{local}@{domain}"


def _account_name(proof: Proof) -> str:
    """Unique by chance, so that no name tells whether another customer has it."""
    begun = _ROBUST.sub("-", (proof.email or "customer").partition("@")[0]).strip("-")
    return f"{begun[:40] or 'customer'}-{secrets.token_hex(4)}"


def _is_within(domain: str, blocked: str) -> bool:
    blocked = blocked.lower().removeprefix("@").removeprefix(".")
    return domain == blocked or domain.endswith(f".{blocked}")
