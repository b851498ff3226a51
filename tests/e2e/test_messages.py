"""Anthropic's Messages API over sockets: natively, as its own package and Claude Code send it."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from tests.conftest import RelayProcess
from tests.recording_upstream import Recorded, Told, recording

CLAUDE = """
[[deployments]]
name = "{name}"
provider = "anthropic"
base_url = "{address}/v1"
credential = "env:TEST_CREDENTIAL"
upstream_model = "claude-opus-5"
price_model = "anthropic/claude-opus-5"
headers = {{ anthropic-beta = "of-the-operator" }}
"""
SIMULATED = """
[[deployments]]
name = "chat"
provider = "simulator"
upstream_model = "o3!no_messages"

[[deployments]]
name = "simulated"
provider = "simulator"
upstream_model = "o3!reasoning=32"
"""
STATUSES = (400, 403, 413, 429, 500, 529)
NAMES = ("claude", "claude-opus-5", "over", *map(str, STATUSES), *map(str, range(9)))
"""Each has a breaker of its own."""
BODY = (
    b'{ "model":"claude", "max_tokens": 64,\n "system":[{"type":"text","text":"\\u00e4",'
    b'"cache_control":{"type":"ephemeral","ttl":"1h"}}], "messages":[{"role":"user","content":"hi"}]'
    b',"new_field":{"a":[1.50]},"stream":true}'
)
USED: dict[str, Any] = {
    "input_tokens": 10,
    "cache_read_input_tokens": 4000,
    "cache_creation_input_tokens": 300,
}
USED["cache_creation"] = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200}
COST = 10 * 5_000 + 4000 * 500 + 100 * 6_250 + 200 * 10_000 + 7 * 25_000


def event(kind: str, **members) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5",
    "stop_sequence": None,
}  # fmt: skip
EVENTS = [
    event("message_start", message={
        **MESSAGE, "content": [], "stop_reason": None, "usage": {**USED, "output_tokens": 1}}),
    event("ping"),
    event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"}),
    event("ping"),
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": " there"}),
    event("content_block_stop", index=0),
    event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None},
          usage={"output_tokens": 7}),
    event("message_stop"),
]  # fmt: skip
WHOLE = {
    **MESSAGE, "content": [{"type": "text", "text": "Hello there"}], "stop_reason": "end_turn",
    "usage": {**USED, "output_tokens": 7},
}  # fmt: skip


class Vendor:
    """Streams, whole messages, counts and errors, as the test says."""

    def __init__(self) -> None:
        self.told: Told | None = None

    def __call__(self, request: Recorded) -> Told:
        if self.told is not None:
            return self.told
        if "count_tokens" in request.target:
            return Told(
                headers={"content-type": "application/json"}, pieces=[b'{"input_tokens":7}']
            )
        if b'"stream":true' in request.body.replace(b" ", b""):
            return Told(headers={"content-type": "text/event-stream"}, pieces=EVENTS)
        return Told(
            headers={"content-type": "application/json"}, pieces=[json.dumps(WHOLE).encode()]
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    vendor = Vendor()
    with recording(vendor) as server:
        relay = RelayProcess(
            tmp_path_factory.mktemp("relay") / "data",
            SIMULATED + "".join(CLAUDE.format(name=name, address=server.address) for name in NAMES),
            {"TEST_CREDENTIAL": "sk-ant-secret"},
        ).start()
        yield vendor, server, relay
        assert 0 == relay.stop()


@pytest.fixture
def world(running):
    running[0].told = None
    return running


def ask(relay, path: str = "/v1/messages", body: bytes = BODY, **headers: Any) -> httpx2.Response:
    given = {"x-api-key": relay.key, "anthropic-version": "2023-06-01", **headers}
    return httpx2.post(relay.url + path, content=body, headers=given, timeout=20)


def named(name: object) -> bytes:
    return BODY.replace(b'"claude"', b'"%b"' % str(name).encode())


def records(relay) -> list[dict]:
    headers = {"authorization": f"Bearer {relay.admin_key}"}
    return httpx2.get(f"{relay.url}/admin/v1/calls", headers=headers).json()["data"]


def test_a_native_upstream_gets_what_was_sent(world) -> None:
    """The body but for the model's name, the query, version, betas and other `anthropic-*` headers;
    the relay's credential and nothing else of the caller's."""
    _, server, relay = world
    headers: dict[str, Any] = {
        "anthropic-beta": "one-2026,two-2026",
        "anthropic-x": "y",
        "x-app": "cli",
    }
    ask(relay, "/v1/messages?beta=true", **headers)
    sent = server.seen[-1]
    assert ("POST", "/v1/messages?beta=true") == (sent.method, sent.target)
    assert json.loads(BODY) | {"model": "claude-opus-5"} == json.loads(sent.body)
    assert b'"system":[{"type":"text","text":"\\u00e4","cache_control"' in sent.body
    assert b'{"a":[1.50]}' in sent.body
    told = {name: sent.headers.get(name) for name in (
        "x-api-key", "authorization", "anthropic-version", "anthropic-beta", "anthropic-x", "x-app",
    )}  # fmt: skip
    assert told == {
        "x-api-key": "sk-ant-secret",
        "authorization": None,
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "of-the-operator,one-2026,two-2026",
        "anthropic-x": "y",
        "x-app": None,
    }


def test_not_a_byte_changes_where_the_model_is_called_the_same(world) -> None:
    """Spaces, escapes and the order of members are the caller's."""
    _, server, relay = world
    body = BODY.replace(b'"claude"', b'"claude-opus-5"')
    ask(relay, body=body)
    assert body == server.seen[-1].body


