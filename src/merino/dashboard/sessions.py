"""Who is signed in: sessions and sign-in links, in memory, and how often signing in may fail.

A restart signs everybody out. Only hashes of session ids and link tokens are kept.
"""

from __future__ import annotations

import hmac
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from time import monotonic
from typing import Literal

Role = Literal["operator", "owner", "viewer"]

IDLE_S = 3600.0
LONGEST_S = 12 * 3600.0
LINK_S = 24 * 3600.0
SESSIONS_MAX = 10_000
_FAILURES_MAX = 10
_FAILURES_S = 300.0
_SOURCES_MAX = 10_000


@dataclass(slots=True)
class Session:
    """`account_id` is that of owners and viewers; operators have none. `actor` is for the audit
    log. `csrf` stands in every form."""

    role: Role
    actor: str
    account_id: str | None = None
    key_hash: bytes | None = None
    """Of the key it was begun with; a link has none."""
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    began_at: float = 0.0
    seen_at: float = 0.0

    @property
    def is_operator(self) -> bool:
        return self.role == "operator"

    @property
    def may_change(self) -> bool:
        return self.role != "viewer"

    def is_csrf(self, given: object) -> bool:
        return isinstance(given, str) and hmac.compare_digest(given.encode(), self.csrf.encode())


@dataclass(frozen=True, slots=True)
class _Link:
    role: Role
    account_id: str
    actor: str
    expires_at: float


class Sessions:
    """`begin` gives the cookie's value, `find` the session of one."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}
        self._links: dict[bytes, _Link] = {}

    def begin(self, session: Session) -> str:
        """A new id for whoever signed in: one that was known before is of no use."""
        self._forget_old()
        token = secrets.token_urlsafe(32)
        session.began_at = session.seen_at = self._clock()
        self._sessions[_hash(token)] = session
        return token

    def find(self, token: str | None) -> Session | None:
        if not token:
            return None
        session = self._sessions.get(_hash(token))
        if session is None:
            return None
        now = self._clock()
        if now - session.seen_at > IDLE_S or now - session.began_at > LONGEST_S:
            del self._sessions[_hash(token)]
            return None
        session.seen_at = now
        return session

    def end(self, token: str | None) -> None:
        if token:
            self._sessions.pop(_hash(token), None)

    def link(self, role: Role, account_id: str, actor: str) -> str:
        """A token that signs in once, for a day."""
        token = secrets.token_urlsafe(32)
        self._links[_hash(token)] = _Link(role, account_id, actor, self._clock() + LINK_S)
        return token

    def redeem(self, token: str) -> Session | None:
        """The session a link is for; used up by it."""
        link = self._links.pop(_hash(token), None)
        if link is None or link.expires_at < self._clock():
            return None
        return Session(link.role, link.actor, link.account_id)

    def _forget_old(self) -> None:
        now = self._clock()
        for known in [k for k, each in self._sessions.items() if now - each.seen_at > IDLE_S]:
            del self._sessions[known]
        for known in [k for k, each in self._links.items() if each.expires_at < now]:
            del self._links[known]
        while len(self._sessions) >= SESSIONS_MAX:
            self._sessions.pop(next(iter(self._sessions)))


class SignInLimit:
    """At most ten failures in five minutes from one address."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, deque[float]] = {}

    def wait_s(self, source: str) -> float:
        """How long to wait before trying again; 0 if it may be tried now."""
        failures = self._failures.get(source)
        if not failures:
            return 0.0
        now = self._clock()
        while failures and now - failures[0] > _FAILURES_S:
            failures.popleft()
        return _FAILURES_S - (now - failures[0]) if len(failures) >= _FAILURES_MAX else 0.0

    def failed(self, source: str) -> None:
        if len(self._failures) >= _SOURCES_MAX:
            self._failures.pop(next(iter(self._failures)))
        self._failures.setdefault(source, deque(maxlen=_FAILURES_MAX)).append(self._clock())


def _hash(token: str) -> bytes:
    return sha256(token.encode("utf-8", "replace")).digest()
