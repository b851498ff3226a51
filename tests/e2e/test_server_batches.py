"""`/v1/files` and `/v1/batches` with the real `openai` package."""

from __future__ import annotations

import io
import json
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from tests.conftest import RelayProcess

MODELS = {
    "fast": "o3-mini!output=4,reasoning=0",
    "quick": "o3-mini!output=4,reasoning=0,ttft=50ms",
    "slow": "o3-mini!output=2,reasoning=0,ttft=300ms",
    "long": "o3-mini!output=300,reasoning=0",
    "refused": "o3-mini!status=400",
    "embed": "text-embedding-3-small",
    "flaky": "o3-mini!output=4,reasoning=0,fail_first=4,status=503",
}
CONFIG = "[simulator]\nenabled = true\n" + "".join(
    f"""
[[deployments]]
name = "{name}"
provider = "simulator"
upstream_model = "{model}"
[aliases.{name}]
deployments = ["{name}"]
"""
    for name, model in MODELS.items()
)
FAST = "fast"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    process = RelayProcess(tmp_path_factory.mktemp("relay") / "data", CONFIG).start()
    yield process
    assert 0 == process.stop()


def client_of(relay, key: str | None = None) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{relay.url}/v1",
        api_key=key or relay.key,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )


def line(custom_id: str, model: str = FAST, **changes) -> str:
    item = {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": model, "messages": [{"role": "user", "content": f"Hi {custom_id}"}]},
    }
    return json.dumps(item | changes)


def upload(client: openai.OpenAI, text: str) -> str:
    return client.files.create(file=("in.jsonl", io.BytesIO(text.encode())), purpose="batch").id


def order(client: openai.OpenAI, text: str, endpoint: Any = "/v1/chat/completions", **more):
    return client.batches.create(
        input_file_id=upload(client, text),
        endpoint=endpoint,
        completion_window="24h",
        **more,
    )


def finished(client: openai.OpenAI, batch_id: str, timeout_s: float = 30.0):
    deadline = time.monotonic() + timeout_s
    while True:
        batch = client.batches.retrieve(batch_id)
        if batch.status not in ("validating", "in_progress", "finalizing", "cancelling"):
            return batch
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)


def lines_of(client: openai.OpenAI, file_id: str | None) -> list[dict]:
    if file_id is None:
        return []
    return [json.loads(each) for each in client.files.content(file_id).text.splitlines()]


def call_of(relay, call_id: str) -> dict:
    with relay.http() as http:
        return http.get(f"/v1/calls/{call_id}").json()


@pytest.fixture(scope="module")
def client(relay) -> Iterator[openai.OpenAI]:
    with client_of(relay) as made:
        yield made


def test_a_batch_is_answered_and_billed(relay, client) -> None:
    """Every item is answered once, in the order of the file, and costs what its call says."""
    before = relay.balance_nanos()
    batch = order(client, "\n".join(line(f"a{n}") for n in range(40)), metadata={"who": "me"})
    assert ("validating", {"who": "me"}) == (batch.status, batch.metadata)
    batch = finished(client, batch.id)
    assert ("completed", 40, 40, 0) == (
        batch.status,
        batch.request_counts.total,
        batch.request_counts.completed,
        batch.request_counts.failed,
    )
    results = lines_of(client, batch.output_file_id)
    assert [f"a{n}" for n in range(40)] == [each["custom_id"] for each in results]
    assert {200} == {each["response"]["status_code"] for each in results}
    assert {"chat.completion"} == {each["response"]["body"]["object"] for each in results}
    calls = [call_of(relay, each["response"]["request_id"]) for each in results]
    assert before - relay.balance_nanos() == sum(call["cost_nanos"] for call in calls)
    assert all(call["cost_nanos"] > 0 for call in calls)


