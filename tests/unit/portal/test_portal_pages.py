"""The portal's pages, as a customer's browser asks for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from tests.in_process import SIMULATED, InProcess, found, in_process

from merino.domain.errors import Misconfigured
from merino.settings import load

PORTAL = (
    SIMULATED
    + """
[portal]
enabled = true
name = "Sheep & Co"
start_credit = "2.00"
public_url = "https://relay.example.org"
terms = "Be <kind>."
public_prices = true
letters_per_network_hour = 100000
letters_per_address_hour = 100000
sign_ups_per_network_day = 100000
[notices.smtp]
host = "127.0.0.1"
sender = "Merino <merino@example.org>"
security = "none"
[payments.invoice]
"""
)
PAGES = ("", "/usage", "/keys", "/billing", "/prices", "/team", "/me")


class Customer:
    """A browser of its own, and the mailbox of an address."""

    def __init__(self, relay: InProcess, email: str = "ada@example.org") -> None:
        self.relay = relay
        self.email = email
        self.http = relay.client(follow_redirects=True)

    def get(self, path: str = "", **more):
        return self.http.get(f"/portal{path}", **more)

    def post(self, path: str, **fields: str):
        return self.http.post(f"/portal{path}", data=self.token() | fields)

    def token(self) -> dict[str, str]:
        match = re.search(r'name="csrf" value="([^"]+)"', self.get("/me").text)
        return {"csrf": match[1]} if match else {}

    def code(self) -> str:
        texts = [each.text for each in self.relay.relay._letters._waiting if each.to == self.email]
        return found(r"(\d{4} \d{4})", texts[-1])

    def sign_in(self):
        self.http.post("/portal/sign-in", data={"email": self.email})
        return self.http.post("/portal/code", data={"code": self.code()})

    def sign_up(self):
        page = self.sign_in()
        assert "Be &lt;kind&gt;." in page.text
        csrf = found(r'name="csrf" value="([^"]+)"', page.text)
        terms = found(r'name="terms" value="([^"]+)"', page.text)
        return self.http.post(
            "/portal/welcome", data={"csrf": csrf, "terms": terms, "accepted": "yes"}
        )


@pytest.fixture(scope="module")
def relay(tmp_path_factory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("portal"), PORTAL) as relay:
        yield relay


@pytest.fixture(scope="module")
def ada(relay) -> Customer:
    customer = Customer(relay)
    assert 200 == customer.sign_up().status_code
    return customer


def account_of(customer: Customer) -> str:
    told = customer.get("/me.json").json()
    return told["accounts"][0]["id"]


def test_a_portal_that_is_off_is_not_there(tmp_path):
    """By default nobody can register: the portal's paths are as unknown as others."""
    with in_process(tmp_path) as relay:
        for path in ("/portal", "/portal/sign-in", "/portal/static/portal.css"):
            assert 404 == relay.client().get(path).status_code


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_for_who_is_signed_in(relay, path):
    """Without a session every page leads to signing in."""
    answer = relay.client().get(f"/portal{path}")

    assert (303, "/portal/sign-in") == (answer.status_code, answer.headers["location"])


@pytest.mark.parametrize("language", ["en", "de", "zh-CN"])
@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_made_in_every_language(ada, path, language):
    """Each page is complete in each language, keeps itself to itself, and runs nothing inline."""
    answer = ada.get(path, params={"lang": language})

    assert 200 == answer.status_code
    assert f'<html lang="{language}"' in answer.text
    assert "Sheep &amp; Co" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert not re.search(r"\son\w+=|style=|<script(?![^>]* src=)|<style", answer.text)
    assert "no-store" == answer.headers["cache-control"]


def test_a_first_call_appears_on_the_start_page(relay):
    """Sign up, make a key, call with it: the page shows the call, and the balance is less."""
    eve = Customer(relay, "eve@example.org")
    assert "Three steps" in eve.sign_up().text
    page = eve.post("/first-key").text
    secret = found(r'<pre id="secret"[^>]*>(mk-[^<]+)</pre>', page)
    assert 4 == page.count(secret)
    assert "https://relay.example.org/v1/chat/completions" in page
    assert secret not in eve.get().text

    assert 200 == relay.chat("o3", key=secret).status

    assert "o3" in eve.get("/calls-now").text
    assert "Three steps" not in eve.get().text
    assert relay.balance_nanos(account_of(eve)) < 2_000_000_000
    assert "o3" in eve.get("/usage").text
    assert "200" in eve.get("/usage.csv").text.splitlines()[1]


