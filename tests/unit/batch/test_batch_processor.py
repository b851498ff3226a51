"""The queue in memory: every request has one result, whatever its answer, and no answer is lost."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from merino.batch import BatchProcessor


def answer(content: str) -> Any:
    message = SimpleNamespace(content=content)
    return SimpleNamespace(choices=[SimpleNamespace(message=message)], usage=None)


class Client:
    """An `AsyncOpenAI` that answers as `reply` says."""

    def __init__(self, reply) -> None:
        self.reply = reply
        self.retries = None
        self.keys: list[str] = []
        self.at_once = self.most = 0
        self.chat = SimpleNamespace(
            completions=SimpleNamespace(with_raw_response=SimpleNamespace(create=self.create))
        )

    def with_options(self, *, max_retries: int) -> Client:
        self.retries = max_retries
        return self

    async def create(self, *, messages, model, extra_headers):
        self.keys.append(extra_headers["Idempotency-Key"])
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await asyncio.sleep(0)
            found = self.reply(messages[0]["content"])
            if asyncio.iscoroutine(found):
                found = await found
        finally:
            self.at_once -= 1
        return SimpleNamespace(parse=lambda: found, retries_taken=0)


def filled(client: Client, count: int, **options: int) -> BatchProcessor:
    processor = BatchProcessor(client, **options)
    for number in range(count):
        processor.enqueue(f"text {number}")
    return processor


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_every_text_has_a_result(count) -> None:
    """However many there are, in their order."""
    client = Client(answer)
    processor = filled(client, count, max_concurrent=7)
    results = asyncio.run(processor.process_batch())
    assert [f"text {number}" for number in range(count)] == [each.content for each in results]
    assert client.most <= 7
    assert {"queued": 0, "running": 0, "completed": count, "failed": 0} == processor.get_status()


NO_ANSWERS = [
    SimpleNamespace(choices=[], usage=None),
    SimpleNamespace(choices=None, usage=None),
    SimpleNamespace(choices=None, error={"message": "the provider failed"}),
    SimpleNamespace(choices=[SimpleNamespace(message=None)], usage=None),
    SimpleNamespace(),
    "<html>",
]


@pytest.mark.parametrize("odd", NO_ANSWERS, ids=str)
def test_an_answer_that_is_none_costs_nobody_else_theirs(odd) -> None:
    """That one has an error, and a 200 that is no answer is none."""
    results = asyncio.run(
        filled(Client(lambda text: odd if text == "text 1" else answer(text)), 3).process_batch()
    )
    assert ["text 0", None, "text 2"] == [each.content for each in results]
    assert "no choices" in (results[1].error or "")


def test_whatever_is_raised_is_that_requests_error() -> None:
    """Also what the package raises for fields it does not know."""

    def reply(text: str):
        if text == "text 0":
            raise openai.OpenAIError("refused")
        if text == "text 1":
            raise TypeError("unexpected keyword")
        return answer(text)

    results = asyncio.run(filled(Client(reply), 3).process_batch())
    assert ["refused", "unexpected keyword", None] == [each.error for each in results]


def test_the_clients_loop_is_the_only_one() -> None:
    """It is told how often; each request is made once, under a key of its own."""

    def refuse(_: str):
        raise openai.OpenAIError("down")

    client = Client(refuse)
    asyncio.run(filled(client, 5, retry_attempts=3).process_batch())
    assert 3 == client.retries
    assert 5 == len(client.keys) == len(set(client.keys))


def test_several_event_loops() -> None:
    """One `asyncio.run` a batch is the usual loop of a script."""
    processor = BatchProcessor(Client(answer), max_concurrent=2)
    for turn in range(3):
        for number in range(10):
            processor.enqueue(f"{turn}-{number}")
        results = asyncio.run(processor.process_batch())
        assert [f"{turn}-{number}" for number in range(10)] == [each.content for each in results]


def test_a_cancelled_batch_keeps_what_was_paid() -> None:
    """The next call hands it out, and asks for the rest alone, under the same keys."""
    waits = True

    async def later(text: str):
        if waits and text >= "text 2":
            await asyncio.sleep(3600)
        return answer(text)

    client = Client(later)
    processor = filled(client, 4, max_concurrent=4)

    async def cut() -> None:
        async with asyncio.timeout(0.05):
            await processor.process_batch()

    with pytest.raises(TimeoutError):
        asyncio.run(cut())
    assert {"queued": 2, "running": 0, "completed": 2, "failed": 0} == processor.get_status()
    waits = False
    results = asyncio.run(processor.process_batch())
    assert [f"text {number}" for number in range(4)] == [each.content for each in results]
    assert 6 == len(client.keys)
    assert 4 == len(set(client.keys))


def test_several_at_once_ask_nothing_twice() -> None:
    """In one loop: each request is answered by one of them, and handed out by it."""
    client = Client(answer)
    processor = filled(client, 20, max_concurrent=2, batch_size=3)

    async def scenario() -> list[str | None]:
        found = await asyncio.gather(*(processor.process_batch() for _ in range(3)))
        return [each.content for results in found for each in results]

    assert sorted(f"text {number}" for number in range(20)) == sorted(
        content or "" for content in asyncio.run(scenario())
    )
    assert 20 == len(client.keys) == len(set(client.keys))


def test_loops_of_several_threads_share_a_queue() -> None:
    """Whatever they add and answer meanwhile, every request is asked once and handed out once."""
    client = Client(answer)
    processor = BatchProcessor(client, max_concurrent=2, batch_size=3)
    found: list[str] = []

    def work(name: int) -> None:
        for number in range(30):
            processor.enqueue({"messages": [{"content": "x"}], "custom_id": f"{name}-{number}"})
        found.extend(each.custom_id for each in asyncio.run(processor.process_batch()))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.extend(each.custom_id for each in asyncio.run(processor.process_batch()))
    assert sorted(f"{name}-{number}" for name in range(4) for number in range(30)) == sorted(found)
    assert 120 == len(set(client.keys)) == len(client.keys)
    assert {"queued": 0, "running": 0, "completed": 120, "failed": 0} == processor.get_status()
