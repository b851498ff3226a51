"""The `/v1` endpoints in this process: what is refused before it is a call, and how."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.in_process import InProcess, in_process

CHAT = "/v1/chat/completions"
BODY = {"model": "o3", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("relay")) as relay:
        yield relay


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", CHAT, 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", 404, "unknown_path"),
        ("GET", "/v1/models/none", 404, "model_not_found"),
        ("GET", "/v1/models/%ff", 400, None),
        ("GET", "/v1/calls/req_none", 404, "not_found"),
        ("POST", "/v1/messages", 400, None),
    ],
)
def test_what_is_asked_wrongly(relay, method, target, status, code) -> None:
    """A status, words, and an id by which it is found; nothing is charged."""
    before = relay.balance_nanos()
    answer = relay.ask(target, method=method)
    assert status == answer.status
    assert answer.error["message"]
    assert code == answer.error.get("code")
    assert answer.headers["x-request-id"].startswith("req_")
    assert before == relay.balance_nanos()


def test_a_websocket_is_asked_for_elsewhere(relay) -> None:
    """426 with the protocol to use, in OpenAI's shape: its clients then go on over HTTP."""
    answer = relay.ask(CHAT, method="GET", headers={"upgrade": "websocket"})
    assert 426 == answer.status
    assert "upgrade_required" == answer.error["code"]
    assert "HTTP/1.1" == answer.headers["upgrade"]
    assert 405 == relay.ask("/v1/responses", method="GET").status


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("idempotency-key", ""),
        ("idempotency-key", "\u00e9"),
        ("x-merino-max-cost", "much"),
        ("x-merino-max-cost", "-1"),
        ("x-merino-timeout", "0"),
        ("x-merino-timeout", "nan"),
        ("x-merino-timeout", "inf"),
    ],
)
def test_headers_that_say_nothing_usable(relay, header, value) -> None:
    """They are refused with 400, not passed over."""
    assert 400 == relay.ask(CHAT, BODY, headers={header: value}).status


@pytest.mark.parametrize("key", ["", "mk-none", "\u00e9"])
def test_without_a_good_key(relay, key) -> None:
    """401, whatever the endpoint, and no word of what there is."""
    for target, body in ((CHAT, BODY), ("/v1/models", None), ("/v1/estimate", BODY)):
        assert 401 == relay.ask(target, body, key=key).status


def test_an_answer_tells_its_cost_and_its_record_the_same(relay) -> None:
    """The header, the record and the balance."""
    before = relay.balance_nanos()
    answer = relay.ask(CHAT, BODY)
    record = relay.ask(f"/v1/calls/{answer.headers['x-request-id']}").json()
    assert answer.headers["x-merino-cost"] == record["cost"]
    assert before - relay.balance_nanos() == record["cost_nanos"] > 0
    estimate = relay.ask("/v1/estimate", BODY).json()
    assert estimate["worst_case_nanos"] >= record["cost_nanos"]
    listed = [each["id"] for each in relay.ask("/v1/models").json()["data"]]
    assert {"o3", "broken"} <= set(listed)
    assert "o3" == relay.ask("/v1/models/o3").json()["id"]
