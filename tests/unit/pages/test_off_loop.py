"""Pages are made on a thread of their own."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from merino.pages.off_loop import off_loop

asked_by: ContextVar[str] = ContextVar("asked_by", default="nobody")


def where(word: str, *, more: str) -> tuple[str, str, str]:
    return word, more, threading.current_thread().name.partition("_")[0]


def test_it_is_made_elsewhere() -> None:
    """By the one thread for pages, however many are asked for at once."""

    async def all_at_once() -> list[tuple[str, str, str]]:
        return await asyncio.gather(*(off_loop(where, str(each), more="b") for each in range(9)))

    assert [(str(each), "b", "merino-page") for each in range(9)] == asyncio.run(all_at_once())


def test_it_is_made_for_who_asks() -> None:
    """It sees the context of who asks, and changes nothing in it."""

    def changed() -> str:
        before = asked_by.get()
        asked_by.set("a page")
        return before

    async def ask() -> tuple[str, str]:
        asked_by.set("ada")
        return await off_loop(changed), asked_by.get()

    assert ("ada", "ada") == asyncio.run(ask())


def test_what_goes_wrong_is_told() -> None:
    """A fault of a page is that of who asked for it."""

    def fail() -> None:
        raise ValueError("a template")

    with pytest.raises(ValueError, match="a template"):
        asyncio.run(off_loop(fail))
