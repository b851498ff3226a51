"""What is said of accounts that the settings name and nobody has opened."""

from __future__ import annotations

from merino.domain.account import Account
from merino.settings import load
from merino.settings.account_names import unknown_accounts

ACCOUNTS = (Account("acc-1", "team red"), Account("acc-2", "team blue"))
TEXT = """
[dashboard.oidc]
issuer = "https://id.example.org"
client_id = "relay"
[dashboard.oidc.accounts."{0}"]
owners = ["ada@example.org"]
[limits.accounts."*"]
rpm = 5
[limits.accounts."{0}"]
rpm = 10
"""


def told(tmp_path, name: str) -> list[str]:
    path = tmp_path / "merino.toml"
    path.write_text(TEXT.format(name))
    return list(unknown_accounts(load(path, {}), ACCOUNTS))


def test_a_name_or_an_id_of_an_account_is_fine(tmp_path) -> None:
    """Either may be written; `*` is nobody's name."""
    assert [] == told(tmp_path, "team red")
    assert [] == told(tmp_path, "acc-2")


def test_a_name_that_nobody_has_is_told_with_the_nearest(tmp_path) -> None:
    """One line for each table, which says what comes of it and the way out."""
    said = 'no account has this name or id, so it {}; did you mean "team red"?'

    assert [
        'dashboard.oidc.accounts."team rad": ' + said.format("lets nobody in"),
        'limits.accounts."team rad": ' + said.format("limits nobody"),
    ] == told(tmp_path, "team rad")


def test_a_name_like_no_other_leads_to_the_list(tmp_path) -> None:
    """Where nothing is near."""
    assert told(tmp_path, "zzz")[0].endswith("; merino accounts list shows all")


def test_without_such_tables_nothing_is_told() -> None:
    """The defaults name no account."""
    assert [] == list(unknown_accounts(load(None, {}), ACCOUNTS))
