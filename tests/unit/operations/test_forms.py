"""Forms become the same bodies as the admin API's."""

from __future__ import annotations

import pytest

from merino.domain.errors import InvalidCall
from merino.operations.accounts import AccountChange, Movement, NewAccount
from merino.operations.forms import from_form
from merino.operations.keys import KeyChange, NewKey

LIMITS = ("rps", "rpm", "tpm", "concurrency")


def test_what_was_left_empty_is_nothing():
    """Of what may be nothing it is taken away; of the rest it stays, or has its default."""
    empty = {name: ["  "] for name in ("name", "spend_cap", "spend_period", "rpm", "currency")}
    change = from_form(empty, KeyChange, "name", "spend_cap", "spend_period", "rpm", "aliases")
    assert KeyChange(spend_cap=None, rpm=None, aliases=[]) == change
    assert NewAccount(name="") == from_form(empty, NewAccount, "name", "currency")


def test_what_is_not_wanted_is_not_taken():
    """A form that has more than its page has fields sets nothing by that."""
    form = {"overdraft": ["100"], "spend_cap": ["5"]}
    assert AccountChange(spend_cap="5") == from_form(form, AccountChange, "spend_cap")


def test_what_was_written_has_its_type():
    """Numbers are numbers, days begin in UTC, lists leave out what is empty."""
    form = {
        "name": [" ci "],
        "aliases": ["o3", "", "o4-mini"],
        "expires_at": ["2027-01-31"],
        "rpm": ["600"],
        "spend_period": ["day"],
        "spend_cap": ["1.5"],
    }
    assert NewKey(
        account="default",
        name="ci",
        aliases=["o3", "o4-mini"],
        expires_at="2027-01-31T00:00:00+00:00",
        rpm=600,
        spend_period="day",
        spend_cap="1.5",
    ) == from_form(form, NewKey, *form, account="default")
    assert 0.5 == from_form({"weight": ["0.5"]}, AccountChange, "weight").weight


@pytest.mark.parametrize(
    ("kind", "name", "text", "said"),
    [
        *(
            (KeyChange, name, text, "must be a whole number from 1 to 1,000,000,000, not")
            for name in LIMITS
            for text in ("0", "-1", "1.5", "1e3", "1000000001", "9" * 40, "\u0663")
        ),
        (KeyChange, "rpm", "x", "calls a minute must be a whole number"),
        *(
            (AccountChange, "weight", text, "must be a number above 0 and at most 1,000")
            for text in ("0", "-1", "1000.1", "nan", "inf", "much")
        ),
        (KeyChange, "spend_period", "week", "The spend period must be day, month or total."),
        (KeyChange, "expires_at", "soon", "expires at must be a date such as 2027-01-31"),
        (Movement, "amount", "", "Say how much."),
    ],
)
def test_what_is_wrong_is_told_in_words(kind, name, text, said):
    """With the bounds and choices that the type has, and the field."""
    with pytest.raises(InvalidCall) as refused:
        from_form({name: [text]}, kind, name)
    assert said in refused.value.message
    assert name == refused.value.param