def test_a_stream_is_the_upstreams_own(world) -> None:
    """Every event byte for byte, pings too; only a comment with the cost stands before the last;
    five minutes and an hour of cache have their own prices."""
    _, _, relay = world
    answer = ask(relay)
    cost = f": x-merino-cost: {COST / 1e9:.9f}".rstrip("0").encode() + b"\n"
    assert b"".join(EVENTS) == answer.content.replace(cost, b"")
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    record = httpx2.get(
        f"{relay.url}/v1/calls/{answer.headers['request-id']}", headers={"x-api-key": relay.key}
    ).json()
    assert COST == record["cost_nanos"]
    assert (4310, 7, "end_turn", "reported") == (
        record["usage"]["input_tokens"], record["usage"]["output_tokens"],
        record["finish_reason"], record["usage_source"],
    )  # fmt: skip


def test_a_whole_message_is_the_upstreams_own(world) -> None:
    """The same body, and its cost in a header."""
    _, _, relay = world
    answer = ask(relay, body=BODY.replace(b',"stream":true', b""))
    assert json.dumps(WHOLE).encode() == answer.content
    assert COST == round(float(answer.headers["x-merino-cost"]) * 1e9)


@pytest.mark.parametrize("status", STATUSES)
def test_errors_are_the_vendors_own(world, status) -> None:
    """Status, type and words; the id is the relay's."""
    vendor, _, relay = world
    kinds = {400: "invalid_request_error", 403: "permission_error",
             413: "request_too_large", 429: "rate_limit_error", 500: "api_error",
             529: "overloaded_error"}  # fmt: skip
    said = {"type": kinds[status], "message": f"prompt is too long: {status} tokens"}
    body = json.dumps({"type": "error", "error": said, "request_id": "req_vendor"}).encode()
    vendor.told = Told(status, {"content-type": "application/json"}, [body])
    answer = ask(relay, body=named(status))
    assert status == answer.status_code
    found = answer.json()
    assert ("error", said) == (found["type"], found["error"])
    assert answer.headers["request-id"] == found["request_id"]


