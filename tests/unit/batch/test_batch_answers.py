"""A batch reads answers as the relay does: what is no answer is a failure, whatever its status."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from merino.batch.answers import NO_ANSWER, NOT_JSON, read_answer
from merino.batch.failures import is_everybodys, is_own, verdict_of
from merino.batch.items import Item
from merino.batch.results import Result, ResultFiles
from merino.batch.sending import HttpSender
from merino.cli.offline_prices import OfflinePrices
from merino.client.engine import ClientPolicy, Endpoint, Engine
from merino.wire.served import BATCH_PATHS

CHAT, EMBEDDINGS, RESPONSES = "/v1/chat/completions", "/v1/embeddings", "/v1/responses"
GOOD = {
    "choices": [{"message": {"content": "hi"}}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
RESPONSE = {
    "object": "response",
    "status": "completed",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}],
    "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
}
VECTOR = {"data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 4, "total_tokens": 4}}


def item(url: str = CHAT, **body: Any) -> Item:
    return Item(0, 1, "a", url, {"model": "m", "messages": [], **body})


class Http:
    """Answers in turn, the last one for ever."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = list(answers)
        self.headers: list[tuple[bytes, bytes]] = []
        self.asked: list[bytes] = []

    async def send(self, data: bytes) -> Any:
        self.asked.append(data)
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

        class Response:
            headers = self.headers

            async def read(self, bytes_max: int) -> bytes:
                return body if isinstance(body, bytes) else json.dumps(body).encode()

            def close(self) -> None:
                pass

        response = Response()
        response.status = status  # pyright: ignore[reportAttributeAccessIssue]
        return response


