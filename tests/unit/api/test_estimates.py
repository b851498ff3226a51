"""What a call would cost, told for the body of any endpoint, without calling anyone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.in_process import Answered, InProcess, in_process
from tests.unit.api.test_kept_state import MODELS, RELAY_KEEPS, respond

from merino.domain.errors import InvalidCall
from merino.wire.served import PATHS, SERVED, endpoint_meant

CHAT = {"model": "native", "messages": [{"role": "user", "content": "Hi"}]}
VECTORS = """
[[deployments]]
name = "vectors"
provider = "simulator"
upstream_model = "text-embedding-3-small"
[aliases.vectors]
deployments = ["vectors"]
"""


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("relay"), MODELS + VECTORS + RELAY_KEEPS) as relay:
        yield relay


def estimate(relay: InProcess, body: dict[str, Any], query: str = "") -> dict[str, Any]:
    answer = estimated(relay, body, query)
    assert 200 == answer.status, answer.body
    return answer.json()


def estimated(relay: InProcess, body: dict[str, Any], query: str = "") -> Answered:
    return relay.ask(f"/v1/estimate{query}", body)


def test_a_response_and_a_chat_of_the_same_words_cost_alike(relay) -> None:
    """Each body is told by what it has; the bound holds for what the call comes to."""
    limit = {"max_output_tokens": 100}
    chat = estimate(relay, CHAT | {"max_completion_tokens": 100})
    response = estimate(relay, {"model": "native", "input": CHAT["messages"]} | limit)
    assert ("/v1/chat/completions", "/v1/responses") == (chat["endpoint"], response["endpoint"])
    assert chat["output_tokens_max"] == response["output_tokens_max"] == 100
    assert abs(chat["input_tokens"] - response["input_tokens"]) < 16
    said = respond(relay, "native", CHAT["messages"], **limit)
    assert said["usage"]["input_tokens"] <= response["input_tokens"]


def test_what_a_response_goes_on_from_is_counted(relay) -> None:
    """All that the call would bring along, and it is looked up for its own account only."""
    alone = estimate(relay, {"model": "native", "input": "And then?"})
    first = respond(relay, "native", "Once upon a time, " * 100)
    more = {"model": "native", "input": "And then?", "previous_response_id": first["id"]}
    assert estimate(relay, more)["input_tokens"] > alone["input_tokens"] + 300
    refused = estimated(relay, more | {"previous_response_id": "resp_of_nobody"})
    assert (404, "previous_response_not_found") == (refused.status, refused.error["code"])


def test_a_body_of_another_endpoint_is_told_by_the_query(relay) -> None:
    """An embedding's `input` looks like a response's."""
    body = {"model": "vectors", "input": "Hi"}
    told = estimate(relay, body, "?endpoint=/v1/embeddings")
    assert ("/v1/embeddings", 0) == (told["endpoint"], told["output_tokens_max"])
    refused = estimated(relay, body, "?endpoint=/v1/sheep")
    assert (400, "invalid_value") == (refused.status, refused.error["code"])


def test_nothing_is_called_and_nothing_held(relay) -> None:
    """The balance is what it was, and no record is left."""
    before = relay.balance_nanos()
    estimate(relay, {"model": "native", "input": "Hi", "background": True, "stream": True})
    assert before == relay.balance_nanos()


@given(st.sets(st.sampled_from(("messages", "input", "previous_response_id", "conversation"))))
def test_a_body_is_told_by_its_fields(names) -> None:
    """`messages` are a chat's, whatever else there is; without any of them it is no call."""
    fields = {name: msgspec.Raw(b"null") for name in {*names, "model"}}
    if not names:
        with pytest.raises(InvalidCall, match="'input' of a response"):
            endpoint_meant("", fields)
    else:
        found = endpoint_meant("", fields).name
        assert ("chat/completions" if "messages" in names else "responses") == found
    for path, endpoint in PATHS.items():
        assert endpoint is endpoint_meant(f"endpoint={path}", fields)
        assert SERVED[endpoint.name] is endpoint_meant(f"endpoint={endpoint.name}", fields)
