"""The rim of the `/v1` endpoints: whose body may be how large, what is no request, what happens with
a fault of ours, and what a draining relay says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.in_process import InProcess, LaneExchange, in_process

CHAT = "/v1/chat/completions"
BODY = {"model": "o3", "messages": [{"role": "user", "content": "Hi"}]}


CONFIG = """
[server]
body_bytes_max = 900_000
unauthenticated_body_bytes_max = 10_000
[[deployments]]
name = "fast"
provider = "simulator"
upstream_model = "o3-mini!output=4,reasoning=2"
[aliases.o3]
deployments = ["fast"]
"""


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("relay"), CONFIG) as relay:
        yield relay


@pytest.fixture
def own(tmp_path: Path) -> Iterator[InProcess]:
    """A relay whose state a test may spoil."""
    with in_process(tmp_path, CONFIG) as relay:
        yield relay


def exchange(target: str, method: str = "POST", **headers: str) -> LaneExchange:
    return LaneExchange(
        method, target, {name.replace("_", "-"): value for name, value in headers.items()}
    )


@pytest.mark.parametrize(
    ("target", "is_taken"),
    [
        ("/v1", True),
        ("/v1/", True),
        ("/v1?x", True),
        ("/v1/anything", True),
        ("/v1beta/models/m:generateContent", True),
        ("/v1beta/models", False),
        ("/v1/files", False),
        ("/v1/files/file-1/content", False),
        ("/v1/batches?limit=1", False),
        ("/v2", False),
        ("/livez", False),
        ("/dashboard", False),
    ],
)
def test_which_paths_the_lane_takes(relay: InProcess, target: str, is_taken: bool) -> None:
    """All under `/v1` but uploads and orders, and other vendors' wherever they begin with it."""
    assert is_taken == relay.relay.front.takes(target.encode())


@pytest.mark.parametrize("length", [9_999, 10_000, 10_001, 800_000])
@pytest.mark.parametrize(
    ("target", "header"),
    [(CHAT, "authorization"), ("/v1/messages", "x_api_key"), ("/v1/messages", "authorization")],
)
def test_only_who_has_a_key_may_send_much(
    relay: InProcess, length: int, target: str, header: str
) -> None:
    """Strangers could fill the memory; a small body is nobody's business."""
    front = relay.relay.front
    for secret, most in ((relay.key, 900_000), ("mk-none", 10_000), ("", 10_000)):
        given = f"Bearer {secret}" if header == "authorization" else secret
        asked = exchange(target, content_length=str(length), **{header: given})
        assert (10_000 if length <= 10_000 else most) == front.body_bytes_max(asked)
    assert 10_000 == front.body_bytes_max(exchange(target, content_length=str(length)))


def test_a_body_of_unknown_length_is_as_large_as_its_sender_may(relay: InProcess) -> None:
    """Chunked bodies have no length to look at."""
    front = relay.relay.front
    known = exchange(CHAT, authorization=f"Bearer {relay.key}")
    assert 900_000 == front.body_bytes_max(known)
    assert 10_000 == front.body_bytes_max(exchange(CHAT))


def test_whose_request_it_is(relay: InProcess) -> None:
    """The account of a good key; nobody's otherwise."""
    account = relay.admin.get("/accounts/default").json()["id"]
    front = relay.relay.front
    assert account == front.owner(exchange(CHAT, authorization=f"Bearer {relay.key}"))
    assert None is front.owner(exchange(CHAT, authorization="Bearer mk-none"))
    assert None is front.owner(exchange(CHAT))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "malformed_http"),
        (408, "request_timeout"),
        (413, "request_too_large"),
        (414, "malformed_http"),
        (431, "malformed_http"),
        (426, "upgrade_required"),
    ],
)
def test_what_is_no_request_is_refused_in_the_same_words(
    relay: InProcess, status: int, code: str
) -> None:
    """OpenAI's body under an id, counted like every refusal; an upgrade names the protocol."""
    head, body = relay.relay.front.malformed(status, "It is not HTTP.")
    error = json.loads(body)["error"]
    assert ("It is not HTTP.", code) == (error["message"], error["code"])
    assert b"x-request-id: req_" in head
    assert (status == 426) == (b"upgrade: HTTP/1.1\r\n" in head)
    metrics = relay.client().get("/metrics").text
    assert f'{{error_type="{code}",status="{status}"}}' in metrics


# -- faults of ours ---------------------------------------------------------------------------------


def broken(*_: Any) -> Any:
    raise ZeroDivisionError("secret words")