class Slow(Http):
    """Answers when it is told to."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        super().__init__(*answers)
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def send(self, data: bytes) -> Any:
        self.has_begun.set()
        await self.may_end.wait()
        return await super().send(data)


def sent(http: Http, what: Item, retries: int = 2) -> Result:
    policy = ClientPolicy(
        max_retries=retries, retry_share=1.0, backoff_base_s=0.001, backoff_max_s=0.002
    )
    engine = Engine([Endpoint("http://x/v1", "k")], policy)
    sender = HttpSender(http.send, "http://x/v1", "k", engine, cost_of=lambda _, used, tier: 1)
    found = asyncio.run(sender.send(what, "key-1", lambda: None))
    assert found is not None
    return found


ANSWERS = {CHAT: GOOD, EMBEDDINGS: VECTOR, RESPONSES: RESPONSE}


@pytest.mark.parametrize("url", BATCH_PATHS)
def test_every_endpoint_of_a_batch_has_its_own_answers(url) -> None:
    """They are answers there, asked for once and counted; elsewhere they are none."""
    http = Http((200, ANSWERS[url]))
    found = sent(http, item(url))
    assert (True, 1) == (found.is_good, len(http.asked))
    assert found.input_tokens
    assert [url] == [
        each for each, answer in ANSWERS.items()
        if not read_answer(url, 200, json.dumps(answer).encode()).code
    ]  # fmt: skip


@pytest.mark.parametrize("url", BATCH_PATHS)
@pytest.mark.parametrize("text", ["plain", "half \ud83d"])
def test_every_endpoint_of_a_batch_has_a_worst_case(url, text) -> None:
    """What holds a budget, for whatever can be sent."""
    body = {"model": "o3", "max_output_tokens": 100, "max_completion_tokens": 100}
    body |= {"messages": [{"role": "user", "content": text}], "input": text}
    worst = OfflinePrices("1000,1000").worst_nanos(url, body)
    assert worst is not None
    assert worst > 0


def test_calls_that_wait_are_given_up_when_a_run_stops() -> None:
    """For a limit, or to be tried again; one that is under way ends."""

    async def scenario() -> list[bool]:
        slow = Slow((200, GOOD))
        policy = ClientPolicy(requests_per_minute=1)
        engine = Engine([Endpoint("http://x/v1", "k")], policy)
        sender = HttpSender(slow.send, "http://x/v1", "k", engine)
        calls = [
            asyncio.create_task(sender.send(item(), f"key-{number}", lambda: None))
            for number in range(3)
        ]
        await slow.has_begun.wait()
        sender.stop()
        slow.may_end.set()
        async with asyncio.timeout(10):
            return [result is not None for result in await asyncio.gather(*calls)]

    assert [True, False, False] == asyncio.run(scenario())


PASSING = [
    (CHAT, {"error": {"message": "busy", "code": "overloaded"}}, "overloaded", "busy"),
    (CHAT, {"error": {"message": "slow down", "code": 429}}, "429", "slow down"),
    (CHAT, {"error": "busy"}, NO_ANSWER, "busy"),
    (CHAT, {"object": "error", "message": "gone", "code": 50001}, "50001", "gone"),
    (CHAT, {"base_resp": {"status_code": 1002, "status_msg": "rate"}}, "1002", "rate"),
    (CHAT, {"choices": []}, NO_ANSWER, "The upstream answered 200 without any choice."),
    (CHAT, {"choices": None}, NO_ANSWER, "The upstream answered 200 without any choice."),
    (CHAT, None, NO_ANSWER, "the answer is JSON, but not an object"),
    (CHAT, [], NO_ANSWER, "the answer is JSON, but not an object"),
    (CHAT, {"choices": [{"message": {}, "finish_reason": "error"}]}, NO_ANSWER,
     "The upstream ended with finish_reason 'error'."),
    (RESPONSES, {"status": "failed", "error": {"message": "busy", "code": "server_error"}},
     "server_error", "busy"),
    (RESPONSES, {"output": None}, NO_ANSWER, "The upstream answered 200 without any output."),
    (RESPONSES, GOOD, NO_ANSWER, "The upstream answered 200 without any output."),
    (EMBEDDINGS, {"data": []}, NO_ANSWER, "The upstream answered 200 without any data."),
    (EMBEDDINGS, {"error": {"message": "busy", "code": None}}, NO_ANSWER, "busy"),
    (CHAT, b"", NOT_JSON, ""),
    (CHAT, b"<html>", NOT_JSON, NOT_JSON),
    (CHAT, b'{"choices":[{"mess', NOT_JSON, NOT_JSON),
]  # fmt: skip


@pytest.mark.parametrize(("url", "body", "code", "message"), PASSING)
def test_a_200_that_is_no_answer_is_asked_again(url, body, code, message) -> None:
    """With the same key; and if it stays so, it is a failure that a later run asks for again."""
    http = Http((200, body), (200, ANSWERS[url]))
    found = sent(http, item(url))
    assert found.is_good
    assert 2 == len(http.asked)
    assert http.asked[0] == http.asked[1]
    stays = sent(Http((200, body)), item(url))
    assert not stays.is_good
    assert (code, message) == (stays.error, stays.message)
    assert not is_own(stays.verdict)
    assert not is_everybodys(stays.verdict)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"message": "too long", "code": "context_length_exceeded"}, "context_length_exceeded"),
        ({"message": "bad", "type": "invalid_request_error"}, "invalid_request_error"),
        ({"message": "bad", "code": 400}, "400"),
        ({"message": "too long", "code": 413}, "413"),
        ({"message": "blocked", "code": "content_filter"}, "content_filter"),
    ],
)
def test_an_item_that_is_refused_under_200_is_done(error, code) -> None:
    """It is asked once, and is in the file of failures with what was said."""
    http = Http((200, {"error": error}))
    found = sent(http, item())
    assert 1 == len(http.asked)
    assert (False, code, error["message"]) == (found.is_good, found.error, found.message)
    assert is_own(found.verdict)


@pytest.mark.parametrize(
    "error",
    [
        {"message": "no credit", "code": "insufficient_quota"},
        {"message": "no credit", "type": "insufficient_quota", "code": None},
        {"message": "no credit", "code": "insufficient_balance"},
        {"message": "pay", "code": 402},
        {"message": "who?", "code": 401},
    ],
)
@pytest.mark.parametrize("status", [200, 429])
def test_credit_and_keys_are_everybodys_under_any_status(error, status) -> None:
    """The run stops there, and the item is asked for again by the next one."""
    if status == 429 and isinstance(error["code"], int):
        status = error["code"]
    http = Http((status, {"error": error}))
    found = sent(http, item())
    assert 1 == len(http.asked)
    assert is_everybodys(found.verdict)


def error(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


EVERYBODYS = [
    # The key, the bill, the account, under statuses that look like the item's own.
    (400, error("Your credit balance is too low to access the API.",
                type="invalid_request_error")),
    (400, error("API key not valid. Please pass a valid API key.", code=400,
                status="INVALID_ARGUMENT")),
    (400, {"code": "Client specified an invalid argument",
           "error": "Incorrect API key provided: ab***yz."}),
    (400, error("Organization has been restricted.", code="organization_restricted")),
    (412, error("Account a is suspended, possibly due to reaching the monthly spending limit.")),
    (429, error("You exceeded your current quota, please check your plan and billing details.")),
    (402, b"Payment Required"),
    (403, error("Country, region, or territory not supported", code="unsupported_country")),
    # The address, the method, the model.
    (404, {"detail": "Not Found"}),
    (404, b"<html>"),
    (405, {"detail": "Method Not Allowed"}),
    (404, error("The model `m` does not exist.", code="model_not_found")),
    # A 200 that says so.
    (200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
    (200, {"base_resp": {"status_code": 1004, "status_msg": "login fail"}}),
    (200, error("Insufficient credits", code="402")),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body"), EVERYBODYS)
def test_everybodys_refusals_in_any_vendors_words(status, body) -> None:
    """They are asked once, no other item is burnt for long, and a later run asks again."""
    http = Http((status, body))
    found = sent(http, item())
    assert 1 == len(http.asked)
    assert is_everybodys(found.verdict)


@pytest.mark.parametrize(
    ("status", "body", "is_final"),
    [
        (403, error("Your prompt was flagged by moderation.", code=403), True),
        (400, error("This prompt violates our usage policies.", code="content_filter"), True),
        (413, error("Payload too large"), True),
        (422, error("messages: Field required"), True),
        (451, b"", True),
        (429, error("Request too large for m on tokens per min: Limit 10, Requested 99.",
                    type="tokens"), True),
        (409, error("conflict"), False),
        (503, b"", False),
    ],
)  # fmt: skip
def test_an_items_own_refusals_are_its_own(status, body, is_final) -> None:
    """They stop nobody, are asked for once, and are done."""
    http = Http((status, body))
    found = sent(http, item())
    assert is_final == is_own(found.verdict)
    assert (1 if is_final else 3) == len(http.asked)
    assert not is_everybodys(found.verdict)


def test_what_an_item_quotes_stops_nobody() -> None:
    """A refusal that repeats the item's own words says nothing of the key or the bill."""
    words = "My invalid API key, your credit balance is too low"
    found = sent(
        Http((400, error(f"cannot parse: {words}"))),
        item(messages=[{"role": "user", "content": words}]),
    )
    assert is_own(found.verdict)


