"""What the price list says beside what a model's maker asks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.in_process import InProcess, found, in_process
from tests.unit.portal.test_portal_pages import PORTAL, Customer, account_of

from merino.portal.price_list import Measured, Offered, saved_share
from merino.portal.start import cheapest_chat

CHEAP = """
[[deployments]]
name = "bought"
provider = "simulator"
upstream_model = "o3!output=4"
account_price = {{ input = "{input}", cached = "0.40", output = "{output}" }}
[aliases.bought]
deployments = ["bought"]
"""


@pytest.mark.parametrize(
    ("asked", "listed", "share"),
    [(5, (2, 8), 0.5), (10, (2, 8), 0.0), (12, (2, 8), -0.2), (5, None, None), (5, (0, 0), None)],
)
def test_a_saving_is_beside_input_and_output_together(asked, listed, share):
    """Half of the list price saves half; without a list price nothing is said."""
    saved = saved_share(asked, listed)
    assert (None if share is None else pytest.approx(share)) == saved


@pytest.mark.parametrize(
    ("price", "said"),
    [(("1.50", "6.00"), "25 %"), (("2.00", "8.00"), "the same"), (("3.00", "9.00"), "20 % dearer")],
)
def test_the_page_says_what_a_customer_saves(tmp_path: Path, price, said):
    """Beside the list price of whoever makes the model, whatever the relay itself pays."""
    config = PORTAL + CHEAP.format(input=price[0], output=price[1])
    with in_process(tmp_path, config) as relay:
        row = row_of(relay.client().get("/portal/price-list").text, "bought")
    assert ("$2.00 / $8.00" in row, said in row) == (True, True)


def test_a_customer_sees_their_own_price_in_their_own_currency(tmp_path: Path):
    """With the list price at the rate of the day; without a rate nothing is compared."""
    config = PORTAL.replace('start_credit = "2.00"', 'currency = "EUR"') + CHEAP.format(
        input="1.00", output="4.00"
    )
    with in_process(tmp_path, config) as relay:
        relay.command("rates", "set", "USD", "EUR", "0.50")
        customer = Customer(relay)
        customer.sign_up()
        row = row_of(customer.get("/prices").text, "bought")
        assert "EUR" == relay.cli("accounts", "show", account_of(customer))["currency"]
    assert "€1.00 / €4.00" in row


def test_measured_speeds_are_those_of_calls_here(tmp_path: Path):
    """Of a model whose calls streamed there are times to the first token, of others a dash."""
    with in_process(tmp_path, PORTAL) as relay:
        assert " ms" not in row_of(public(relay), "o3")
        relay.chat("o3", stream=True)
        assert " ms" in row_of(public(relay), "o3")
        assert " ms" not in row_of(public(relay), "broken")


@pytest.mark.parametrize(
    ("listed", "name"),
    [
        ([("embed", 0), ("o3", 800), ("mini", 110)], "mini"),
        ([("vendor/mini", 1), ("o3", 800)], "o3"),
        ([("vendor/mini", 1)], "vendor/mini"),
        ([("free", 0)], "free"),
        ([], "o3-mini"),
    ],
)
def test_a_first_call_asks_the_cheapest_that_talks(listed, name):
    """Of plain names where there are some; an embedding model answers no chat."""
    offered = [
        Offered(alias, 1, 1, 1, output, None, None, None, Measured()) for alias, output in listed
    ]
    assert name == cheapest_chat(offered)


def public(relay: InProcess) -> str:
    return relay.client().get("/portal/price-list").text


def row_of(page: str, model: str) -> str:
    row = found(
        rf'(<tr><th scope="row" class="first"><span class="name long" title="{model}">.*?</tr>)',
        page,
    )
    return re.sub(r"<[^>]+>", "", row).replace("\N{NO-BREAK SPACE}", " ")