def test_another_customers_things_do_not_exist(relay, ada):
    """Keys, payments and invitations of another account are as unknown as those that are not."""
    bob = Customer(relay, "bob@example.org")
    bob.sign_up()
    bob.post("/keys", name="bobs")
    key = next(key for key in relay.cli("keys", "list")["data"] if key["name"].endswith(":bobs"))
    for path in (
        f"/keys/{key['id']}/rotate",
        f"/keys/{key['id']}/switch",
        f"/keys/{key['id']}/cap",
    ):
        assert 404 == ada.post(path).status_code
    bob.post("/billing/topup", amount="25")
    topup = relay.cli("topups", "list")["data"][0]
    assert 404 == ada.get(f"/billing/invoice/{topup['id']}").status_code
    assert 404 == ada.post("/account", account=account_of(bob)).status_code
    assert not key["disabled"]


def test_key_names_are_ones_own(relay, ada):
    """Two customers may both have a key `production`; neither learns of the other's."""
    bob = Customer(relay, "bert@example.org")
    bob.sign_up()
    for customer in (ada, bob):
        page = customer.post("/keys", name="production", spend_cap="5,50", spend_period="month")
        assert 200 == page.status_code
        assert "5.50" in customer.get("/keys").text


def test_a_form_from_elsewhere_does_nothing(ada):
    """A form without its token, or with another's, is refused."""
    before = ada.get("/keys").text
    for fields in ({}, {"csrf": "0" * 64}):
        answer = ada.http.post("/portal/keys", data={"name": "evil"} | fields)
        assert 400 == answer.status_code
    assert before == ada.get("/keys").text

    foreign = {"sec-fetch-site": "cross-site"}
    answer = ada.relay.client().post(
        "/portal/sign-in", data={"email": "a@b.example"}, headers=foreign
    )
    assert 400 == answer.status_code


def test_what_was_typed_stays_with_what_is_wrong(ada):
    """A refused form comes back with what was typed, and says beside the field what is wrong."""
    page = ada.post("/billing/topup", amount="a lot")

    assert 400 == page.status_code
    assert 'value="a lot"' in page.text
    assert "This amount is not possible" in page.text
    assert "From $5.00 to $10,000.00" in page.text


def test_roles_bound_what_somebody_may_do(relay):
    """A viewer looks, a member makes keys, an owner does everything; the page and the form agree."""
    owner = Customer(relay, "olga@example.org")
    owner.sign_up()
    owner.post("/keys", name="first")
    told: dict[str, tuple[int, ...]] = {}
    for role in ("viewer", "member", "owner"):
        email = f"{role}@example.org"
        owner.post("/team", email=email, role=role, language="en")
        other = Customer(relay, email)
        letter = next(each for each in relay.relay._letters._waiting if each.to == email)
        other.http.get(found(r"relay.example.org(/portal/invitation/\S+)", letter.text))
        assert "You join the account" in other.sign_in().text
        page = other.get("/welcome").text
        other.http.post(
            "/portal/welcome",
            data={
                "csrf": found(r'name="csrf" value="([^"]+)"', page),
                "terms": found(r'name="terms" value="([^"]+)"', page),
                "accepted": "yes",
            },
        )
        assert account_of(owner) == account_of(other)
        told[role] = tuple(
            other.post(path, **fields).status_code
            for path, fields in (
                ("/keys", {"name": f"of {role}"}),
                ("/billing/terms", {"spend_period": "month"}),
            )
        )
    assert {"viewer": (400, 400), "member": (200, 400), "owner": (200, 200)} == told


def test_a_code_is_asked_again_when_wrong_and_limited(relay):
    """A wrong code says so on its page; the right one still works."""
    customer = Customer(relay, "fay@example.org")
    customer.http.post("/portal/sign-in", data={"email": customer.email})
    page = customer.http.post("/portal/code", data={"code": "12"})
    assert (400, True) == (page.status_code, "This code is wrong" in page.text)

    assert 200 == customer.http.post("/portal/code", data={"code": customer.code()}).status_code


