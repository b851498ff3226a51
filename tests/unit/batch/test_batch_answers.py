"""A batch reads answers as the relay does: what is no answer is a failure, whatever its status."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from merino.batch.answers import NO_ANSWER, NOT_JSON, read_answer
from merino.batch.items import Item
from merino.batch.results import Result, ResultFiles, may_pass
from merino.batch.sending import HttpSender
from merino.client.engine import ClientPolicy, Endpoint, Engine

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
GOOD = {
    "choices": [{"message": {"content": "hi"}}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
VECTOR = {"data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 4, "total_tokens": 4}}


def item(url: str = CHAT, **body: Any) -> Item:
    return Item(0, 1, "a", url, {"model": "m", "messages": [], **body})


class Http:
    """Answers in turn, the last one for ever."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []

    async def send(self, origin: str, data: bytes) -> Any:
        self.asked.append(data)
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

        class Response:
            headers: tuple[Any, ...] = ()

            async def read(self, bytes_max: int) -> bytes:
                return body if isinstance(body, bytes) else json.dumps(body).encode()

            def close(self) -> None:
                pass

        response = Response()
        response.status = status  # pyright: ignore[reportAttributeAccessIssue]
        return response


def sent(http: Http, what: Item, retries: int = 2) -> Result:
    policy = ClientPolicy(
        max_retries=retries, retry_share=1.0, backoff_base_s=0.001, backoff_max_s=0.002
    )
    engine = Engine([Endpoint("http://x/v1", "k")], policy)
    sender = HttpSender(http, "o", "http://x/v1", "k", engine, cost_of=lambda _, used, tier: 1)
    return asyncio.run(sender.send(what, "key-1", lambda: None))


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
    (EMBEDDINGS, {"data": []}, NO_ANSWER, "The upstream answered 200 without any data."),
    (EMBEDDINGS, {"error": {"message": "busy", "code": None}}, NO_ANSWER, "busy"),
    (CHAT, b"", NOT_JSON, ""),
    (CHAT, b"<html>", NOT_JSON, NOT_JSON),
    (CHAT, b'{"choices":[{"mess', NOT_JSON, NOT_JSON),
]  # fmt: skip


@pytest.mark.parametrize(("url", "body", "code", "message"), PASSING)
def test_a_200_that_is_no_answer_is_asked_again(url, body, code, message) -> None:
    """With the same key; and if it stays so, it is a failure that a later run asks for again."""
    http = Http((200, body), (200, VECTOR if url == EMBEDDINGS else GOOD))
    found = sent(http, item(url))
    assert found.is_good
    assert 2 == len(http.asked)
    assert http.asked[0] == http.asked[1]
    stays = sent(Http((200, body)), item(url))
    assert not stays.is_good
    assert (code, message) == (stays.error, stays.message)
    assert may_pass(stays.status, stays.error)
    assert not stays.is_of_everybody


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"message": "too long", "code": "context_length_exceeded"}, "context_length_exceeded"),
        ({"message": "bad", "type": "invalid_request_error"}, "invalid_request_error"),
        ({"message": "bad", "code": 400}, "400"),
        ({"message": "no such model", "code": 404}, "404"),
        ({"message": "blocked", "code": "content_filter"}, "content_filter"),
    ],
)
def test_an_item_that_is_refused_under_200_is_done(error, code) -> None:
    """It is asked once, and is in the file of failures with what was said."""
    http = Http((200, {"error": error}))
    found = sent(http, item())
    assert 1 == len(http.asked)
    assert (False, code, error["message"]) == (found.is_good, found.error, found.message)
    assert not may_pass(found.status, found.error)


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
    assert found.is_of_everybody
    assert may_pass(found.status, found.error)


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
    assert {"code": NO_ANSWER, "message": message} == line["error"]
    assert {"choices": []} == line["response"]["body"]
    again = ResultFiles(tmp_path / "out", tmp_path / "errors", resume=True)
    assert set() == again.done
    again.close()


def test_an_answer_is_told_its_tier() -> None:
    """What an upstream served at is what is priced."""
    assert "flex" == read_answer(CHAT, 200, json.dumps(GOOD | {"service_tier": "flex"}).encode())[4]
