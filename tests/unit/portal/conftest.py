"""A portal without pages: a data folder, the desk of customers, the entrance, and a post that keeps
its letters."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from merino.control.accounts import AccountDesk
from merino.control.people import PeopleDesk
from merino.domain.person import Person, Proof
from merino.portal.catalogues import words_of
from merino.portal.entrance import Entrance, PortalSession
from merino.settings.sections.portal import PortalSettings
from merino.storage import Store

T = TypeVar("T")
NOW_MS = 1_790_000_000_000
START_NANOS = 2_000_000_000


class KeptPost:
    is_there = True

    def __init__(self) -> None:
        self.letters: list[tuple[str, str, str]] = []

    def post(self, to: str, subject: str, text: str) -> None:
        self.letters.append((to, subject, text))


class House:
    """`now_ms` and `settings` are the test's to change."""

    def __init__(self, folder: Path) -> None:
        self.now_ms = NOW_MS
        self.settings = PortalSettings(enabled=True, start_credit_nanos=START_NANOS)
        self._folder = folder
        self._loop = asyncio.Runner()
        self._open()

    def _open(self) -> None:
        self.store = Store.open(self._folder, now_ms=lambda: self.now_ms)
        self.accounts = AccountDesk(self.store.accounts)
        self.people = PeopleDesk(self.store.people, self.accounts, lambda: self.now_ms)
        self.post = KeptPost()
        self.entrance = Entrance(
            self.people,
            self.store.sign_ins,
            self.post,
            lambda: self.settings,
            lambda: self.now_ms / 1000,
        )
        self.configure()

    def configure(self, **changed: Any) -> None:
        self.settings = replace(self.settings, **changed)
        self.people.configure(self.settings)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)

    def restart(self) -> None:
        self.run(self.store.close())
        self._open()

    def close(self) -> None:
        self.run(self.store.close())
        self._loop.close()

    def ask(self, email: str, source: str = "192.0.2.1", invitation: str = "") -> str:
        return self.run(self.entrance.ask(email, source, words_of("en"), invitation))

    def code(self) -> str:
        """Of the last letter."""
        found = re.search(r"^ {4}(\d{4} \d{4})$", self.post.letters[-1][2], re.MULTILINE)
        return "" if found is None else found[1]

    def enter(self, email: str, source: str = "192.0.2.1", invitation: str = "") -> PortalSession:
        """With a code, as far as a session."""
        letter = self.ask(email, source, invitation)
        token = self.run(self.entrance.enter_code(letter, self.code(), source))
        session = self.run(self.entrance.session(token))
        assert session is not None
        return session

    def sign_up(self, email: str, source: str = "192.0.2.1", invitation: str = "") -> Person:
        session = self.enter(email, source, invitation)
        person, _ = self.run(
            self.entrance.register(session, terms=self.people.terms, language="en", source=source)
        )
        return person

    def register(self, proof: Proof) -> tuple[Person, int]:
        return self.run(self.people.register(proof, language="en", terms=self.people.terms))

    def credit_of(self, person: Person) -> int:
        members = self.run(self.people.accounts_of(person.id))
        return sum(self.store.accounts.balance(each.account_id).posted_nanos for each in members)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()