def test_what_was_left_of_a_limit_beside_other_calls_is_no_verdict() -> None:
    """Calls run beside each other: that something was left says nothing of this one's size."""
    left = [(b"x-ratelimit-remaining-tokens", b"100"), (b"x-ratelimit-remaining-requests", b"9")]
    assert "throttled" == verdict_of(429, b'{"error":{"message":"slow down"}}', left, b"{}" * 500)


def test_a_cost_that_is_none_costs_nothing_to_read() -> None:
    """What a server says of the cost in its own way does not stop a batch."""
    http = Http((200, GOOD))
    http.headers = [(b"x-merino-cost", b"about two")]
    found = sent(http, item())
    assert (True, None) == (found.is_good, found.cost_nanos)


@pytest.mark.parametrize(
    ("url", "body", "tokens"),
    [
        (CHAT, GOOD, (5, 2)),
        (CHAT, GOOD | {"usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 107,
                                 "completion_tokens_details": {"reasoning_tokens": 100}}},
         (5, 102)),
        (CHAT, GOOD | {"usage": {"input_tokens": "5", "output_tokens": 2.0}}, (5, 2)),
        (CHAT, GOOD | {"usage": None}, (0, 0)),
        (CHAT, GOOD | {"error": None}, (5, 2)),
        (EMBEDDINGS, VECTOR, (4, 0)),
        (EMBEDDINGS, VECTOR | {"usage": {"total_tokens": 6}}, (6, 0)),
    ],
)  # fmt: skip
def test_tokens_are_counted_as_the_relay_counts(url, body, tokens) -> None:
    """Reasoning beside the output, other names, numbers as text, a total alone."""
    found = sent(Http((200, body)), item(url))
    assert found.is_good
    assert tokens == (found.input_tokens, found.output_tokens)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (400, {"error": {"message": "bad", "code": "x"}}, ("x", "bad")),
        (404, {"detail": "Not Found"}, ("", "Not Found")),
        (404, b"<html>", ("", NOT_JSON)),
        (302, b"", ("", "")),
    ],
)
def test_a_refusal_says_why_in_any_vendors_words(status, body, told) -> None:
    """Also one that is no JSON keeps its status."""
    found = sent(Http((status, body)), item())
    assert (status, *told) == (found.status, found.error, found.message)