def test_an_overload_in_a_stream_is_the_vendors_event(world) -> None:
    """After content it ends the stream as the vendor ended it; what came is paid for."""
    vendor, _, relay = world
    last = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    vendor.told = Told(200, {"content-type": "text/event-stream"}, [*EVENTS[:4], last])
    answer = ask(relay, body=named("over"))
    assert answer.content.endswith(last)
    assert (
        10 * 5_000 + 4000 * 500 + 100 * 6_250 + 200 * 10_000 + 2 * 25_000
        == (records(relay)[0]["charged_nanos"])
    )


@pytest.mark.parametrize("events", range(1, len(EVENTS)))
def test_an_upstream_that_dies_at_any_event(world, events) -> None:
    """Before content another attempt may follow and an error is answered; after it, an error event
    ends the stream, unless the answer was whole."""
    vendor, _, relay = world
    vendor.told = Told(200, {"content-type": "text/event-stream"}, EVENTS[:events], is_cut=True)
    answer = ask(relay, body=named(events))
    if events < 4:
        assert (502, "api_error") == (answer.status_code, answer.json()["error"]["type"])
    elif events < 8:
        assert b"".join(EVENTS[:events]) in answer.content
        assert b"event: error\ndata: " in answer.content
        assert b"message_stop" not in answer.content
    else:
        assert answer.content.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


def test_counting_is_served(world) -> None:
    """By the upstream where it counts, otherwise by the relay, which says so; nothing is billed."""
    _, server, relay = world
    before = records(relay)
    beta: dict[str, Any] = {"anthropic-beta": "one"}
    answer = ask(relay, "/v1/messages/count_tokens?beta=true", **beta)
    assert {"input_tokens": 7} == answer.json()
    assert "/v1/messages/count_tokens?beta=true" == server.seen[-1].target
    other = ask(relay, "/v1/messages/count_tokens", BODY.replace(b'"claude"', b'"chat"'))
    assert 0 < other.json()["input_tokens"] < 100
    assert "input_tokens estimated" == other.headers["x-merino-adjusted"]
    assert before == records(relay)


def test_who_asks_and_who_is_refused(world) -> None:
    """Either header carries the key; what is wrong is told in this API's shape."""
    _, _, relay = world
    plain = BODY.replace(b',"stream":true', b"")
    bearer = httpx2.post(
        f"{relay.url}/v1/messages", content=plain, headers={"authorization": f"Bearer {relay.key}"}
    )
    assert 200 == bearer.status_code
    for body, headers, expected in (
        (plain, {"x-api-key": "mk-wrong"}, (401, "authentication_error")),
        (plain.replace(b'"claude"', b'"none"'), {}, (404, "not_found_error")),
        (plain.replace(b'"max_tokens"', b'"max"'), {}, (400, "invalid_request_error")),
    ):
        answer = ask(relay, body=body, **headers)
        assert expected == (answer.status_code, answer.json()["error"]["type"])
        assert answer.json()["request_id"]
    for path, words in (
        ("/v1/v1/messages", "without /v1"),
        ("/v1/messages/batches", "/v1/messages/count_tokens"),
    ):
        answer = ask(relay, path, plain)
        assert words in answer.json()["error"]["message"]


def test_a_used_up_cap_has_its_own_status(world) -> None:
    """402 is what clients of this API take for a bill to pay; they do not come back by
    themselves."""
    _, _, relay = world
    capped = relay.cli("keys", "create", "--name", "capped", "--spend-cap", "0")["key"]
    answer = ask(relay, **{"x-api-key": capped})
    assert (402, "billing_error") == (answer.status_code, answer.json()["error"]["type"])
    assert "false" == answer.headers["x-should-retry"]


