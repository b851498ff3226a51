"""Waiting for one's turn: first come, first served within an account, accounts in turn."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.domain.errors import BudgetExhausted, LimitExceeded
from merino.gateway.turns import Turns


class Room:
    """Something that only so many may have."""

    def __init__(self) -> None:
        self.left = 0
        self.got: list[tuple[str, int]] = []

    def look(self, who: tuple[str, int], is_first: bool) -> tuple[str, int]:
        if not self.left or not is_first:
            raise LimitExceeded("full")
        self.left -= 1
        self.got.append(who)
        return who


async def quiet() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=8), st.lists(st.integers(1, 3)))
def test_nobody_of_an_account_is_overtaken(accounts, gifts) -> None:
    """However room comes, each account's calls go in the order they came, accounts alternate as
    long as both wait, and no room stays free while somebody waits."""

    async def scene() -> None:
        turns, room = Turns(), Room()
        waiting = []
        for number, account in enumerate(accounts):
            who = (account, number)
            look = lambda is_first, who=who: room.look(who, is_first)  # noqa: E731
            waiting.append(asyncio.create_task(turns.wait("x", account, 60.0, look)))
        await quiet()
        for gift in gifts:
            room.left += gift
            turns.wake("x")
            for _ in range(gift):
                await quiet()
            assert room.left == 0 or len(turns) == 0
        for account in "ab":
            own = [number for name, number in room.got if name == account]
            assert sorted(own) == own
        both = min(accounts.count("a"), accounts.count("b"))
        for earlier, later in zip(
            room.got[: 2 * both : 2], room.got[1 : 2 * both : 2], strict=False
        ):
            assert {"a", "b"} == {earlier[0], later[0]}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert {} == turns.queues

    asyncio.run(scene())


def test_whose_time_is_up_behind_others_does_not_overtake_them() -> None:
    """It looks once more and is told that it is not the first."""

    async def scene() -> None:
        turns, seen = Turns(), []

        def look(is_first: bool) -> None:
            seen.append(is_first)
            raise LimitExceeded("full")

        first = asyncio.create_task(turns.wait("x", "a", 60.0, look))
        await quiet()
        with pytest.raises(LimitExceeded):
            await turns.wait("x", "a", 0.0, look)
        assert [True, False] == seen
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    asyncio.run(scene())


def test_who_can_never_have_it_leaves_at_once_and_the_next_one_looks() -> None:
    """A refusal that waiting does not help is not waited for."""

    async def scene() -> None:
        turns, room = Turns(), Room()

        def never(is_first: bool) -> None:
            if room.left:
                raise BudgetExhausted("too dear")
            raise LimitExceeded("full")

        tasks = [
            asyncio.create_task(turns.wait("x", "a", 60.0, never)),
            asyncio.create_task(
                turns.wait("x", "a", 60.0, lambda first: room.look(("a", 1), first))
            ),
        ]
        await quiet()
        room.left = 1
        turns.wake("x")
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(ended[0], BudgetExhausted)
        assert ("a", 1) == ended[1]

    asyncio.run(scene())
