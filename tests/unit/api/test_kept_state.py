"""What answered calls of the Responses API leave behind, at an upstream or with the relay: read,
ended and deleted by the account that made it, and by nobody else."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import Any

import msgspec
import pytest
from openai.types.conversations import Conversation, ConversationItemList
from openai.types.responses import CompactedResponse, Response, ResponseItemList
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from tests.in_process import InProcess, LaneExchange
from tests.unit.gateway.test_pipeline import FakeReply, Journal

from merino.gateway.state import is_telling
from merino.wire.responses import RESPONSES
from merino.wire.served import BATCH_PATHS

MODELS = """
[[deployments]]
name = "native"
provider = "simulator"
upstream_model = "o3-mini!output=4,reasoning=2"
[[deployments]]
name = "chatty"
provider = "simulator"
upstream_model = "o3-mini!output=4,reasoning=2,no_responses"
endpoints = ["chat/completions"]
[[deployments]]
name = "slow"
provider = "simulator"
upstream_model = "o3-mini!output=30,reasoning=2,tps=60"
[[deployments]]
name = "endless"
provider = "simulator"
upstream_model = "o3-mini!output=60,reasoning=2,tps=5"
[aliases.native]
deployments = ["native"]
[aliases.chatty]
deployments = ["chatty"]
[aliases.slow]
deployments = ["slow"]
[aliases.endless]
deployments = ["endless"]
"""
NUMBERS = count()
RELAY_KEEPS = '[responses]\nstore = "relay"\n'


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    relay = InProcess(tmp_path_factory.mktemp("native"), MODELS)
    yield relay
    relay.close()


@pytest.fixture(scope="module")
def keeping(tmp_path_factory):
    relay = InProcess(tmp_path_factory.mktemp("keeping"), RELAY_KEEPS + MODELS)
    yield relay
    relay.close()


def stranger(relay: InProcess) -> str:
    """A key of another account."""
    account = relay.admin.post("/accounts", json={"name": f"other-{next(NUMBERS)}"}).json()
    relay.admin.post(f"/accounts/{account['id']}/credit", json={"amount": "5", "memo": "test"})
    terms = {"account": account["id"], "name": f"theirs-{next(NUMBERS)}"}
    made = relay.admin.post("/keys", json=terms).json()
    return made["key"]


def respond(relay: InProcess, model: str, given: Any = "Hi", **more: Any) -> dict[str, Any]:
    answer = relay.ask("/v1/responses", {"model": model, "input": given, **more})
    assert 200 == answer.status, answer.body
    return answer.json()


def texts(items: list[dict[str, Any]]) -> list[str]:
    return [part["text"] for item in items for part in item.get("content") or [] if "text" in part]


@pytest.mark.parametrize("model", ["native", "chatty"])
@pytest.mark.parametrize("keeper", ["native", "keeping"])
def test_a_kept_response_is_read_listed_and_deleted(keeper, model, request) -> None:
    """Wherever it is kept, the object is the one that was answered; nothing of it is billed; and
    what was deleted is gone."""
    if (keeper, model) == ("native", "chatty"):
        pytest.skip("a chat keeps nothing")
    relay: InProcess = request.getfixturevalue(keeper)
    made = respond(relay, model, "Hello there")
    before = relay.balance_nanos()
    path = f"/v1/responses/{made['id']}"
    found = relay.ask(path)
    assert made == found.json()
    Response.model_validate_json(found.body, strict=True)
    items = relay.ask(f"{path}/input_items?order=asc&limit=5")
    ResponseItemList.model_validate_json(items.body, strict=True)
    assert ["Hello there"] == texts(items.json()["data"])
    assert 400 == relay.ask(f"{path}/cancel", {}).status
    gone = relay.ask(path, method="DELETE")
    assert {"id": made["id"], "object": "response", "deleted": True} == gone.json()
    assert [404, 404, 404] == [
        relay.ask(path).status,
        relay.ask(path, method="DELETE").status,
        relay.ask(f"{path}/input_items").status,
    ]
    assert before == relay.balance_nanos()


@pytest.mark.parametrize("keeper", ["native", "keeping"])
def test_another_accounts_ids_are_unknown(keeper, request) -> None:
    """Ids of responses and conversations are as unknown to another account as any others, in the
    API's own words, whatever it asks."""
    relay: InProcess = request.getfixturevalue(keeper)
    theirs = stranger(relay)
    made = respond(relay, "native")["id"]
    talk = relay.ask("/v1/conversations", {}).json()["id"]
    asked = [
        ("GET", f"/v1/responses/{made}", None),
        ("GET", f"/v1/responses/{made}/input_items", None),
        ("POST", f"/v1/responses/{made}/cancel", b""),
        ("DELETE", f"/v1/responses/{made}", None),
        ("GET", f"/v1/conversations/{talk}", None),
        ("DELETE", f"/v1/conversations/{talk}", None),
        ("GET", f"/v1/conversations/{talk}/items", None),
        ("POST", "/v1/responses", {"model": "native", "input": "a", "previous_response_id": made}),
        ("POST", "/v1/responses", {"model": "native", "input": "a", "conversation": talk}),
    ]
    for method, path, body in asked:
        answer = relay.ask(path, body, method=method, key=theirs)
        assert 404 == answer.status, (method, path)
        assert "not found" in answer.error["message"]
        assert "invalid_request_error" == answer.error["type"]
    assert 200 == relay.ask(f"/v1/responses/{made}").status
    assert 200 == relay.ask(f"/v1/conversations/{talk}").status


