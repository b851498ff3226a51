"""Top-ups that an account's own rule orders: by a saved card, or for somebody to pay."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from tests.fake_stripe import SECRET_KEY, WEBHOOK_SECRET, FakeStripe, deliver

DOLLAR = 10**9
ENV = {"STRIPE_KEY": SECRET_KEY, "STRIPE_HOOK": WEBHOOK_SECRET}


@pytest.fixture
def stripe():
    with FakeStripe() as fake:
        yield fake


@pytest.fixture
def relay(start_relay, stripe):
    config = f"""
[payments]
automatic_per_day_max = 3

[payments.stripe]
secret_key = "env:STRIPE_KEY"
webhook_secret = "env:STRIPE_HOOK"
success_url = "https://example.org/paid"
cancel_url = "https://example.org/not-paid"
api_base = "{stripe.url}"
"""
    return start_relay(config, env=ENV)


@pytest.fixture
def admin(relay):
    with httpx2.Client(
        base_url=f"{relay.url}/admin/v1",
        headers={"authorization": f"Bearer {relay.admin_key}"},
        trust_env=False,
        timeout=30,
    ) as client:
        yield client


def until(found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 30
    while not (value := found()):
        assert time.monotonic() < deadline, f"there was no {what}"
        time.sleep(0.05)
    return value


def posted(admin) -> int:
    return admin.get("/accounts/default").json()["balance"]["posted_nanos"]


def notices(admin, kind: str) -> list[dict]:
    return [each for each in admin.get("/notices").json()["data"] if each["kind"] == kind]


def automatic(admin) -> list[dict]:
    """The oldest first."""
    found = [each for each in admin.get("/topups").json()["data"] if each["automatic"]]
    return found[::-1]


def save_card(relay, admin, stripe) -> None:
    """Pay once at a checkout that keeps the card."""
    body = {"account": "default", "amount": "5", "save_card": True}
    topup = admin.post("/topups", json=body).json()
    assert 200 == deliver(relay.url, stripe.pay(topup["url"].rpartition("/")[2])).status_code


def set_rule(relay, below: str = "100", amount: str = "50") -> None:
    relay.cli("accounts", "update", "default", "--topup-below", below, "--topup-amount", amount)


def outcome(answer: httpx2.Response) -> str:
    return answer.json()["outcome"]


def test_a_card_is_saved_only_where_its_owner_says_so(relay, admin, stripe):
    """A plain checkout saves nothing; one that asks for it does, once it is paid."""
    plain = admin.post("/topups", json={"account": "default", "amount": "5"}).json()
    deliver(relay.url, stripe.pay(plain["url"].rpartition("/")[2]))
    assert 404 == admin.get("/accounts/default/saved-card").status_code
    assert "setup_future_usage" not in stripe.requests[-1][2]["payment_intent_data"]

    body = {"account": "default", "amount": "5", "save_card": True}
    asking = admin.post("/topups", json=body).json()
    assert 404 == admin.get("/accounts/default/saved-card").status_code
    form = stripe.requests[-1][2]
    assert "off_session" == form["payment_intent_data"]["setup_future_usage"]
    assert ("always", {"0": "card"}) == (form["customer_creation"], form["payment_method_types"])
    deliver(relay.url, stripe.pay(asking["url"].rpartition("/")[2]))
    card = relay.cli("topups", "card", "default")
    assert ("stripe", None) == (card["provider"], card["declined_at"])

    again = admin.post("/topups", json=body)
    assert 201 == again.status_code
    assert "customer_creation" not in stripe.requests[-1][2]
    assert stripe.requests[-1][2]["customer"].startswith("cus_")


def test_the_saved_card_is_charged_and_credit_waits_for_the_event(relay, admin, stripe):
    """Charged off session, once; credited by the signed event only, once."""
    save_card(relay, admin, stripe)
    before = posted(admin)
    set_rule(relay, below="12")
    [intent] = until(lambda: list(stripe.intents.values()), "charge")
    [ordered] = automatic(admin)
    assert (True, "open", "50.00") == (
        ordered["charged_saved_card"],
        ordered["status"],
        ordered["amount"],
    )
    assert ("5000", "usd") == (str(intent["amount"]), intent["currency"])
    assert before == posted(admin)

    event = stripe.charged(intent["id"])
    assert ["applied", "ignored"] == [outcome(deliver(relay.url, event)) for _ in range(2)]
    assert before + 50 * DOLLAR == posted(admin)
    assert "paid" == automatic(admin)[0]["status"]
    assert 1 == len(stripe.intents)
    assert [] == notices(admin, "topup.needed")
    assert [] == admin.get("/ledger/verify").json()["differences"]


def test_a_charge_that_does_not_fit_its_order_books_nothing(relay, admin, stripe):
    """Amount, currency and account of the payment are compared as those of a checkout are."""
    save_card(relay, admin, stripe)
    set_rule(relay)
    [intent] = until(lambda: list(stripe.intents.values()), "charge")
    before = posted(admin)
    event = stripe.charged(intent["id"])
    for number, change in enumerate(({"amount_received": 1}, {"currency": "eur"}, {"id": "pi_x"})):
        about = {**event["data"]["object"], **change}
        wrong = {**event, "id": f"evt_wrong_{number}", "data": {"object": about}}
        assert "refused" == outcome(deliver(relay.url, wrong))
    assert before == posted(admin)


def test_a_declined_card_is_told_of_and_not_tried_again(relay, admin, stripe):
    """One notice with the reason; then somebody is asked to pay instead, and saving a card again
    lets the rule charge again."""
    save_card(relay, admin, stripe)
    stripe.declines = "card_declined"
    set_rule(relay)
    [told] = until(lambda: notices(admin, "topup.failed"), "notice of the declined card")
    assert "Your card was declined." in told["body"]
    until(lambda: notices(admin, "topup.needed"), "request to pay")
    failed, open_order = automatic(admin)
    assert ("failed", "Your card was declined.") == (failed["status"], failed["failure"])
    assert ("open", False) == (open_order["status"], open_order["charged_saved_card"])
    card = admin.get("/accounts/default/saved-card").json()
    assert card["declined_at"] is not None
    [intent] = stripe.intents.values()

    # Stripe tells of it as well; that changes nothing more.
    assert "ignored" == outcome(deliver(relay.url, stripe.charged(intent["id"])))
    assert 1 == len(notices(admin, "topup.failed"))

    stripe.declines = None
    before = posted(admin)
    save_card(relay, admin, stripe)
    assert admin.get("/accounts/default/saved-card").json()["declined_at"] is None
    paid = stripe.pay(open_order["url"].rpartition("/")[2])
    assert "applied" == outcome(deliver(relay.url, paid))
    until(lambda: len(stripe.intents) == 2, "charge of the new card")
    deliver(relay.url, stripe.charged(list(stripe.intents)[-1]))
    assert before + (5 + 50 + 50) * DOLLAR == posted(admin)


def test_an_answer_that_is_lost_charges_once(relay, admin, stripe):
    """Stripe charged, and its answer never came: the same order is asked again, with the same key;
    the event credits it all the same."""
    save_card(relay, admin, stripe)
    stripe.drops_answers = 3  # its package tries three times
    before = posted(admin)
    set_rule(relay, below="12")
    [intent] = until(lambda: list(stripe.intents.values()), "charge")
    until(lambda: stripe.drops_answers == 0, "repetition")
    [ordered] = automatic(admin)
    assert "open" == ordered["status"]
    relay.stop()
    relay.start()  # a new process asks again at once
    with httpx2.Client(
        base_url=f"{relay.url}/admin/v1",
        headers={"authorization": f"Bearer {relay.admin_key}"},
        trust_env=False,
        timeout=30,
    ) as admin_again:
        asked = [key for path, key, _ in stripe.requests if path == "/v1/payment_intents"]
        until(
            lambda: sum(path == "/v1/payment_intents" for path, _, _ in stripe.requests) > 3,
            "second question",
        )
        assert {ordered["id"]} == set(asked)
        assert [intent["id"]] == list(stripe.intents)
        deliver(relay.url, stripe.charged(intent["id"]))
        assert before + 50 * DOLLAR == posted(admin_again)


def test_no_more_than_the_days_limit(relay, admin, stripe):
    """A rule that can never be satisfied stops at `automatic_per_day_max`, and says so."""
    save_card(relay, admin, stripe)
    set_rule(relay, below="100000", amount="5")
    for number in range(3):
        until(lambda wanted=number + 1: len(stripe.intents) == wanted, f"charge {number + 1}")
        until(lambda wanted=number + 1: len(automatic(admin)) == wanted, "order")
        deliver(relay.url, stripe.charged(list(stripe.intents)[-1]))
    [told] = until(lambda: notices(admin, "topup.failed"), "notice of the limit")
    assert "3 automatic top-ups" in told["body"]
    assert 3 == len(stripe.intents)


def test_one_accounts_trouble_is_no_others(relay, admin, stripe):
    """A rule below the least top-up is told of once; other accounts' rules, notices and top-ups go
    on."""
    relay.cli("accounts", "update", "default", "--topup-below", "100", "--topup-amount", "1")
    relay.cli("accounts", "create", "--name", "other")
    relay.cli("accounts", "update", "other", "--topup-below", "10", "--topup-amount", "25")
    [needed] = until(lambda: notices(admin, "topup.needed"), "order of the other account")
    assert '"account": "other"' in needed["body"]
    [failed] = until(lambda: notices(admin, "topup.failed"), "notice of the impossible rule")
    assert "amount must be from 5.00" in failed["body"]
    assert 1 == relay.errors().count("automatic top-up failed")


def test_a_forgotten_card_is_charged_no_more(relay, admin, stripe):
    """It is deleted at Stripe too, and the rule asks somebody to pay."""
    save_card(relay, admin, stripe)
    relay.cli("topups", "card", "default", "--forget")
    assert {} == stripe.cards
    assert 404 == admin.get("/accounts/default/saved-card").status_code
    set_rule(relay)
    until(lambda: notices(admin, "topup.needed"), "request to pay")
    assert {} == stripe.intents


def test_a_card_that_stripe_has_lost_counts_as_declined(relay, admin, stripe):
    """It may have been removed in Stripe's dashboard."""
    save_card(relay, admin, stripe)
    for cards in stripe.cards.values():
        cards.clear()
    set_rule(relay)
    [told] = until(lambda: notices(admin, "topup.failed"), "notice")
    assert "keeps no card" in told["body"]
    until(lambda: notices(admin, "topup.needed"), "request to pay")


def test_invoices_save_no_cards(start_relay):
    """Asking for it is a clear error."""
    relay = start_relay("[payments.invoice]\n")
    done = relay.cli("topups", "create", "default", "50", "--save-card", check=False)
    assert (2, True) == (done.returncode, "cannot save cards" in done.stderr)
