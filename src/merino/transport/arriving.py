"""Bodies that are still arriving: what they hold together has a bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Arriving(Hashable, Protocol):
    """A connection on which a body arrives."""

    def give_up_body(self) -> None:
        """Refuse the request; calls `ArrivingBodies.forget`."""
        ...


C = TypeVar("C", bound=Arriving)


class ArrivingBodies(Generic[C]):
    """Unfinished bodies of all connections.

    When they hold more than `bytes_max` together, whoever holds most of it gives way, with the body
    that has been arriving longest. So a caller who sends slowly, or much at once, takes room from
    nobody else.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._bodies: dict[C, tuple[str | None, int]] = {}

    @property
    def bytes_held(self) -> int:
        return self._bytes

    def note(self, connection: C, owner: Callable[[], str | None], size: int) -> None:
        """The body on `connection` has `size` bytes by now, and is not complete. `owner` tells the
        account it is for, `None` for anybody without a good key; asked once a body."""
        known = self._bodies.get(connection)
        whose, before = (owner(), 0) if known is None else known
        self._bodies[connection] = (whose, size)
        self._bytes += size - before
        while self._bytes > self._bytes_max:
            self._who_gives_way().give_up_body()

    def forget(self, connection: C) -> None:
        """Its body is complete, or never will be."""
        known = self._bodies.pop(connection, None)
        if known is not None:
            self._bytes -= known[1]

    def _who_gives_way(self) -> C:
        held: Counter[str | None] = Counter()
        for owner, size in self._bodies.values():
            held[owner] += size
        most = max(held, key=held.__getitem__)
        return next(each for each, (owner, _) in self._bodies.items() if owner == most)