@pytest.mark.parametrize("target", ["/v1/models", "/v1/models/o3", "/v1/estimate", CHAT])
def test_a_fault_of_ours_is_500_and_logged(
    relay: InProcess, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """The caller learns nothing of it but its status; the log has it whole, and the next request is
    served."""
    front = relay.relay.front
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(type(front.pipeline.planner), "plan", broken)
        patch.setattr(type(front), "_model_object", broken)
        body = BODY if target in (CHAT, "/v1/estimate") else None
        answer = relay.ask(target, body)
    assert (500, "internal_error") == (answer.status, answer.error["code"])
    assert b"secret words" not in answer.body
    (logged,) = [each for each in logs if each["event"] == "call failed unexpectedly"]
    assert (target, "secret words") == (logged["target"], str(logged["exc_info"]))
    assert 200 == relay.ask("/v1/models/o3").status
    assert 0 == relay.admin.get("/accounts/default").json()["balance"]["held_nanos"]


def test_a_fault_after_the_head_cuts_the_answer(relay: InProcess) -> None:
    """A second head would be taken for content; a caller who left is told nothing."""
    front = relay.relay.front
    began = exchange(CHAT)
    began.start(200, b"", b"data: 1\n\n")
    front.failed(began, ZeroDivisionError())
    assert (True, [b"data: 1\n\n"]) == (began.was_cut, began.pieces)
    left = exchange(CHAT)
    left.hang_up()
    front.failed(left, ZeroDivisionError())
    assert (False, []) == (left.has_started, left.pieces)


# -- draining ---------------------------------------------------------------------------------------


def test_a_draining_relay_sends_callers_elsewhere(own: InProcess) -> None:
    """503 with when to come back, on every endpoint of both lanes; what is wrong anyway is still
    said to be."""
    own.relay.drain()
    for target, body in ((CHAT, BODY), ("/v1/models", None), ("/v1/estimate", BODY)):
        answer = own.ask(target, body)
        assert (503, "shutting_down") == (answer.status, answer.error["code"])
        assert "1" == answer.headers["retry-after"]
    assert 404 == own.ask("/v1/nothing").status
    assert 405 == own.ask(CHAT, method="GET").status
    caller = own.client(headers={"authorization": f"Bearer {own.key}"})
    for path in ("/v1/files", "/v1/batches"):
        refused = caller.get(path)
        assert (503, "1") == (refused.status_code, refused.headers["retry-after"])
    with own.client() as stranger:
        assert 401 == stranger.get("/v1/files").status_code
    assert 503 == own.client().get("/readyz").status_code
    assert 200 == own.client().get("/livez").status_code


# -- what a refused request leaves ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "body", "key", "status", "endpoint"),
    [
        (CHAT, {"messages": []}, None, 400, "chat/completions"),
        (CHAT, BODY | {"model": "none"}, None, 404, "chat/completions"),
        ("/v1/models/none", None, None, 404, "models"),
        ("/v1/nothing", None, None, 404, ""),
        (CHAT, BODY, "mk-none", 401, "chat/completions"),
        ("/v1/complete", BODY, None, 400, ""),
        ("/v1/messages", BODY, None, 400, "messages"),
    ],
)
def test_a_refused_request_leaves_a_record(
    relay: InProcess, target: str, body: Any, key: str | None, status: int, endpoint: str
) -> None:
    """Of whoever it was, under the id that the caller was told; made-up paths are in its words
    only."""
    answer = relay.ask(target, body, key=key)
    assert status == answer.status
    record = relay.admin.get(f"/calls/{answer.headers['x-request-id']}").json()
    assert (status, endpoint, 0) == (record["status"], record["endpoint"], record["charged_nanos"])
    assert bool(record["account_id"]) == (key is None)
    assert record["error_message"]


def test_asking_for_a_record_that_is_not_there_yet_leaves_none(relay: InProcess) -> None:
    """Whoever waits for one asks again and again."""
    before = len(relay.admin.get("/calls").json()["data"])
    assert 404 == relay.ask("/v1/calls/req_none").status
    assert before == len(relay.admin.get("/calls").json()["data"])


def test_a_disabled_keys_refusals_are_its_own(own: InProcess) -> None:
    """Its owner sees that somebody still uses it."""
    name = own.admin.get("/keys").json()["data"][0]["name"]
    own.cli("keys", "disable", name)
    answer = own.ask("/v1/models")
    assert (401, "key_disabled") == (answer.status, answer.error["code"])
    record = own.admin.get(f"/calls/{answer.headers['x-request-id']}").json()
    assert record["key_id"]
