"""What `merino config check` says of `[dashboard.oidc]`."""

from __future__ import annotations

import sys

import pytest

from merino.domain.errors import Misconfigured
from merino.settings import load
from merino.settings.oidc_checks import is_https_or_local

GOOD = {
    "issuer": '"https://id.example.org"',
    "client_id": '"relay"',
    "client_secret": '"env:SECRET"',
    "operators": '["you@example.org"]',
}


def loaded(tmp_path, more: str = "", **changes: str | None):
    fields = {name: text for name, text in (GOOD | changes).items() if text is not None}
    lines = [f"{name} = {text}" for name, text in fields.items()]
    path = tmp_path / "merino.toml"
    path.write_text("\n".join(["[dashboard.oidc]", *lines, more]))
    return load(path, {"SECRET": "s3cret"})


def test_a_good_one_is_taken_as_it_is(tmp_path) -> None:
    """Without a warning; and without the table there is no provider."""
    settings = loaded(tmp_path)
    assert () == settings.warnings
    assert settings.dashboard.oidc is not None
    assert ("openid", "email", "profile") == settings.dashboard.oidc.scopes
    assert None is load(None, {}).dashboard.oidc


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"issuer": None}, "dashboard.oidc.issuer: missing"),
        ({"issuer": '"http://id.example.org"'}, "must be an https:// address"),
        ({"issuer": '"http://127.evil.example"'}, "must be an https:// address"),
        ({"issuer": '"https://[::1"'}, "must be an https:// address"),
        ({"issuer": '"https://u:p@id.example.org"'}, "must be an https:// address"),
        ({"issuer": '"https://id.example.org?x=1"'}, "must not have a query"),
        ({"client_id": None}, "dashboard.oidc.client_id: missing"),
        ({"client_id": '" "'}, "client_id = "),
        ({"client_secret": '"env:NOT_SET"'}, "NOT_SET"),
        ({"client_secret": '"file:none"'}, "cannot be read"),
        ({"scopes": '["email"]'}, 'must have "openid"'),
        ({"operators": None}, "nobody could sign in"),
        ({"operators": '["you"]'}, "not a mail address"),
        ({"operators": '[""]'}, "has an empty entry"),
        ({"operators": '["@example.org"]', "claim": '"sub"'}, "means mail addresses"),
        ({"operator_groups": '["a"]', "groups_claim": '""'}, "name their claim"),
        ({"public_url": '"relay.example.org"'}, "must be an https:// address"),
        ({"public_url": '"https://relay.example.org/x"'}, "must have no path"),
        ({"account_role": '"operator"'}, 'one of "owner", "viewer"'),
        ({"ca_file": '"none.pem"'}, "no such file"),
        ({"name": f'"{"x" * 61}"'}, "longer than 60"),
        ({"operatros": '["a@b"]'}, "did you mean operators?"),
    ],
)
def test_mistakes_are_named(tmp_path, changes, said) -> None:
    """Each with its place and the way out, and never with a secret."""
    with pytest.raises(Misconfigured) as caught:
        loaded(tmp_path, **changes)
    assert said in caught.value.message
    assert "merino.toml:" in caught.value.message
    assert "s3cret" not in caught.value.message


def test_an_accounts_people_are_checked_too(tmp_path) -> None:
    """Under the account's name, dots and all."""
    more = '[dashboard.oidc.accounts."a.b"]\nowners = ["nobody"]'
    with pytest.raises(Misconfigured) as caught:
        loaded(tmp_path, more)
    assert 'accounts."a.b".owners = "nobody": not a mail address' in caught.value.message


def test_a_secret_in_the_file_is_warned_of(tmp_path) -> None:
    """It is taken all the same."""
    (warning,) = loaded(tmp_path, client_secret='"literal"').warnings
    assert "merino.toml:4: dashboard.oidc.client_secret: stands in the settings file" in warning
    assert "literal" not in warning


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("https://a.example/x", True),
        ("http://127.0.0.1:1/x", True),
        ("http://[::1]/", True),
        ("http://localhost:8/", True),
        ("http://a.example/", False),
        ("http://127.0.0.1.evil.example/", False),
        ("http://localhost.evil.example/", False),
        ("https://a@b/", False),
        ("https://", False),
        ("https://a:port/", False),
        ("https://exämple.org/", False),
        ("file:///x", False),
        ("javascript:1", False),
        ("", False),
    ],
)
def test_in_clear_only_on_this_machine(url, is_safe) -> None:
    """Names that look like this machine are not."""
    assert is_safe == is_https_or_local(url)


def test_a_missing_package_is_named(tmp_path, monkeypatch) -> None:
    """With how to get it, before the relay starts."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    for name in [name for name in sys.modules if name.partition(".")[0] == "authlib"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(Misconfigured, match=r"pip install 'merino\[oidc\]'"):
        loaded(tmp_path)
