"""Who is signed in, or about to be: sessions, links and sign-ins on their way, in memory; and how
often signing in may fail.

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

from merino.dashboard.identity import Identity, Role

IDLE_S = 3600.0
LONGEST_S = 12 * 3600.0
LINK_S = 24 * 3600.0
SESSIONS_MAX = 10_000
PENDING_S = 600.0
PENDING_MAX = 10_000
_FAILURES_MAX = 10
_FAILURES_S = 300.0
_SOURCES_MAX = 10_000


def new_csrf() -> str:
    return secrets.token_urlsafe(32)


@dataclass(slots=True)
class Session:
    """`account_id` is that of owners and viewers; operators have none. `actor` is for the audit
    log. `csrf` stands in every form."""

    role: Role
    actor: str
    account_id: str | None = None
    key_hash: bytes | None = None
    """Of the key it was begun with; a link has none."""
    identity: Identity | None = None
    """Of who was sent by an OpenID Connect provider."""
    sign_out_url: str = field(default="", repr=False)
    """Where they sign out at the provider."""
    csrf: str = field(default_factory=new_csrf, repr=False)
    began_at: float = 0.0
    """When somebody signed in, whatever they switched to since; 0 before."""
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
        session.seen_at = self._clock()
        session.began_at = session.began_at or session.seen_at
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


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """Somebody was sent to the provider, and has to come back with `state`."""

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    redirect_uri: str


class PendingSignIns:
    """Bound to the browser by a cookie, for ten minutes, each for one use."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._pending: dict[bytes, tuple[float, PendingSignIn]] = {}

    def add(self, pending: PendingSignIn) -> str:
        """The cookie's value."""
        now = self._clock()
        # The oldest come first.
        while self._pending:
            oldest = next(iter(self._pending))
            if len(self._pending) < PENDING_MAX and self._pending[oldest][0] >= now:
                break
            del self._pending[oldest]
        token = secrets.token_urlsafe(32)
        self._pending[_hash(token)] = (now + PENDING_S, pending)
        return token

    def take(self, token: str | None, state: str) -> PendingSignIn | None:
        """The one that this browser began with this state; used up by that."""
        found = self._pending.get(_hash(token)) if token else None
        if token is None or found is None or found[0] < self._clock():
            return None
        if not hmac.compare_digest(found[1].state.encode(), state.encode("utf-8", "replace")):
            return None
        del self._pending[_hash(token)]
        return found[1]


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
