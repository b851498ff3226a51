"""The portal's money pages: invoices with whom they are made out to, rules for top-ups."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.in_process import InProcess, found, in_process
from tests.unit.portal.test_portal_pages import PORTAL, Customer, account_of

from merino.domain.ledger import Entry
from merino.portal.billing import booked_text
from merino.portal.catalogues import words_of

SELLER = '[payments]\nseller = "Sheep GmbH\\nMeadow 1"\ninvoice_note = "Tax <included>."\n'


@pytest.fixture(scope="module")
def relay(tmp_path_factory) -> Iterator[InProcess]:
    config = PORTAL.replace("[payments.invoice]", f"{SELLER}[payments.invoice]")
    with in_process(tmp_path_factory.mktemp("portal"), config) as relay:
        yield relay


@pytest.fixture
def customer(relay, request) -> Customer:
    customer = Customer(relay, f"{abs(hash(request.node.name)) % 10**9}@example.org")
    assert 200 == customer.sign_up().status_code
    return customer


def paid(relay: InProcess, customer: Customer, amount: str = "20.00") -> str:
    """An order that an operator has seen the money of; its id."""
    customer.post("/billing/topup", amount=amount)
    [order] = relay.cli("topups", "list", "--account", account_of(customer), "--limit", "1")["data"]
    relay.cli("topups", "confirm", order["id"], amount, "USD", "--reference", "seen")
    return order["id"]


def test_an_invoice_is_made_out_to_whom_the_customer_says(relay, customer):
    """Name, address by lines and tax number of the customer, and the seller's lines and note."""
    page = customer.post(
        "/billing/details",
        name="Flock <AG>",
        address="Hill 2\r\n\r\n8000  Zürich",
        tax_id="CHE-123.4",
    )
    assert 200 == page.status_code
    invoice = customer.get(f"/billing/invoice/{paid(relay, customer)}").text
    for shown in ("Flock &lt;AG&gt;", "Hill 2\n8000 Zürich", "CHE-123.4"):
        assert shown in invoice
    for shown in ("Sheep GmbH\nMeadow 1", "Tax &lt;included&gt;.", "20.00 USD"):
        assert shown in invoice


def test_an_invoice_stays_as_it_was(relay, customer):
    """Whoever moves after paying has moved on later invoices only; what is filled in first after a
    payment stands on it, too."""
    first = paid(relay, customer)
    customer.post("/billing/details", name="One Ltd", address="", tax_id="")
    second = paid(relay, customer)
    customer.post("/billing/details", name="Two Ltd", address="", tax_id="")
    third = paid(relay, customer)
    shown = [
        found(r"(One Ltd|Two Ltd)", customer.get(f"/billing/invoice/{each}").text)
        for each in (first, second, third)
    ]
    assert ["One Ltd", "One Ltd", "Two Ltd"] == shown


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "x" * 201},
        {"address": "\n".join("123456789")},
        {"address": "x" * 501},
        {"tax_id": "<script>"},
        {"tax_id": "1" * 41},
        {"name": "bell\x07"},
    ],
)
def test_what_cannot_stand_on_an_invoice_is_refused(customer, fields):
    """Too long, too many lines, characters that cannot be printed: said beside the field, with what
    was typed."""
    customer.post("/billing/details", name="Good", address="", tax_id="")
    page = customer.post("/billing/details", **({"name": "", "address": "", "tax_id": ""} | fields))
    assert 400 == page.status_code
    assert 'aria-invalid="true"' in page.text
    assert 'value="Good"' in customer.get("/billing").text


def test_another_customers_invoice_does_not_exist(relay, customer):
    """Its number is as unknown as one that is none; so is that of what was not paid."""
    order = paid(relay, customer)
    other = Customer(relay, "other@example.org")
    other.sign_up()
    assert 404 == other.get(f"/billing/invoice/{order}").status_code
    customer.post("/billing/topup", amount="30")
    open_one = relay.cli("topups", "list", "--account", account_of(customer))["data"][0]["id"]
    assert 404 == customer.get(f"/billing/invoice/{open_one}").status_code


def test_a_rule_has_both_amounts_or_none(relay, customer):
    """Half a rule is refused beside the empty field; empty fields take it away."""
    page = customer.post("/billing/rule", topup_below="5", topup_amount="")
    assert (400, True) == (page.status_code, "Fill in both amounts" in page.text)
    customer.post("/billing/rule", topup_below="5", topup_amount="25,50")
    account = relay.cli("accounts", "show", account_of(customer))
    assert ("5.00", "25.50") == (account["topup_below"], account["topup_amount"])
    customer.post("/billing/rule", topup_below="", topup_amount="")
    assert None is relay.cli("accounts", "show", account_of(customer))["topup_below"]


def test_a_deleted_customer_leaves_no_rule_and_keeps_invoices_for_the_books(relay, customer):
    """An operator deletes a customer: account and keys end, who it was is nowhere but on invoices,
    which the law asks for."""
    customer.post("/billing/rule", topup_below="5", topup_amount="25")
    customer.post("/keys", name="one")
    account_id, person = account_of(customer), customer.get("/me.json").json()["id"]
    done = relay.cli("people", "delete", person)
    assert {"id": person, "closed_accounts": [account_id]} == done
    account = relay.cli("accounts", "show", account_id)
    assert (True, None) == (account["disabled"], account["topup_below"])
    keys = relay.cli("keys", "list", "--account", account_id)["data"]
    assert [True] == [key["disabled"] for key in keys]
    assert "/portal/sign-in" in str(customer.get().url)
    assert customer.email not in str(relay.cli("people", "show", person))


@pytest.mark.parametrize(
    ("kind", "memo", "said"),
    [
        ("credit", "start credit", "Startguthaben"),
        ("topup", "stripe topup", "Zahlung"),
        ("topup", "automatic top-up", "automatische Aufladung"),
        ("credit", "service level of 2026-10", "Gutschrift: service level of 2026-10"),
        ("voucher", None, "Gutschein"),
    ],
)
def test_bookings_are_told_in_the_customers_language(kind, memo, said):
    """What the relay wrote is translated; what an operator wrote stays as it is."""
    entry = Entry(1, 0, kind, "a", "b", 1, memo=memo)
    assert said == booked_text(entry, words_of("de"))
