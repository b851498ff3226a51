"""The dashboard, who may sign in to it by OpenID Connect, and the status page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from merino.settings.declaring import named_sections, optional_section, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcAccountSettings:
    owners: tuple[str, ...] = setting((), "Who owns it: sees it and changes it.")
    owner_groups: tuple[str, ...] = setting((), "Groups whose members own it.")
    viewers: tuple[str, ...] = setting((), "Who sees it and changes nothing.")
    viewer_groups: tuple[str, ...] = setting((), "Groups whose members see it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    name: str = setting("OpenID Connect", 'What the button says: "Sign in with ...".')
    issuer: str = setting(
        "",
        "The provider's address, exactly as it calls itself: `https://id.example.org`.",
        required=True,
    )
    client_id: str = setting("", "What the provider calls this relay.", required=True)
    client_secret: str = setting(
        "",
        "What the relay proves itself with: `env:NAME` or `file:PATH`; left out: with PKCE alone.",
        secret=True,
    )
    scopes: tuple[str, ...] = setting(
        ("openid", "email", "profile"), "What the provider is asked for."
    )
    claim: str = setting(
        "email", "The claim that says who somebody is. `email` must be a verified one."
    )
    groups_claim: str = setting(
        "groups", "The claim with somebody's groups; dots lead inwards: `realm_access.roles`."
    )
    operators: tuple[str, ...] = setting(
        (), "Who may see and change everything. `@example.org` is everybody with such an address."
    )
    operator_groups: tuple[str, ...] = setting((), "Groups whose members may.")
    account_claim: str = setting(
        "", "A claim with the name or id of the account somebody belongs to; none: no such rule."
    )
    account_role: Literal["owner", "viewer"] = setting(
        "viewer", "What who belongs to an account by that claim is there."
    )
    public_url: str | None = setting(
        None,
        "Where browsers reach the relay: `https://relay.example.org`; left out: as they asked.",
    )
    ca_file: Path | None = setting(
        None, "PEM certificates to trust for this server instead of the system's."
    )
    accounts: Mapping[str, OidcAccountSettings] = named_sections(
        OidcAccountSettings, "Owners and viewers of accounts, by the account's name or id."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardSettings:
    oidc: OidcSettings | None = optional_section(
        OidcSettings,
        "Sign-in through an OpenID Connect provider, beside keys; needs `merino[oidc]`.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSettings:
    public: bool = setting(False, "Show `/status` and `/status.json` to everybody.")
    objective: Annotated[float, Meta(ge=0, le=0.99999)] = setting(
        0.995, "Share of calls that shall be answered, for the error budget."
    )
