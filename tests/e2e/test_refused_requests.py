"""Requests that the relay refuses leave a record and are counted."""

from __future__ import annotations

import json

import pytest
from tests.fake_server import fake_server

from merino.cli.root import run

CHAT = "/v1/chat/completions"
HELLO = {"model": "sim/o3", "messages": [{"role": "user", "content": "Hi"}]}
SECRET = "sk-proj-1234567890abcdefghijkl"
REFUSED = {
    "no key": ({"authorization": ""}, CHAT, HELLO, 401, "missing_api_key"),
    "a foreign key": ({"authorization": "Bearer sk-abc"}, CHAT, HELLO, 401, "invalid_api_key"),
    "a wrong type": ({}, CHAT, {**HELLO, "messages": 5}, 400, "invalid_type"),
    "no JSON": ({}, CHAT, "{", 400, "invalid_json"),
    "no such model": ({}, CHAT, {**HELLO, "model": "gpt-9"}, 404, "model_not_found"),
    "no such path": ({}, "/v1/nothing", HELLO, 404, "unknown_path"),
    "a wrong header": ({"x-merino-timeout": "soon"}, CHAT, HELLO, 400, None),
    "an order without a file": ({}, "/v1/batches", {"endpoint": CHAT}, 400, "invalid_value"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_request_leaves_a_record(relay, name):
    """It has the answer's status, code and message, under the id that the caller was told."""
    headers, path, body, status, code = REFUSED[name]
    with relay.http() as http:
        text = body if isinstance(body, str) else json.dumps(body)
        sent = {"content-type": "application/json", **headers}
        answer = http.post(path, content=text, headers=sent)
    assert status == answer.status_code
    error = answer.json()["error"]
    record = relay.cli("calls", "show", answer.headers["x-request-id"])
    known = relay.cli("keys", "list")["data"][0]["id"]

    assert (status, error["message"]) == (record["status"], record["error_message"])
    assert code in (None, record["error_code"])
    assert ("" if status == 401 else known) == record["key_id"]
    assert ("voided", 0) == (record["resolution"], record["charged_nanos"])


def test_a_look_without_a_key_leaves_no_record(relay):
    """`merino doctor` and probes ask so whether an API is there; the counter knows."""
    with relay.http() as http:
        answer = http.get("/v1/models", headers={"authorization": ""})
        assert (401, "missing_api_key") == (answer.status_code, answer.json()["error"]["code"])
        counted = http.get("/metrics").text
    assert 'error_type="missing_api_key"' in counted
    shown = relay.cli("calls", "list", "--limit", "500")["data"]
    assert answer.headers["x-request-id"] not in [call["id"] for call in shown]


def test_a_withdrawn_key_that_is_tried_is_seen(relay):
    """Attempts with a disabled key are listed under that key, with their reason."""
    secret = relay.cli("keys", "create", "--name", "leaked")["key"]
    relay.cli("keys", "disable", "leaked")
    with relay.http() as http:
        http.headers["authorization"] = f"Bearer {secret}"
        assert 401 == http.post(CHAT, json=HELLO).status_code
    calls = relay.cli("calls", "list", "--key", "leaked")["data"]

    assert ["key_disabled"] == [call["error_code"] for call in calls]
    assert "disabled" in calls[0]["error_message"]


def test_refused_requests_are_counted_and_bounded(start_relay):
    """All are counted; of those beyond the number for a minute no record is kept."""
    relay = start_relay("[calls]\nrefused_per_minute = 3\n")
    with relay.http() as http:
        for _ in range(10):
            http.post(CHAT, json={**HELLO, "model": "gpt-9"})
        text = http.get("/metrics").text
    kept = relay.cli("calls", "list")["data"]

    # The minute may have turned in between.
    assert len(kept) in (3, 6)
    line = 'merino_refused_requests_total{error_type="model_not_found",status="404"} 10.0'
    assert line in text


def test_what_an_upstream_said_is_kept_with_the_attempt(start_relay):
    """The record of a failed attempt says why, without the secret that the upstream echoes."""
    said = f"the disk is full, said {SECRET}"
    failed = {"/v1/chat/completions": (500, {"error": {"message": said}})}
    with fake_server(failed) as upstream:
        relay = start_relay(
            f"""
            [[deployments]]
            name = "up"
            base_url = "{upstream.address}/v1"
            price = {{ input = "1", output = "1" }}
            """
        )
        with relay.http() as http:
            answer = http.post(CHAT, json={**HELLO, "model": "up"})
    record = relay.cli("calls", "show", answer.headers["x-request-id"])

    assert "the disk is full" in record["attempts"][0]["message"]
    assert "the disk is full" in record["error_message"]
    assert SECRET not in json.dumps(record)


def test_the_page_of_a_refused_request_says_why(relay, capsys):
    """`merino calls show` prints the message without --json, too."""
    with relay.http() as http:
        answer = http.post(CHAT, json={**HELLO, "messages": 5})
    code = run(["calls", "show", answer.headers["x-request-id"], "--data", str(relay.data)])

    assert 0 == code
    assert answer.json()["error"]["message"] in capsys.readouterr().out
