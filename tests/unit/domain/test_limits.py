"""Limits are a value, and every limit a row of one table."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from merino.domain.limits import (
    LIMIT_KINDS,
    LIMIT_SHORT_WORDS,
    LIMIT_WORDS,
    RATES,
    Demand,
    LimitKind,
    Limits,
    flat,
    limits_in,
)
from merino.operations.accounts import Account, AccountChange, LimitsInForce, NewAccount
from merino.operations.keys import Key, KeyChange, NewKey
from merino.settings.sections.limits import AccountRateSettings, RateSettings
from merino.storage import Store

some = st.none() | st.integers(1, 100)
limits = st.builds(Limits, some, some, some, some)
demands = st.builds(Demand, st.integers(0, 9), st.integers(0, 9))


def test_every_kind_of_limit_is_known_everywhere(tmp_path) -> None:
    """What a new limit has to be added to: the table, the words, the settings, the bodies and
    answers of keys and accounts, and the two tables of the database."""
    kinds = set(LIMIT_KINDS)
    assert kinds == set(get_args(LimitKind)) == set(LIMIT_WORDS) == set(LIMIT_SHORT_WORDS)
    assert kinds - {"concurrency"} == {rate.kind for rate in RATES}
    for settings in (RateSettings, AccountRateSettings):
        assert kinds <= set(settings.__dataclass_fields__)
    for shape in (NewKey, KeyChange, Key, NewAccount, AccountChange, Account, LimitsInForce):
        assert kinds <= set(shape.__struct_fields__)
    asyncio.run(_kept(tmp_path, Limits(*range(1, len(LIMIT_KINDS) + 1))))


async def _kept(folder: Path, limits: Limits) -> None:
    store = Store.open(folder)
    await store.start()
    account = await store.accounts.create("a", terms={"limits": flat(limits)})
    key, _ = await store.keys.create(account_id=account.id, name="k", limits=limits)
    await store.close()
    store = Store.open(folder)
    await store.start()
    assert limits == store.accounts.get(account.id).limits == store.keys.get(key.id).limits
    await store.close()


@given(limits, limits)
def test_own_limits_stand_above_others_one_by_one(own: Limits, other: Limits) -> None:
    """Each value is the own one, where there is one."""
    expected = {
        kind: value if value is not None else flat(other)[kind] for kind, value in flat(own).items()
    }
    assert expected == flat(own.over(other))
    assert own == limits_in(own)


@given(demands, demands)
def test_what_was_not_used_and_what_was_are_all(taken: Demand, used: Demand) -> None:
    """Unit by unit, also where more was used than taken."""
    unused = taken.less(used)
    assert list(taken) == [a + b for a, b in zip(unused, used, strict=True)]