def test_an_upstreams_conversation_may_have_an_id_again(tmp_path) -> None:
    """One that was started anew begins to count anew: the id leads to what it made last."""
    relay = InProcess(tmp_path, MODELS)
    made = relay.ask("/v1/conversations", {}).json()["id"]
    relay.restart()
    answer = relay.ask("/v1/conversations", {})
    assert (200, made) == (answer.status, answer.json()["id"])
    assert 200 == relay.ask(f"/v1/conversations/{made}").status
    relay.close()


def test_a_key_sees_only_responses_of_models_that_it_may_call(native, keeping) -> None:
    """A key that may not call a model does not learn of responses made with it."""
    for relay in (native, keeping):
        made = relay.admin.post(
            "/keys",
            json={"account": "default", "name": f"slow-{next(NUMBERS)}", "aliases": ["slow"]},
        ).json()
        found = respond(relay, "native")["id"]
        assert 404 == relay.ask(f"/v1/responses/{found}", key=made["key"]).status


def test_lookups_are_requests_but_no_calls(native) -> None:
    """A look-up takes one of the requests a minute that a key has, and no place among the calls in
    flight; beyond that it is refused with a time to come back."""
    made = native.admin.post(
        "/keys", json={"account": "default", "name": "few", "rpm": 3, "concurrency": 1}
    ).json()
    path = f"/v1/responses/{respond(native, 'native')['id']}"
    asked = [native.ask(path, key=made["key"]) for _ in range(4)]
    assert [200, 200, 200, 429] == [each.status for each in asked]
    assert "requests per minute of key 'few'" in asked[-1].error["message"]
    assert int(asked[-1].headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/v1/responses/a/b/c/d", "GET", 404),
        ("/v1/responses/", "GET", 404),
        ("/v1/responses/a/other", "GET", 404),
        ("/v1/responses/a", "PUT", 405),
        ("/v1/responses/a/cancel", "GET", 405),
        ("/v1/conversations/a/items/b", "POST", 405),
        ("/v1/responses/%FF", "GET", 404),
        (f"/v1/responses/{'a' * 600}", "GET", 404),
    ],
)
def test_paths_that_are_none(native, path, method, status) -> None:
    """What is no path of this API is told as such, and the wrong method with the right ones."""
    answer = native.ask(path, method=method)
    assert status == answer.status
    assert (status == 405) == ("allow" in answer.headers)


def test_input_tokens_are_counted_by_an_upstream_or_not_at_all(native) -> None:
    """An upstream's count passes and costs nothing; where none counts, the refusal says what there
    is instead: an estimate is never passed off as a count."""
    before = native.balance_nanos()
    counted = native.ask("/v1/responses/input_tokens", {"model": "native", "input": "one two"})
    InputTokenCountResponse.model_validate_json(counted.body, strict=True)
    refused = native.ask("/v1/responses/input_tokens", {"model": "chatty", "input": "one two"})
    assert 400 == refused.status
    assert "endpoint_not_supported" == refused.error["code"]
    assert before == native.balance_nanos()


