"""The secret before the last rotation of a key: good for as long as was said, also after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from merino.domain.errors import KeyRejected
from merino.domain.key import VirtualKey
from merino.gateway.keys import Gatekeeper
from merino.storage import Store

T = TypeVar("T")


class Clock:
    now_ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now_ms


def run_on(folder: Path, clock: Clock, work: Callable[[Store], Awaitable[T]]) -> T:
    async def run() -> T:
        store = Store.open(folder, now_ms=clock)
        await store.start()
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


async def a_key(store: Store) -> tuple[VirtualKey, str]:
    account = await store.accounts.create("team", terms={})
    return await store.keys.create(account_id=account.id, name="ada")


def is_good(store: Store, secret: str) -> bool:
    return store.keys.find(secret.encode()) is not None


def test_both_secrets_are_good_until_the_old_one_ends(tmp_path):
    """To the millisecond; they are one key, and what was cached of a secret changes nothing."""
    clock = Clock()

    async def run(store: Store) -> None:
        key, old = await a_key(store)
        assert is_good(store, old)
        _, new = await store.keys.rotate(key.id, 600)
        found = store.keys.find(old.encode())
        assert found == store.keys.find(new.encode()) == store.keys.get(key.id)
        assert found is not None
        assert found == store.keys.with_hash(key.secret_hash)
        clock.now_ms += 599_999
        assert is_good(store, old)
        clock.now_ms += 1
        assert not is_good(store, old)
        assert store.keys.with_hash(key.secret_hash) is None
        assert is_good(store, new)

    run_on(tmp_path, clock, run)


def test_an_overlap_outlives_a_restart(tmp_path):
    """Whoever still has the old secret does not learn that the relay was started anew."""
    clock = Clock()

    async def begin(store: Store) -> str:
        key, old = await a_key(store)
        await store.keys.rotate(key.id, 600)
        return old

    async def go_on(store: Store) -> None:
        assert is_good(store, old)
        clock.now_ms += 600_000
        assert not is_good(store, old)

    old = run_on(tmp_path, clock, begin)
    run_on(tmp_path, clock, go_on)


def test_a_replaced_secret_is_told_so(tmp_path):
    """By the key's name and the hints of both, so that its user knows what to change."""

    async def run(store: Store) -> None:
        key, old = await a_key(store)
        now, _ = await store.keys.rotate(key.id)
        try:
            Gatekeeper(store.keys, store.accounts).admit(old.encode())
        except KeyRejected as refused:
            assert "invalid_api_key" == refused.code
            assert now == refused.key
            assert all(text in refused.message for text in ("'ada'", key.hint, now.hint))
        else:
            raise AssertionError("it was taken")

    run_on(tmp_path, Clock(), run)


@settings(max_examples=40)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("rotate"), st.sampled_from((0, 60, 3600))),
            st.tuples(st.just("wait"), st.sampled_from((1, 60, 3600))),
            st.tuples(st.just("rename"), st.just(0)),
        ),
        max_size=12,
    )
)
def test_at_most_two_secrets_are_good(tmp_path_factory, steps):
    """Whatever is done with a key: its newest secret is good, the one before as long as was said,
    and none besides."""
    clock = Clock()

    async def run(store: Store) -> None:
        key, newest = await a_key(store)
        old: tuple[str, int] | None = None
        void: list[str] = []
        for number, (step, seconds) in enumerate(steps):
            if step == "wait":
                clock.now_ms += seconds * 1000
            elif step == "rename":
                await store.keys.update(key.id, {"name": f"ada {number}"})
            else:
                if old is not None:
                    void.append(old[0])
                old = (newest, clock.now_ms + seconds * 1000)
                _, newest = await store.keys.rotate(key.id, seconds)
            assert is_good(store, newest)
            assert not any(is_good(store, each) for each in void)
            if old is not None:
                assert (clock.now_ms < old[1]) == is_good(store, old[0])

    run_on(tmp_path_factory.mktemp("keys"), clock, run)
