"""Top-ups through a stateful stand-in for Stripe, over real sockets, with Stripe's own package."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from tests.conftest import RelayProcess
from tests.fake_stripe import SECRET_KEY, WEBHOOK_SECRET, FakeStripe, deliver, sign

DOLLAR = 10**9


def config_for(stripe: FakeStripe) -> str:
    return f"""
[payments.stripe]
secret_key = "env:STRIPE_KEY"
webhook_secret = "env:STRIPE_HOOK"
success_url = "https://example.org/paid"
cancel_url = "https://example.org/not-paid"
api_base = "{stripe.url}"

[payments.invoice]
"""


ENV = {"STRIPE_KEY": SECRET_KEY, "STRIPE_HOOK": WEBHOOK_SECRET}


@pytest.fixture(scope="module")
def shared_stripe():
    with FakeStripe() as fake:
        yield fake


@pytest.fixture
def stripe(shared_stripe):
    """One for all tests of the module, which has been asked nothing yet."""
    shared_stripe.requests.clear()
    shared_stripe.refunds.clear()
    shared_stripe.fail_next = []
    return shared_stripe


@pytest.fixture(scope="module")
def relay(tmp_path_factory, shared_stripe):
    folder = tmp_path_factory.mktemp("relay")
    process = RelayProcess(folder / "data", config_for(shared_stripe), env=ENV).start()
    yield process
    assert 0 == process.stop()


@pytest.fixture
def complaints(relay):
    """What the relay has logged since the test began."""
    begun = len(relay.errors())
    return lambda: relay.errors()[begun:]


@pytest.fixture
def admin(relay):
    with httpx2.Client(
        base_url=f"{relay.url}/admin/v1",
        headers={"authorization": f"Bearer {relay.admin_key}"},
        trust_env=False,
        timeout=30,
    ) as client:
        yield client


def order(admin, amount="20.00", **more) -> dict:
    answer = admin.post("/topups", json={"account": "default", "amount": amount, **more})
    assert 201 == answer.status_code, answer.text
    return answer.json()


def session_of(topup: dict) -> str:
    return topup["url"].rpartition("/")[2]


def posted(admin) -> int:
    return admin.get("/accounts/default").json()["balance"]["posted_nanos"]


def entries_of(admin, topup: dict) -> list[dict]:
    entries = admin.get("/entries", params={"kind": "topup", "limit": 500}).json()["data"]
    return [each for each in entries if each["reference"] == topup["id"]]


def outcome(answer: httpx2.Response) -> str:
    assert 200 == answer.status_code, answer.text
    return answer.json()["outcome"]


def assert_books_balance(admin) -> None:
    assert [] == admin.get("/ledger/verify").json()["differences"]


def test_a_payment_credits_once(relay, admin, stripe):
    """Nothing is credited by ordering; the signed event credits the order, and only once."""
    before = posted(admin)
    topup = order(admin)
    assert before == posted(admin)
    event = stripe.pay(session_of(topup))

    assert "applied" == outcome(deliver(relay.url, event))
    assert "ignored" == outcome(deliver(relay.url, event))

    assert before + 20 * DOLLAR == posted(admin)
    shown = admin.get(f"/topups/{topup['id']}").json()
    assert "paid" == shown["status"]
    assert ["20.00"] == [each["amount"] for each in entries_of(admin, topup)]
    assert_books_balance(admin)


def test_what_stripe_is_asked(admin, stripe):
    """Amount in smallest units, our order as reference, an idempotency key of the order's."""
    topup = order(admin, "12.34")
    path, key, form = stripe.requests[-1]
    assert ("/v1/checkout/sessions", topup["id"]) == (path, key)
    price = form["line_items"]["0"]["price_data"]
    assert ("usd", "1234") == (price["currency"], price["unit_amount"])
    assert topup["id"] == form["client_reference_id"] == form["metadata"]["merino_topup"]


def test_a_hundred_deliveries_at_once_credit_once(relay, admin, stripe):
    """However often and however concurrently an event comes."""
    before = posted(admin)
    event = stripe.pay(session_of(order(admin)))
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: outcome(deliver(relay.url, event)), range(100)))
    assert 1 == answers.count("applied")
    assert before + 20 * DOLLAR == posted(admin)
    assert_books_balance(admin)


def test_two_events_of_one_payment_credit_once(relay, admin, stripe):
    """Another event id about the same order does not credit again."""
    before = posted(admin)
    topup = order(admin)
    first = stripe.pay(session_of(topup))
    deliver(relay.url, first)
    assert "ignored" == outcome(deliver(relay.url, {**first, "id": "evt_other"}))
    assert before + 20 * DOLLAR == posted(admin)


