"""Whose turn is it? First come, first served within a group; groups by their weights.

Those of a group who all wait for the same stand in one lane of it: whether the first of them can go
on decides for them all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_GONE_MAX = 1000


class _Group(Generic[T]):
    __slots__ = ("finish", "lanes", "weight")

    def __init__(self) -> None:
        self.lanes: dict[Hashable, deque[tuple[int, T]]] = {}
        self.finish = 0.0
        self.weight = 1.0


class FairQueue(Generic[T]):
    """Start-time fair queueing (Goyal, Vin and Cheng, 1996) with calls of equal size: a group of
    weight 2 gets two turns for every one of a group of weight 1, and a group that was away gets no
    turns in arrears."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group[T]] = {}
        self._gone: dict[str, float] = {}  # where groups stand that wait for nothing now
        self._virtual = 0.0
        self._size = 0
        self._pushed = 0

    def __len__(self) -> int:
        return self._size

    def push(self, group_name: str, lane: Hashable, item: T, *, weight: float = 1.0) -> None:
        group = self._groups.get(group_name)
        if group is None:
            group = self._groups[group_name] = _Group()
            group.finish = max(self._virtual, self._gone.pop(group_name, 0.0))
        group.weight = weight
        self._pushed += 1
        group.lanes.setdefault(lane, deque()).append((self._pushed, item))
        self._size += 1

    def heads(self) -> Iterator[tuple[str, Hashable, T]]:
        """The first of every lane: the group whose turn it is first, and in it who came first."""
        for name, group in sorted(self._groups.items(), key=lambda each: each[1].finish):
            lanes = sorted(group.lanes.items(), key=lambda each: each[1][0][0])
            for lane, waiting in lanes:
                yield name, lane, waiting[0][1]

    def serve(self, group_name: str, lane: Hashable) -> T:
        """Take the first of a lane: it had its turn."""
        group = self._groups[group_name]
        _, item = group.lanes[lane].popleft()
        self._virtual = max(self._virtual, group.finish)
        group.finish = self._virtual + 1.0 / group.weight
        self._drop_if_empty(group_name, group, lane)
        self._size -= 1
        return item

    def remove(self, group_name: str, lane: Hashable, item: T) -> bool:
        """Someone gave up. False if they were not waiting any more."""
        group = self._groups.get(group_name)
        waiting = group.lanes.get(lane) if group is not None else None
        if group is None or waiting is None:
            return False
        for place, (_, each) in enumerate(waiting):
            if each is item:
                del waiting[place]
                self._drop_if_empty(group_name, group, lane)
                self._size -= 1
                return True
        return False

    def _drop_if_empty(self, name: str, group: _Group[T], lane: Hashable) -> None:
        if not group.lanes[lane]:
            del group.lanes[lane]
        if group.lanes:
            return
        del self._groups[name]
        if not self._groups:
            self._gone.clear()  # nobody waits: nobody is ahead of anybody
            self._virtual = 0.0
            return
        self._gone[name] = group.finish
        if len(self._gone) > _GONE_MAX:
            self._gone = {
                each: finish for each, finish in self._gone.items() if finish > self._virtual
            }
