"""From a provider's claims to roles."""

from __future__ import annotations

import pytest

from merino.dashboard.identity import (
    Grant,
    Identity,
    NotIdentified,
    claim_at,
    grants_of,
    identity_of,
)
from merino.settings.sections.dashboard import OidcAccountSettings, OidcSettings

OIDC = OidcSettings(
    issuer="https://id.example",
    client_id="c",
    operators=("Boss@Example.org",),
    operator_groups=("admins",),
    groups_claim="realm_access.roles",
    account_claim="team",
    accounts={
        "red": OidcAccountSettings(owners=("o@x.example",), viewers=("@example.org",)),
        "blue": OidcAccountSettings(
            owner_groups=("blues",), viewers=("o@x.example", "@kelvin.example")
        ),
    },
)


def grants(oidc: OidcSettings = OIDC, **claims: object) -> list[Grant]:
    return list(grants_of(identity_of({"email_verified": True, **claims}, oidc), oidc))


@pytest.mark.parametrize(
    ("claims", "wanted"),
    [
        ({"email": "boss@example.ORG"}, [("operator", None), ("viewer", "red")]),
        ({"email": "o@x.example"}, [("owner", "red"), ("viewer", "blue")]),
        ({"email": "a@b", "realm_access": {"roles": ["admins"]}}, [("operator", None)]),
        ({"email": "a@b", "realm_access": {"roles": ["blues", 7]}}, [("owner", "blue")]),
        ({"email": "a@b", "realm_access": {"roles": 7}}, []),
        ({"email": "a@b", "realm_access": ["admins"]}, []),
        ({"email": "a@b", "groups": ["admins"]}, []),
        ({"email": "a@b", "team": "green"}, [("viewer", "green")]),
        ({"email": "a@b", "team": ["green"]}, []),
        ({"email": "boss@example.org.evil"}, []),
        ({"email": "x@evil@example.org"}, []),
        ({"email": "bo\u017f\u017f@example.org"}, [("viewer", "red")]),
        ({"email": "x@Kelvin.example"}, [("viewer", "blue")]),
        ({"email": "x@\u212aelvin.example"}, []),
    ],
)
def test_who_gets_what(claims, wanted) -> None:
    """The most first: operator, owner by list, owner by claim, viewer. Letters that only look like
    others are others."""
    assert wanted == grants(**claims)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"email": None},
        {"email": ""},
        {"email": ["boss@example.org"]},
        {"email": "boss@example.org", "email_verified": False},
        {"email": "boss@example.org", "email_verified": 1},
        {"email": "a\n@b"},
        {"email": "x" * 321},
    ],
)
def test_who_is_not_known_for_sure_is_nobody(claims) -> None:
    """No address, none that is verified, or none that could be one."""
    with pytest.raises(NotIdentified):
        grants(**claims)


def test_another_claim_needs_no_address() -> None:
    """It is compared letter by letter."""
    oidc = OidcSettings(issuer="i", client_id="c", claim="sub", operators=("Abc",))
    assert [("operator", None)] == grants(oidc, sub="Abc", email_verified=False)
    assert [] == grants(oidc, sub="abc")


def test_who_was_identified_otherwise_has_nothing() -> None:
    """Another issuer's people, or those known by another claim, are others."""
    for issuer, claim in (("https://other.example", "email"), ("https://id.example", "sub")):
        assert [] == list(grants_of(Identity(issuer, claim, "boss@example.org"), OIDC))


def test_a_claim_with_dots_in_its_name_is_found() -> None:
    """Its own name comes before the way inwards."""
    assert 1 == claim_at({"https://a.example/groups": 1}, "https://a.example/groups")
    assert 2 == claim_at({"a": {"b": 2}}, "a.b")
    assert None is claim_at({"a": 1}, "a.b")