def test_a_delayed_payment_credits_when_it_arrives(relay, admin, stripe):
    """`completed` without the money credits nothing; `async_payment_succeeded` does."""
    before = posted(admin)
    topup = order(admin)
    assert "ignored" == outcome(deliver(relay.url, stripe.pay(session_of(topup), is_async=True)))
    assert before == posted(admin)
    assert "applied" == outcome(deliver(relay.url, stripe.arrive(session_of(topup))))
    assert before + 20 * DOLLAR == posted(admin)


@pytest.mark.parametrize(("act", "status"), [("fail", "failed"), ("expire", "expired")])
def test_a_payment_that_does_not_come(relay, admin, stripe, act, status):
    """A failed or expired checkout ends the order and credits nothing."""
    before = posted(admin)
    topup = order(admin)
    assert "applied" == outcome(deliver(relay.url, getattr(stripe, act)(session_of(topup))))
    assert status == admin.get(f"/topups/{topup['id']}").json()["status"]
    assert before == posted(admin)


@pytest.mark.parametrize(
    "change",
    [
        {"amount_total": 1},
        {"currency": "eur"},
        {"id": "cs_test_foreign"},
        {"metadata": {"merino_topup": "top_unknown"}, "client_reference_id": "top_unknown"},
    ],
)
def test_events_that_do_not_fit_the_order_book_nothing(relay, admin, stripe, change, complaints):
    """Amount, currency, checkout and order are compared with our own; a misfit is refused."""
    before = posted(admin)
    event = stripe.pay(session_of(order(admin)))
    event["data"]["object"].update(change)
    assert "refused" == outcome(deliver(relay.url, event))
    assert before == posted(admin)
    assert "payment event does not fit our order" in complaints()


@pytest.mark.parametrize("account", ["acct_other", None])
def test_an_event_for_another_account_books_nothing(relay, admin, stripe, account):
    """The account is compared too; an event that names none is not ours."""
    event = stripe.pay(session_of(order(admin)))
    event["data"]["object"]["metadata"]["merino_account"] = account
    assert "refused" == outcome(deliver(relay.url, event))


def test_unsigned_stale_and_foreign_events_are_refused(relay, admin, stripe, complaints):
    """400, logged, nothing kept, nothing booked."""
    before = posted(admin)
    event = stripe.pay(session_of(order(admin)))
    now = int(time.time())
    body = json.dumps(event).encode()

    def post(header: str | None, content: bytes = body) -> int:
        headers = {} if header is None else {"stripe-signature": header}
        url = f"{relay.url}/webhooks/stripe"
        return httpx2.post(url, content=content, headers=headers, trust_env=False).status_code

    assert 400 == post(None)
    assert 400 == post("t=1,v1=nonsense")
    assert 400 == post(sign(body).replace("v1=", "v0="))
    assert 400 == post(sign(body), body + b" ")
    assert 400 == deliver(relay.url, event, secret="whsec_forged").status_code
    assert 400 == deliver(relay.url, event, at_s=now - 301).status_code
    assert 400 == deliver(relay.url, event, at_s=now + 360).status_code  # time goes on
    assert 400 == deliver(relay.url, {**event, "livemode": True}).status_code
    assert 400 == deliver(relay.url, {**event, "account": "acct_connected"}).status_code
    assert 400 == deliver(relay.url, {"object": "list"}).status_code
    assert 404 == httpx2.post(f"{relay.url}/webhooks/nobody", trust_env=False).status_code
    assert 413 == post(sign(body), b"x" * 300_000)
    assert before == posted(admin)
    assert 9 <= complaints().count("payment event refused")
    assert "applied" == outcome(deliver(relay.url, event))


def test_refunds_debit_by_their_sum(relay, admin, stripe):
    """Each refund debits its part, in any order and however often it is told; in all exactly what
    was credited."""
    before = posted(admin)
    topup = order(admin, "10.00")
    session = session_of(topup)
    deliver(relay.url, stripe.pay(session))
    first = stripe.refunded(session, 333)
    second = stripe.refunded(session, 667)
    assert "applied" == outcome(deliver(relay.url, second))
    assert "ignored" == outcome(deliver(relay.url, first))
    assert "ignored" == outcome(deliver(relay.url, second))
    assert before == posted(admin)
    shown = admin.get(f"/topups/{topup['id']}").json()
    assert ("refunded", "10.00") == (shown["status"], shown["taken_back"])
    assert_books_balance(admin)


