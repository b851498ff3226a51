"""What payment providers are asked, and what is believed of what they send."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
import stripe
from tests.fake_stripe import sign

from merino.billing.nouns import PaymentEvent, TopUp
from merino.billing.providers.invoice import InvoiceProvider
from merino.billing.providers.stripe import StripeProvider, StripeTerms
from merino.domain.account import Account
from merino.domain.errors import CardDeclined, EventRefused, PaymentFailed, PaymentUncertain

NOW_S = 1_795_000_000
SECRET = "whsec_test"
ACCOUNT = Account(id="acc_1", name="team", created_at_ms=0)


def order(**changed: Any) -> TopUp:
    given: dict[str, Any] = {
        "id": "top_1",
        "account_id": "acc_1",
        "provider": "stripe",
        "status": "open",
        "amount_nanos": 20 * 10**9,
        "currency": "USD",
        "charge_minor": 2000,
        "charge_currency": "USD",
        "exchange": None,
        "created_at_ms": 0,
    }
    return TopUp(**given | changed)


def provider(secret_key: str = "sk_test_1", **terms: Any) -> StripeProvider:
    given: dict[str, Any] = {"success_url": "https://x/good", "cancel_url": "https://x/bad"} | terms
    return StripeProvider(StripeTerms(secret_key, SECRET, **given), lambda: NOW_S)


class Stripe:
    """`stripe.StripeClient.v1` as far as it is used: keeps what it is asked; answers, or raises."""

    def __init__(self, answer: Any) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answer = answer
        calls = SimpleNamespace(create=self.call, list=self.cards, delete=self.call)
        self.checkout = SimpleNamespace(sessions=calls)
        self.payment_intents = self.refunds = calls
        self.customers = SimpleNamespace(payment_methods=calls, delete=self.call)
        self.saved = [SimpleNamespace(id="pm_1")]

    def call(self, *asked: Any) -> Any:
        self.asked.append(asked)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def cards(self, *asked: Any) -> Any:
        return SimpleNamespace(data=self.saved)


def over(answer: Any, **terms: Any) -> tuple[StripeProvider, Stripe]:
    made, fake = provider(**terms), Stripe(answer)
    made._client = SimpleNamespace(v1=fake)  # pyright: ignore[reportAttributeAccessIssue] - a stand-in
    return made, fake


SESSION = SimpleNamespace(id="cs_1", url="https://pay/cs_1")


def test_a_checkout_asks_for_the_orders_amount_once() -> None:
    """In smallest units, under our order's name, which is the idempotency key, too."""
    made, fake = over(SESSION, payment_methods=("card", "wechat_pay"))
    checkout = asyncio.run(made.checkout(order(), ACCOUNT, None))
    [(params, options)] = fake.asked
    price = params["line_items"][0]["price_data"]
    assert ("cs_1", "https://pay/cs_1") == (checkout.ref, checkout.url)
    assert ("usd", 2000) == (price["currency"], price["unit_amount"])
    assert {"idempotency_key": "top_1"} == options
    assert params["payment_intent_data"] == {"metadata": params["metadata"]}
    assert ["card", "wechat_pay"] == params["payment_method_types"]
    assert {"wechat_pay": {"client": "web"}} == params["payment_method_options"]


@pytest.mark.parametrize(
    ("customer", "told"),
    [(None, {"customer_creation": "always"}), ("cus_1", {"customer": "cus_1"})],
)
def test_a_checkout_that_saves_the_card_takes_cards_only(customer, told) -> None:
    """What else the Stripe account offers cannot be charged without its owner."""
    made, fake = over(SESSION, payment_methods=("alipay",))
    asyncio.run(made.checkout(order(saves_card=True), ACCOUNT, customer))
    params = fake.asked[0][0]
    assert told.items() <= params.items()
    assert ["card"] == params["payment_method_types"]
    assert "off_session" == params["payment_intent_data"]["setup_future_usage"]


@pytest.mark.parametrize("status", ["succeeded", "processing"])
def test_a_saved_card_is_charged(status) -> None:
    """Off session, with the newest card; what takes its time is told of by an event."""
    made, fake = over(SimpleNamespace(id="pi_1", status=status))
    assert "pi_1" == asyncio.run(made.charge(order(), ACCOUNT, "cus_1"))
    params, options = fake.asked[0]
    assert ("pm_1", True, True) == (
        params["payment_method"],
        params["off_session"],
        params["confirm"],
    )
    assert {"idempotency_key": "top_1"} == options


