"""Use cases around accounts."""

from __future__ import annotations

import pytest

from merino.control.control import Control
from merino.domain.errors import Conflict, InvalidCall, NotFound

pytestmark = pytest.mark.anyio


def test_accounts_are_found_by_name_and_by_id(control: Control):
    """Wherever an account is asked for, its name and its id are the same account."""
    by_name = control.accounts.show("default")

    assert by_name == control.accounts.show(by_name.account.id)
    assert 5_000_000_000 == by_name.balance.posted_nanos


def test_unknown_account_is_not_found(control: Control):
    """A name that is nobody's is refused by name."""
    with pytest.raises(NotFound, match="'nobody'"):
        control.accounts.show("nobody")


@pytest.mark.parametrize("name", ["", "@revenue", "a/b", "a\0b", "a\n", "ü", "x" * 101, " a"])
async def test_unusable_names_are_refused(control: Control, name: str):
    """Names stand in paths and beside the ledger's own accounts, so not every text is one."""
    with pytest.raises(InvalidCall) as refused:
        await control.accounts.create(name)

    assert "name" == refused.value.param


async def test_a_name_is_taken_once(control: Control):
    """Two accounts never share a name, and none is called like another's id."""
    for name in ("default", "acc_1"):
        with pytest.raises(Conflict):
            await control.accounts.create(name)


async def test_an_account_may_keep_its_own_name(control: Control):
    """Changing something else with the old name in the same change is no conflict."""
    state = await control.accounts.update("default", {"name": "default", "overdraft_nanos": 7})

    assert 7 == state.balance.overdraft_nanos


async def test_debit_takes_what_is_available_and_no_more(control: Control, accounts):
    """What running calls hold cannot be taken out; overdraft can."""
    accounts.held["acc_1"] = 2_000_000_000

    with pytest.raises(Conflict) as refused:
        await control.accounts.debit("default", 3_000_000_001)
    await control.accounts.debit("default", 3_000_000_000)

    assert "insufficient_funds" == refused.value.code
    assert 2_000_000_000 == control.accounts.show("default").balance.posted_nanos


@pytest.mark.parametrize("nanos", [0, -1])
async def test_only_positive_amounts_move(control: Control, nanos: int):
    """A debit is not a negative credit."""
    with pytest.raises(InvalidCall):
        await control.accounts.credit("default", nanos)


async def test_a_balance_stays_inside_64_bits(control: Control):
    """Credits that would overflow the database's integers are refused."""
    await control.accounts.credit("default", 2**61)

    with pytest.raises(Conflict) as refused:
        await control.accounts.credit("default", 2**61)

    assert "balance_too_large" == refused.value.code


async def test_pages_meet_without_gap_or_repeat(control: Control):
    """Following the cursor shows every account once."""
    for number in range(6):
        await control.accounts.create(f"a{number}")
    names: list[str] = []
    cursor = None
    while True:
        page = control.accounts.list(limit=3, cursor=cursor)
        names += [state.account.name for state in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert ["default", "a0", "a1", "a2", "a3", "a4", "a5"] == names


def test_a_foreign_cursor_is_refused(control: Control):
    """A cursor that no page gave is an error, not the first page again."""
    with pytest.raises(InvalidCall) as refused:
        control.accounts.list(limit=3, cursor="nonsense")

    assert "cursor" == refused.value.param
