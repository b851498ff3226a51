"""Signing up and in without a password: what is asked for, what is proved, who comes in.

Nothing here tells whether an address has an account. Whoever asks gets the same answer after the
same work; what holds for the address is told in a letter to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from merino.control.accounts import is_mail_address
from merino.control.people import PeopleDesk
from merino.domain.errors import Conflict, InvalidCall, LimitExceeded
from merino.domain.person import Person, Proof
from merino.portal.catalogues import Words
from merino.portal.letters import closed_letter, sign_in_letter
from merino.portal.ports import Post, SignIns
from merino.portal.rates import Rate, network_of
from merino.settings.sections.portal import PortalSettings

HOUR_S, DAY_S = 3600.0, 86_400.0
FAILURES_PER_NETWORK_HOUR = 50
"""Wrong codes; each letter takes five tries at most besides."""


@dataclass(slots=True)
class PortalSession:
    """Who is signed in, or is about to be: without a person, the terms are not accepted yet."""

    token: str = field(repr=False)
    csrf: str = field(repr=False)
    proof: Proof
    person: Person | None
    invitation_id: str | None
    account_id: str | None


class Entrance:
    def __init__(
        self,
        people: PeopleDesk,
        sign_ins: SignIns,
        post: Post,
        settings: Callable[[], PortalSettings],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._people = people
        self._sign_ins = sign_ins
        self._post = post
        self._settings = settings
        self._letters_by_address = Rate(HOUR_S, clock)
        self._letters_by_network = Rate(HOUR_S, clock)
        self._failures = Rate(HOUR_S, clock)
        self._sign_ups = Rate(DAY_S, clock)

    @property
    def has_mail(self) -> bool:
        return self._post.is_there

    async def ask(self, email: str, source: str, words: Words, invitation: str = "") -> str:
        """Send a letter with a code. The browser's token for it. Raises `InvalidCall` for what is
        no address, and `LimitExceeded`."""
        settings = self._settings()
        email = email.strip()
        if not is_mail_address(email) or "." not in email.rpartition("@")[2]:
            raise InvalidCall(
                "This is not a mail address such as ada@example.org.",
                param="email",
                code="invalid_email",
            )
        address, network = email.lower(), network_of(source)
        wait_s = max(
            self._letters_by_address.wait_s(address, settings.letters_per_address_hour),
            self._letters_by_network.wait_s(network, settings.letters_per_network_hour),
        )
        if wait_s > 0:
            raise LimitExceeded(
                "Too many letters were asked for. Try again later.",
                code="too_many_letters",
                retry_after_s=wait_s,
            )
        self._letters_by_address.note(address)
        self._letters_by_network.note(network)
        invited = await self._people.invitation(invitation)
        may = await self._people.may_come_in(email, invited)
        token, code, link = await self._sign_ins.add_letter(
            email, None if invited is None else invited.id
        )
        url = None
        if settings.public_url is not None:
            url = f"{settings.public_url.rstrip('/')}/portal/link/{link}"
        good = sign_in_letter(words, settings.name, code, url)
        closed = closed_letter(words, settings.name)
        self._post.post(email, *(good if may else closed))
        return token

    async def enter_code(self, token: str, code: str, source: str) -> str | None:
        """The cookie of a new session; `None` for a wrong, old or used code. Raises
        `LimitExceeded`."""
        self._check_failures(source)
        digits = "".join(each for each in code if each in "0123456789")
        found = await self._sign_ins.try_code(token, digits[:20])
        return await self._come_in(found, source)

    async def follow_link(self, link: str, source: str) -> str | None:
        """As `enter_code`."""
        self._check_failures(source)
        return await self._come_in(await self._sign_ins.follow_link(link), source)

    async def come_by(self, proof: Proof, invitation: str = "") -> str:
        """The cookie of a new session for whom a provider vouches. Raises `Conflict` for somebody
        who may not come in."""
        invited = await self._people.invitation(invitation)
        person = await self._people.recognise(proof)
        may = (
            self._people.may_sign_up(proof, invited)
            if person is None
            else person.state in ("active", "waiting")
        )
        if not may:
            raise Conflict("Nobody can sign up this way here.", code="sign_up_closed")
        return await self._begin(proof, None if invited is None else invited.id)

    async def session(self, token: str | None) -> PortalSession | None:
        """Of a cookie, if it is good and its person may come in."""
        if not token:
            return None
        found = await self._sign_ins.find(token)
        if found is None:
            return None
        proof, invitation_id, person_id, account_id = found
        person = None if person_id is None else await self._people.get(person_id)
        if person is not None and person.state not in ("active", "waiting"):
            return None
        csrf = self._sign_ins.form_token(token)
        return PortalSession(token, csrf, proof, person, invitation_id, account_id)

    async def register(
        self,
        session: PortalSession,
        *,
        terms: str,
        language: str,
        source: str,
    ) -> tuple[Person, int]:
        """The terms are accepted: a new customer. Raises `LimitExceeded`, `Conflict`."""
        network = network_of(source)
        most = self._settings().sign_ups_per_network_day
        if (wait_s := self._sign_ups.wait_s(network, most)) > 0:
            raise LimitExceeded(
                "Too many new customers come from your network. Try again tomorrow.",
                code="too_many_sign_ups",
                retry_after_s=wait_s,
            )
        self._sign_ups.note(network)
        person, credited = await self._people.register(
            session.proof, language=language, terms=terms, invitation_id=session.invitation_id
        )
        await self._sign_ins.bind(session.token, person.id, None)
        return person, credited

    async def look_at(self, session: PortalSession, account_id: str) -> None:
        """Another account of one's own."""
        assert session.person is not None
        await self._sign_ins.bind(session.token, session.person.id, account_id)

    async def leave(self, session: PortalSession, *, everywhere: bool = False) -> None:
        await self._sign_ins.end(session.token)
        if everywhere and session.person is not None:
            await self._sign_ins.end_all(session.person.id)

    def _check_failures(self, source: str) -> None:
        wait_s = self._failures.wait_s(network_of(source), FAILURES_PER_NETWORK_HOUR)
        if wait_s > 0:
            raise LimitExceeded(
                "Too many wrong codes. Try again later.",
                code="too_many_tries",
                retry_after_s=wait_s,
            )

    async def _come_in(self, found: tuple[str, str | None] | None, source: str) -> str | None:
        if found is None:
            self._failures.note(network_of(source))
            return None
        email, invitation_id = found
        return await self._begin(Proof(email), invitation_id)

    async def _begin(self, proof: Proof, invitation_id: str | None) -> str:
        person = await self._people.find(proof)
        return await self._sign_ins.begin(
            proof, None if person is None else person.id, invitation_id
        )
