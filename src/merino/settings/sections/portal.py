"""The portal of customers: who may sign up, by which way, and what they are given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from merino.settings.declaring import amount, setting

PerPeriod = Annotated[int, Meta(ge=1, le=1_000_000)]
SignUpMethod = Literal["oidc", "email", "invitation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalSettings:
    enabled: bool = setting(False, "Serve `/portal`, where customers sign up, pay and start.")
    name: str = setting("Merino", "Whose portal it is: the name on its pages and letters.")
    logo: Path | None = setting(
        None, "Its logo, an SVG, PNG or WebP file of at most 200 KB; left out: the name alone."
    )
    public_url: str | None = setting(
        None,
        "Where browsers reach the relay: `https://relay.example.org`. Letters carry links only if "
        "it is given; without it they carry codes.",
    )
    terms_url: str | None = setting(None, "Where the terms are that customers accept.")
    terms: str = setting("", "The terms themselves, shown at sign-up; a change is asked for anew.")
    methods: tuple[SignUpMethod, ...] = setting(
        ("email",),
        "Ways to sign up: `email` (a code or link), `oidc` (the provider of `[dashboard.oidc]`), "
        "`invitation` (with one from an operator, who verifies the address by a code, too).",
    )
    start_credit_nanos: int = amount(
        "0", "What a new account starts with, once per person.", key="start_credit"
    )
    currency: Literal["USD", "EUR", "CNY"] = setting("USD", "What new accounts are kept in.")
    group: str = setting("standard", "Pricing group of new accounts.")
    domains: tuple[str, ...] = setting(
        (), "Domains of addresses that may sign up, such as `example.org`; none given: all."
    )
    blocked_domains: tuple[str, ...] = setting(
        (), "Domains of addresses that may not, with all below them."
    )
    approval: bool = setting(False, "An operator approves each new customer first.")
    letters_per_address_hour: PerPeriod = setting(
        5, "Most sign-in letters to one address within an hour."
    )
    letters_per_network_hour: PerPeriod = setting(
        30, "Most sign-in letters asked for by one network (IPv4 /24, IPv6 /56) within an hour."
    )
    sign_ups_per_network_day: PerPeriod = setting(
        20, "Most new customers from one network within a day."
    )
    public_prices: bool = setting(
        False, "Show `/portal/price-list`, prices and speeds, to everybody."
    )
