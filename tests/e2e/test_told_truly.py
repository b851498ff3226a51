"""Small things that answers and metrics say of a call, as callers and operators read them."""

from __future__ import annotations

import pytest

from merino.cli.root import run

CHAT = "/v1/chat/completions"


def ask(**more: object) -> dict[str, object]:
    return {"model": "sim/o3", "messages": [{"role": "user", "content": "Hi"}], **more}


def test_what_lowered_the_limit_is_named(relay) -> None:
    """A limit lowered for the caller's own maximum is not said to be the balance's."""
    with relay.http() as http:
        answer = http.post(CHAT, json=ask(), headers={"x-merino-max-cost": "0.001"})
    assert 200 == answer.status_code
    assert answer.headers["x-merino-adjusted"].endswith("(x-merino-max-cost)")
    assert float(answer.headers["x-merino-cost"]) <= 0.001


@pytest.mark.parametrize(
    ("path", "rest", "way_out"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "Hi"}]}, "Lower max_completion_tokens"),
        ("/v1/embeddings", {"input": "Hi"}, ". Send less or raise"),
    ],
)
def test_the_way_out_fits_the_call(relay, path, rest, way_out) -> None:
    """An embedding has no output limit to lower."""
    with relay.http() as http:
        headers = {"x-merino-max-cost": "0.000000001"}
        answer = http.post(path, json={"model": "sim/o3", **rest}, headers=headers)
    error = answer.json()["error"]
    assert (400, "max_cost_exceeded") == (answer.status_code, error["code"])
    assert way_out in error["message"]


@pytest.mark.parametrize(
    ("period", "limit", "way_out"),
    [
        ("total", "0.001 in all", "--spend-cap`)."),
        ("day", "0.001 per day", "or wait for the next day."),
    ],
)
def test_a_keys_spend_cap_is_told_as_it_is(relay, period, limit, way_out) -> None:
    """A cap on the key's life has no next period to wait for."""
    cap = ("--spend-cap", "0.001", "--spend-period", period)
    secret = relay.cli("keys", "create", "--name", f"capped-{period}", *cap)["key"]
    with relay.http() as http:
        http.headers["authorization"] = f"Bearer {secret}"
        first = http.post(CHAT, json=ask())
        second = http.post(CHAT, json=ask())
    assert first.headers["x-merino-adjusted"].endswith("(spend cap)")
    assert (429, "insufficient_quota") == (second.status_code, second.json()["error"]["code"])
    message = second.json()["error"]["message"]
    assert limit in message
    assert message.endswith(way_out)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("PUT", "/v1/estimate", "POST"),
        ("PUT", "/v1/batches", "GET, HEAD, POST"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(relay, method, path, allowed) -> None:
    """405 comes with `Allow`, as HTTP wants it."""
    with relay.http() as http:
        answer = http.request(method, path)
    assert (405, allowed) == (answer.status_code, answer.headers["allow"])
    assert "method_not_allowed" == answer.json()["error"]["code"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/files/file-1/nothing"),
        ("POST", "/v1%2fchat/completions"),
        ("PATCH", "/%76%31/responses"),
    ],
)
def test_what_is_not_served_is_404_for_every_method(relay, method, path) -> None:
    """Also where an odd spelling hides `/v1`: nobody is told to come with GET, which is no better."""
    with relay.http() as http:
        answer = http.request(method, path, json={})
    assert (404, "unknown_path") == (answer.status_code, answer.json()["error"]["code"])


def test_a_browser_is_told_of_the_dashboard(relay) -> None:
    """Who opens the relay's address meets a page that does not exist, and the one that does."""
    with relay.http() as http:
        assert "/dashboard" in http.get("/").json()["error"]["message"]


@pytest.mark.parametrize(
    ("messages", "param"),
    [([1], "messages[0]"), ([{"role": "user", "content": "a"}, {"role": 5}], "messages[1].role")],
)
def test_the_simulator_refuses_messages_as_its_models_would(relay, messages, param) -> None:
    """What is passed on to an upstream is the upstream's to refuse, by the field's name."""
    with relay.http() as http:
        answer = http.post(CHAT, json=ask(messages=messages))
    error = answer.json()["error"]
    assert (400, param, "invalid_type") == (answer.status_code, error["param"], error["code"])


def test_repeats_have_ended(start_relay) -> None:
    """Answers that are given again leave nothing that counts as running, for which a stop would
    wait."""
    relay = start_relay()
    with relay.http() as http:
        for _ in range(3):
            answer = http.post(CHAT, json=ask(), headers={"idempotency-key": "one"})
            assert 200 == answer.status_code
        assert "true" == answer.headers["x-merino-replayed"]
        metrics = http.get("/metrics").text
    assert "merino_calls_in_flight 0.0" in metrics.splitlines()


@pytest.mark.parametrize(
    ("path", "rest", "operation"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "Hi"}]}, "chat"),
        ("/v1/embeddings", {"input": "Hi"}, "embeddings"),
    ],
)
def test_operations_have_opentelemetrys_names(relay, path, rest, operation) -> None:
    """Dashboards made for its conventions find the relay's calls."""
    with relay.http() as http:
        assert 200 == http.post(path, json={"model": "sim/o4", **rest}).status_code
        lines = http.get("/metrics").text.splitlines()
    assert [
        line
        for line in lines
        if line.startswith("merino_calls_total{")
        and f'gen_ai_operation_name="{operation}"' in line
        and 'gen_ai_request_model="sim/o4"' in line
    ]


def test_the_guides_commands_are_there(relay, capsys) -> None:
    """What the guide to keys and accounts shows can be typed as it stands."""
    data = ("--data", str(relay.data))
    commands = (
        ("accounts", "create", "--name", "research", "--overdraft", "10"),
        ("accounts", "credit", "research", "200", "--memo", "invoice", "--idempotency-key", "i1"),
        (
            *("keys", "create", "--account", "research", "--name", "notebook", "--alias", "sim/o3"),
            *("--spend-cap", "50", "--spend-period", "month", "--rpm", "120"),
            *("--expires-at", "2099-01-01"),
        ),
        ("keys", "rotate", "notebook"),
        ("keys", "update", "notebook", "--spend-cap", "none"),
    )
    for command in commands:
        assert 0 == run([*command, *data]), capsys.readouterr().err
