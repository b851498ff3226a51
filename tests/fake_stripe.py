"""A small Stripe over real sockets: Checkout Sessions, saved cards, off-session payments, refunds,
signed events.

It keeps state as Stripe does: idempotency keys replay the first answer, errors too, and refuse
other parameters; a session is paid once; a card is saved with its customer only if the session
said so and was paid; a refund cannot exceed its charge. Written after Stripe's published API
reference; only what a relay uses.
"""

from __future__ import annotations

import hashlib
import hmac
import http.server
import itertools
import json
import threading
import time
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import httpx2

SECRET_KEY = "sk_test_fake"
WEBHOOK_SECRET = "whsec_fake"


def sign(body: bytes, secret: str = WEBHOOK_SECRET, at_s: int | None = None) -> str:
    """The `Stripe-Signature` header of a body."""
    at_s = int(time.time()) if at_s is None else at_s
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def unfolded(form: str) -> dict[str, Any]:
    """`a[b][0]=c` as `{"a": {"b": {"0": "c"}}}`."""
    tree: dict[str, Any] = {}
    for name, value in parse_qsl(form, keep_blank_values=True):
        first, *rest = name.replace("]", "").split("[")
        node = tree
        for part, following in itertools.pairwise([first, *rest]):
            node = node.setdefault(part, {})
            del following
        node[[first, *rest][-1]] = value
    return tree


