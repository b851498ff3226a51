"""Calls without a connection of the lane: a page's, and those of batches. The pipeline is the same,
and so are its refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from tests.in_process import InProcess, in_process

from merino.api import page_calls
from merino.api.batch_calls import BatchCalls
from merino.api.page_calls import PageAnswer, PageCalls, _PageReply
from merino.domain.batch import Batch, ItemOutcome, ItemRef
from merino.domain.errors import AliasNotAllowed, InvalidCall, KeyRejected, NotFound
from merino.domain.key import VirtualKey
from merino.settings.sections.batches import BatchesSettings

CONFIG = """
[[deployments]]
name = "fast"
provider = "simulator"
upstream_model = "o3-mini!output=4,reasoning=2"
[[deployments]]
name = "long"
provider = "simulator"
upstream_model = "o3-mini!output=400,reasoning=0"
[[deployments]]
name = "busy"
provider = "simulator"
upstream_model = "o3-mini!status=429,retry_after=9s"
[[deployments]]
name = "throttled"
provider = "simulator"
upstream_model = "o3-mini!status=429,retry_after=9s"
[[deployments]]
name = "wrong"
provider = "simulator"
upstream_model = "o3-mini!status=400"
[[deployments]]
name = "breaking"
provider = "simulator"
upstream_model = "o3-mini!output=6,reasoning=0,error_after=2"
[aliases.o3]
deployments = ["fast"]
[aliases.long]
deployments = ["long"]
[aliases.busy]
deployments = ["busy"]
[aliases.throttled]
deployments = ["throttled"]
[aliases.wrong]
deployments = ["wrong"]
[aliases.breaking]
deployments = ["breaking"]
[retries]
attempts_max = 1
"""


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("relay"), CONFIG) as relay:
        yield relay


@pytest.fixture
def key(relay: InProcess) -> VirtualKey:
    return min(relay.store.keys.list(), key=lambda each: each.created_at_ms)


def body(model: str = "o3", **more: Any) -> bytes:
    messages = [{"role": "user", "content": "Hi"}]
    return json.dumps({"model": model, "messages": messages} | more).encode()


def record_of(relay: InProcess, call_id: str) -> dict[str, Any]:
    return relay.ask(f"/v1/calls/{call_id}").json()


# -- pages ------------------------------------------------------------------------------------------


async def whole(calls: PageCalls, key: VirtualKey, sent: bytes) -> tuple[PageAnswer, bytes]:
    answer = await calls(key, sent)
    return answer, b"".join([piece async for piece in answer.pieces])


def pages(relay: InProcess) -> PageCalls:
    data = relay.relay.data_plane
    return PageCalls(data.pipeline, data.gatekeeper, lambda: relay.relay.front.aliases)


def test_a_pages_call_is_billed_as_any(relay: InProcess, key: VirtualKey) -> None:
    """Its answer is JSON under an id whose record says what it cost."""
    before = relay.balance_nanos()
    answer, content = relay.run(whole(pages(relay), key, body()))
    assert (200, "application/json") == (answer.status, answer.headers["content-type"])
    assert "chat.completion" == json.loads(content)["object"]
    record = record_of(relay, answer.headers["x-request-id"])
    assert before - relay.balance_nanos() == record["cost_nanos"] > 0


def test_a_pages_stream_ends_with_its_cost(relay: InProcess, key: VirtualKey) -> None:
    """Events, the cost in a comment, and the end."""
    answer, content = relay.run(whole(pages(relay), key, body(stream=True)))
    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
    record = record_of(relay, answer.headers["x-request-id"])
    assert f": x-merino-cost: {record['cost']}\n" in content.decode()
    assert content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("model", "status", "header"),
    [("busy", 429, ("retry-after", "9")), ("wrong", 400, ("content-type", "application/json"))],
)
def test_a_refusal_reaches_the_page(
    relay: InProcess, key: VirtualKey, model: str, status: int, header: tuple[str, str]
) -> None:
    """With its status, its headers and OpenAI's body."""
    answer, content = relay.run(whole(pages(relay), key, body(model, stream=status == 400)))
    assert status == answer.status
    assert header[1] == answer.headers[header[0]]
    assert {"message", "type", "param", "code"} == set(json.loads(content)["error"])