def test_a_link_in_a_letter_is_used_by_a_button_only(relay):
    """A mail program that looks at the link does not use it up."""
    customer = Customer(relay, "gus@example.org")
    customer.http.post("/portal/sign-in", data={"email": customer.email})
    letter = next(each for each in relay.relay._letters._waiting if each.to == customer.email)
    path = found(r"relay.example.org(/portal/link/\S+)", letter.text)
    for _ in range(3):
        assert 200 == relay.client().get(path).status_code

    elsewhere = relay.client(follow_redirects=True)
    assert "Be &lt;kind&gt;." in elsewhere.post(path).text
    assert 400 == relay.client().post(path).status_code


def test_taking_along_and_deleting_ones_data(relay):
    """The export holds the person and their books; after deletion nothing names them, the account
    is closed, its keys stop, and the address may come again without a second credit."""
    customer = Customer(relay, "hal@example.org")
    customer.sign_up()
    secret = found(r'<pre id="secret"[^>]*>(mk-[^<]+)</pre>', customer.post("/first-key").text)
    told = customer.get("/me.json").json()
    account = told["accounts"][0]
    assert ("hal@example.org", "owner", "2.00") == (
        told["email"],
        account["role"],
        account["entries"][0]["amount"],
    )

    assert 400 == customer.post("/me/delete", confirmation="yes").status_code
    assert 200 == relay.chat("o3", key=secret).status
    customer.post("/me/delete", confirmation="HAL@example.org")
    assert "/portal/sign-in" in str(customer.get().url)
    assert 200 != relay.chat("o3", key=secret).status
    kept = json.dumps(relay.cli("people", "list")["data"] + relay.cli("accounts", "list")["data"])
    assert "hal" not in kept
    customer.sign_up()
    assert 0 == relay.balance_nanos(account_of(customer))


def test_prices_are_public_where_switched_on(relay, tmp_path):
    """The price list is for everybody if the settings say so, and else for customers."""
    assert "o3" in relay.client().get("/portal/price-list").text
    with in_process(tmp_path, PORTAL.replace("public_prices = true", "")) as other:
        assert 404 == other.client().get("/portal/price-list").status_code


def test_the_language_is_chosen_and_kept(relay):
    """A language that was chosen stays, before and after signing in."""
    customer = Customer(relay, "ida@example.org")
    page = customer.http.post(
        "/portal/language", data={"language": "de", "back": "/portal/sign-in"}
    )
    assert "Anmelden oder registrieren" in page.text
    assert "In drei Schritten" in customer.sign_up().text

    elsewhere = Customer(relay, "ida@example.org")
    assert "In drei Schritten" in elsewhere.sign_in().text


def test_a_form_leads_back_to_a_page_that_is_there(ada):
    """From the answer to a form, too, a change of the language leads to a page."""
    for path, fields in (("/first-key", {}), ("/keys", {"name": "?"}), ("/billing/topup", {})):
        back = found(r'name="back" value="([^"]+)"', ada.post(path, **fields).text)
        assert 200 == ada.http.get(back).status_code


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "/portal/../x", "/x"])
def test_nobody_is_led_elsewhere(relay, back):
    """What a form says where to go next is a page of the portal, or nothing."""
    answer = relay.client().post("/portal/language", data={"language": "de", "back": back})

    assert "/portal" == answer.headers["location"]


def test_the_audit_log_knows_customers_by_id(relay, ada):
    """What customers do is in the audit log, under an id that means nothing once they are deleted."""
    ada.post("/keys", name="noted")
    lines = relay.run(relay.store.audit.lines(limit=200)).items
    mine = [line for line in lines if line.actor.startswith("person per_")]

    assert {"sign_up", "start_credit", "create_key"} <= {line.action for line in mine}
    assert not [line for line in mine if "example.org" in f"{line.target} {line.details}"]


def test_a_mail_server_is_needed(tmp_path):
    """A portal that mails codes says at the start that it lacks a mail server."""
    config = tmp_path / "merino.toml"
    config.write_text("[portal]\nenabled = true\n")

    with pytest.raises(Misconfigured, match=r"notices\.smtp"):
        load(config, {})