@pytest.mark.parametrize("status", ["requires_action", "requires_payment_method", "canceled"])
def test_a_charge_that_needs_its_owner_is_declined(status) -> None:
    """Nobody is there to be asked."""
    made, _ = over(SimpleNamespace(id="pi_1", status=status))
    with pytest.raises(CardDeclined, match=status):
        asyncio.run(made.charge(order(), ACCOUNT, "cus_1"))


def test_a_card_that_is_gone_is_declined() -> None:
    """Nothing is charged."""
    made, fake = over(SESSION)
    fake.saved = []
    with pytest.raises(CardDeclined, match="no card"):
        asyncio.run(made.charge(order(), ACCOUNT, "cus_1"))
    assert [] == fake.asked


@pytest.mark.parametrize(
    ("raised", "means", "said"),
    [
        (stripe.AuthenticationError("sk_test_1 is wrong"), PaymentFailed, "refused our secret key"),
        (stripe.CardError("no", None, "card_declined"), CardDeclined, "^no$"),
        (stripe.APIConnectionError("reset"), PaymentUncertain, "did not answer"),
        (stripe.RateLimitError("slow"), PaymentUncertain, "did not answer"),
        (stripe.APIError("500"), PaymentUncertain, "did not answer"),
        (stripe.InvalidRequestError("bad", None), PaymentFailed, "did not take the order"),
        (stripe.IdempotencyError("other"), PaymentFailed, "did not take the order"),
    ],
)
def test_what_stripe_says_no_with(raised, means, said) -> None:
    """A refusal ends the order; where nobody knows, it is asked again later. No secret is told."""
    made, _ = over(raised)
    with pytest.raises(means, match=said) as told:
        asyncio.run(made.checkout(order(), ACCOUNT, None))
    assert isinstance(told.value, PaymentUncertain) == (means is PaymentUncertain)
    assert "sk_test_1" not in told.value.message


def test_a_refund_says_what_was_given_back() -> None:
    """Under its own key, by the payment's reference; its id makes it known to later events."""
    made, fake = over(SimpleNamespace(id="re_1", status="pending"))
    event = asyncio.run(made.refund(order(payment_ref="pi_1"), 500, "key-1"))
    assert event is not None
    assert ("refund", "re_1", 500, "USD", "pi_1") == (
        event.kind,
        event.ref,
        event.amount_minor,
        event.currency,
        event.payment_ref,
    )
    assert {"idempotency_key": "key-1"} == fake.asked[0][1]


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_refund_that_fails_debits_nothing(status) -> None:
    """It is told at once."""
    made, _ = over(SimpleNamespace(id="re_1", status=status))
    with pytest.raises(PaymentFailed, match=status):
        asyncio.run(made.refund(order(payment_ref="pi_1"), 500, "key-1"))


def test_what_was_never_paid_cannot_be_refunded() -> None:
    """Stripe is not asked."""
    made, fake = over(SESSION)
    with pytest.raises(PaymentFailed, match="no payment"):
        asyncio.run(made.refund(order(), 500, "key-1"))
    assert [] == fake.asked


BODY = b'{"id":"evt_1"}'
GOOD = sign(BODY, SECRET, NOW_S)


@pytest.mark.parametrize("skew_s", [0, 299, -299])
def test_a_fresh_signature_is_good(skew_s) -> None:
    """Within five minutes of our clock, either way; also among others of older secrets."""
    header = sign(BODY, SECRET, NOW_S - skew_s)
    provider().verify(BODY, {"stripe-signature": header})
    provider().verify(BODY, {"stripe-signature": header.replace(",v1", ",v1=00,v0=11,v1")})


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("", "missing or wrong"),
        ("t=", "missing or wrong"),
        ("v1=00", "missing or wrong"),
        (GOOD[:-1] + ("0" if GOOD[-1] != "0" else "1"), "missing or wrong"),
        (sign(BODY, "whsec_other", NOW_S), "missing or wrong"),
        (sign(BODY + b" ", SECRET, NOW_S), "missing or wrong"),
        (GOOD.replace(f"t={NOW_S}", f"t={NOW_S + 1}"), "missing or wrong"),
        (GOOD.replace("t=", "t=\u0663"), "missing or wrong"),
        (GOOD.replace("v1=", "v1=\u00e9"), "missing or wrong"),
        (sign(BODY, SECRET, NOW_S - 301), "301 s ago"),
        (sign(BODY, SECRET, NOW_S + 301), "301 s in the future"),
    ],
)
def test_any_other_signature_is_refused(header, said) -> None:
    """Missing, forged, of another body or secret, stale, or from a clock that is ahead."""
    with pytest.raises(EventRefused, match=said):
        provider().verify(BODY, {"stripe-signature": header})