def test_a_pages_stream_that_fails_ends_with_the_error(relay: InProcess, key: VirtualKey) -> None:
    """The last event says why, and no `[DONE]` follows."""
    answer, content = relay.run(whole(pages(relay), key, body("breaking", stream=True)))
    assert 200 == answer.status
    assert b"[DONE]" not in content
    assert b'"error"' in content.rstrip().rpartition(b"\n\n")[2]


def test_a_page_that_leaves_ends_its_call(relay: InProcess, key: VirtualKey) -> None:
    """The upstream is asked no more, what was made is billed, and nothing stays held."""

    async def left() -> str:
        calls = pages(relay)
        answer = await calls(key, body("long", stream=True))
        pieces = cast("AsyncGenerator[bytes]", answer.pieces)
        await anext(pieces)
        await pieces.aclose()
        await asyncio.gather(*calls._tasks)
        return answer.headers["x-request-id"]

    record = record_of(relay, relay.run(left()))
    assert record["usage"]["output_tokens"] <= 400
    assert 0 == relay.admin.get("/accounts/default").json()["balance"]["held_nanos"]


def test_a_slow_page_holds_the_upstream_back() -> None:
    """It is told to wait when as many pieces wait as fit, and to go on with the first that is
    read; a page that leaves hangs up and gets nothing more."""

    async def scenario() -> None:
        said: list[object] = []
        reply = _PageReply()
        reply.watch(lambda: said.append("left"), said.append)
        for number in range(page_calls._PIECES_MAX):
            assert reply.is_writable
            reply.send(b"%d" % number)
        assert (False, [False]) == (reply.is_writable, said)
        pieces = cast("AsyncGenerator[bytes]", reply.read())
        assert [b"0", b"1"] == [await anext(pieces), await anext(pieces)]
        assert (True, [False, True]) == (reply.is_writable, said)
        await pieces.aclose()
        reply.send(b"late")
        assert [False, True, "left"] == said
        assert page_calls._PIECES_MAX - 2 == reply.pieces.qsize()

    asyncio.run(scenario())


def test_a_page_may_ask_one_deployment_alone(relay: InProcess, key: VirtualKey) -> None:
    """Whatever the model is called: the page that tries a deployment."""
    only = relay.relay.live.offer.catalog.deployments[0]
    answer = relay.run(pages(relay)(key, body("no-alias-of-ours"), only))
    assert 200 == answer.status
    assert only.name == record_of(relay, answer.headers["x-request-id"])["deployment"]


def test_a_page_is_refused_before_it_is_a_call(relay: InProcess, key: VirtualKey) -> None:
    """A key that is off, a model that is not there, a body that is none."""
    for error, used, sent in (
        (KeyRejected, replace(key, disabled=True), body()),
        (AliasNotAllowed, key, body("none")),
        (AliasNotAllowed, replace(key, aliases=("long",)), body("o3")),
        (InvalidCall, key, b"{"),
    ):
        with pytest.raises(error):
            relay.run(pages(relay)(used, sent))


# -- batches ----------------------------------------------------------------------------------------

BATCH = Batch(
    id="batch_1",
    account_id="",
    key_id="",
    endpoint="chat/completions",
    input_file_id="file-1",
    status="in_progress",
    created_at_ms=0,
    expires_at_ms=2**50,
)


def batch_calls(relay: InProcess) -> BatchCalls:
    data = relay.relay.data_plane
    find = relay.store.keys.get
    return BatchCalls(data.pipeline, data.gatekeeper, find, lambda: relay.relay.front.aliases)


def outcome_of(
    relay: InProcess, key: VirtualKey, line: bytes, calls: BatchCalls | None = None
) -> ItemOutcome:
    batch = replace(
        BATCH, account_id=key.account_id, key_id=key.id, endpoint="/v1/chat/completions"
    )
    return relay.run((calls or batch_calls(relay))(batch, ItemRef("batch_1", 0), line))


def line(model: str = "o3", **more: Any) -> bytes:
    return b'{"custom_id":"a","body":' + body(model, **more) + b"}"


def test_an_item_is_answered_and_kept_with_its_settlement(
    relay: InProcess, key: VirtualKey
) -> None:
    """It needs no second write, and its call is billed."""
    done = outcome_of(relay, key, line())
    assert (200, True, False) == (done.status, done.is_kept, done.may_retry)
    assert "chat.completion" == json.loads(done.body)["object"]
    assert record_of(relay, done.call_id)["cost_nanos"] > 0


