"""Other vendors' dialects and OpenAI's unserved paths are told in a shape their clients show."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merino.api.elsewhere import foreign_answer, is_foreign, not_served

ANTHROPIC = (
    b"/v1/messages",
    b"/v1/messages?beta=true",
    b"/v1/messages/count_tokens",
    b"/v1/messages/batches/msgbatch_1/results",
    b"/v1/complete",
    b"/v1/v1/messages",
)
GEMINI = (
    b"/v1beta/models/gemini-2.5-pro:generateContent",
    b"/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
    b"/v1/models/gemini-2.5-flash:countTokens",
    b"/v1alpha/models/m:embedContent",
    b"/v1beta/tunedModels/mine:generateContent",
    b"/v1/v1beta/models/m:generateContent",
)
OURS = (
    b"/v1/chat/completions",
    b"/v1/embeddings",
    b"/v1/models",
    b"/v1/models/o3",
    b"/v1/models/openai/o3",
    b"/v1/calls/req_1",
    b"/v1/messagesque",
    b"/v1/completions",
    b"/v1beta/models/m",
    b"/v1/chat/completions?next=/v1/messages",
)


@pytest.mark.parametrize("target", ANTHROPIC)
def test_anthropics_paths_are_answered_as_anthropic_does(target) -> None:
    """Its clients show `error.message` of a body whose type is `error`."""
    assert is_foreign(target)
    message, body = foreign_answer(target)
    expected = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    assert expected == json.loads(body)
    assert "/v1/messages" in message


@pytest.mark.parametrize("target", GEMINI)
def test_geminis_paths_are_answered_as_google_does(target) -> None:
    """Its clients show the code, the status and the message of `error`."""
    assert is_foreign(target)
    message, body = foreign_answer(target)
    expected = {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}
    assert expected == json.loads(body)
    assert "/v1/chat/completions" in message


@pytest.mark.parametrize("target", OURS)
def test_paths_of_ours_are_nobody_elses(target) -> None:
    """Models whose names have colons or slashes, and what stands in a query, change nothing."""
    assert not is_foreign(target)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (b"/v1/responses/resp_1/steer", "POST .../cancel"),
        (b"/v1/completions", "as a user message"),
        (b"/v1/conversations/conv_1/turns", "POST .../items"),
        (b"/v1/threads/t/runs", "keep the messages yourself"),
        (b"/v1/audio/speech", "ask their provider"),
        (b"/v1/images/edits", "ask its provider"),
        (b"/v1/chat/completions/chatcmpl-1", "GET /v1/calls/"),
        (b"/v1/uploads", "POST /v1/files"),
        (b"/v1/whatever", "GET /v1/models"),
        (b"/v1/", "POST /v1/chat/completions"),
    ],
)
def test_an_unserved_path_says_how_that_client_gets_on(path, said) -> None:
    """The path that was asked, and what to use in its place."""
    message = not_served(path)
    assert f"Unknown path '{path.decode()}'." in message
    assert said in message


@given(st.binary(max_size=400))
def test_any_path_gets_one_short_sentence_that_is_text(path) -> None:
    """No bytes of a caller break the answer or make it long."""
    assert len(not_served(path)) < 600
    assert len(foreign_answer(path)[1]) < 600
