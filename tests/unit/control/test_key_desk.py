"""Use cases around keys."""

from __future__ import annotations

import pytest
from tests.unit.control_in_memory import NOW_MS

from merino.control.control import Control
from merino.control.keys import KeyDesk
from merino.domain.errors import Conflict, InvalidCall, NotFound

pytestmark = pytest.mark.anyio


async def test_a_key_belongs_to_an_existing_account(control: Control):
    """A key nobody pays for cannot be issued."""
    with pytest.raises(NotFound, match="account 'nobody'"):
        await control.keys.create("nobody", "k", {})


async def test_terms_are_kept(control: Control):
    """What a key may do is what was asked for."""
    key, secret = await control.keys.create(
        "default", "k", {"aliases": ("o3",), "limits": {"rpm": 5}}
    )

    assert ("o3",) == key.aliases
    assert 5 == key.limits.rpm
    assert secret.startswith("mk-")


async def test_an_expiry_in_the_past_is_refused(control: Control):
    """A key that is dead when it is born is a mistake."""
    with pytest.raises(Conflict) as refused:
        await control.keys.create("default", "k", {"expires_at_ms": 1})

    assert "expires_at" == refused.value.param


async def test_key_names_are_unique(control: Control):
    """Two keys never share a name."""
    with pytest.raises(Conflict):
        await control.keys.create("default", "first", {})


async def test_disable_and_enable(control: Control):
    """A disabled key stays listed and can come back."""
    assert (await control.keys.disable("first")).disabled
    assert ["first"] == [key.name for key in control.keys.list(limit=10).items]
    assert not (await control.keys.enable("first")).disabled


async def test_rotate_changes_the_secret_only(control: Control):
    """After a rotation it is the same key with another secret."""
    before = control.keys.find("first")
    after, secret = await control.keys.rotate("first")

    assert before.id == after.id
    assert before.secret_hash != after.secret_hash
    assert secret.startswith(after.hint)


async def test_keys_of_one_account(control: Control):
    """A list for one account shows no other's keys."""
    await control.accounts.create("other")
    await control.keys.create("other", "theirs", {})

    page = control.keys.list(account="other", limit=10)

    assert ["theirs"] == [key.name for key in page.items]


@pytest.fixture
def desk(control: Control) -> KeyDesk:
    return KeyDesk(control.keys._keys, control.accounts, lambda: NOW_MS)


async def test_an_old_secret_ends_when_it_is_said(desk: KeyDesk):
    """It may be kept for up to thirty days, and its end be brought forward or put off."""
    with pytest.raises(InvalidCall, match="0 to 30 days"):
        await desk.rotate("first", 31 * 86_400)
    key, _ = await desk.rotate("first", 600)
    assert NOW_MS + 600_000 == key.old_expires_at_ms

    later = await desk.update("first", {"old_expires_at_ms": NOW_MS + 900_000})
    assert NOW_MS + 900_000 == later.old_expires_at_ms
    ended = await desk.update("first", {"old_expires_at_ms": None})
    assert NOW_MS == ended.old_expires_at_ms


async def test_a_key_without_an_old_secret_has_none_to_end(desk: KeyDesk):
    """To end what is not there changes nothing."""
    assert (await desk.update("first", {"old_expires_at_ms": None})).old_expires_at_ms is None


async def test_an_old_secret_is_not_ended_by_a_slip(desk: KeyDesk):
    """A time that has passed was meant otherwise; nothing is changed."""
    kept, _ = await desk.rotate("first", 600)
    with pytest.raises(Conflict, match="in the past"):
        await desk.update("first", {"old_expires_at_ms": NOW_MS - 600_000})
    assert kept.old_expires_at_ms == desk.find("first").old_expires_at_ms


async def test_what_has_ended_does_not_come_back(desk: KeyDesk):
    """A secret that is void stays void: its holder may have been told so for a reason."""
    await desk.rotate("first")
    with pytest.raises(Conflict, match="no old secret"):
        await desk.update("first", {"old_expires_at_ms": NOW_MS + 900_000})