def test_half_a_surrogate_pair_is_sent_as_json_can_say_it() -> None:
    """UTF-8 cannot, and servers refuse what is no UTF-8; the rest stays as it is."""
    http = Http((200, GOOD))
    text = "caf\u00e9 \ud83d"
    sent(http, item(messages=[{"role": "user", "content": text}]))
    head, _, body = http.asked[0].partition(b"\r\n\r\n")
    assert text == json.loads(body.decode())["messages"][0]["content"]
    assert b"content-length: %d" % len(body) in head


def test_what_is_no_answer_is_among_the_failures(tmp_path) -> None:
    """With its code, its message, and what came; and no other run takes it for done."""
    files = ResultFiles(tmp_path / "out", tmp_path / "errors", resume=False)
    files.write(sent(Http((200, {"choices": []})), item(), retries=0))
    files.close()
    assert "" == (tmp_path / "out").read_text()
    line = json.loads((tmp_path / "errors").read_text())
    message = "The upstream answered 200 without any choice."
    assert {"code": NO_ANSWER, "message": message, "is_final": False} == line["error"]
    assert {"choices": []} == line["response"]["body"]
    again = ResultFiles(tmp_path / "out", tmp_path / "errors", resume=True)
    assert set() == again.done
    again.close()


def test_an_answer_is_told_its_tier() -> None:
    """What an upstream served at is what is priced."""
    assert "flex" == read_answer(CHAT, 200, json.dumps(GOOD | {"service_tier": "flex"}).encode())[4]


RESPONSES = "/v1/responses"
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "service_tier": "flex",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}],
    "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
}


def test_a_response_is_an_answer_with_its_usage_and_tier() -> None:
    """As the relay reads it, and also where its limit cut it; one that failed is none."""
    read = read_answer(RESPONSES, 200, json.dumps(RESPONSE).encode())
    assert ("", "flex", 5, 2) == (
        read.code, read.served_at, read.usage.input_tokens, read.usage.output_tokens,
    )  # fmt: skip
    cut = RESPONSE | {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert "" == read_answer(RESPONSES, 200, json.dumps(cut).encode()).code
    failed = {"status": "failed", "error": {"code": "server_error", "message": "oh"}, "output": []}
    read = read_answer(RESPONSES, 200, json.dumps(failed).encode())
    assert ("server_error", "oh") == (read.code, read.message)


def test_a_response_is_priced_like_a_chat() -> None:
    """What it can cost at most and what it cost, without a relay."""
    prices = OfflinePrices("1,2")
    body = {"model": "m", "input": "hello", "max_output_tokens": 100}
    chat = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 100}
    worst, other = prices.worst_nanos(RESPONSES, body), prices.worst_nanos(CHAT, chat)
    assert worst is not None
    assert other is not None
    assert 100 * 2000 < worst < 100 * 2000 + 50_000
    assert abs(worst - other) < 20_000
    read = read_answer(RESPONSES, 200, json.dumps(RESPONSE).encode())
    assert read.usage is not None
    assert 5 * 1000 + 2 * 2000 == prices.cost_nanos(body, read.usage, None)
