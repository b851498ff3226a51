"""What callers get of a call: heads, bodies, events, and how a stream that fails ends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.in_process import InProcess, LaneExchange, in_process

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
MESSAGES = [{"role": "user", "content": "Hi"}]
CONFIG = """
[[deployments]]
name = "fast"
provider = "simulator"
upstream_model = "o3-mini!output=4,reasoning=2"
[[deployments]]
name = "refusing"
provider = "simulator"
upstream_model = "o3-mini!status=503,retry_after=120ms"
[[deployments]]
name = "breaking"
provider = "simulator"
upstream_model = "o3-mini!output=6,reasoning=0,error_after=2"
[[deployments]]
name = "cut"
provider = "simulator"
upstream_model = "o3-mini!output=6,reasoning=0,cut_after=2"
[[deployments]]
name = "wordless"
provider = "simulator"
upstream_model = "o3-mini!error_in_stream"
[[deployments]]
name = "long"
provider = "simulator"
upstream_model = "o3-mini!output=60,reasoning=0,tps=3000"
[aliases.o3]
deployments = ["fast"]
[aliases.long]
deployments = ["long"]
[aliases.second]
deployments = ["refusing", "fast"]
[aliases.late]
deployments = ["wordless", "fast"]
[aliases.refusing]
deployments = ["refusing"]
[aliases.breaking]
deployments = ["breaking"]
[aliases.cut]
deployments = ["cut"]
[retries]
attempts_max = 2
backoff_base_s = 0.001
"""


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("relay"), CONFIG) as relay:
        yield relay


def chat(relay: InProcess, model: str, **more: Any) -> LaneExchange:
    headers, hangs_up_after = more.pop("headers", None), more.pop("hangs_up_after", None)
    body = {"model": model, "messages": MESSAGES} | more
    return relay.exchanged(CHAT, body, headers=headers, hangs_up_after=hangs_up_after)


def stream(relay: InProcess, model: str, **more: Any) -> LaneExchange:
    return chat(relay, model, stream=True, **more)


def parts(body: bytes) -> list[bytes]:
    """Events and comments, each proven to be framed as one."""
    assert body.endswith(b"\n\n"), body[-80:]
    found = body[:-2].split(b"\n\n")
    for each in found:
        for line in each.split(b"\n"):
            assert line.startswith((b"data: ", b": ", b"event: ")), line
    return found


def comments(body: bytes) -> list[str]:
    return re.findall(r"^: (x-merino-.*)$", body.decode(), re.MULTILINE)


# -- whole answers ----------------------------------------------------------------------------------


def test_the_head_of_an_answer_says_who_what_and_how_long(relay: InProcess) -> None:
    """Which call, which deployment, that nothing of it is real, what it cost, who counted; its
    times stand in both forms alike."""
    answer = chat(relay, "o3").answered
    head = answer.headers
    assert 200 == answer.status
    assert ("fast", "true") == (head["x-merino-deployment"], head["x-merino-simulated"])
    assert "reported" == head["x-merino-usage-source"]
    assert "application/json" == head["content-type"]
    assert "x-merino-attempts" not in head
    timing = re.fullmatch(
        r"queue;dur=([\d.]+), relay;dur=([\d.]+), upstream;dur=([\d.]+)", head["server-timing"]
    )
    assert timing is not None
    assert (
        "queue={}, relay={}, upstream={}".format(*timing.groups()) == head["x-merino-overhead-ms"]
    )


def test_every_attempt_stands_in_the_head(relay: InProcess) -> None:
    """Those that failed with their status and time, and the one that answered."""
    answer = chat(relay, "second").answered
    assert 200 == answer.status
    attempts = r"refusing;503;\d+ms, fast;200"
    assert re.fullmatch(attempts, answer.headers["x-merino-attempts"])
    assert "fast" == answer.headers["x-merino-deployment"]


def test_a_refusal_has_a_head_too(relay: InProcess) -> None:
    """The vendor's status and words, when to come back, rounded up, and all attempts."""
    answer = chat(relay, "refusing").answered
    assert 503 == answer.status
    assert ("1", "120") == (answer.headers["retry-after"], answer.headers["retry-after-ms"])
    assert answer.headers["x-merino-attempts"].startswith("refusing;503;")
    assert {"message", "type", "param", "code"} == set(answer.error)
    record = relay.ask(f"/v1/calls/{answer.headers['x-request-id']}").json()
    assert (503, 0, "voided") == (record["status"], record["cost_nanos"], record["resolution"])


def test_what_was_changed_in_the_request_is_told(relay: InProcess) -> None:
    """The caller's own bound on the cost lowers the output, and the head says so."""
    dear = relay.ask("/v1/estimate", {"model": "o3", "messages": MESSAGES}).json()
    bound = dear["worst_case_nanos"] / 2e9
    answer = chat(relay, "o3", headers={"x-merino-max-cost": f"{bound:.9f}"}).answered
    assert 200 == answer.status, answer.body
    told = r"max_completion_tokens=\d+ \(x-merino-max-cost\)"
    assert re.search(told, answer.headers["x-merino-adjusted"])
    refused = chat(relay, "o3", headers={"x-merino-max-cost": "0.000000001"}).answered
    assert (400, "max_cost_exceeded") == (refused.status, refused.error["code"])
    assert "false" == refused.headers["x-should-retry"]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_repeat_gets_the_first_answer_and_its_head(relay: InProcess, is_streamed: bool) -> None:
    """The same events or body, under the first call's id, with the cost it was charged, once."""
    name = {"idempotency-key": f"first {is_streamed}"}
    first = chat(relay, "o3", stream=is_streamed, headers=name).answered
    before = relay.balance_nanos()
    again = chat(relay, "o3", stream=is_streamed, headers=name).answered
    assert before == relay.balance_nanos()
    assert first.headers["x-request-id"] == again.headers["x-request-id"]
    assert "true" == again.headers["x-merino-replayed"]
    record = relay.ask(f"/v1/calls/{first.headers['x-request-id']}").json()
    assert record["cost"] == again.headers["x-merino-cost"]
    # A stream's own comments are none of the answer.
    comment = re.compile(rb"^: .*\n", re.MULTILINE)
    assert comment.sub(b"", first.body) == comment.sub(b"", again.body)
    other = chat(relay, "o3", stream=is_streamed, seed=5, headers=name).answered
    assert (422, "idempotency_key_reused") == (other.status, other.error["code"])
    assert "false" == other.headers["x-should-retry"]


