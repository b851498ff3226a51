"""Who may do what here, by what an OpenID Connect provider says of a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

from merino.settings.sections.dashboard import OidcSettings

Role = Literal["operator", "owner", "viewer"]

_NAME_LENGTH_MAX = 320
_GROUPS_MAX = 1000


class NotIdentified(ValueError):
    """The provider does not say, or does not vouch for, who it is."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A person as the provider at `issuer` calls them by `claim`. `account` is what the settings'
    `account_claim` says, if anything; `subject` is the provider's own name for them, which never
    changes, and `email` an address that it has verified."""

    issuer: str
    claim: str
    name: str
    groups: frozenset[str] = frozenset()
    account: str = ""
    subject: str = ""
    email: str | None = None


class Grant(NamedTuple):
    """`account` is a name or an id; operators have none."""

    role: Role
    account: str | None = None


def identity_of(claims: Mapping[str, Any], oidc: OidcSettings) -> Identity:
    """Raises `NotIdentified`, worded for the person."""
    name = claim_at(claims, oidc.claim)
    if not isinstance(name, str) or not name.strip():
        raise NotIdentified(f"{oidc.name} does not tell your {oidc.claim}")
    if len(name) > _NAME_LENGTH_MAX or not name.isprintable():
        raise NotIdentified(f"what {oidc.name} tells as your {oidc.claim} cannot be used")
    verified = claims.get("email_verified")
    # Some providers write it as a text.
    is_verified = verified is True or verified == "true"
    if oidc.claim == "email" and not is_verified:
        raise NotIdentified(f"{oidc.name} has not verified your address {name}")
    account = claim_at(claims, oidc.account_claim) if oidc.account_claim else None
    email, subject = claims.get("email"), claims.get("sub")
    return Identity(
        oidc.issuer,
        oidc.claim,
        name.strip(),
        _groups(claim_at(claims, oidc.groups_claim)),
        account.strip() if isinstance(account, str) else "",
        subject if isinstance(subject, str) else "",
        email.strip() if is_verified and isinstance(email, str) else None,
    )


def grants_of(who: Identity, oidc: OidcSettings) -> Iterator[Grant]:
    """What the settings give to a person, the most first; nothing if they were identified in
    another way than the settings ask for."""
    if (who.issuer, who.claim) != (oidc.issuer, oidc.claim):
        return

    def is_in(people: tuple[str, ...], groups: tuple[str, ...]) -> bool:
        named = any(_is(who.name, each, is_mail=oidc.claim == "email") for each in people)
        return named or not who.groups.isdisjoint(groups)

    if is_in(oidc.operators, oidc.operator_groups):
        yield Grant("operator")
    for account, each in oidc.accounts.items():
        if is_in(each.owners, each.owner_groups):
            yield Grant("owner", account)
    if who.account and oidc.account_role == "owner":
        yield Grant("owner", who.account)
    for account, each in oidc.accounts.items():
        if is_in(each.viewers, each.viewer_groups):
            yield Grant("viewer", account)
    if who.account and oidc.account_role == "viewer":
        yield Grant("viewer", who.account)


def claim_at(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by the way to it: `realm_access.roles`."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        if not isinstance(found, dict):
            return None
        found = cast("dict[str, Any]", found).get(part)
    return found


def _groups(value: Any) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset((value,))
    if not isinstance(value, list):
        return frozenset()
    items = cast("list[Any]", value)[:_GROUPS_MAX]
    return frozenset(item for item in items if isinstance(item, str))


def _is(name: str, wanted: str, *, is_mail: bool) -> bool:
    wanted = wanted.strip()
    if not is_mail:
        return name == wanted
    # Letters that only look alike become equal in small letters, so only ASCII is made small.
    if name.isascii() and wanted.isascii():
        name, wanted = name.lower(), wanted.lower()
    if wanted.startswith("@"):
        return name.rpartition("@")[2] == wanted[1:] and name.count("@") == 1
    return name == wanted
