"""The doctor asks every vendor as that one is asked: where its key goes, and what it says."""

from __future__ import annotations

import json

import pytest
from tests.recording_upstream import Recorded, Told, recording

from merino.doctor.credential import Upstream, check_upstream

LISTS = {"anthropic": {"data": []}, "gemini": {"models": []}}
KEYS = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}
REFUSED = {
    "anthropic": (401, {"type": "error", "error": {
        "type": "authentication_error", "message": "invalid x-api-key"}}),
    "gemini": (400, {"error": {"code": 400, "status": "INVALID_ARGUMENT",
                               "message": "API key not valid. Please pass a valid API key."}}),
}  # fmt: skip


@pytest.mark.parametrize("provider", KEYS)
@pytest.mark.parametrize(("key", "severity"), [("right", "ok"), ("wrong", "problem")])
def test_a_credential_is_tried_where_it_goes(provider, key, severity) -> None:
    """With the list of models, which costs nothing; a wrong one is a problem whatever its
    status."""

    def answer(request: Recorded) -> Told:
        status, body = REFUSED[provider]
        if request.headers.get(KEYS[provider]) == "right":
            status, body = 200, LISTS[provider]
        return Told(status, {"content-type": "application/json"}, [json.dumps(body).encode()])

    with recording(answer) as server:
        upstream = Upstream(f"{server.address}/v1", key, (), None, "it", provider=provider)
        findings = check_upstream(upstream, {}, 5.0)
    assert [(severity, "credential-rejected")] == [
        (each.severity, each.id) for each in findings if each.id == "credential-rejected"
    ]
    assert {"/v1/models"} == {each.target for each in server.seen}