def test_a_compaction_is_billed_as_a_call(native, keeping) -> None:
    """Its usage is booked, also when what it makes short lies with the relay."""
    for relay in (native, keeping):
        previous = respond(relay, "native", "A long story")["id"]
        body = {"model": "native", "previous_response_id": previous}
        answer = relay.ask("/v1/responses/compact", body)
        assert 200 == answer.status, answer.body
        CompactedResponse.model_validate_json(answer.body, strict=True)
        record = relay.ask(f"/v1/calls/{answer.headers['x-request-id']}").json()
        assert "responses/compact" == record["endpoint"]
        assert record["cost_nanos"] > 0
        assert answer.json()["usage"]["input_tokens"] == record["usage"]["input_tokens"]


@pytest.mark.parametrize("model", ["native", "chatty"])
def test_a_call_goes_on_from_what_the_relay_keeps(keeping, model) -> None:
    """The whole conversation is its input, and is billed and held for as such, whichever deployment
    answers it; the object tells what it went on from."""
    first = respond(keeping, "native", "My name is Ada, and I like long walks by the sea.")
    second = respond(keeping, model, "Who am I?", previous_response_id=first["id"])
    assert first["id"] == second["previous_response_id"]
    assert second["store"] is True
    grown = second["usage"]["input_tokens"] - first["usage"]["input_tokens"]
    assert (
        grown
        > first["usage"]["output_tokens"]
        - first["usage"]["output_tokens_details"]["reasoning_tokens"]
    )
    third = respond(keeping, "native", "And now?", previous_response_id=second["id"])
    assert third["usage"]["input_tokens"] > second["usage"]["input_tokens"]
    items = keeping.ask(f"/v1/responses/{third['id']}/input_items").json()["data"]
    assert ["And now?"] == texts(items)


def test_a_stream_is_kept_as_it_was_told(keeping) -> None:
    """Streamed, the created and the completed response tell the same as what is asked for later;
    the pieces in between are untouched."""
    body = {"model": "native", "input": "Hi", "stream": True}
    answer = keeping.ask("/v1/responses", body)
    events = [
        json.loads(line.removeprefix(b"data: "))
        for line in answer.body.splitlines()
        if line.startswith(b"data: {")
    ]
    assert [True, True] == [events[0]["response"]["store"], events[-1]["response"]["store"]]
    made = events[-1]["response"]
    assert made == keeping.ask(f"/v1/responses/{made['id']}").json()
    again = keeping.ask(f"/v1/responses/{made['id']}?stream=true")
    assert b"event: response.created" in again.body
    assert json.dumps(made["output"][-1]["content"][0]["text"]).encode() in again.body


def test_what_is_not_to_be_kept_is_not(keeping) -> None:
    """With `store` false nothing is kept, and the object says so."""
    made = respond(keeping, "native", store=False)
    assert made["store"] is False
    assert 404 == keeping.ask(f"/v1/responses/{made['id']}").status


def test_a_broken_chain_names_what_is_missing(keeping) -> None:
    """After an earlier response was deleted, going on from a later one is refused by its name."""
    first = respond(keeping, "native")["id"]
    second = respond(keeping, "native", previous_response_id=first)["id"]
    keeping.ask(f"/v1/responses/{first}", method="DELETE")
    body = {"model": "native", "input": "a", "previous_response_id": second}
    answer = keeping.ask("/v1/responses", body)
    assert 404 == answer.status
    assert "previous_response_not_found" == answer.error["code"]
    assert first in answer.error["message"]


def test_items_can_be_named_by_their_ids(keeping) -> None:
    """A reference is replaced by the item that it names, also for a model that has no state at
    all."""
    first = respond(keeping, "native", "Remember the sea.")
    said = first["output"][-1]["id"]
    plain = respond(keeping, "chatty", [{"role": "user", "content": "And?"}])
    more = [{"type": "item_reference", "id": said}, {"role": "user", "content": "And?"}]
    named = respond(keeping, "chatty", more)
    assert named["usage"]["input_tokens"] > plain["usage"]["input_tokens"]


