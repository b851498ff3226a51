"""What answers show of domain nouns, and what bodies and queries say of them."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from merino.billing.nouns import Delivery, Notice, SavedCard, Spending, TopUp, Voucher
from merino.control.ports import (
    AccountTerms,
    CallFilter,
    Difference,
    KeyTerms,
    ReportRow,
    Verification,
)
from merino.control.sla import ServiceLevel
from merino.control_plane import OPERATIONS
from merino.domain.account import Account, Balance
from merino.domain.call import Attempt, CallRecord, RunningCall
from merino.domain.currencies import ExchangeRate
from merino.domain.deployment import Alias, BreakerChange, Deployment, DeploymentState
from merino.domain.errors import InvalidCall
from merino.domain.key import AdminKey, VirtualKey
from merino.domain.ledger import Entry
from merino.domain.limits import Limits
from merino.domain.person import Invitation, Person
from merino.operations.accounts import AccountChange, NewAccount
from merino.operations.calls import CallsQuery
from merino.operations.keys import Key, KeyChange, NewKey
from merino.operations.shape import SHOWN, shown, sources, taken

NOUNS = {
    *(Account, Balance, Limits, VirtualKey, AdminKey),
    *(CallRecord, Attempt, RunningCall, Entry, ReportRow, Verification, Difference),
    *(Deployment, DeploymentState, BreakerChange, Alias),
    *(Person, Invitation, ServiceLevel),
    *(Voucher, TopUp, SavedCard, ExchangeRate, Spending, Notice, Delivery),
}


def test_every_noun_has_an_answer():
    """What operators can look at is one list; a noun that is added stands in it."""
    assert NOUNS == {each.noun for each in SHOWN.values()}


@pytest.mark.parametrize("answer", SHOWN, ids=lambda answer: answer.__name__)
def test_every_field_is_shown_or_hidden_with_a_reason(answer):
    """A field that is added to a noun is shown, or somebody has said why not."""
    declared = SHOWN[answer]
    shows = set(sources(answer, declared.noun).values())
    kind = declared.noun
    names = getattr(kind, "__struct_fields__", None) or (f.name for f in dataclasses.fields(kind))
    there = set(names)
    assert there == (shows & there) | set(declared.hidden)
    assert set() == shows & set(declared.hidden)
    assert all(declared.hidden.values())


def test_every_shown_answer_is_one_of_an_operation():
    """No answer is left over: each is found from the table."""
    found: set[type] = set()
    left = {each.answer for each in OPERATIONS if each.answer is not None}
    while left:
        kind = left.pop()
        found.update(kind.__mro__)
        left |= {each for field in msgspec.structs.fields(kind) for each in _structs(field.type)}
        left -= found
    assert set() == set(SHOWN) - found


def _structs(kind) -> set[type[msgspec.Struct]]:
    inner = getattr(kind, "__args__", ())
    if inner:
        return set().union(*(_structs(each) for each in inner))
    return {kind} if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else set()


def test_amounts_are_text_and_times_iso():
    """By their names: nano-units as exact decimal text, milliseconds as ISO 8601."""
    key = VirtualKey("key_1", "acct_1", "ci", "mk-...", b"", ("o3",), 1_790_000_000_000)
    key = dataclasses.replace(key, spend_cap_nanos=1_500_000_001, expires_at_ms=1_800_000_000_000)
    answer = shown(Key, key, account="default")
    assert ("1.500000001", 1_500_000_001) == (answer.spend_cap, answer.spend_cap_nanos)
    assert "2027-01-15T08:00:00.000Z" == answer.expires_at
    assert (["o3"], "default") == (answer.aliases, answer.account)
    assert shown(Key, dataclasses.replace(key, expires_at_ms=None), account="").expires_at is None


def test_an_answer_shows_the_noun_it_is_declared_for():
    """Another noun with the same fields is a mistake of ours."""
    with pytest.raises(AssertionError, match="Key shows a VirtualKey"):
        shown(Key, AdminKey("admin_1", "root", "", b""), account="")


def test_what_is_left_out_is_left_out_of_the_terms():
    """`null` takes away, what was not said stays."""
    change = msgspec.convert({"rpm": None, "spend_cap": "1.5"}, KeyChange)
    expected = {"limits": {"rpm": None}, "spend_cap_nanos": 1_500_000_000}
    assert expected == taken(KeyTerms, change)
    assert {} == taken(AccountTerms, AccountChange())


def test_terms_are_read_by_their_types():
    """Amounts become nano-units, times milliseconds, lists tuples; other names are not taken."""
    body = NewKey(
        account="default", name="ci", aliases=["o3"], expires_at="2027-01-15T09:00:00+01:00"
    )
    assert {
        "name": "ci",
        "aliases": ("o3",),
        "expires_at_ms": 1_800_000_000_000,
        "spend_cap_nanos": None,
        "spend_period": "total",
        "limits": {"rps": None, "rpm": None, "tpm": None, "concurrency": None},
    } == taken(KeyTerms, body)
    assert 250_000_000 == taken(AccountTerms, NewAccount(name="a", overdraft="0.25")).get(
        "overdraft_nanos"
    )
    assert {"topup_nanos": 2 * 10**9} == taken(AccountTerms, AccountChange(topup_amount=2))


def test_a_query_is_a_filter():
    """References become ids, as they are given, and times milliseconds."""
    query = CallsQuery(account="default", key="ci", status=200, since="2027-01-15T08:00:00Z")
    wanted = CallFilter("default", "ci", status=200, since_ms=1_800_000_000_000)
    assert wanted == taken(CallFilter, query)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        (KeyChange(spend_cap="-1"), "spend_cap"),
        (KeyChange(expires_at="soon"), "expires_at"),
        (AccountChange(notice_below=0.5), "notice_below"),
        (AccountChange(topup_amount="x"), "topup_amount"),
    ],
)
def test_what_cannot_be_read_names_its_field(change, param):
    """By the name it was given under."""
    with pytest.raises(InvalidCall) as refused:
        taken(AccountTerms if isinstance(change, AccountChange) else KeyTerms, change)
    assert param == refused.value.param
