"""What providers send, through a relay, as code written for Python's `openai` package meets it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
from tests.conftest import RelayProcess
from tests.providers.recorded_server import SECOND_TEXT
from tests.providers.recordings import ROWS, Row


@dataclass
class Seen:
    """What a program got out of an answer. `failure`: the error it ended in."""

    text: str = ""
    finish_reason: str | None = None
    tool_calls: list[dict[str, str]] = field(default_factory=list)
    usage: list[int] | None = None
    failure: openai.APIError | None = None


@pytest.fixture(scope="module")
def client(recorded: RelayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{recorded.url}/v1", api_key=recorded.key, max_retries=0, timeout=30
    ) as client:
        yield client


def text_of(content: Any) -> str:
    """Content is a text, or a list of parts (Mistral)."""
    if isinstance(content, list):
        parts = [each if isinstance(each, dict) else each.model_dump() for each in content]
        return "".join(part.get("text") or "" for part in parts if part["type"] == "text")
    return content or ""


def told(usage: Any) -> list[int] | None:
    if usage is None:
        return None
    return [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens]


def read_whole(client: openai.OpenAI, asked: dict[str, Any]) -> Seen:
    answer = client.chat.completions.create(**asked)
    choice = answer.choices[0]
    calls = [
        {"name": call.function.name, "arguments": call.function.arguments}
        for call in choice.message.tool_calls or ()
    ]
    return Seen(text_of(choice.message.content), choice.finish_reason, calls, told(answer.usage))


def read_stream(client: openai.OpenAI, asked: dict[str, Any]) -> Seen:
    seen = Seen()
    calls: dict[int, dict[str, str]] = {}
    try:
        for chunk in client.chat.completions.create(**asked):
            seen.usage = told(chunk.usage) or seen.usage
            for choice in chunk.choices or ():
                if choice.index:
                    continue
                seen.finish_reason = choice.finish_reason or seen.finish_reason
                delta = choice.delta
                if delta is None:
                    continue  # filter results alone
                seen.text += text_of(delta.content)
                for piece in delta.tool_calls or ():
                    call = calls.setdefault(piece.index, {"name": "", "arguments": ""})
                    call["name"] += piece.function.name or ""
                    call["arguments"] += piece.function.arguments or ""
    except openai.APIError as error:
        seen.failure = error
    seen.tool_calls = list(calls.values())
    return seen


def read(client: openai.OpenAI, row: Row) -> Seen:
    asked: dict[str, Any] = {"model": f"at-{row.id}", **row.asked}
    # What the package has no argument of its own for.
    extra = {name: asked.pop(name) for name in ("n_predict",) if name in asked}
    try:
        return (read_stream if row.stream else read_whole)(client, asked | {"extra_body": extra})
    except openai.APIError as error:
        return Seen(failure=error)


CHATS = [row for row in ROWS if row.endpoint == "chat/completions"]
VECTORS = [row for row in ROWS if row.endpoint == "embeddings"]


@pytest.mark.parametrize("row", CHATS, ids=lambda row: row.id)
def test_chats(client: openai.OpenAI, row: Row) -> None:
    """The package reads the text, tool calls, finish reason and usage that the provider sent, or
    raises what it says went wrong."""
    seen = read(client, row)
    if row.client_status != 200:
        check_refusal(row, seen)
        return
    if row.fails_over:
        assert (None, SECOND_TEXT) == (seen.failure, seen.text)
        return
    if row.ends_in_error is not None:
        assert seen.failure is not None, "a program takes it for complete"
        assert row.ends_in_error in str(seen.failure)
        assert row.text == seen.text
        return
    assert seen.failure is None
    if row.text is not None:
        assert row.text == seen.text
    assert row.tool_calls == seen.tool_calls
    if row.finish_reason is not None:
        assert row.finish_reason == seen.finish_reason
    if row.told_usage is not None:
        assert row.told_usage == seen.usage


def check_refusal(row: Row, seen: Seen) -> None:
    assert isinstance(seen.failure, openai.APIStatusError), seen
    assert row.client_status == seen.failure.status_code
    assert row.error is not None
    assert row.error.get("message", "") in str(seen.failure)
    for name in ("code", "param", "type"):
        if name in row.error:
            assert (row.error[name] or None) == getattr(seen.failure, name)


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: row.id)
def test_vectors(client: openai.OpenAI, row: Row) -> None:
    """The package reads every vector, or raises what it says went wrong."""
    try:
        answer = client.embeddings.create(model=f"at-{row.id}", **row.asked)
    except openai.APIError as error:
        check_refusal(row, Seen(failure=error))
        return
    assert row.vectors == len(answer.data)
    assert all(isinstance(each, float | int) for each in answer.data[0].embedding)
