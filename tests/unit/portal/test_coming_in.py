"""Signing up and in without a password."""

from __future__ import annotations

import re

import pytest

from merino.domain.errors import InvalidCall, LimitExceeded
from merino.storage.sign_ins import IDLE_S, LETTER_S, TRIES_MAX


def test_a_new_address_becomes_a_customer_with_start_credit(house):
    """A verified address that is new opens an account of its own, owned, with the start credit."""
    person = house.sign_up("Ada@Example.org")

    [member] = house.run(house.people.accounts_of(person.id))
    assert ("active", "owner") == (person.state, member.role)
    assert 2_000_000_000 == house.credit_of(person)


def test_an_address_comes_in_again_as_the_same_person(house):
    """Whoever has signed up signs in by a code; capital letters are the same address."""
    person = house.sign_up("ada@example.org")

    again = house.enter("ADA@example.org").person

    assert again is not None
    assert person.id == again.id


def test_a_code_is_good_once(house):
    """A code that was used signs in nobody, in the same browser neither."""
    letter = house.ask("ada@example.org")
    code = house.code()

    assert house.run(house.entrance.enter_code(letter, code, "192.0.2.1"))
    assert house.run(house.entrance.enter_code(letter, code, "192.0.2.1")) is None


def test_a_code_is_good_in_its_own_browser_only(house):
    """Who reads a code over somebody's shoulder cannot use it elsewhere."""
    house.ask("ada@example.org")
    code = house.code()
    other = house.ask("eve@example.org")

    assert house.run(house.entrance.enter_code(other, code, "192.0.2.1")) is None
    assert house.run(house.entrance.enter_code("", code, "192.0.2.1")) is None


def test_a_letter_takes_few_tries(house):
    """After some wrong codes even the right one is none: there is nothing to guess."""
    letter = house.ask("ada@example.org")
    right = house.code()
    wrong = "0000 0000" if right != "0000 0000" else "1111 1111"
    for _ in range(TRIES_MAX):
        assert house.run(house.entrance.enter_code(letter, wrong, "192.0.2.1")) is None

    assert house.run(house.entrance.enter_code(letter, right, "192.0.2.1")) is None


def test_a_code_grows_old(house):
    """After ten minutes a code signs in nobody."""
    letter = house.ask("ada@example.org")
    house.now_ms += LETTER_S * 1000

    assert house.run(house.entrance.enter_code(letter, house.code(), "192.0.2.1")) is None


def test_letters_carry_links_only_where_the_address_is_set(house):
    """A link is never made of what a request says the relay is called."""
    house.ask("ada@example.org")
    assert "http" not in house.post.letters[-1][2]

    house.configure(public_url="https://relay.example.org/")
    house.ask("ada@example.org")
    assert "https://relay.example.org/portal/link/" in house.post.letters[-1][2]


def test_a_link_is_good_once_and_voids_its_code(house):
    """Code and link of a letter are one: whichever is used first uses up both."""
    house.configure(public_url="https://relay.example.org")
    letter = house.ask("ada@example.org")
    found = re.search(r"/portal/link/(\S+)", house.post.letters[-1][2])
    assert found

    assert house.run(house.entrance.follow_link(found[1], "192.0.2.1"))
    assert house.run(house.entrance.follow_link(found[1], "192.0.2.1")) is None
    assert house.run(house.entrance.enter_code(letter, house.code(), "192.0.2.1")) is None


def test_nothing_of_a_secret_is_kept(house):
    """Codes, links and cookies are in the database as keyed hashes only."""
    house.configure(public_url="https://relay.example.org")
    session = house.enter("ada@example.org")
    text = house.post.letters[-1][2]
    link = re.search(r"/portal/link/(\S+)", text)
    assert link
    code = house.code()
    house.restart()  # which moves everything from the log into the database

    kept = (house.store.folder / "merino.db").read_bytes()
    for secret in (session.token, link[1], code, code.replace(" ", "")):
        assert secret.encode() not in kept


def test_a_session_ends_when_nobody_comes(house):
    """After a week without a visit somebody has to sign in again."""
    token = house.enter("ada@example.org").token
    house.now_ms += IDLE_S * 1000 + 1

    assert house.run(house.entrance.session(token)) is None


def test_a_session_outlives_a_restart_of_the_relay(house):
    """Sessions are in the folder, so that an upgrade signs no customer out."""
    token = house.enter("ada@example.org").token
    house.restart()

    assert house.run(house.entrance.session(token)) is not None


def test_whose_letters_are_too_many_waits(house):
    """One address gets a bounded number of letters within an hour, from wherever they are asked."""
    for number in range(5):
        house.ask("ada@example.org", f"198.51.{number}.7")
    with pytest.raises(LimitExceeded) as refused:
        house.ask("ADA@example.org", "198.51.100.7")
    assert refused.value.retry_after_s == 3600

    house.now_ms += 3_600_000
    house.ask("ada@example.org", "198.51.100.7")


def test_a_network_asks_for_a_bounded_number_of_letters(house):
    """A flood from one network ends, whatever addresses it names; others are not kept out."""
    house.configure(letters_per_network_hour=3)
    for number in range(3):
        house.ask(f"ada{number}@example.org", f"192.0.2.{number}")
    with pytest.raises(LimitExceeded):
        house.ask("ada9@example.org", "192.0.2.200")

    house.ask("ada9@example.org", "192.0.3.1")


@pytest.mark.parametrize(
    "text",
    ["", "ada", "ada@", "@example.org", "a@b", "a b@example.org", "a@example.org\nBcc: x@y.z"],
)
def test_what_is_no_address_gets_no_letter(house, text):
    """A letter's head is made of plain addresses only."""
    with pytest.raises(InvalidCall):
        house.ask(text)

    assert [] == house.post.letters