def test_a_batch_of_responses(relay, client) -> None:
    """Lines of the Responses API are answered with its objects, and billed by their usage."""
    before = relay.balance_nanos()
    body = {"model": FAST, "input": "Hi", "store": False}
    lines = [line(f"r{n}", url="/v1/responses", body=body) for n in range(3)]
    batch = finished(client, order(client, "\n".join(lines), endpoint="/v1/responses").id)
    assert ("completed", 3) == (batch.status, batch.request_counts.completed)
    results = lines_of(client, batch.output_file_id)
    bodies = [each["response"]["body"] for each in results]
    assert [("response", "completed")] * 3 == [(b["object"], b["status"]) for b in bodies]
    calls = [call_of(relay, each["response"]["request_id"]) for each in results]
    assert [b["usage"]["output_tokens"] for b in bodies] == [
        call["usage"]["output_tokens"] for call in calls
    ]
    assert before - relay.balance_nanos() == sum(call["cost_nanos"] for call in calls) > 0


def test_files_are_kept_listed_and_deleted(client) -> None:
    """A file comes back as it was sent, is listed, and is gone when it is deleted."""
    text = line("one") + "\n"
    first, second = upload(client, text), upload(client, text)
    kept = client.files.retrieve(first)
    assert ("in.jsonl", len(text), "batch") == (kept.filename, kept.bytes, kept.purpose)
    assert text == client.files.content(first).text
    page = client.files.list(limit=1)
    assert ([second], True) == ([each.id for each in page.data], page.has_more)
    everything = [each.id for each in client.files.list(limit=2)]
    assert {first, second} <= set(everything)
    assert len(everything) == len(set(everything))
    assert client.files.delete(first).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(first)


def test_files_are_kept_as_long_as_was_asked(client) -> None:
    """`expires_after` of an upload and `output_expires_after` of a batch count from each file's
    creation; a wrong one names its field and leaves nothing behind."""
    text = line("one") + "\n"
    made = client.files.create(
        file=("in.jsonl", io.BytesIO(text.encode())),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 7200},
    )
    assert 7200 == made.expires_at - made.created_at
    before = [each.id for each in client.files.list()]
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(
            file=("in.jsonl", io.BytesIO(text.encode())),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 60},
        )
    assert "expires_after.seconds" == refused.value.param
    assert before == [each.id for each in client.files.list()]
    kept = {"anchor": "created_at", "seconds": 3600}
    batch = finished(client, order(client, text, output_expires_after=kept).id)
    output = client.files.retrieve(batch.output_file_id)
    assert 3600 == output.expires_at - output.created_at
    with pytest.raises(openai.BadRequestError) as refused:
        order(client, text, output_expires_after={"anchor": "created_at", "seconds": 10**9})
    assert "output_expires_after.seconds" == refused.value.param


def test_calls_that_fail_go_into_the_error_file(client) -> None:
    """A refusal ends one item, not the batch; its error is what its caller would have got."""
    batch = finished(client, order(client, line("bad", "refused")).id)
    assert ("completed", 0, 1) == (
        batch.status,
        batch.request_counts.completed,
        batch.request_counts.failed,
    )
    (result,) = lines_of(client, batch.error_file_id)
    assert ("bad", 400) == (result["custom_id"], result["response"]["status_code"])
    assert "message" in result["response"]["body"]["error"]
    assert batch.output_file_id is None


def test_a_passing_failure_is_tried_again(client) -> None:
    """An upstream that fails at first costs a try, not the item."""
    batch = finished(client, order(client, line("again", "flaky")).id)
    assert ("completed", 1) == (batch.status, batch.request_counts.completed)


def test_what_is_wrong_with_a_file_is_told_by_line(client) -> None:
    """A file that is no batch fails as a whole, with every line that is wrong."""
    text = "\n".join(
        [
            line("one"),
            "not json",
            line("one"),
            line("three", method="GET"),
            line("four", url="/v1/embeddings"),
            line("five", body={"messages": []}),
            line("six", model="o3"),
            line("seven", body={"model": FAST, "messages": [], "stream": True}),
            json.dumps({"method": "POST"}),
        ]
    )
    batch = finished(client, order(client, text).id)
    assert "failed" == batch.status
    assert [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "invalid_method"),
        (5, "invalid_url"),
        (6, "missing_required_parameter"),
        (7, "mismatched_model"),
        (8, "invalid_value"),
        (9, "missing_required_parameter"),
    ] == [(each.line, each.code) for each in batch.errors.data]