def test_a_refund_told_before_its_payment_waits(relay, admin, stripe):
    """Events come in any order: the refund waits for the payment, then both are booked."""
    before = posted(admin)
    session = session_of(order(admin))
    paid = stripe.pay(session)
    refunded = stripe.refunded(session, 500)
    assert "waiting" == outcome(deliver(relay.url, refunded))
    assert "applied" == outcome(deliver(relay.url, paid))
    assert before + 15 * DOLLAR == posted(admin)
    assert_books_balance(admin)


def test_disputes_debit_and_come_back(relay, admin, stripe):
    """A dispute debits once, whichever of its events comes first; a won one credits again."""
    before = posted(admin)
    session = session_of(order(admin))
    deliver(relay.url, stripe.pay(session))
    dispute = stripe.dispute(session)
    withdrawn = stripe.event("charge.dispute.funds_withdrawn", dispute)
    created = stripe.event("charge.dispute.created", dispute)
    assert "applied" == outcome(deliver(relay.url, withdrawn))
    assert "ignored" == outcome(deliver(relay.url, created))
    assert before == posted(admin)
    won = stripe.event("charge.dispute.funds_reinstated", dispute)
    assert "applied" == outcome(deliver(relay.url, won))
    assert "ignored" == outcome(deliver(relay.url, {**won, "id": "evt_again"}))
    assert before + 20 * DOLLAR == posted(admin)
    assert_books_balance(admin)


def test_an_operators_refund(relay, admin, stripe):
    """It is asked of Stripe, and debited with Stripe's answer, so that nobody spends it meanwhile;
    the events about it debit nothing more."""
    before = posted(admin)
    topup = order(admin)
    session = session_of(topup)
    deliver(relay.url, stripe.pay(session))
    assert 200 == admin.post(f"/topups/{topup['id']}/refund", json={"amount": "5"}).status_code
    assert before + 15 * DOLLAR == posted(admin)
    assert 500 == stripe.charge_of(session)["amount_refunded"]
    [refund] = stripe.refunds.values()
    for event in (stripe.refunded(session), stripe.event("refund.created", refund)):
        assert "ignored" == outcome(deliver(relay.url, event))
    assert before + 15 * DOLLAR == posted(admin)
    assert_books_balance(admin)


def test_a_refund_that_fails_is_given_back_once(relay, admin, stripe):
    """Stripe has the money again, so the account has its credit again; and the same amount can be
    refunded anew."""
    before = posted(admin)
    topup = order(admin)
    session = session_of(topup)
    deliver(relay.url, stripe.pay(session))
    assert 200 == admin.post(f"/topups/{topup['id']}/refund", json={"amount": "5"}).status_code
    [first] = stripe.refunds
    failed = stripe.refund_fails(first)
    assert "applied" == outcome(deliver(relay.url, failed))
    assert "ignored" == outcome(deliver(relay.url, failed))
    again = {**failed, "id": "evt_again", "type": "charge.refund.updated"}
    assert "ignored" == outcome(deliver(relay.url, again))
    assert before + 20 * DOLLAR == posted(admin)
    assert "paid" == admin.get(f"/topups/{topup['id']}").json()["status"]

    assert 200 == admin.post(f"/topups/{topup['id']}/refund", json={"amount": "5"}).status_code
    assert 2 == len(stripe.refunds)
    assert "ignored" == outcome(deliver(relay.url, stripe.refunded(session)))
    assert before + 15 * DOLLAR == posted(admin)
    kinds = [each["kind"] for each in admin.get("/entries", params={"limit": 3}).json()["data"]]
    assert ["refund", "refund", "refund"] == kinds
    assert_books_balance(admin)


def test_a_failed_refund_told_first(relay, admin, stripe):
    """That a refund failed may come before that it was made: then nothing is ever debited."""
    session = session_of(order(admin))
    deliver(relay.url, stripe.pay(session))
    before = posted(admin)
    created = stripe.refund_created(session, 500)
    failed = stripe.refund_fails(created["data"]["object"]["id"])
    assert "ignored" == outcome(deliver(relay.url, failed))
    assert "ignored" == outcome(deliver(relay.url, created))
    assert before == posted(admin)


def test_all_that_is_left_is_refunded_to_the_last_cent(relay, admin, stripe):
    """In a currency whose rate does not divide evenly, too: nothing of the payment stays behind."""
    rate = {"base": "USD", "quote": "CNY", "rate": "7.123"}
    admin.post("/exchange-rates", json={"rates": [rate]})
    before = posted(admin)
    topup = order(admin, "10.00", currency="CNY")
    session = session_of(topup)
    deliver(relay.url, stripe.pay(session))
    deliver(relay.url, stripe.refund_created(session, 2000))
    assert 200 == admin.post(f"/topups/{topup['id']}/refund", json={}).status_code
    assert 7123 == stripe.charge_of(session)["amount_refunded"]
    assert before == posted(admin)


