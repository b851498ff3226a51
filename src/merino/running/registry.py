"""What runs now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """What has begun and not ended, by name, the oldest first."""

    def __init__(self) -> None:
        self._running: dict[str, T] = {}
        self.begin = self._running.__setitem__
        """Of a name, what begins under it."""

    def end(self, name: str) -> None:
        """Nothing happens if nothing runs under this name."""
        self._running.pop(name, None)

    def __len__(self) -> int:
        return len(self._running)

    def __iter__(self) -> Iterator[T]:
        """As of now: what begins or ends meanwhile changes nothing."""
        return iter(tuple(self._running.values()))