def test_an_idempotent_message_is_paid_once(world) -> None:
    """The second answer is the first one, streamed or not."""
    _, server, relay = world
    before = len(server.seen)
    for body in (BODY, BODY.replace(b',"stream":true', b"")):
        name = f"once-{len(body)}"
        first, second = (ask(relay, body=body, **{"idempotency-key": name}) for _ in range(2))
        assert "true" == second.headers["x-merino-replayed"]
        assert [line for line in first.content.split(b"\n") if line[:1] != b":"] == [
            line for line in second.content.split(b"\n") if line[:1] != b":"
        ]
    assert 2 == len(server.seen) - before


def test_what_clients_look_for(world) -> None:
    """Whether anybody is there, and models in either API's form, page by page."""
    _, _, relay = world
    assert 200 == httpx2.head(f"{relay.url}/api/hello").status_code
    url, headers = f"{relay.url}/v1/models", {"x-api-key": relay.key}
    first = httpx2.get(f"{url}?limit=2", headers=headers).json()
    assert (2, True) == (len(first["data"]), first["has_more"])
    rest = httpx2.get(f"{url}?limit=1000&after_id={first['last_id']}", headers=headers).json()
    names = [each["id"] for each in first["data"] + rest["data"]]
    assert not rest["has_more"]
    openais = httpx2.get(url, headers={"authorization": f"Bearer {relay.key}"}).json()
    assert names == [each["id"] for each in openais["data"]]
    one = httpx2.get(f"{url}/claude", headers=headers).json()
    assert ("model", "claude") == (one["type"], one["display_name"])


def test_its_own_package(world) -> None:
    """The `anthropic` package, plain and streamed, with thinking; its errors are its own classes."""
    anthropic = pytest.importorskip("anthropic")
    _, _, relay = world
    client = anthropic.Anthropic(base_url=relay.url, api_key=relay.key, max_retries=0)
    asked = {"max_tokens": 500, "messages": [{"role": "user", "content": "hi"}]}
    thinking = {"type": "adaptive", "display": "summarized"}
    with client.messages.stream(model="simulated", thinking=thinking, **asked) as stream:
        texts = "".join(stream.text_stream)
        streamed = stream.get_final_message()
    assert ["thinking", "text"] == [block.type for block in streamed.content]
    assert texts == streamed.content[1].text
    whole = client.messages.create(model="simulated", thinking=thinking, **asked)
    assert (whole.content[1].text, whole.usage.output_tokens, "end_turn") == (
        texts, streamed.usage.output_tokens, streamed.stop_reason,
    )  # fmt: skip
    assert (
        0 < client.messages.count_tokens(model="simulated", messages=asked["messages"]).input_tokens
    )
    with pytest.raises(anthropic.NotFoundError, match="does not exist"):
        client.messages.create(model="nobody", **asked)
    assert "claude" in [each.id for each in client.models.list(limit=1000)]


def test_another_models_advice_is_paid_at_its_price(world) -> None:
    """Rounds beside the sums are on the bill, each at the price of who made them."""
    vendor, _, relay = world
    rounds = [
        {"type": "message", "input_tokens": 10, "output_tokens": 7},
        {"type": "advisor_message", "model": "claude-haiku-4-5", "input_tokens": 50,
         "output_tokens": 20},
    ]  # fmt: skip
    usage = {"input_tokens": 10, "output_tokens": 7, "iterations": rounds}
    body = json.dumps({**WHOLE, "usage": usage}).encode()
    vendor.told = Told(200, {"content-type": "application/json"}, [body])
    answer = ask(relay, body=BODY.replace(b',"stream":true', b""))
    cost = 10 * 5_000 + 7 * 25_000 + 50 * 1_000 + 20 * 5_000
    assert cost == round(float(answer.headers["x-merino-cost"]) * 1e9)
    record = records(relay)[0]
    assert (cost, 10, 7) == (
        record["charged_nanos"], record["input_tokens"], record["output_tokens"],
    )  # fmt: skip
    (other,) = json.loads(record["elsewhere"])["claude-haiku-4-5"]
    assert {"input_tokens": 50, "output_tokens": 20} == {k: n for k, n in other.items() if n}
