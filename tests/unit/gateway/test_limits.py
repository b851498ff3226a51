"""What is this adapter's own about limits; `tests/contract/test_limits.py` proves the rest."""

from __future__ import annotations

import pytest

from merino.domain.account import Account, AccountLimit
from merino.domain.limits import Limits
from merino.gateway.limits import account_limit, format_reset


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0201, "21ms"),
        (1.5, "1.5s"),
        (59.9995, "1m0s"),
        (360, "6m0s"),
        (3661, "1h1m1s"),
    ],
)
def test_durations_as_openai_writes_them(seconds, text) -> None:
    """Rounded up, never early."""
    assert text == format_reset(seconds)


CONFIGURED = {
    "acme": AccountLimit(Limits(rpm=60, tpm=6000), 2.0),
    "acct_2": AccountLimit(Limits(rpm=61)),
    "*": AccountLimit(Limits(rps=1), 0.5),
}


@pytest.mark.parametrize(
    ("account", "rates", "weight"),
    [
        (Account("acct_1", "acme"), Limits(rpm=60, tpm=6000), 2.0),
        (Account("acct_2", "umbrella"), Limits(rpm=61), 1.0),
        (Account("acct_3", "initech"), Limits(rps=1), 0.5),
        (Account("acct_1", "acme", limits=Limits(rpm=5)), Limits(rpm=5, tpm=6000), 2.0),
        (
            Account("acct_1", "acme", limits=Limits(rpm=600, concurrency=7), weight=3.0),
            Limits(rpm=600, tpm=6000, concurrency=7),
            3.0,
        ),
        (Account("acct_3", "initech", limits=Limits(rps=9)), Limits(rps=9), 0.5),
    ],
)
def test_an_accounts_own_limits_stand_above_the_settings(account, rates, weight) -> None:
    """Value by value: the account's own, else that of the settings' table with its name or id,
    else of the table for all others."""
    assert AccountLimit(rates, weight, account.name) == account_limit(account, CONFIGURED)


def test_without_any_there_is_no_limit() -> None:
    """An account that nobody limits is not limited."""
    assert AccountLimit(name="acme") == account_limit(Account("acct_1", "acme"), {})
