"""Whose turn is it? First come, first served within a group; groups by their weights."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_GONE_MAX = 1000


class _Group(Generic[T]):
    __slots__ = ("finish", "waiting", "weight")

    def __init__(self) -> None:
        self.waiting: deque[T] = deque()
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

    def __len__(self) -> int:
        return self._size

    def __contains__(self, group_name: object) -> bool:
        """Whether anyone of the group waits."""
        return group_name in self._groups

    def push(self, group_name: str, item: T, *, weight: float = 1.0) -> None:
        group = self._groups.get(group_name)
        if group is None:
            group = self._groups[group_name] = _Group()
            group.finish = max(self._virtual, self._gone.pop(group_name, 0.0))
        group.weight = weight
        group.waiting.append(item)
        self._size += 1

    def heads(self) -> Iterator[tuple[str, T]]:
        """The first of every group, the group whose turn it is first."""
        ordered = sorted(self._groups.items(), key=lambda each: each[1].finish)
        for name, group in ordered:
            yield name, group.waiting[0]

    def serve(self, group_name: str) -> T:
        """Take the head of a group: it had its turn."""
        group = self._groups[group_name]
        item = group.waiting.popleft()
        self._virtual = max(self._virtual, group.finish)
        group.finish = self._virtual + 1.0 / group.weight
        self._drop_if_empty(group_name, group)
        self._size -= 1
        return item

    def remove(self, group_name: str, item: T) -> bool:
        """Someone gave up. False if they were not waiting any more."""
        group = self._groups.get(group_name)
        if group is None or item not in group.waiting:
            return False
        group.waiting.remove(item)
        self._drop_if_empty(group_name, group)
        self._size -= 1
        return True

    def _drop_if_empty(self, name: str, group: _Group[T]) -> None:
        if group.waiting:
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