@pytest.mark.parametrize(
    ("item", "goes"),
    [
        ({"type": "reasoning", "id": "rs_1", "summary": [{"text": "a"}]}, False),
        ({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None}, False),
        ({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"}, True),
        ({"type": "reasoning", "content": [{"type": "reasoning_text", "text": "a"}]}, True),
        ({"type": "message", "role": "user", "content": "a"}, True),
        ({"role": "user", "content": "a"}, True),
    ],
)
def test_thinking_goes_back_only_as_what_can_be_read(item, goes) -> None:
    """A summary alone is refused by upstreams that have not kept what it is of."""
    assert goes == is_telling(msgspec.Raw(json.dumps(item).encode()))


def test_a_chat_that_keeps_nothing_says_what_to_switch_on(native) -> None:
    """Without the relay's keeping, a response through a chat says `store: false`; going on from it
    names the setting."""
    made = respond(native, "chatty")
    assert made["store"] is False
    body = {"model": "chatty", "input": "a", "previous_response_id": made["id"]}
    answer = native.ask("/v1/responses", body)
    assert 400 == answer.status
    assert "previous_response_id" == answer.error["param"]
    assert "responses.store" in answer.error["message"]


def test_what_is_kept_cannot_be_read_in_the_database(tmp_path) -> None:
    """Neither the database nor the journal has a word of what was said."""
    relay = InProcess(tmp_path, RELAY_KEEPS + MODELS)
    try:
        made = respond(relay, "native", "A-secret-that-is-mine")["id"]
        talk = relay.ask(
            "/v1/conversations",
            {"items": [{"role": "user", "content": "A-secret-that-is-mine"}], "metadata": {}},
        )
        assert 200 == relay.ask(f"/v1/responses/{made}").status
        assert 200 == talk.status
        said = [path for path in relay.data.rglob("*") if path.is_file()]
        assert [] == [each for each in said if b"A-secret-that-is-mine" in each.read_bytes()]
        relay.restart()
        assert ["A-secret-that-is-mine"] == texts(
            relay.ask(f"/v1/responses/{made}/input_items").json()["data"]
        )
    finally:
        relay.close()


def test_an_account_keeps_no_more_than_it_may(tmp_path) -> None:
    """Beyond its share nothing more is kept: calls are answered, and say that they are not; deleting
    makes room."""
    few = RELAY_KEEPS + "account_bytes_max = 4000\n"
    relay = InProcess(tmp_path, few + MODELS)
    try:
        first = respond(relay, "native")
        assert first["store"] is True
        answer = relay.ask("/v1/responses", {"model": "native", "input": "x" * 3000})
        assert answer.json()["store"] is False
        assert "keeps as much as it may" in answer.headers["x-merino-adjusted"]
        refused = relay.ask(
            "/v1/conversations", {"items": [{"role": "user", "content": "x" * 3000}]}
        )
        assert (413, "storage_full") == (refused.status, refused.error["code"])
        relay.ask(f"/v1/responses/{first['id']}", method="DELETE")
        assert respond(relay, "native", "x" * 1000)["store"] is True
    finally:
        relay.close()


@pytest.mark.parametrize("keeper", ["native", "keeping"])
def test_conversations_and_their_items(keeper, request) -> None:
    """Made, changed, added to, listed and deleted, at an upstream or with the relay; a call adds
    what was said on both sides."""
    relay: InProcess = request.getfixturevalue(keeper)
    made = relay.ask(
        "/v1/conversations",
        {"metadata": {"a": "b"}, "items": [{"role": "user", "content": "One"}]},
    )
    Conversation.model_validate_json(made.body, strict=True)
    path = f"/v1/conversations/{made.json()['id']}"
    assert {"a": "b"} == relay.ask(path).json()["metadata"]
    assert {"c": "d"} == relay.ask(path, {"metadata": {"c": "d"}}).json()["metadata"]
    respond(relay, "native", "Two", conversation=made.json()["id"])
    items = relay.ask(f"{path}/items?order=asc")
    ConversationItemList.model_validate_json(items.body, strict=True)
    found = items.json()["data"]
    assert ["One", "Two"] == texts(found)[:2]
    assert "assistant" == found[-1]["role"]
    added = relay.ask(
        f"{path}/items", {"items": [{"type": "message", "role": "user", "content": "Three"}]}
    )
    ConversationItemList.model_validate_json(added.body, strict=True)
    last = relay.ask(f"{path}/items?limit=1").json()
    assert (["Three"], True) == (texts(last["data"]), last["has_more"])
    item = f"{path}/items/{last['last_id']}"
    assert "Three" == relay.ask(item).json()["content"][0]["text"]
    assert made.json()["id"] == relay.ask(item, method="DELETE").json()["id"]
    assert 404 == relay.ask(item).status
    gone = relay.ask(path, method="DELETE").json()
    assert ("conversation.deleted", True) == (gone["object"], gone["deleted"])
    assert 404 == relay.ask(path).status


def test_a_call_goes_on_from_one_thing_only(keeping) -> None:
    """A previous response and a conversation exclude each other."""
    body = {"model": "native", "input": "a", "previous_response_id": "a", "conversation": "b"}
    answer = keeping.ask("/v1/responses", body)
    assert (400, "previous_response_id") == (answer.status, answer.error["param"])


def test_a_deployment_that_is_gone_is_named(tmp_path) -> None:
    """What a deployment made that is no longer in the settings is told with its name, not as
    unknown."""
    relay = InProcess(tmp_path, MODELS)
    try:
        made = respond(relay, "slow")["id"]
        relay.config.write_text(MODELS.replace('"slow"', '"other"').replace("s.slow]", "s.other]"))
        relay.restart()
        answer = relay.ask(f"/v1/responses/{made}")
        assert 404 == answer.status
        assert "deployment 'slow', which made it, is no longer" in answer.error["message"]
    finally:
        relay.close()


def test_what_an_upstream_has_lost_is_told_with_what_may_have_happened(tmp_path) -> None:
    """The upstream's own 404, and that it is the right place to ask."""
    relay = InProcess(tmp_path, MODELS)
    try:
        made = respond(relay, "native")["id"]
        relay.restart()  # the simulator begins anew
        answer = relay.ask(f"/v1/responses/{made}")
        assert 404 == answer.status
        assert "Deployment 'native', which made it" in answer.error["message"]
        assert "credential has changed" in answer.error["message"]
    finally:
        relay.close()


def test_only_calls_are_items_of_batches() -> None:
    """Neither compactions nor counts are."""
    assert {"/v1/chat/completions", "/v1/responses", "/v1/embeddings"} == set(BATCH_PATHS)


# -- in the background ----------------------------------------------------------------------------


async def running(relay: InProcess, work: Any) -> Any:
    """Do this while what runs beside calls runs."""
    beside = asyncio.create_task(relay.relay.run_background())
    try:
        return await work
    finally:
        beside.cancel()
        await asyncio.gather(beside, return_exceptions=True)


def asked(relay: InProcess, target: str, body: Any = None, method: str = "") -> Any:
    content = b"" if body is None else json.dumps(body).encode()
    given = {"authorization": f"Bearer {relay.key}", "content-length": str(len(content))}
    return LaneExchange(method or ("GET" if body is None else "POST"), target, given, content)


async def ask(relay: InProcess, target: str, body: Any = None, method: str = "") -> Any:
    exchange = asked(relay, target, body, method)
    await exchange.served_by(relay.relay.front)
    return exchange.answered


async def until_settled(relay: InProcess) -> None:
    while relay.store.ledger.open_holds:  # noqa: ASYNC110 - the relay tells nobody
        await asyncio.sleep(0.02)


async def until_over(relay: InProcess, response_id: str) -> dict[str, Any]:
    while True:
        found = (await ask(relay, f"/v1/responses/{response_id}")).json()
        if found["status"] not in ("queued", "in_progress"):
            return found
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("model", ["slow", "chatty"])
@pytest.mark.parametrize("keeper", ["native", "keeping"])
def test_a_response_in_the_background(keeper, model, request) -> None:
    """It is answered at once, with what it may cost held; it is billed when it has ended, by what
    it used, though nobody waits for it."""
    if (keeper, model) == ("native", "chatty"):
        pytest.skip("a chat has no background")
    relay: InProcess = request.getfixturevalue(keeper)

    async def work() -> None:
        account = relay.store.accounts.list()[0].id
        before = relay.store.ledger.balance(account)
        body = {"model": model, "input": "Hi", "background": True}
        answer = await ask(relay, "/v1/responses", body)
        made = answer.json()
        Response.model_validate_json(answer.body, strict=True)
        assert ("queued", True) == (made["status"], made["background"])
        ended = await until_over(relay, made["id"])
        assert "completed" == ended["status"]
        Response.model_validate(ended, strict=True)
        await until_settled(relay)
        call = (await ask(relay, f"/v1/calls/{answer.headers['x-request-id']}")).json()
        assert "settled" == call["resolution"]
        assert ended["usage"]["output_tokens"] == call["usage"]["output_tokens"]
        after = relay.store.ledger.balance(account)
        assert call["cost_nanos"] == before.posted_nanos - after.posted_nanos
        assert 0 == after.held_nanos

    relay.run(running(relay, work()))


@pytest.mark.parametrize("keeper", ["native", "keeping"])
def test_a_streamed_response_in_the_background_can_be_resumed(keeper, request) -> None:
    """Whoever left a stream gets the rest of it after the number they name, while it is made and
    once it has ended: together the same events, in order and once."""
    relay: InProcess = request.getfixturevalue(keeper)

    async def work() -> None:
        body = {"model": "slow", "input": "Hi", "background": True, "stream": True}
        leaver = asked(relay, "/v1/responses", body)
        leaver._hangs_up_after = 3
        await leaver.served_by(relay.relay.front)
        first = events_of(b"".join(leaver.pieces))
        response_id = first[0]["response"]["id"]
        after = first[-1]["sequence_number"]
        target = f"/v1/responses/{response_id}?stream=true&starting_after={after}"
        rest = events_of((await ask(relay, target)).body)
        ended = await until_over(relay, response_id)
        assert "completed" == ended["status"]
        numbers = [each["sequence_number"] for each in [*first, *rest]]
        assert list(range(len(numbers))) == numbers
        assert "response.completed" == rest[-1]["type"]
        assert ended == rest[-1]["response"]
        await asyncio.sleep(1)  # by then it is read from where it was kept
        later = events_of((await ask(relay, target)).body)
        assert rest == later

    relay.run(running(relay, work()))


@pytest.mark.parametrize("model", ["native", "chatty"])
def test_a_stream_of_the_background_begins_before_the_answer(keeping, model) -> None:
    """Its first event says which response it is as soon as it is paid for, however long the
    upstream thinks; it comes once, and the numbers go on from it."""
    relay = keeping
    front = relay.relay.front

    async def work() -> None:
        body = {"model": model, "input": "Hi", "background": True, "stream": True}
        exchange = asked(relay, "/v1/responses", body)
        exchange._hangs_up_after = 1
        await exchange.served_by(front)
        (created,) = events_of(b"".join(exchange.pieces))[:1]
        assert ("response.created", 0) == (created["type"], created["sequence_number"])
        assert "queued" == created["response"]["status"]
        ended = await until_over(relay, created["response"]["id"])
        target = f"/v1/responses/{ended['id']}?stream=true"
        events = events_of((await ask(relay, target)).body)
        assert created == events[0]
        assert 1 == [each["type"] for each in events].count("response.created")
        assert list(range(len(events))) == [each["sequence_number"] for each in events]
        assert ended == events[-1]["response"]

    relay.run(running(relay, work()))


@pytest.mark.parametrize("keeper", ["native", "keeping"])
def test_a_response_in_the_background_is_cancelled(keeper, request) -> None:
    """It ends as cancelled, and is billed for what it had used by then, and no more than was held."""
    relay: InProcess = request.getfixturevalue(keeper)

    async def work() -> None:
        body = {"model": "endless", "input": "Hi", "background": True}
        made = await ask(relay, "/v1/responses", body)
        response_id = made.json()["id"]
        await asyncio.sleep(0.1)
        path = f"/v1/responses/{response_id}"
        cancelled = await ask(relay, f"{path}/cancel", {})
        assert "cancelled" == cancelled.json()["status"]
        Response.model_validate_json(cancelled.body, strict=True)
        await until_settled(relay)
        call = (await ask(relay, f"/v1/calls/{made.headers['x-request-id']}")).json()
        assert 1 >= call["usage"]["output_tokens"]
        assert "cancelled" == (await until_over(relay, response_id))["status"]
        assert 200 == (await ask(relay, path, method="DELETE")).status
        assert 404 == (await ask(relay, path)).status

    relay.run(running(relay, work()))


@pytest.mark.parametrize("keeper", ["native", "keeping"])
def test_deleting_a_running_response_ends_it(keeper, request) -> None:
    """It is settled first, so that what it used is billed though nobody can ask for it any more."""
    relay: InProcess = request.getfixturevalue(keeper)

    async def work() -> None:
        body = {"model": "endless", "input": "Hi", "background": True}
        made = await ask(relay, "/v1/responses", body)
        path = f"/v1/responses/{made.json()['id']}"
        assert 200 == (await ask(relay, path, method="DELETE")).status
        assert 0 == relay.store.ledger.open_holds
        assert 404 == (await ask(relay, path)).status

    relay.run(running(relay, work()))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "chatty", "input": "Hi", "background": True}, "background"),
        ({"model": "native", "input": "Hi", "background": True, "store": False}, "store"),
    ],
)
def test_what_cannot_be_made_in_the_background_is_refused(native, body, param) -> None:
    """Neither is what nobody keeps, nor what a chat would have to make: the refusal says whose
    setting it is."""
    answer = native.ask("/v1/responses", body)
    assert (400, param) == (answer.status, answer.error["param"])


