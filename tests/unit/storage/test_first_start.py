"""A first start that dies half-way leaves a folder that the next start completes, with keys that
work; and keys that were shown stay good whatever came after."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from tests.unit.ledger.folder_at_death import Died, DyingAt, drop

from merino.domain.errors import Misconfigured
from merino.serving import FIRST_ACCOUNT, FIRST_KEY, first_start
from merino.sqlite.database import Database
from merino.storage import Store, keys

CREDIT = 5_000_000_000
STEPS = ("begin", "account", "credit", "key", "admin key", "sync", "shown")


def dying_around(store: Store, step: str, *, before: bool) -> None:
    owner, name = {
        "begin": (store.first_start, "begin"),
        "account": (store.accounts, "create"),
        "credit": (store.accounts, "credit"),
        "key": (store.keys, "create"),
        "admin key": (store.admin_keys, "create"),
        "sync": (store.first_start, "made"),
        "shown": (store.first_start, "shown"),
    }[step]
    real = getattr(owner, name)

    async def dying(*args, **more):
        if not before:
            await real(*args, **more)
        raise Died

    setattr(owner, name, dying)


def start(folder: Path, dies: tuple[str, bool] | None = None) -> list[tuple[str, str]]:
    """What a start shows, whether it dies afterwards or not."""
    store = Store.open(folder)
    shown: list[tuple[str, str]] = []

    async def begin() -> None:
        if dies is not None:
            dying_around(store, dies[0], before=dies[1])
        key, admin_key = await first_start(CREDIT, store)
        if key is not None and admin_key is not None:
            shown.append((key, admin_key))
            await store.first_start.shown()

    with contextlib.suppress(Died):
        asyncio.run(begin())
    drop(store)
    return shown


def check(folder: Path, shown: list[tuple[str, str]]) -> None:
    store = Store.open(folder)
    [account] = store.accounts.list()
    assert FIRST_ACCOUNT == account.name
    assert CREDIT == store.ledger.balance(account.id).posted_nanos
    for key, admin_key in shown:
        found = store.keys.find(key.encode())
        assert found is not None
        assert account.id == found.account_id
        admin = store.admin_keys.find(admin_key.encode())
        assert admin is not None
        assert admin.name.startswith(FIRST_KEY)
    assert [] == list(asyncio.run(store.books.verify()).differences)
    drop(store)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("first", STEPS)
@pytest.mark.parametrize("second", [None, "key", "shown"])
def test_it_may_die_at_any_step_and_once_more(tmp_path, first, second, before) -> None:
    """The start that does not die shows keys, unless all was done; the one after it shows none."""
    shown = start(tmp_path, (first, before))
    is_over = (first, before) == ("shown", False)
    if second is not None:
        shown += start(tmp_path, (second, before))
        is_over |= (second, before) == ("shown", False)
    last = start(tmp_path)
    assert (0 if is_over else 1) == len(last)
    assert [] == start(tmp_path)
    shown += last
    assert shown
    check(tmp_path, shown)


def test_the_folder_itself_may_be_half_made(tmp_path) -> None:
    """Whichever file, name or sync it died at."""
    step, has_died = 0, True
    while has_died:
        step += 1
        folder = tmp_path / str(step)
        with DyingAt(step) as steps:
            with contextlib.suppress(Died):
                drop(Store.open(folder))
            has_died = steps.steps >= step
        shown = start(folder)
        assert 1 == len(shown)
        check(folder, shown)
    assert step > 6


@pytest.mark.parametrize("made", [0, 1, 2, 3])
def test_a_folder_left_half_way_by_a_version_that_noted_nothing_is_completed(
    tmp_path, made
) -> None:
    """After the account, its credit, or its key; one with an admin key was complete."""
    store = Store.open(tmp_path)

    async def begin() -> None:
        account = await store.accounts.create(FIRST_ACCOUNT)
        if made > 0:
            await store.accounts.credit(account.id, CREDIT, "start credit")
        if made > 1:
            await store.keys.create(account_id=account.id, name=FIRST_KEY)
        if made > 2:
            await store.admin_keys.create(FIRST_KEY)

    asyncio.run(begin())
    drop(store)
    shown = start(tmp_path)
    assert (0 if made > 2 else 1) == len(shown)
    check(tmp_path, shown)


def test_a_folder_that_was_prepared_by_hand_is_no_first_start(tmp_path) -> None:
    """Who made accounts or keys of other names before the relay ran wants no others."""
    store = Store.open(tmp_path)
    asyncio.run(store.accounts.create("team"))
    drop(store)
    assert [] == start(tmp_path)


@pytest.mark.parametrize("left", [b"", b"\1" * 31])
def test_a_pepper_that_was_cut_short_is_made_anew_unless_keys_need_it(tmp_path, left) -> None:
    """An empty one would hash every key with nothing."""
    (tmp_path / "pepper").write_bytes(left)
    shown = start(tmp_path)
    assert keys.PEPPER_BYTES == len((tmp_path / "pepper").read_bytes())
    check(tmp_path, shown)
    (tmp_path / "pepper").write_bytes(left)
    with pytest.raises(Misconfigured, match="pepper is missing or damaged"):
        Store.open(tmp_path)


def test_an_empty_database_file_is_none(tmp_path) -> None:
    """It is the first thing that is made."""
    Database.to_write(tmp_path / "other.db").close()
    (tmp_path / "merino.db").touch()
    check(tmp_path, start(tmp_path))
