"""What two do at once happens as if one came after the other: nothing is claimed twice, overdrawn or
lost; and what a disk refuses has not happened."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable
from typing import cast

import apsw
import pytest

from merino.billing.desks import Billing
from merino.control.additions import Offering
from merino.control.ports import Once
from merino.control_plane import OPERATIONS, ControlPlane
from merino.domain.batch import StoredFile
from merino.domain.errors import MerinoError, StoreUnavailable
from merino.domain.ledger import Hold
from merino.operations.accounts import Movement
from merino.operations.table import Asked, perform
from merino.storage import Store

pytestmark = pytest.mark.anyio
DOLLAR = 10**9
TEN = 10 * DOLLAR
BY_NAME = {each.name: each for each in OPERATIONS}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def store(tmp_path):
    opened = Store.open(tmp_path / "data")
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
async def control(store):
    control = ControlPlane(store, store.audit, cast("Offering", None)).control
    for name in ("a", "b"):
        await control.accounts.create(name)
    await control.accounts.credit("a", TEN)
    return control


def balance(control, name: str) -> int:
    return control.accounts.show(name).balance.posted_nanos


async def at_once(*works: Awaitable) -> tuple[list, list[str | None]]:
    """What came of them, and with which codes the others were refused."""
    found = await asyncio.gather(*works, return_exceptions=True)
    refused = [each for each in found if isinstance(each, MerinoError)]
    came = [each for each in found if each not in refused]
    assert [] == [each for each in came if isinstance(each, BaseException)]
    return came, [each.code for each in refused]


async def test_a_voucher_is_redeemed_once(control) -> None:
    """Of two who send its code at once, one has the money."""
    [(_, code)] = await control.wing(Billing).credits.create_vouchers(DOLLAR, 1)
    redeem = control.wing(Billing).credits.redeem
    done, refused = await at_once(redeem(code, "a"), redeem(code, "b"))
    assert (1, ["voucher_redeemed"]) == (len(done), refused)
    assert TEN + DOLLAR == balance(control, "a") + balance(control, "b")


@pytest.mark.parametrize("way", ["transfer", "debit"])
async def test_money_leaves_an_account_once(control, way) -> None:
    """Two that take all of it at once: one is refused, and nothing is overdrawn."""
    transfer, debit = control.wing(Billing).credits.transfer, control.accounts.debit
    second = transfer("a", "b", TEN) if way == "transfer" else debit("a", TEN)
    done, refused = await at_once(transfer("a", "b", TEN), second)
    assert (1, ["insufficient_funds"]) == (len(done), refused)
    assert 0 == balance(control, "a")


async def test_no_call_holds_what_is_just_taken(store, control) -> None:
    """The money is gone before the disk has it."""
    key, _ = await control.keys.create("a", "k", {})
    taking = asyncio.create_task(control.accounts.debit("a", TEN))
    await asyncio.sleep(0)
    assert store.ledger.hold(Hold("h", key.account_id, key.id, 1, 0, 60.0), key) is None
    await taking


@pytest.mark.parametrize("way", ["transfer", "debit"])
async def test_what_the_disk_refuses_is_given_back(store, control, tmp_path, way) -> None:
    """Taken from memory, refused by a locked database: as if nobody had asked, also after that."""
    locker = apsw.Connection(str(tmp_path / "data" / "merino.db"))
    locker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        if way == "transfer":
            await control.wing(Billing).credits.transfer("a", "b", TEN)
        else:
            await control.accounts.debit("a", TEN)
    assert (TEN, 0) == (balance(control, "a"), balance(control, "b"))
    with pytest.raises(StoreUnavailable):
        await control.accounts.credit("b", DOLLAR)
    assert 0 == balance(control, "b")
    locker.execute("ROLLBACK")
    locker.close()
    await control.wing(Billing).credits.transfer("a", "b", TEN)
    assert (0, TEN) == (balance(control, "a"), balance(control, "b"))
    assert [] == list((await store.books.verify()).differences)


async def test_memory_follows_although_nobody_waits(control) -> None:
    """A change that was asked for is written whatever becomes of who asked; so it is in memory,
    too."""
    asked = asyncio.create_task(control.accounts.credit("a", DOLLAR))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await control.accounts.credit("a", DOLLAR)
    assert TEN + 2 * DOLLAR == balance(control, "a")


async def test_a_movement_is_booked_once_though_asked_for_twice_at_once(control) -> None:
    """With one idempotency key: the second is answered from what the first booked, even where it
    could not be booked again."""
    debit = BY_NAME["debit_account"]
    body = Movement(amount="10.00")
    once = Once("k", b"h")

    def ask():
        return perform(debit, Asked(control, {"account": "a"}, body=body, once=once), "root")

    (one, other), refused = await at_once(ask(), ask())
    assert [] == refused
    assert [False, True] == sorted(is_repeat for _, is_repeat in (one, other))
    assert one[0].entry == other[0].entry
    assert 0 == balance(control, "a")


async def test_a_name_is_given_once(control) -> None:
    """To accounts, keys and admin keys, by making one or by renaming."""
    assert ["name_taken"] == (
        await at_once(control.accounts.create("c"), control.accounts.update("a", {"name": "c"}))
    )[1]
    for desk, make in (
        ("keys", lambda: control.keys.create("b", "k", {})),
        ("admin_keys", lambda: control.admin_keys.create("k")),
    ):
        assert ["name_taken"] == (await at_once(make(), make()))[1], desk


async def test_no_change_of_a_key_undoes_another(control) -> None:
    """Both stay; and of two new secrets only the last one is good."""
    await control.keys.create("a", "k", {})
    await at_once(
        control.keys.update("k", {"aliases": ("o3",)}),
        control.keys.update("k", {"limits": {"rpm": 7}}),
        control.keys.disable("k"),
    )
    key = control.keys.find("k")
    assert (("o3",), 7, True) == (key.aliases, key.limits.rpm, key.disabled)
    (first, second), _ = await at_once(control.keys.rotate("k"), control.keys.rotate("k"))
    assert control.keys.find("k").hint == second[0].hint
    assert first[1] != second[1]


async def test_the_last_admin_key_is_not_revoked(control) -> None:
    """Not by two who revoke the last two at once."""
    for name in ("one", "two"):
        await control.admin_keys.create(name)
    revoke = control.admin_keys.revoke
    assert ["last_admin_key"] == (await at_once(revoke("one"), revoke("two")))[1]


async def test_an_account_keeps_no_more_than_it_may(store, control) -> None:
    """Of two files that come at once and fit one by one only, one is kept."""
    account_id = control.accounts.find("a").id
    files = [StoredFile(f"file-{n}", account_id, "f", "batch", 6, 0, 1) for n in range(2)]
    kept = await asyncio.gather(
        *(store.files.add(each, io.BytesIO(b"x" * 6), 10) for each in files)
    )
    assert [False, True] == sorted(kept)
    assert 6 == await store.files.kept_bytes(account_id)
    assert 1 == len(list((store.folder / "files").iterdir()))
