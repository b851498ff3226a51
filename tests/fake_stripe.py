"""A small Stripe over real sockets: Checkout Sessions, refunds, signed events.

It keeps state as Stripe does: idempotency keys replay the first answer, a session is paid once, a
refund cannot exceed its charge, and events are sent to the endpoint until they are answered with a
2xx. Written after Stripe's published API reference; only what a relay uses.
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
from urllib.parse import parse_qsl

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
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.fail_next: list[tuple[int, dict[str, Any]]] = []
        self._answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                status, answer = fake.answer(
                    self.path,
                    unfolded(body),
                    self.headers.get("authorization", ""),
                    self.headers.get("idempotency-key"),
                )
                raw = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
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
        self, path: str, form: dict[str, Any], authorization: str, key: str | None
    ) -> tuple[int, dict[str, Any]]:
        with self._lock:
            self.requests.append((path, key or "", form))
            if authorization != f"Bearer {SECRET_KEY}":
                return 401, error("Invalid API Key provided", "invalid_request_error")
            if self.fail_next:
                return self.fail_next.pop(0)
            if key is not None and key in self._answers:
                return self._answers[key]
            if path == "/v1/checkout/sessions":
                found = self._create_session(form)
            elif path == "/v1/refunds":
                found = self._create_refund(form)
            else:
                found = (
                    404,
                    error(f"Unrecognized request URL (POST: {path})", "invalid_request_error"),
                )
            if key is not None and found[0] < 500:
                self._answers[key] = found
            return found

    def _create_session(self, form: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        item = form["line_items"]["0"]
        price = item["price_data"]
        amount = int(price["unit_amount"]) * int(item["quantity"])
        if amount < 50:
            return 400, error("The Checkout Session's total amount is too small", "card_error")
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
            "success_url": form["success_url"],
            "url": f"{self.url}/pay/{session_id}",
            "livemode": False,
        }
        self.sessions[session_id] = session
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
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        refund_id = f"re_{next(self._numbers)}"
        return 200, {"id": refund_id, "object": "refund", "amount": amount, "status": "succeeded"}

    # What payers and banks do

    def pay(self, session_id: str, *, is_async: bool = False) -> dict[str, Any]:
        """The payer pays; the event that follows."""
        session = self.sessions[session_id]
        assert session["status"] == "open"
        session["status"] = "complete"
        if session["payment_intent"] is None:
            session["payment_intent"] = f"pi_{next(self._numbers)}"
        if not is_async:
            self._charge(session)
        return self.event("checkout.session.completed", session)

    def _charge(self, session: dict[str, Any]) -> None:
        session["payment_status"] = "paid"
        charge_id = f"ch_{next(self._numbers)}"
        self.charges[charge_id] = {
            "id": charge_id,
            "object": "charge",
            "payment_intent": session["payment_intent"],
            "amount": session["amount_total"],
            "amount_refunded": 0,
            "refunded": False,
            "currency": session["currency"],
        }

    def arrive(self, session_id: str) -> dict[str, Any]:
        """The money of a delayed method arrives."""
        session = self.sessions[session_id]
        self._charge(session)
        return self.event("checkout.session.async_payment_succeeded", session)

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
        charge["amount_refunded"] += amount or 0
        return self.event("charge.refunded", charge)

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
