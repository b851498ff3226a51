"""The `openai` package's own methods for what is kept of responses, over sockets."""

from __future__ import annotations

import time

import openai
import pytest

from merino.simulator.server import simulator_in_thread

CONFIG = """
{section}
[[deployments]]
name = "far"
base_url = "{url}"
upstream_model = "o3-mini!output=12,reasoning=2,ttft=1ms,tps=60"
price = {{ input = 1.0, output = 2.0 }}
account_price = {{ input = 1.0, output = 2.0 }}
endpoints = [{endpoints}]

[aliases.far]
deployments = ["far"]
"""
RELAY = '[responses]\nstore = "relay"'
ROADS = [
    pytest.param(("", '"responses"'), id="an upstream keeps it"),
    pytest.param((RELAY, '"responses"'), id="the relay keeps it"),
    pytest.param((RELAY, '"chat/completions"'), id="the relay keeps what a chat said"),
]


@pytest.fixture(params=ROADS)
def client(request, start_relay):
    section, endpoints = request.param
    with simulator_in_thread() as upstream:
        relay = start_relay(
            CONFIG.format(url=upstream.base_url, section=section, endpoints=endpoints)
        )
        with openai.OpenAI(base_url=f"{relay.url}/v1", api_key=relay.key, max_retries=0) as made:
            yield made


def test_responses_of_the_package(client) -> None:
    """Made, gone on from, read, streamed again, listed page by page, cancelled in the background
    and deleted."""
    first = client.responses.create(model="far", input="I am Ada.")
    second = client.responses.create(model="far", input="Who am I?", previous_response_id=first.id)
    assert first.id == second.previous_response_id
    assert second.output_text == client.responses.retrieve(second.id).output_text
    items = list(client.responses.input_items.list(first.id, limit=1, order="asc"))
    assert ["user"] == [item.role for item in items]
    client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.responses.retrieve(second.id)


def test_the_background_of_the_package(client) -> None:
    """Polled until it has ended; streamed, left and resumed; cancelled."""
    made = client.responses.create(model="far", input="Hi", background=True)
    while made.status in ("queued", "in_progress"):
        time.sleep(0.05)
        made = client.responses.retrieve(made.id)
    assert "completed" == made.status
    assert made.usage.output_tokens >= 12

    seen = []
    stream = client.responses.create(model="far", input="Hi", background=True, stream=True)
    for event in stream:
        seen.append(event)
        if len(seen) == 4:
            stream.close()
            break
    response_id = seen[0].response.id
    after = seen[-1].sequence_number
    seen += client.responses.retrieve(response_id, stream=True, starting_after=after)
    assert list(range(len(seen))) == [event.sequence_number for event in seen]
    assert "response.completed" == seen[-1].type

    made = client.responses.create(model="far", input="Hi", background=True)
    assert client.responses.cancel(made.id).status in ("cancelled", "completed")


def test_conversations_of_the_package(client) -> None:
    """What is said in a conversation is there for the next call, and in its items."""
    talk = client.conversations.create(
        items=[{"type": "message", "role": "user", "content": "One"}], metadata={"a": "b"}
    )
    answer = client.responses.create(model="far", input="Two", conversation=talk.id)
    assert talk.id == answer.conversation.id
    items = list(client.conversations.items.list(talk.id, order="asc", limit=2))
    said = [item.content[0].text for item in items if item.type == "message"]
    assert ["One", "Two"] == said[:2]
    assert {"c": "d"} == client.conversations.update(talk.id, metadata={"c": "d"}).metadata
    item = client.conversations.items.retrieve(items[0].id, conversation_id=talk.id)
    assert "One" == item.content[0].text
    client.conversations.items.delete(items[0].id, conversation_id=talk.id)
    assert client.conversations.delete(talk.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(talk.id)