def test_a_line_that_cannot_be_read_names_the_field(client) -> None:
    """With the line, and as the body of a call would."""
    bad = ["NaN", "1e999", '"\\ud800"', "[" * 5000 + "]" * 5000]
    text = "\n".join(
        line("one").replace('"messages"', f'"top_p": {each}, "messages"') for each in bad
    )
    batch = finished(client, order(client, text + "\n[1]").id)
    told = [(each.line, each.code, each.param) for each in batch.errors.data]
    at = "body.top_p"
    assert [(n, "invalid_json_line", at) for n in (1, 2, 3)] == told[:3]
    assert (4, "invalid_json_line", f"{at}[0][0][0][0]...") == told[3]
    assert (5, "invalid_json_line", None) == told[4]
    assert "NaN is not JSON" in (batch.errors.data[0].message or "")


def test_too_many_items_are_refused(client) -> None:
    """50,000 is the most, as at OpenAI."""
    text = "\n".join(line(str(n)) for n in range(50_001))
    batch = finished(client, order(client, text).id)
    assert [(50_001, "too_many_requests")] == [(each.line, each.code) for each in batch.errors.data]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/completions"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"input_file_id": 3}, "input_file_id"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
    ],
)
def test_a_wrong_order_names_its_field(client, change, param) -> None:
    """An order that cannot be is refused with the field that is wrong."""
    given = {
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "input_file_id": upload(client, line("one")),
    }
    with pytest.raises(openai.BadRequestError) as refusal:
        client.batches.create(**(given | change))
    assert param == refusal.value.param


def test_an_upload_that_is_none_is_refused(relay) -> None:
    """No form, no file, another purpose, nothing in it: each is a clear 400."""
    with relay.http() as http:
        answers = [
            http.post("/v1/files", json={}),
            http.post("/v1/files", data={"purpose": "batch"}, files={"other": b"x"}),
            http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": b"x"}),
            http.post("/v1/files", data={"purpose": "batch"}, files={"file": b""}),
            http.post("/v1/batches", content=b"{"),
            http.post("/v1/batches", content=b"[]"),
            http.get("/v1/files?limit=0"),
            http.get("/v1/files?order=up"),
            http.get("/v1/batches?limit=x"),
        ]
    assert [400] * len(answers) == [answer.status_code for answer in answers]
    assert all(answer.json()["error"]["message"] for answer in answers)


def test_strangers_get_nothing(relay) -> None:
    """Without a key there is neither upload nor order."""
    answers = [
        httpx2.post(f"{relay.url}/v1/files", files={"file": b"x"}, trust_env=False),
        httpx2.get(f"{relay.url}/v1/batches", trust_env=False),
    ]
    assert [401, 401] == [answer.status_code for answer in answers]


def test_unknown_paths_get_the_envelope(relay) -> None:
    """What is neither a file's nor a batch's path is a 404 like any other."""
    with relay.http() as http:
        answers = [
            http.get("/v1/filesystem"),
            http.get("/v1/batches/b/c"),
            http.get("/v1/files/file-none"),
            http.get("/v1/files/file-none/content"),
            http.delete("/v1/files/file-none"),
            http.post("/v1/batches/batch_none/cancel"),
        ]
        put = http.put("/v1/batches")
    assert 405 == put.status_code
    assert [404] * len(answers) == [answer.status_code for answer in answers]
    assert all(answer.json()["error"]["message"] for answer in answers)