def test_an_inquiry_is_no_dispute(relay, admin, stripe):
    """A bank that only asks has taken no money; once it takes it, it is debited, and a dispute that
    is closed as won credits again, once."""
    session = session_of(order(admin))
    deliver(relay.url, stripe.pay(session))
    before = posted(admin)
    dispute = stripe.dispute(session)
    asked = stripe.event("charge.dispute.created", {**dispute, "status": "warning_needs_response"})
    assert "ignored" == outcome(deliver(relay.url, asked))
    assert before == posted(admin)
    withdrawn = stripe.event("charge.dispute.funds_withdrawn", dispute)
    assert "applied" == outcome(deliver(relay.url, withdrawn))
    assert before - 20 * DOLLAR == posted(admin)
    closed = stripe.event("charge.dispute.closed", {**dispute, "status": "won"})
    reinstated = stripe.event("charge.dispute.funds_reinstated", dispute)
    assert "applied" == outcome(deliver(relay.url, closed))
    assert "ignored" == outcome(deliver(relay.url, reinstated))
    assert before == posted(admin)
    assert_books_balance(admin)


def test_only_invoices_are_confirmed_by_hand(admin, stripe):
    """An operator's word credits no Stripe order, also not one that Stripe never took."""
    stripe.fail_next = [(400, {"error": {"message": "no", "type": "invalid_request_error"}})]
    admin.post("/topups", json={"account": "default", "amount": "20"})
    before = posted(admin)
    failed = admin.get("/topups").json()["data"][0]
    assert "failed" == failed["status"]
    body = {"amount": "20", "currency": "USD"}
    answer = admin.post(f"/topups/{failed['id']}/confirm", json=body)
    assert (409, "not_confirmable") == (answer.status_code, answer.json()["error"]["code"])
    assert before == posted(admin)


def test_paying_in_another_currency(relay, admin, stripe):
    """The charge follows the exchange rate of the day, rounded up to the smallest unit; the credit
    is what was ordered, and the rate is on the entry."""
    admin.post("/exchange-rates", json={"rates": [{"base": "USD", "quote": "CNY", "rate": "7.12"}]})
    before = posted(admin)
    topup = order(admin, "10.01", currency="CNY")
    assert ("71.28", "CNY") == (topup["charge"], topup["charge_currency"])
    deliver(relay.url, stripe.pay(session_of(topup)))
    assert before + 10_010_000_000 == posted(admin)
    [entry] = entries_of(admin, topup)
    assert entry["exchange"].startswith("USD/CNY=7.12@")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"amount": "1.00"}, "invalid_amount"),
        ({"amount": "10000.01"}, "invalid_amount"),
        ({"amount": "-5"}, "invalid_amount"),
        ({"amount": "NaN"}, "invalid_amount"),
        ({"amount": "1e30"}, "invalid_amount"),
        ({"amount": "20", "currency": "XXX"}, "unknown_currency"),
        ({"amount": "20", "currency": "EUR"}, "no_exchange_rate"),
        ({"amount": "20", "provider": "paypal"}, "unknown_provider"),
        ({"amount": "20", "account": "nobody"}, "not_found"),
    ],
)
def test_orders_that_cannot_be(admin, stripe, body, code):
    """A clear error, and Stripe is not asked."""
    answer = admin.post("/topups", json={"account": "default", **body})
    assert code == answer.json()["error"]["code"]
    assert [] == stripe.requests


def test_stripe_refuses_the_order(admin, stripe):
    """Stripe's reason is passed on, and the order is failed."""
    stripe.fail_next = [(400, {"error": {"message": "Not in your country", "type": "card_error"}})]
    answer = admin.post("/topups", json={"account": "default", "amount": "20"})
    assert 502 == answer.status_code
    assert "Not in your country" in answer.json()["error"]["message"]
    assert "failed" == admin.get("/topups").json()["data"][0]["status"]