# -- streams ----------------------------------------------------------------------------------------


def test_a_stream_is_framed_as_events(relay: InProcess) -> None:
    """Its head forbids caching and buffering; every event is JSON but the last, before which the
    cost stands as a comment."""
    answer = stream(relay, "o3").answered
    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
    assert "no-cache" == answer.headers["cache-control"]
    assert "no" == answer.headers["x-accel-buffering"]
    assert "x-merino-cost" not in answer.headers  # not known yet
    *before, last = parts(answer.body)
    assert last.endswith(b"data: [DONE]")
    for each in before:
        if each.startswith(b"data: "):
            assert "chat.completion.chunk" == json.loads(each[6:])["object"]
    record = relay.ask(f"/v1/calls/{answer.headers['x-request-id']}").json()
    assert [f"x-merino-cost: {record['cost']}"] == comments(answer.body)
    assert record["cost_nanos"] > 0


def test_usage_is_passed_on_if_it_was_asked_for(relay: InProcess) -> None:
    """The upstream is always asked for it; the caller gets its event only by wish."""
    plain = stream(relay, "o3").answered.body
    asked = stream(relay, "o3", stream_options={"include_usage": True}).answered.body
    assert b'"completion_tokens"' not in plain
    assert b'"completion_tokens"' in asked


def test_another_deployment_that_takes_over_is_named_at_the_end(relay: InProcess) -> None:
    """Its head was out when the first one failed without a word of the answer."""
    answer = stream(relay, "late").answered
    assert 200 == answer.status
    assert answer.body.endswith(b"data: [DONE]\n\n")
    said = [answer.headers["x-merino-deployment"], *comments(answer.body)]
    assert any("fast" in each for each in said), said
    record = relay.ask(f"/v1/calls/{answer.headers['x-request-id']}").json()
    assert "fast" == record["deployment"]


@pytest.mark.parametrize("model", ["breaking", "cut"])
def test_a_chat_stream_that_fails_is_cut_after_its_error(relay: InProcess, model: str) -> None:
    """The status is out: an event every package raises on, no `[DONE]`, and no proper end, so that
    nobody takes it for whole. What was delivered is billed."""
    answer = stream(relay, model).answered
    assert (200, True) == (answer.status, answer.was_cut)
    assert b"[DONE]" not in answer.body
    last = parts(answer.body)[-1]
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    record = relay.ask(f"/v1/calls/{answer.headers['x-request-id']}").json()
    assert "settled" == record["resolution"]
    assert record["cost_nanos"] > 0


@pytest.mark.parametrize("model", ["breaking", "cut"])
def test_a_responses_stream_that_fails_ends_with_its_own_event(
    relay: InProcess, model: str
) -> None:
    """That dialect has an end for failures: it is sent, and the connection goes on."""
    answer = relay.ask(RESPONSES, {"model": model, "input": "Hi", "stream": True})
    assert (200, False) == (answer.status, answer.was_cut)
    events = [each.split(b"\n")[-1] for each in parts(answer.body)]
    kinds = [json.loads(each[6:])["type"] for each in events if each.startswith(b"data: ")]
    assert "response.created" == kinds[0]
    assert kinds[-1] in ("response.failed", "error"), kinds


def test_before_the_first_event_a_failure_has_its_status(relay: InProcess) -> None:
    """A stream that never began is refused as any call is."""
    answer = stream(relay, "refusing").answered
    assert (503, False) == (answer.status, answer.was_cut)
    assert "application/json" == answer.headers["content-type"]
    assert answer.error["message"]


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_whoever_leaves_a_stream_pays_what_they_got(relay: InProcess, pieces: int) -> None:
    """Nothing is written to them any more, and the record says that they left."""
    before = relay.balance_nanos()
    exchange = stream(relay, "long", hangs_up_after=pieces)
    head = exchange.answered.headers
    record = relay.ask(f"/v1/calls/{head['x-request-id']}").json()
    assert not exchange.was_cut
    assert b"[DONE]" not in b"".join(exchange.pieces)
    assert before - relay.balance_nanos() == record["cost_nanos"]


def test_whoever_left_before_it_began_is_told_nothing(relay: InProcess) -> None:
    """No answer is written to a connection that is gone, and the hold is given back."""
    before = relay.balance_nanos()
    exchange = LaneExchange(
        "POST",
        CHAT,
        {"authorization": f"Bearer {relay.key}"},
        json.dumps({"model": "o3", "messages": MESSAGES}).encode(),
    )
    exchange.hang_up()
    relay.run(exchange.served_by(relay.relay.front))
    assert [] == exchange.pieces
    account = relay.admin.get("/accounts/default").json()["balance"]
    assert 0 == account["held_nanos"]
    assert account["posted_nanos"] <= before