def test_one_account_never_sees_anothers(relay, client) -> None:
    """Files and batches of another account do not exist."""
    batch = order(client, line("mine"))
    finished(client, batch.id)
    relay.cli("accounts", "create", "--name", "other")
    other = relay.cli("keys", "create", "--account", "other", "--name", "spy")["key"]
    with client_of(relay, other) as spy:
        assert [] == spy.files.list().data
        assert [] == spy.batches.list().data
        for reach in (
            lambda: spy.files.retrieve(batch.input_file_id),
            lambda: spy.files.content(batch.input_file_id),
            lambda: spy.files.delete(batch.input_file_id),
            lambda: spy.batches.retrieve(batch.id),
            lambda: spy.batches.cancel(batch.id),
        ):
            with pytest.raises(openai.NotFoundError):
                reach()
        with pytest.raises(openai.BadRequestError):
            spy.batches.create(
                input_file_id=batch.input_file_id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
            )


def test_batches_are_listed_newest_first(client) -> None:
    """Pages follow one another without a gap or a repeat."""
    made = [order(client, line("x")).id for _ in range(3)]
    listed = [each.id for each in client.batches.list(limit=2)]
    assert list(reversed(made)) == listed[:3]
    assert len(listed) == len(set(listed))


def test_embeddings_can_be_ordered(client) -> None:
    """The other endpoint works as well."""
    item = {
        "custom_id": "e",
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": "embed", "input": "Hello"},
    }
    made = client.batches.create(
        input_file_id=upload(client, json.dumps(item)),
        endpoint="/v1/embeddings",
        completion_window="24h",
    )
    (result,) = lines_of(client, finished(client, made.id).output_file_id)
    assert "list" == result["response"]["body"]["object"]


def test_a_cancelled_batch_keeps_what_it_has(client) -> None:
    """Nothing more is started; what was answered is in the output file."""
    made = order(client, "\n".join(line(f"c{n}", "slow") for n in range(500)))
    while client.batches.retrieve(made.id).request_counts.completed < 4:
        time.sleep(0.05)
    with pytest.raises(openai.ConflictError):
        client.files.delete(made.input_file_id)
    assert "cancelling" == client.batches.cancel(made.id).status
    batch = finished(client, made.id)
    assert "cancelled" == batch.status
    results = lines_of(client, batch.output_file_id)
    assert batch.request_counts.completed == len(results)
    assert 4 <= len(results) < 500
    # What was never asked is told, so that both files together have every id.
    errors = lines_of(client, batch.error_file_id)
    assert {"batch_cancelled"} == {each["error"]["code"] for each in errors if each["error"]}
    assert {f"c{n}" for n in range(500)} == {each["custom_id"] for each in (*results, *errors)}
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(finished(client, order(client, line("x")).id).id)


def test_an_account_may_keep_only_so_much(start_relay) -> None:
    """The files of one account are bounded, and the refusal says what to do."""
    relay = start_relay(CONFIG + "[batches]\naccount_bytes_max = 1000\n")
    with client_of(relay) as client:
        upload(client, line("one") + " " * 500)
        with pytest.raises(openai.APIStatusError) as refusal:
            upload(client, line("two") + " " * 500)
    assert (413, "storage_full") == (refusal.value.status_code, refusal.value.code)


def test_a_discount_halves_the_bill(start_relay) -> None:
    """`batches.discount` takes its share off every call's price, rounded once."""
    relay = start_relay(CONFIG + "[batches]\ndiscount = 0.5\n")
    with client_of(relay) as client:
        plain = client.chat.completions.create(
            model=FAST, messages=[{"role": "user", "content": "Hi one"}]
        )
        full = call_of(relay, plain._request_id or "")
        batch = finished(client, order(client, line("one")).id)
        (result,) = lines_of(client, batch.output_file_id)
        call = call_of(relay, result["response"]["request_id"])
    assert full["usage"] == call["usage"]
    assert full["cost_nanos"] // 2 == call["cost_nanos"]
    assert f"{full['price_id']}+0.5" == call["price_id"]


