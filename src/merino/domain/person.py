"""Customers as people: who signs in to the portal, which accounts are theirs, who was invited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PersonState = Literal["waiting", "active", "refused", "blocked", "deleted"]
"""`waiting` for an operator's approval, `refused` by one; `blocked` after having been active;
`deleted` at the person's own wish: who it was is forgotten, that there was somebody is not."""

MemberRole = Literal["owner", "member", "viewer"]
"""In an account: an `owner` may do everything, a `member` has keys and sees, a `viewer` sees."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who signs in to the portal, known by a verified address, by what an OpenID Connect
    provider calls them (`subject`), or by both. `terms` is a digest of the terms accepted."""

    id: str
    email: str | None
    subject: str | None
    state: PersonState
    language: str
    terms: str
    created_at_ms: int
    decided_at_ms: int | None = None

    def is_another(self, subject: str) -> bool:
        """Whether the provider at the same issuer calls this person otherwise. Of another issuer
        nothing follows: whoever runs the relay has changed the provider."""
        mine = self.subject
        return mine is not None and mine != subject and issuer_of(mine) == issuer_of(subject)


def subject_of(issuer: str, name: str) -> str:
    """What a provider calls somebody, together with which provider it is."""
    return f"{issuer} {name}"


def issuer_of(subject: str) -> str:
    return subject.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class Member:
    """A person's role in an account."""

    person_id: str
    account_id: str
    role: MemberRole
    since_ms: int
    email: str | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """What somebody who signs in has proved: that they read the mail of `email`, or that a provider
    calls them `subject`."""

    email: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Invitation:
    """Lets one person in, once: to an account of their own, or to `account_id` as `role`. `hint` is
    how its code begins; only the code's hash is kept. `email` is the only address it is for."""

    id: str
    hint: str
    email: str | None
    account_id: str | None
    role: MemberRole
    credit_nanos: int | None
    created_at_ms: int
    expires_at_ms: int
    invited_by: str
    is_void: bool = False
    used_at_ms: int | None = None
    person_id: str | None = None