@pytest.mark.parametrize("keeper", ["native", "keeping"])
def test_a_background_response_of_an_ended_process_goes_on(keeper, tmp_path) -> None:
    """After a stop, what an upstream makes is followed again, with its cost held all the time; what
    the relay made itself has ended as failed, billed for what it had said."""
    text = (RELAY_KEEPS if keeper == "keeping" else "") + MODELS
    relay = InProcess(tmp_path, text)
    try:

        async def begin() -> tuple[str, str]:
            body = {"model": "endless", "input": "Hi", "background": True}
            made = await ask(relay, "/v1/responses", body)
            await asyncio.sleep(1.2 if keeper == "keeping" else 0.1)
            relay.relay.drain()
            return made.json()["id"], made.headers["x-request-id"]

        response_id, call_id = relay.run(running(relay, begin()))
        relay.restart()
        account = relay.store.accounts.list()[0].id
        if keeper == "native":
            assert relay.store.ledger.balance(account).held_nanos > 0

        async def end() -> dict[str, Any]:
            await until_settled(relay)
            return (await ask(relay, f"/v1/calls/{call_id}")).json()

        call = relay.run(running(relay, end()))
        assert 0 == relay.store.ledger.balance(account).held_nanos
        if keeper == "keeping":
            found = relay.ask(f"/v1/responses/{response_id}").json()
            assert "failed" == found["status"]
            assert found["usage"]["output_tokens"] == call["usage"]["output_tokens"] > 0
        else:
            assert "response_lost" == call["error_code"]  # the simulator has forgotten it
    finally:
        relay.close()