def test_live_calls_go_first(start_relay) -> None:
    """A key that a batch keeps at its limit still answers its live calls: the batch waits."""
    relay = start_relay(CONFIG + "[limits]\nwait_s = 5\n[batches]\nconcurrency = 64\n")
    relay.cli("keys", "update", "first", "--concurrency", "2")
    with client_of(relay) as client:
        made = order(client, "\n".join(line(f"b{n}", "quick") for n in range(16)))
        while client.batches.retrieve(made.id).request_counts.completed < 2:
            time.sleep(0.02)
        for _ in range(5):
            client.chat.completions.create(
                model="quick", messages=[{"role": "user", "content": "Hi"}]
            )
        batch = finished(client, made.id)
    assert 16 == batch.request_counts.completed
    refused = [
        each
        for each in relay.cli("calls", "list", "--limit", "200")["data"]
        if each["status"] == 429
    ]
    assert [] == refused


def test_an_account_out_of_credit_ends_its_items(start_relay) -> None:
    """What cannot be paid is told in the error file; the books balance."""
    relay = start_relay(
        CONFIG + '[credits]\nstart = "0.001"\n[batches]\ntries_max = 1\n[hold]\nwait_s = 0\n'
    )
    with client_of(relay) as client:
        batch = finished(
            client, order(client, "\n".join(line(f"p{n}", "long") for n in range(20))).id
        )
        failures = lines_of(client, batch.error_file_id)
    assert 20 == batch.request_counts.completed + batch.request_counts.failed
    assert failures
    assert {429} == {each["response"]["status_code"] for each in failures}
    assert relay.balance_nanos() >= 0
    assert relay.cli("ledger", "verify")["ok"]


def test_a_batch_outlives_its_window_as_expired(start_relay) -> None:
    """When the window closes, what was not asked is told as expired."""
    relay = start_relay(CONFIG)
    with client_of(relay) as client:
        made = order(client, "\n".join(line(f"w{n}", "slow") for n in range(200)))
        while client.batches.retrieve(made.id).request_counts.completed < 2:
            time.sleep(0.02)
        relay.stop()
        with sqlite3.connect(relay.data / "merino.db") as database:
            database.execute("UPDATE batches SET expires_at_ms = 1")
        database.close()
        relay.start()
    with client_of(relay, relay.key) as client:
        batch = finished(client, made.id)
        answered = lines_of(client, batch.output_file_id)
        expired = lines_of(client, batch.error_file_id)
    assert "expired" == batch.status
    assert 200 == len(answered) + len(expired)
    assert {"batch_expired"} == {each["error"]["code"] for each in expired}


def test_a_batch_survives_kill_nine(start_relay) -> None:
    """Killed at random moments, every item is answered once and paid once."""
    relay = start_relay(CONFIG)
    chance = random.Random(4)
    with client_of(relay) as client:
        made = order(client, "\n".join(line(f"k{n}", "quick") for n in range(200)))
    key = relay.key
    for _ in range(4):
        time.sleep(chance.uniform(0.1, 0.4))
        relay.stop(signal.SIGKILL)
        relay.start()
    with client_of(relay, key) as client:
        batch = finished(client, made.id)
        results = lines_of(client, batch.output_file_id)
    assert ("completed", 200) == (batch.status, batch.request_counts.completed)
    assert [f"k{n}" for n in range(200)] == [each["custom_id"] for each in results]
    calls: list[dict] = []
    cursor = None
    while True:
        more = ("--cursor", cursor) if cursor else ()
        page = relay.cli("calls", "list", "--limit", "200", *more)
        calls += page["data"]
        cursor = page.get("next_cursor")
        if not cursor:
            break
    paid = [call for call in calls if call["charged_nanos"]]
    assert {each["response"]["request_id"] for each in results} == {call["id"] for call in paid}
    assert 200 == len(paid)
    assert relay.cli("ledger", "verify")["ok"]
