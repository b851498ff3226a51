"""The `openai` package's `responses.connect` against a relay, over sockets."""

from __future__ import annotations

import json

import openai
import pytest
from openai.types.responses import ResponsesServerEvent
from pydantic import TypeAdapter

pytest.importorskip("wsproto", reason="`make .venv/.tested` installs it")
pytest.importorskip("websockets", reason="`make .venv/.tested` installs it")

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

EVENTS = TypeAdapter(ResponsesServerEvent)


@pytest.fixture
def client(relay):
    with openai.OpenAI(base_url=f"{relay.url}/v1", api_key=relay.key, max_retries=0) as client:
        yield client


def ended(connection):
    """All events of one response."""
    events = []
    for event in connection:
        EVENTS.validate_json(json.dumps(event.to_dict()), strict=True)
        events.append(event)
        if event.type in ("response.completed", "response.failed", "error"):
            return events
    raise AssertionError("the connection ended before the response")


@pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning")
def test_a_conversation_that_is_kept_nowhere(client, relay) -> None:
    """Three turns over one connection, each going on from the last; what they cost is in the books,
    and another connection knows nothing of them."""
    with client.responses.connect() as connection:
        connection.response.create(model="o3", input="one", store=False)
        last = ended(connection)[-1].response
        for turn in ("two", "three"):
            connection.response.create(
                model="o3", input=turn, store=False, previous_response_id=last.id
            )
            events = ended(connection)
            assert "response.created" == events[0].type
            assert last.id == events[-1].response.previous_response_id
            assert events[-1].response.usage.input_tokens > last.usage.input_tokens
            last = events[-1].response
        text = "".join(each.delta for each in events if each.type == "response.output_text.delta")
        assert last.output_text == text
    with client.responses.connect() as connection:
        connection.response.create(
            model="o3", input="four", store=False, previous_response_id=last.id
        )
        (error,) = ended(connection)
        assert (404, "previous_response_not_found") == (error.status, error.error.code)
        connection.response.create(model="o3", input="anew", store=False)
        assert "completed" == ended(connection)[-1].response.status
    calls = relay.cli("calls", "list")["data"]
    answered = [each for each in calls if each["status"] == 200][:4]
    assert {"responses"} == {each["endpoint"] for each in answered}
    assert all(each["charged_nanos"] > 0 for each in answered)


def test_without_a_good_key_nothing_is_switched(relay) -> None:
    """401 before the handshake is over, in OpenAI's words."""
    url = relay.url.replace("http", "ws")
    headers = {"authorization": "Bearer mk-none"}
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{url}/v1/responses", additional_headers=headers)
    assert 401 == refused.value.response.status_code
    assert b"Invalid API key" in refused.value.response.body


def test_a_relay_that_stops_ends_its_connections(start_relay) -> None:
    """An idle connection is closed with the code for a restart."""
    relay = start_relay()
    url = relay.url.replace("http", "ws")
    headers = {"authorization": f"Bearer {relay.key}"}
    with connect(f"{url}/v1/responses", additional_headers=headers) as socket:
        relay.stop()
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
        assert 1012 == closed.value.rcvd.code