@pytest.mark.parametrize("keeper", ["native", "keeping"])
def test_a_repeat_of_a_background_response_is_the_same_one(keeper, request) -> None:
    """Whoever lost the answer sends the call again with its idempotency key, and gets the response,
    while it is made and afterwards; it is billed once."""
    relay: InProcess = request.getfixturevalue(keeper)

    async def work() -> None:
        body = {"model": "slow", "input": "Hi", "background": True}
        found = []
        for wait_s in (0, 0, 0.1, 2):
            await asyncio.sleep(wait_s)
            exchange = asked(relay, "/v1/responses", body)
            exchange.headers.append((b"idempotency-key", f"once-{keeper}".encode()))
            await exchange.served_by(relay.relay.front)
            assert 200 == exchange.answered.status
            found.append(exchange.answered)
        assert 1 == len({each.json()["id"] for each in found})
        await until_settled(relay)
        assert "completed" == found[-1].json()["status"]
        assert "true" == found[-1].headers["x-merino-replayed"]

    relay.run(running(relay, work()))


def test_nothing_but_its_own_path_makes_responses_in_the_background(native) -> None:
    """An item of a batch, or whatever else makes calls, would never hear of it."""
    exchange = asked(native, "/v1/responses", {"model": "native", "input": "a", "background": True})
    call = native.relay.front._call(exchange, RESPONSES)
    reply = FakeReply(Journal())
    native.run(native.relay.data_plane.pipeline.run(call, reply))
    assert "background" == reply.error.param


def events_of(body: bytes) -> list[dict[str, Any]]:
    return [
        json.loads(line.removeprefix(b"data: "))
        for line in body.splitlines()
        if line.startswith(b"data: {")
    ]