def test_invoices_are_confirmed_by_an_operator(relay, admin):
    """The second provider: instructions instead of a page, and credit when the money was seen."""
    before = posted(admin)
    topup = order(admin, "50", provider="invoice")
    assert topup["id"] in topup["instructions"]
    assert topup["url"] is None
    path = f"/topups/{topup['id']}/confirm"
    short = admin.post(path, json={"amount": "49.99", "currency": "USD", "reference": "r1"})
    assert (409, before) == (short.status_code, posted(admin))
    assert 200 == admin.post(path, json={"amount": "50", "currency": "USD"}).status_code
    assert 409 == admin.post(path, json={"amount": "50", "currency": "USD"}).status_code
    assert before + 50 * DOLLAR == posted(admin)
    assert 200 == admin.post(f"/topups/{topup['id']}/refund", json={"amount": "20"}).status_code
    assert 200 == admin.post(f"/topups/{topup['id']}/refund", json={}).status_code
    assert before == posted(admin)
    assert_books_balance(admin)


def is_taken(url: str, event: dict) -> bool:
    """Whether Stripe would call it delivered."""
    try:
        return deliver(url, event).status_code == 200
    except httpx2.TransportError:
        return False


def test_kill_nine_while_events_come_in(start_relay, stripe):
    """Killed again and again while Stripe delivers: whatever was paid is credited, exactly once."""
    rng = random.Random(5)
    relay = start_relay(config_for(stripe), env=ENV)
    before = relay.balance_nanos()
    headers = {"authorization": f"Bearer {relay.admin_key}"}
    with httpx2.Client(
        base_url=f"{relay.url}/admin/v1", headers=headers, trust_env=False, timeout=30
    ) as admin:
        events = [stripe.pay(session_of(order(admin, "5"))) for _ in range(30)]
    waiting = list(events)
    for _ in range(4):
        process, deadline = relay.process, rng.uniform(0.0, 0.04)
        killer = threading.Timer(deadline, process.send_signal, (signal.SIGKILL,))
        killer.start()
        with ThreadPoolExecutor(4) as pool:
            taken = list(pool.map(lambda event: is_taken(relay.url, event), waiting))
        killer.join()
        waiting = [event for event, done in zip(waiting, taken, strict=True) if not done]
        relay.stop(signal.SIGKILL)
        relay.start()
    for event in waiting:
        assert 200 == deliver(relay.url, event).status_code
    assert before + 30 * 5 * DOLLAR == relay.balance_nanos()
    assert [] == relay.cli("ledger", "verify")["differences"]


def test_an_account_orders_its_own_top_up(relay, admin, stripe):
    """Below its threshold a top-up is ordered, once; paying it credits."""
    account = relay.cli("accounts", "create", "--name", "thrifty")
    relay.cli("accounts", "update", "thrifty", "--topup-below", "10", "--topup-amount", "25")

    def orders() -> list[dict]:
        found = admin.get("/topups", params={"account": "thrifty"}).json()["data"]
        return [each for each in found if each["account_id"] == account["id"]]

    def notices() -> list[dict]:
        found = admin.get("/notices").json()["data"]
        return [each for each in found if '"account": "thrifty"' in each["body"]]

    deadline = time.monotonic() + 20
    while not notices():
        assert time.monotonic() < deadline, "no top-up was ordered"
        time.sleep(0.1)
    kinds = [each["kind"] for each in notices()]
    [ordered] = orders()
    assert (True, "25.00", ["topup.needed"]) == (ordered["automatic"], ordered["amount"], kinds)
    assert "applied" == outcome(deliver(relay.url, stripe.pay(session_of(ordered))))
    assert 25 * DOLLAR == admin.get("/accounts/thrifty").json()["balance"]["posted_nanos"]
    assert 1 == len(orders())


def test_an_event_received_before_a_crash_is_booked_after_it(start_relay, stripe):
    """Events that are in the inbox at a start are booked by the relay itself."""
    relay = start_relay(config_for(stripe), env=ENV)
    before = relay.balance_nanos()
    headers = {"authorization": f"Bearer {relay.admin_key}"}
    with httpx2.Client(
        base_url=f"{relay.url}/admin/v1", headers=headers, trust_env=False, timeout=30
    ) as admin:
        event = stripe.pay(session_of(order(admin)))
    relay.stop()
    database = sqlite3.connect(relay.data / "merino.db")
    with database:
        database.execute(
            "INSERT INTO payment_events (provider, event_id, received_at_ms, body, outcome)"
            " VALUES ('stripe', ?, 1, ?, 'received')",
            (event["id"], json.dumps(event).encode()),
        )
    database.close()
    relay.start()
    deadline = time.monotonic() + 20
    while relay.balance_nanos() == before:
        assert time.monotonic() < deadline, "the event was not taken up"
    assert before + 20 * DOLLAR == relay.balance_nanos()
    assert "ignored" == outcome(deliver(relay.url, event))
