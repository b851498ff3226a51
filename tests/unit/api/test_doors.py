"""What lies beside the calls: health, metrics, the front door, and payment providers' events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any, cast

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp
from tests.in_process import InProcess, in_process

from merino.api.health import health_routes
from merino.api.webhooks import payment_routes
from merino.billing.ports import Booking
from merino.billing.topups import EVENT_BYTES_MAX
from merino.domain.errors import EventRefused, MerinoError, NotFound, StoreUnavailable


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("relay")) as relay:
        yield relay


def ask(app: ASGIApp, method: str, path: str, **more: Any) -> httpx2.Response:
    async def asked() -> httpx2.Response:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://relay.test") as http:
            return await http.request(method, path, **more)

    return asyncio.run(asked())


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    assert "application/json" == answer.headers["content-type"]
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} == set(error)
    return error


# -- health -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "warnings", "status", "expected"),
    [
        (None, (), 200, {"status": "ok"}),
        (None, ("look",), 200, {"status": "ok", "warnings": ["look"]}),
        ("draining", ("look",), 503, {"status": "unavailable", "reason": "draining"}),
    ],
)
def test_readiness_says_why_not(
    reason: str | None, warnings: tuple[str, ...], status: int, expected: dict[str, Any]
) -> None:
    """Ready with what to look at, or not and why; alive either way."""
    app = Starlette(routes=list(health_routes(lambda: reason, lambda: b"", lambda: warnings)))
    answer = ask(app, "GET", "/readyz")
    assert (status, expected) == (answer.status_code, answer.json())
    for path in ("/livez", "/health"):
        assert {"status": "ok"} == ask(app, "GET", path).json()


def test_metrics_are_told_in_prometheus_words(relay: InProcess) -> None:
    """Their media type, and a line for a call that was made."""
    relay.chat()
    answer = relay.client().get("/metrics")
    assert "text/plain; version=0.0.4; charset=utf-8" == answer.headers["content-type"]
    assert re.search(r"^merino_calls_total\{.*\} [1-9]", answer.text, re.MULTILINE), answer.text[
        :2000
    ]


# -- the front door ---------------------------------------------------------------------------------


def test_people_come_to_the_dashboard_and_programs_are_told_the_paths(relay: InProcess) -> None:
    """By what they accept."""
    http = relay.client()
    page = http.get("/", headers={"accept": "text/html,*/*"})
    assert (302, "/dashboard") == (page.status_code, page.headers["location"])
    answer = http.get("/", headers={"accept": "*/*"})
    assert 404 == answer.status_code
    assert all(each in error_of(answer)["message"] for each in ("/v1/", "/admin/v1", "/readyz"))


@pytest.mark.parametrize("path", ["/nothing", "/v2/models", "/" + "x" * 5000, "/%ff%00"])
def test_a_path_that_nobody_serves_is_told_so(relay: InProcess, path: str) -> None:
    """In OpenAI's shape, and not longer than it helps."""
    answer = relay.client().get(path)
    assert 404 == answer.status_code
    assert "not_found" == error_of(answer)["code"]
    assert len(error_of(answer)["message"]) < 600


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/metrics"])
def test_another_method_is_told_the_right_one(relay: InProcess, path: str) -> None:
    """405 with `Allow`, as HTTP wants it."""
    answer = relay.client().post(path)
    assert 405 == answer.status_code
    assert "GET" in answer.headers["allow"]
    assert answer.headers["allow"] in error_of(answer)["message"]


# -- events of payment providers --------------------------------------------------------------------


class Desk:
    """Books what it gets, or refuses it."""

    def __init__(self, error: MerinoError | None = None) -> None:
        self.error = error
        self.got: list[tuple[str, bytes, dict[str, str]]] = []

    async def receive(self, provider: str, body: bytes, headers: dict[str, str]) -> Booking:
        self.got.append((provider, body, headers))
        if self.error is not None:
            raise self.error
        return Booking("applied", nanos=5)


def events(desk: Desk) -> ASGIApp:
    return Starlette(routes=list(payment_routes(cast("Any", desk))))


def test_an_event_reaches_the_desk_as_it_was_signed() -> None:
    """Every byte of the body, the provider of the path, and headers by lower-case name."""
    desk = Desk()
    body = b'{"id": "evt_1"}\n \xf0\x9f\x99\x82'
    answer = ask(
        events(desk), "POST", "/webhooks/stripe", content=body, headers={"Stripe-Signature": "t=1"}
    )
    assert (200, {"received": True, "outcome": "applied"}) == (answer.status_code, answer.json())
    ((provider, got, headers),) = desk.got
    assert ("stripe", body, "t=1") == (provider, got, headers["stripe-signature"])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (EventRefused("unsigned"), 400),
        (NotFound("There is no payment provider 'x'"), 404),
        (StoreUnavailable("The disk is full", retry_after_s=5.0), 503),
    ],
)
def test_an_event_that_was_not_booked_is_sent_again_or_not(error: MerinoError, status: int) -> None:
    """Its provider repeats what is not answered with 200; a full disk says when."""
    answer = ask(events(Desk(error)), "POST", "/webhooks/stripe", content=b"{}")
    assert (status, error.message) == (answer.status_code, error_of(answer)["message"])
    assert ("5" if status == 503 else None) == answer.headers.get("retry-after")


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 413)])
def test_an_event_has_a_size(more: int, status: int) -> None:
    """What is longer than any provider sends is not read to its end, and never booked."""
    desk = Desk()
    content = b"x" * (EVENT_BYTES_MAX + more)
    answer = ask(events(desk), "POST", "/webhooks/stripe", content=content)
    assert status == answer.status_code
    assert (status == 200) == bool(desk.got)


def test_events_are_posted(relay: InProcess) -> None:
    """A provider that is not set up is unknown, and nobody reads events here."""
    http = relay.client()
    assert 404 == http.post("/webhooks/stripe", content=json.dumps({})).status_code
    assert "POST" == http.get("/webhooks/stripe").headers["allow"]