EVENT: dict[str, Any] = {
    "id": "evt_1",
    "object": "event",
    "type": "customer.created",
    "livemode": False,
    "data": {"object": {}},
}


def test_an_event_that_is_ours_is_read() -> None:
    """What it is about is the rules' to say."""
    assert PaymentEvent("evt_1", "other") == provider().read(json.dumps(EVENT).encode())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not a JSON object"),
        (b"\xff", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b"9" * 5000, "not a JSON object"),
        ({"id": None}, "lacks"),
        ({"id": 7}, "lacks"),
        ({"type": ["paid"]}, "lacks"),
        ({"object": "charge"}, "lacks"),
        ({"data": None}, "lacks"),
        ({"data": {}}, "lacks"),
        ({"data": {"object": []}}, "lacks"),
        ({"livemode": True}, "live mode"),
        ({"account": "acct_1"}, "connected account"),
    ],
)
def test_an_event_that_is_none_of_ours_is_refused(body, said) -> None:
    """It says what is wrong, however odd the body is."""
    raw = body if isinstance(body, bytes) else json.dumps({**EVENT, **body}).encode()
    with pytest.raises(EventRefused, match=said):
        provider().read(raw)


def test_a_live_key_takes_live_events_only() -> None:
    """Test events credit no real account."""
    live = provider("rk_live_1")
    with pytest.raises(EventRefused, match="test mode"):
        live.read(json.dumps(EVENT).encode())
    assert "evt_1" == live.read(json.dumps({**EVENT, "livemode": True}).encode()).id


def test_an_invoice_says_what_to_pay() -> None:
    """With the operator's words; braces that are none of ours stay, and nothing in them is run."""
    text = "Pay {amount} {currency} for {reference}. {other} {amount.__class__}"
    told = asyncio.run(InvoiceProvider(text).checkout(order(charge_minor=2005), ACCOUNT, None))
    assert "Pay 20.05 USD for top_1. {other} {amount.__class__}" == told.instructions
    assert (None, None) == (told.ref, told.url)


@pytest.mark.parametrize(
    ("currency", "minor", "told"),
    [("USD", 5, "0.05"), ("JPY", 3000, "3000"), ("CNY", 123456, "1234.56")],
)
def test_an_invoice_asks_in_the_currencys_own_units(currency, minor, told) -> None:
    """Yen have no smaller unit."""
    asked = order(charge_minor=minor, charge_currency=currency)
    found = asyncio.run(InvoiceProvider("{amount} {currency}").checkout(asked, ACCOUNT, None))
    assert f"{told} {currency}" == found.instructions


def test_an_invoice_is_refunded_by_hand() -> None:
    """It is booked at once, under the key that was given."""
    event = asyncio.run(InvoiceProvider("").refund(order(), 500, "key-1"))
    assert event is not None
    assert ("refund", "top_1", 500, "key-1") == (
        event.kind,
        event.topup_id,
        event.amount_minor,
        event.ref,
    )


def test_an_invoice_has_neither_cards_nor_events() -> None:
    """Whoever claims otherwise is refused."""
    invoice = InvoiceProvider("")
    assert (True, False) == (invoice.is_confirmed_by_hand, invoice.can_charge)
    for asked in (invoice.charge(order(), ACCOUNT, "cus_1"), invoice.forget("cus_1")):
        with pytest.raises(PaymentFailed, match="no saved cards"):
            asyncio.run(asked)
    for read in (lambda: invoice.verify(b"", {}), lambda: invoice.read(b"{}")):
        with pytest.raises(EventRefused, match="confirmed by an operator"):
            read()
