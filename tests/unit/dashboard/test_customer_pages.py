"""Operators' pages about customers: people, invitations, what a missed month gives back."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.in_process import InProcess, found, in_process
from tests.unit.portal.test_portal_pages import PORTAL, Customer, account_of

from merino.domain.clock import DAY_MS, epoch_ms
from merino.domain.money import format_nanos

SLA = """
[sla]
enabled = true
calls_min = 2
[[sla.credits]]
below = 0.995
share = 0.5
[[deployments]]
name = "failing"
provider = "simulator"
upstream_model = "o3-mini!status=500"
[aliases.failing]
deployments = ["failing"]
"""


class Operator:
    """A browser that is signed in with the admin key."""

    def __init__(self, relay: InProcess) -> None:
        self.http = relay.client(follow_redirects=True)
        self.http.post("/dashboard/sign-in", data={"key": relay.admin_key})

    def get(self, path: str, **more):
        return self.http.get(f"/dashboard{path}", **more)

    def post(self, path: str, **fields: str):
        csrf = found(r'name="csrf" value="([^"]+)"', self.get("/keys").text)
        return self.http.post(f"/dashboard{path}", data={"csrf": csrf} | fields)


@pytest.fixture(scope="module")
def relay(tmp_path_factory) -> Iterator[InProcess]:
    config = PORTAL.replace("[notices.smtp]", f"approval = true\n{SLA}[notices.smtp]")
    with in_process(tmp_path_factory.mktemp("portal"), config) as relay:
        yield relay


@pytest.fixture(scope="module")
def operator(relay) -> Operator:
    return Operator(relay)


def waiting(relay: InProcess, email: str) -> str:
    """The id of somebody who has signed up and waits."""
    Customer(relay, email).sign_up()
    [person] = relay.cli("people", "list", "--email", email)["data"]
    return person["id"]


def state(relay: InProcess, person: str) -> str:
    return relay.cli("people", "show", person)["state"]


def test_who_waits_is_told_and_approved(relay, operator):
    """The page says that somebody waits; approved, they get their account, credit and a letter."""
    person = waiting(relay, "wait@example.org")
    page = operator.get("/people").text
    assert "waits for your approval" in page
    assert "wait@example.org" in operator.get("/people", params={"state": "waiting"}).text
    page = operator.post(f"/people/{person}/approve").text
    assert "wait@example.org is let in, with a start credit of 2.00" in page
    assert "active" == state(relay, person)
    assert "waits for your approval" not in page
    letters = [each for each in relay.relay._letters._waiting if each.to == "wait@example.org"]
    assert "is open" in letters[-1].text


def test_somebody_is_refused_blocked_and_let_in_again(relay, operator):
    """Each decision is one button, and the next ones fit the state it leads to."""
    refused, blocked = waiting(relay, "no@example.org"), waiting(relay, "bad@example.org")
    operator.post(f"/people/{refused}/refuse")
    operator.post(f"/people/{blocked}/approve")
    operator.post(f"/people/{blocked}/block")
    assert ("refused", "blocked") == (state(relay, refused), state(relay, blocked))
    page = operator.get("/people").text
    for path in (f"{blocked}/unblock", f"{refused}/delete"):
        assert f"/dashboard/people/{path}" in page
    for path in (f"{blocked}/block", f"{refused}/approve"):
        assert f"/dashboard/people/{path}" not in page
    operator.post(f"/people/{blocked}/unblock")
    assert "active" == state(relay, blocked)
    assert 400 == operator.post(f"/people/{refused}/block").status_code


def test_deleting_says_first_what_goes_with_it(relay, operator):
    """The accounts that are closed and what they have, before anything is done; afterwards nobody
    finds the address."""
    person = waiting(relay, "gone@example.org")
    operator.post(f"/people/{person}/approve")
    page = operator.get(f"/people/{person}/delete").text
    assert ("gone@example.org" in page, "$2.00" in page) == (True, True)
    assert "active" == state(relay, person)
    operator.post(f"/people/{person}/delete")
    assert "deleted" == state(relay, person)
    assert "gone@example.org" not in operator.get("/people").text


def test_people_are_found_by_a_part_of_their_address(relay, operator):
    """Newest first, page by page, and only those asked for."""
    for number in range(3):
        waiting(relay, f"found{number}@search.example")
    waiting(relay, "other@example.org")
    page = operator.get("/people", params={"q": "SEARCH.example"}).text
    assert ["found2", "found1", "found0"] == re.findall(r">(found\d)@search", page)
    assert "other@example.org" not in page
    first = relay.cli("people", "list", "--email", "search", "--limit", "2")
    rest = relay.cli(
        "people", "list", "--email", "search", "--cursor", first["next_cursor"], "--limit", "2"
    )
    told = [each["email"] for each in first["data"] + rest["data"]]
    assert [f"found{number}@search.example" for number in (2, 1, 0)] == told


def test_an_invitation_is_made_shown_once_and_withdrawn(relay, operator):
    """Its link stands on the page that made it and on no other; withdrawn, it lets in nobody."""
    page = operator.post("/invitations", email="ina@example.org", credit="7.50", days="3").text
    link = found(r"https://relay\.example\.org(/portal/invitation/[\w-]+)", page)
    again = operator.get("/invitations").text
    assert ("ina@example.org" in again, link in again, "$7.50" in again) == (True, False, True)
    audit = relay.run(relay.store.audit.lines(limit=20)).items
    assert "create_invitation" in {line.action for line in audit}
    assert not [line for line in audit if "ina@" in f"{line.target} {line.details}"]
    path = found(r'action="/dashboard(/invitations/inv_\w+/withdraw)"', again)
    operator.post(path)
    assert "withdrawn" in operator.get("/invitations").text
    assert 400 == relay.client().get(link).status_code


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"days": "0"}, "days"),
        ({"days": "14", "credit": "0"}, "credit"),
        ({"days": "14", "credit": "1", "account": "default"}, "credit is for an account"),
        ({"days": "14", "email": "nobody"}, "email"),
    ],
)
def test_a_wrong_invitation_is_refused_beside_what_was_typed(operator, fields, said):
    """The form comes back open, with what is wrong."""
    page = operator.post("/invitations", **fields)
    assert (400, True) == (page.status_code, said in page.text)
    assert 'class="is-open"' in page.text


def test_a_missed_month_is_given_back_once_by_a_button(relay, operator, monkeypatch):
    """The page shows what was missed; the button is there after the month, once."""
    for model in ("o3", "failing", "o3"):
        relay.chat(model)
    [level] = relay.cli("sla", "show")["data"]
    assert level["answered_share"] < 0.995
    assert float(level["due"]) > 0
    page = operator.get("/service-levels").text
    assert ("missed" in page, "after the month" in page) == (True, True)
    assert 400 == operator.post("/service-levels", **level_of(level)).status_code
    monkeypatch.setattr(relay.relay.control.sla, "_now_ms", lambda: epoch_ms() + 32 * DAY_MS)
    page = operator.get("/service-levels", params={"month": level["month"]}).text
    assert ">Give back</button>" in page
    before = relay.balance_nanos("default")
    operator.post("/service-levels", **level_of(level))
    given = relay.balance_nanos("default") - before
    assert level["due"] == format_nanos(given)
    page = operator.get("/service-levels", params={"month": level["month"]}).text
    assert ">Give back</button>" not in page
    assert 400 == operator.post("/service-levels", **level_of(level)).status_code
    assert given == relay.balance_nanos("default") - before


def level_of(level: dict[str, str]) -> dict[str, str]:
    return {"account": level["account_id"], "month": level["month"]}


def test_customers_pages_are_for_operators(relay, operator):
    """An owner of an account learns of none of them; where nobody can sign up, no link leads
    there."""
    person = waiting(relay, "owner@example.org")
    operator.post(f"/people/{person}/approve")
    customer = Customer(relay, "owner@example.org")
    customer.sign_in()
    link = found(
        r"(/dashboard/link/[\w-]+)",
        operator.post(f"/accounts/{account_of(customer)}/link", role="owner").text,
    )
    owner = relay.client(follow_redirects=True)
    owner.post(link)
    for path in ("/people", "/invitations", "/service-levels"):
        assert 200 == operator.get(path).status_code
        answer = owner.get(f"/dashboard{path}")
        assert 404 == answer.status_code or "/sign-in" in str(answer.url)
