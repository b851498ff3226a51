"""What happens with every operation that is performed, whoever asks for it."""

from __future__ import annotations

import asyncio

import pytest

from merino.control.ports import Once
from merino.operations import accounts, deployments, keys
from merino.operations.accounts import AccountChange, Movement
from merino.operations.keys import NewKey, Rotation
from merino.operations.table import Asked, Operation, perform


class FakeAudit:
    def __init__(self):
        self.noted = []

    async def note(self, actor, action, target, details=""):
        self.noted.append((actor, action, target, details))


@pytest.fixture
def audit(control):
    control.audit = FakeAudit()
    return control.audit.noted


def do(control, operation: Operation, body=None, once=None, **path):
    return asyncio.run(perform(operation, Asked(control, path, body=body, once=once), "root"))


def test_a_change_leaves_a_line_with_what_was_said(control, audit):
    """Who, what, of what, and every field that was given; not what was left out."""
    do(control, accounts.update_account, AccountChange(rpm=5, spend_cap=None), account="default")
    do(control, keys.rotate_key, Rotation(keep_old="10m"), key="first")
    assert [
        ("root", "update_account", "default", "spend_cap=none, rpm=5"),
        ("root", "rotate_key", "first", "keep_old=10m"),
    ] == audit


def test_what_is_made_is_told_by_its_name(control, audit):
    """Its path names nothing yet."""
    do(control, keys.create_key, NewKey(account="default", name="ci"))
    [(_, action, target, details)] = audit
    assert ("create_key", "ci") == (action, target)
    assert "account=default" in details


def test_looking_leaves_no_line(control, audit):
    """Only changes do."""
    do(control, keys.show_key, key="first")
    do(control, deployments.list_deployments)
    assert [] == audit


def test_a_repeat_books_nothing_and_leaves_no_line(control, audit):
    """It is answered from the entries of the first one."""
    body, once = Movement("1.50"), Once("once", b"asked")
    first, was_repeat = do(control, accounts.credit_account, body, once, account="default")
    again, is_repeat = do(control, accounts.credit_account, body, once, account="default")
    assert (False, True) == (was_repeat, is_repeat)
    assert (first.entry, "6.50") == (again.entry, again.account.balance.posted)
    assert 1 == len(audit)