def test_a_discount_is_of_the_price(relay: InProcess, key: VirtualKey) -> None:
    """Half the price for the same tokens, to the nano-unit, rounded up at most."""
    full = record_of(relay, outcome_of(relay, key, line()).call_id)["cost_nanos"]
    calls = batch_calls(relay)
    calls.configure(BatchesSettings(discount=0.5))
    half = record_of(relay, outcome_of(relay, key, line(), calls).call_id)["cost_nanos"]
    assert half in (full // 2, full // 2 + 1)


@pytest.mark.parametrize(
    ("sent", "status", "may_retry", "after_s"),
    [
        (line("throttled"), 429, True, 9.0),
        (line("wrong"), 400, False, None),
        (line("none"), 404, False, None),
        (b'{"custom_id":"a","body":{"model":"o3"}}', 400, False, None),
        (b'{"custom_id":"a","body":[]}', 400, False, None),
    ],
)
def test_an_item_that_fails_has_the_answer_a_caller_would_get(
    relay: InProcess,
    key: VirtualKey,
    sent: bytes,
    status: int,
    may_retry: bool,
    after_s: float | None,
) -> None:
    """Status and body, whether to try again, and when."""
    done = outcome_of(relay, key, sent)
    assert (status, may_retry, after_s) == (done.status, done.may_retry, done.retry_after_s)
    assert {"message", "type", "param", "code"} == set(json.loads(done.body)["error"])
    assert not done.is_kept
    assert done.call_id.startswith("req_")


def test_an_item_of_a_key_that_is_gone_or_off_fails(relay: InProcess, key: VirtualKey) -> None:
    """The order outlives its key; its calls do not."""

    def find(key_id: str) -> VirtualKey:
        if key_id == "gone":
            raise NotFound("no key")
        return replace(key, disabled=True)

    data = relay.relay.data_plane
    calls = BatchCalls(data.pipeline, data.gatekeeper, find, lambda: relay.relay.front.aliases)
    for name, status, code in (("gone", 404, "key_not_found"), ("off", 401, "key_disabled")):
        done = outcome_of(relay, replace(key, id=name), line(), calls)
        assert (status, code) == (done.status, json.loads(done.body)["error"]["code"])
        assert not done.may_retry


def test_a_disabled_account_makes_no_calls(relay: InProcess) -> None:
    """By no way: a caller's, a page's or a batch's; enabled again, it does."""
    relay.cli("accounts", "create", "--name", "shut")
    relay.cli("accounts", "credit", "shut", "5")
    made = relay.cli("keys", "create", "--name", "shut", "--account", "shut")
    key = relay.store.keys.get(made["id"])
    relay.cli("accounts", "update", "shut", "--disable")
    answer = relay.ask("/v1/models", key=made["key"])
    assert (401, "account_disabled") == (answer.status, answer.error["code"])
    with pytest.raises(KeyRejected, match=r"account of key 'shut'.* is disabled"):
        relay.run(whole(pages(relay), key, body()))
    done = outcome_of(relay, key, line())
    assert (401, "account_disabled") == (done.status, json.loads(done.body)["error"]["code"])
    relay.cli("accounts", "update", "shut", "--enable")
    assert 200 == outcome_of(relay, key, line()).status


def test_an_item_without_credit_may_be_tried_again(relay: InProcess, key: VirtualKey) -> None:
    """Credit may be given before its tries are used up; a limit of ours only puts it off."""
    relay.cli("accounts", "create", "--name", "poor")
    poor = relay.cli("keys", "create", "--name", "poor", "--account", "poor")["id"]
    done = outcome_of(relay, relay.store.keys.get(poor), line())
    assert (429, True, False) == (done.status, done.may_retry, done.is_put_off)
    relay.cli("accounts", "credit", "poor", "5")
    relay.cli("keys", "update", "poor", "--rpm", "1")
    limited = relay.store.keys.get(poor)
    assert 200 == outcome_of(relay, limited, line()).status
    done = outcome_of(relay, limited, line())
    assert (429, True, True) == (done.status, done.may_retry, done.is_put_off)
    assert done.retry_after_s is not None