class FakeStripe:
    """`with FakeStripe() as stripe:` serves at `stripe.url`."""

    def __init__(self) -> None:
        self.sessions: dict[str, dict[str, Any]] = {}
        self.charges: dict[str, dict[str, Any]] = {}
        self.intents: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}
        self.cards: dict[str, list[str]] = {}
        self._saving: set[str] = set()
        self.declines: str | None = None
        self.relay_url = ""
        """Whom a payment on the page is told to, and where it leads back to."""
        self.drops_answers = 0
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.fail_next: list[tuple[int, dict[str, Any]]] = []
        self._answers: dict[str, tuple[str, dict[str, Any], int, dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path.startswith("/pay/"):
                    self._say(200, fake.payment_page(self.path))
                else:
                    self.do_POST()

            def do_DELETE(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                path, _, query = self.path.partition("?")
                if path.startswith("/pay/"):
                    back = fake.paid_by_hand(path.rpartition("/")[2])
                    self._say(303, "", location=back)
                    return
                status, answer = fake.answer(
                    self.command,
                    path,
                    unfolded(body or query),
                    self.headers.get("authorization", ""),
                    self.headers.get("idempotency-key") if self.command == "POST" else None,
                )
                if fake.drops_answers and self.command == "POST":
                    fake.drops_answers -= 1  # done, and nobody hears of it
                    self.close_connection = True
                    return
                raw = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def _say(self, status: int, page: str, **headers: str) -> None:
                raw = page.encode()
                self.send_response(status)
                for name, value in {"content-type": "text/html", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # The API

    def answer(
        self, method: str, path: str, form: dict[str, Any], authorization: str, key: str | None
    ) -> tuple[int, dict[str, Any]]:
        with self._lock:
            self.requests.append((path, key or "", form))
            if authorization != f"Bearer {SECRET_KEY}":
                return 401, error("Invalid API Key provided", "invalid_request_error")
            if self.fail_next:
                return self.fail_next.pop(0)
            if key is not None and key in self._answers:
                first_path, first_form, status, answer = self._answers[key]
                if (first_path, first_form) != (path, form):
                    return 400, error(
                        "Keys for idempotent requests can only be used with the same parameters "
                        "they were first used with.",
                        "idempotency_error",
                    )
                return status, answer
            found = self._route(method, path, form)
            if key is not None and found[0] < 500:
                self._answers[key] = (path, form, *found)
            return found

    def _route(self, method: str, path: str, form: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        parts = path.removeprefix("/v1/").split("/")
        match (method, *parts):
            case ("POST", "checkout", "sessions"):
                return self._create_session(form)
            case ("POST", "refunds"):
                return self._create_refund(form)
            case ("GET", "refunds"):
                intent = form["payment_intent"]
                data = [each for each in self.refunds.values() if each["payment_intent"] == intent]
                return 200, {"object": "list", "data": data[::-1], "has_more": False, "url": path}
            case ("POST", "payment_intents"):
                return self._create_intent(form)
            case ("GET", "customers", customer, "payment_methods") if customer in self.cards:
                data = [{"id": card, "object": "payment_method"} for card in self.cards[customer]]
                return 200, {"object": "list", "data": data[::-1], "has_more": False, "url": path}
            case ("DELETE", "customers", customer) if customer in self.cards:
                del self.cards[customer]
                return 200, {"id": customer, "object": "customer", "deleted": True}
            case (_, "customers", customer, *_):
                return 404, error(f"No such customer: '{customer}'", "invalid_request_error")
        return 404, error(f"Unrecognized request URL ({method}: {path})", "invalid_request_error")

    def _create_intent(self, form: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        assert (form["confirm"], form["off_session"]) == ("true", "true")
        if form["payment_method"] not in self.cards.get(form["customer"], []):
            return 400, error("The customer has no such payment method", "invalid_request_error")
        intent = {
            "id": f"pi_{next(self._numbers)}",
            "object": "payment_intent",
            "amount": int(form["amount"]),
            "amount_received": 0,
            "currency": form["currency"],
            "customer": form["customer"],
            "payment_method": form["payment_method"],
            "metadata": form.get("metadata", {}),
            "status": "requires_payment_method",
            "last_payment_error": None,
            "livemode": False,
        }
        self.intents[intent["id"]] = intent
        if self.declines is not None:
            problem = {
                "type": "card_error",
                "code": self.declines,
                "message": "Your card was declined.",
            }
            intent["last_payment_error"] = problem
            return 402, {"error": {**problem, "payment_intent": intent}}
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        self._charge(intent["id"], intent["amount"], intent["currency"])
        return 200, intent

    def _create_session(self, form: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        item = form["line_items"]["0"]
        price = item["price_data"]
        amount = int(price["unit_amount"]) * int(item["quantity"])
        if amount < 50:
            return 400, error("The Checkout Session's total amount is too small", "card_error")
        customer = form.get("customer")
        if customer is None and form.get("customer_creation") == "always":
            customer = f"cus_{next(self._numbers)}"
        session_id = f"cs_test_{next(self._numbers)}"
        session = {
            "id": session_id,
            "object": "checkout.session",
            "mode": form["mode"],
            "status": "open",
            "payment_status": "unpaid",
            "amount_total": amount,
            "currency": price["currency"],
            "client_reference_id": form.get("client_reference_id"),
            "metadata": form.get("metadata", {}),
            "payment_intent": None,
            "customer": customer,
            "success_url": form["success_url"],
            "url": f"{self.url}/pay/{session_id}",
            "livemode": False,
        }
        self.sessions[session_id] = session
        if form["payment_intent_data"].get("setup_future_usage") == "off_session":
            self._saving.add(session_id)
        return 200, session

    def _create_refund(self, form: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        charge = next(
            each
            for each in self.charges.values()
            if each["payment_intent"] == form["payment_intent"]
        )
        amount = int(form.get("amount") or charge["amount"])
        if charge["amount_refunded"] + amount > charge["amount"]:
            return 400, error(
                "Refund amount is greater than charge amount", "invalid_request_error"
            )
        return 200, self._refund(charge, amount, form.get("metadata", {}))

    def _refund(
        self, charge: dict[str, Any], amount: int, metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        refund = {
            "id": f"re_{next(self._numbers)}",
            "object": "refund",
            "amount": amount,
            "charge": charge["id"],
            "currency": charge["currency"],
            "payment_intent": charge["payment_intent"],
            "metadata": metadata or {},
            "status": "succeeded",
        }
        self.refunds[refund["id"]] = refund
        return refund

    # What payers and banks do

    def payment_page(self, path: str) -> str:
        session = self.sessions[path.rpartition("/")[2]]
        amount = f"{session['amount_total'] / 100:.2f} {session['currency']}"
        return (
            f"<!doctype html><link rel='icon' href='data:,'><title>Pay</title><h1>{amount}</h1>"
            f'<form method="post" action="{path}"><button>Pay</button></form>'
        )

    def paid_by_hand(self, session_id: str) -> str:
        """The button was pressed: the event is told, and the browser goes back."""
        told = deliver(self.relay_url, self.pay(session_id))
        assert told.status_code == 200, told.text
        parts = urlsplit(self.sessions[session_id]["success_url"])
        return f"{self.relay_url}{parts.path}"

    def pay(self, session_id: str, *, is_async: bool = False) -> dict[str, Any]:
        """The payer pays; the event that follows."""
        session = self.sessions[session_id]
        assert session["status"] == "open"
        session["status"] = "complete"
        if session["payment_intent"] is None:
            session["payment_intent"] = f"pi_{next(self._numbers)}"
        if not is_async:
            self._settle(session)
        return self.event("checkout.session.completed", session)

    def _settle(self, session: dict[str, Any]) -> None:
        session["payment_status"] = "paid"
        self._charge(session["payment_intent"], session["amount_total"], session["currency"])
        if session["id"] in self._saving:
            self.cards.setdefault(session["customer"], []).append(f"pm_{next(self._numbers)}")

    def _charge(self, intent_id: str, amount: int, currency: str) -> None:
        charge_id = f"ch_{next(self._numbers)}"
        self.charges[charge_id] = {
            "id": charge_id,
            "object": "charge",
            "payment_intent": intent_id,
            "amount": amount,
            "amount_refunded": 0,
            "refunded": False,
            "currency": currency,
        }

    def arrive(self, session_id: str) -> dict[str, Any]:
        """The money of a delayed method arrives."""
        session = self.sessions[session_id]
        self._settle(session)
        return self.event("checkout.session.async_payment_succeeded", session)

    def charged(self, intent_id: str) -> dict[str, Any]:
        """What became of an off-session payment."""
        intent = self.intents[intent_id]
        done = intent["status"] == "succeeded"
        return self.event(
            "payment_intent.succeeded" if done else "payment_intent.payment_failed", intent
        )

    def fail(self, session_id: str) -> dict[str, Any]:
        return self.event("checkout.session.async_payment_failed", self.sessions[session_id])

    def expire(self, session_id: str) -> dict[str, Any]:
        self.sessions[session_id]["status"] = "expired"
        return self.event("checkout.session.expired", self.sessions[session_id])

    def charge_of(self, session_id: str) -> dict[str, Any]:
        intent = self.sessions[session_id]["payment_intent"]
        return next(each for each in self.charges.values() if each["payment_intent"] == intent)

    def refunded(self, session_id: str, amount: int | None = None) -> dict[str, Any]:
        """Somebody refunds in Stripe's dashboard; with no amount, tell of what was refunded."""
        charge = self.charge_of(session_id)
        if amount is not None:
            self._refund(charge, amount)
        return self.event("charge.refunded", charge)

    def refund_created(self, session_id: str, amount: int) -> dict[str, Any]:
        """The same, told of by the refund itself."""
        return self.event("refund.created", self._refund(self.charge_of(session_id), amount))

    def refund_fails(self, refund_id: str) -> dict[str, Any]:
        """The payer's bank sends a refund back: its amount is ours again."""
        refund = self.refunds[refund_id]
        assert refund["status"] != "failed"
        refund["status"] = "failed"
        charge = self.charges[refund["charge"]]
        charge["amount_refunded"] -= refund["amount"]
        charge["refunded"] = False
        return self.event("refund.failed", refund)

    def dispute(self, session_id: str, amount: int | None = None) -> dict[str, Any]:
        charge = self.charge_of(session_id)
        return {
            "id": f"dp_{next(self._numbers)}",
            "object": "dispute",
            "charge": charge["id"],
            "payment_intent": charge["payment_intent"],
            "amount": amount or charge["amount"],
            "currency": charge["currency"],
        }

    def event(self, kind: str, about: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "id": f"evt_{next(self._numbers)}",
            "object": "event",
            "type": kind,
            "created": int(time.time()),
            "livemode": False,
            "data": {"object": json.loads(json.dumps(about))},
            **more,
        }


def error(message: str, kind: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind}}


def deliver(
    url: str, event: dict[str, Any], *, secret: str = WEBHOOK_SECRET, at_s: int | None = None
) -> httpx2.Response:
    """POST an event as Stripe does, once."""
    body = json.dumps(event).encode()
    headers = {
        "content-type": "application/json",
        "stripe-signature": sign(body, secret, at_s),
    }
    return httpx2.post(
        f"{url}/webhooks/stripe", content=body, headers=headers, timeout=30, trust_env=False
    )
