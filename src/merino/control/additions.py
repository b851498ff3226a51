"""Deployments and aliases that operators add, beside those of the settings: kept in the folder, in
force at once, and after the next start."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from merino.domain.addition import Addition, AdditionKind, Place
from merino.domain.errors import Conflict, InvalidCall, NotFound

ADDITIONS_MAX = 500
Changes = Mapping[tuple[str, ...], Any]
"""By the place of a setting within its table: what it is to be; `None` takes it away."""


class Additions(Protocol):
    """Durable, and in memory."""

    def list(self) -> Sequence[Addition]:
        """Deployments first, each kind in the order they were added."""
        ...

    async def put(self, addition: Addition) -> None: ...

    async def remove(self, place: Place) -> None: ...


class Offering(Protocol):
    """Puts additions in force."""

    async def offer(
        self,
        additions: Sequence[Addition],
        changed: Addition | None,
        write: Callable[[], Awaitable[None]],
    ) -> None:
        """These, from now on: checked first, then written, then in force. Raises `Conflict` if
        what was `changed` cannot be, or another one no longer."""
        ...

    def left_out(self) -> Mapping[Place, str]:
        """What was added and is not used, and why."""
        ...


class AdditionDesk:
    """One change after the other."""

    def __init__(self, additions: Additions, offering: Offering) -> None:
        self._additions = additions
        self._offering = offering
        self._turn = asyncio.Lock()

    def list(self) -> Sequence[Addition]:
        return self._additions.list()

    def left_out(self) -> Mapping[Place, str]:
        return self._offering.left_out()

    def find(self, kind: AdditionKind, name: str) -> Addition:
        """Raises `NotFound`."""
        for each in self._additions.list():
            if each.place == (kind, name):
                return each
        raise NotFound(
            f"No {kind} '{name[:100]}' was added. Those of the settings file are changed there.",
            code=f"{kind}_not_added",
        )

    async def add(self, kind: AdditionKind, name: str, said: Changes) -> Addition:
        """Raises `InvalidCall`, `Conflict`."""
        new = Addition(kind, name, changed_terms({}, said))
        async with self._turn:
            known = self._additions.list()
            if any(each.place == new.place for each in known):
                raise Conflict(
                    f"There is {'an' if kind == 'alias' else 'a'} {kind} '{name[:100]}' that was "
                    "added. Change that one, or choose another name.",
                    param="name",
                    code="name_taken",
                )
            if len(known) >= ADDITIONS_MAX:
                raise InvalidCall(
                    f"{ADDITIONS_MAX} were added, the most there can be. Remove some, or write "
                    "them into the settings file.",
                    code="too_many",
                )
            await self._offering.offer([*known, new], new, lambda: self._additions.put(new))
        return new

    async def change(self, kind: AdditionKind, name: str, said: Changes) -> Addition:
        """What is not said stays. Raises `NotFound`, `Conflict`."""
        async with self._turn:
            old = self.find(kind, name)
            new = Addition(kind, name, changed_terms(old.terms, said), old.at_ms)
            wanted = [new if each is old else each for each in self._additions.list()]
            await self._offering.offer(wanted, new, lambda: self._additions.put(new))
        return new

    async def remove(self, kind: AdditionKind, name: str) -> None:
        """Calls that run there go on. Raises `NotFound`, `Conflict` if another one names it."""
        async with self._turn:
            old = self.find(kind, name)
            wanted = [each for each in self._additions.list() if each is not old]
            for each in wanted:
                named = (*each.terms.get("deployments", ()), *each.terms.get("fallbacks", ()))
                if name in named:
                    raise Conflict(
                        f"{each.kind} '{each.name}' names it. Change or remove that one first.",
                        code="in_use",
                    )
            await self._offering.offer(wanted, None, lambda: self._additions.remove(old.place))


def changed_terms(terms: Mapping[str, Any], said: Changes) -> dict[str, Any]:
    """Terms with these changes; tables that nothing is left in are gone."""
    new = copy.deepcopy(dict(terms))
    for place, value in said.items():
        *tables, name = place
        table = new
        for each in tables:
            table = cast("dict[str, Any]", table.setdefault(each, {}))
        if value is None:
            table.pop(name, None)
        else:
            table[name] = value
    return {name: value for name, value in new.items() if value not in ({}, None)}
