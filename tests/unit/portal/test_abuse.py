"""What a stranger can do to the portal's pages: ask who is there, flood, replay, race."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.in_process import InProcess, found, in_process
from tests.unit.portal.test_portal_pages import PORTAL, Customer, account_of


@pytest.fixture(scope="module")
def relay(tmp_path_factory) -> Iterator[InProcess]:
    config = PORTAL.replace(
        "enabled = true", 'enabled = true\nblocked_domains = ["bad.example"]', 1
    )
    with in_process(tmp_path_factory.mktemp("portal"), config) as relay:
        yield relay


def test_pages_tell_nobody_who_is_a_customer(relay):
    """A known, an unknown, a blocked and a barred address get the same answers, word for word and
    header for header, when a code is asked for and when a wrong one is typed."""
    Customer(relay, "known@example.org").sign_up()
    blocked = Customer(relay, "blocked@example.org")
    blocked.sign_up()
    relay.cli("people", "block", blocked_id(relay, "blocked@example.org"))
    told: set[tuple[object, ...]] = set()
    for email in ("known@example.org", "new@example.org", "blocked@example.org", "x@bad.example"):
        stranger = Customer(relay, email)
        asked = stranger.http.post("/portal/sign-in", data={"email": email}, follow_redirects=False)
        shown = stranger.get("/code")
        wrong = stranger.http.post("/portal/code", data={"code": "1234"})
        told.add((*seen(asked), *seen(shown), *seen(wrong)))
    assert 1 == len(told)


def seen(answer) -> tuple[object, ...]:
    """What a browser sees, apart from the token in its own cookie."""
    headers = {name: value for name, value in answer.headers.items() if name != "set-cookie"}
    names = sorted(each.partition("=")[0] for each in answer.headers.get_list("set-cookie"))
    lengths = [len(each) for each in answer.headers.get_list("set-cookie")]
    return (answer.status_code, answer.text, str(headers), str(names), str(lengths))


def blocked_id(relay: InProcess, email: str) -> str:
    [person] = relay.cli("people", "list", "--email", email)["data"]
    return person["id"]


@pytest.mark.parametrize("language", ["en", "de", "zh-CN"])
def test_a_flood_of_letters_ends_with_a_time_to_wait(tmp_path: Path, language):
    """429 with Retry-After, in the asker's language, and no further letter."""
    config = re.sub(r"letters_per_network_hour = \d+", "letters_per_network_hour = 3", PORTAL)
    with in_process(tmp_path, config) as relay:
        http = relay.client(headers={"accept-language": language})
        answers = [
            http.post("/portal/sign-in", data={"email": f"a{number}@example.org"})
            for number in range(6)
        ]
        letters = len(relay.relay._letters._waiting)
    assert [303, 303, 303, 429, 429, 429] == [each.status_code for each in answers]
    assert int(answers[-1].headers["retry-after"]) > 0
    assert 3 == letters
    assert f'<html lang="{language}"' in answers[-1].text


def test_codes_are_not_guessed(tmp_path: Path):
    """A network that types wrong codes is stopped, also with letters of its own and over many."""
    with in_process(tmp_path, PORTAL) as relay:
        tried = 0
        for number in range(30):
            customer = Customer(relay, f"g{number}@example.org")
            customer.http.post("/portal/sign-in", data={"email": customer.email})
            for guess in range(5):
                answer = customer.http.post("/portal/code", data={"code": f"{guess:08d}"})
                tried += 1
                if "Too many wrong codes" in answer.text:
                    break
            else:
                continue
            break
        assert tried == 51
        # The right one neither, until the hour is over.
        assert (
            "Too many wrong codes"
            in customer.http.post("/portal/code", data={"code": customer.code()}).text
        )


def test_a_link_that_was_used_signs_in_nobody(relay):
    """Sent again from the same or another browser; so does the code beside it."""
    customer = Customer(relay, "link@example.org")
    customer.http.post("/portal/sign-in", data={"email": customer.email})
    letter = next(each for each in relay.relay._letters._waiting if each.to == customer.email)
    path = found(r"relay.example.org(/portal/link/\S+)", letter.text)
    assert 303 == relay.client().post(path).status_code
    for browser in (relay.client(), customer.http):
        assert 400 == browser.post(path).status_code
    assert 400 == customer.http.post("/portal/code", data={"code": customer.code()}).status_code


def test_two_browsers_that_finish_one_sign_up_get_one_credit(relay):
    """At the same moment, through the pages: one person, one account, one start credit."""
    browsers = [Customer(relay, "race@example.org") for _ in range(2)]
    forms = []
    for each in browsers:
        page = each.sign_in().text
        forms.append(
            {
                "csrf": found(r'name="csrf" value="([^"]+)"', page),
                "terms": found(r'name="terms" value="([^"]+)"', page),
                "accepted": "yes",
            }
        )

    async def at_once() -> list[int]:
        sent = [
            each.http._http.post("/portal/welcome", data=form, follow_redirects=False)
            for each, form in zip(browsers, forms, strict=True)
        ]
        return [each.status_code for each in await asyncio.gather(*sent)]

    assert [303, 303] == relay.run(at_once())
    accounts = {account_of(each) for each in browsers}
    assert 1 == len(accounts)
    booked = relay.cli("entries", "list", "--account", accounts.pop(), "--kind", "credit")["data"]
    assert ["2.00"] == [each["amount"] for each in booked]


def test_an_invitation_brings_in_one_of_two(relay):
    """Who comes second with the same code is told so, and belongs to nothing."""
    owner = Customer(relay, "host@example.org")
    owner.sign_up()
    made = relay.cli("invitations", "create", "--account", account_of(owner), "--role", "member")
    joined = []
    for email in ("first@example.org", "second@example.org"):
        guest = Customer(relay, email)
        guest.sign_up()
        answer = guest.get(f"/invitation/{made['code']}")
        joined.append((answer.status_code, len(guest.get("/me.json").json()["accounts"])))
    assert [(200, 2), (400, 1)] == joined
