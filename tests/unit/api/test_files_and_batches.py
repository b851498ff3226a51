"""`/v1/files` and `/v1/batches` in this process: what is refused, and in whose words."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.in_process import Client, InProcess, in_process

LINE = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "o3"}}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("relay")) as relay:
        yield relay


@pytest.fixture(scope="module")
def caller(relay: InProcess) -> Client:
    return relay.client(headers={"authorization": f"Bearer {relay.key}"})


def uploaded(caller: Client) -> str:
    files = {"file": ("in.jsonl", json.dumps(LINE).encode())}
    answer = caller.post("/v1/files", data={"purpose": "batch"}, files=files)
    assert 200 == answer.status_code, answer.text
    return answer.json()["id"]


@pytest.mark.parametrize(
    ("data", "files"),
    [
        ({"purpose": "batch"}, None),
        ({}, {"file": ("a", b"{}")}),
        ({"purpose": "theft"}, {"file": ("a", b"{}")}),
        ({"purpose": "batch"}, {"file": ("a", b"")}),
        ({"purpose": "batch", "expires_after": "soon"}, {"file": ("a", b"{}")}),
    ],
)
def test_uploads_that_are_none(caller, data, files) -> None:
    """Each is refused with 400 in OpenAI's shape, under an id."""
    answer = caller.post("/v1/files", data=data, files=files)
    assert 400 == answer.status_code, answer.text
    assert answer.json()["error"]["message"]
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b"[" * 9000, b'{"a":1,"a":2}', b"{}", b'{"endpoint": 7}']
)
def test_orders_that_are_none(caller, body) -> None:
    """Whatever is sent for one."""
    assert 400 == caller.post("/v1/batches", content=body).status_code


def test_a_file_is_kept_read_and_deleted(relay, caller) -> None:
    """By its owner alone; what is gone, or never was, is 404."""
    name = uploaded(caller)
    assert LINE == json.loads(caller.get(f"/v1/files/{name}/content").content)
    assert name in [each["id"] for each in caller.get("/v1/files").json()["data"]]
    with relay.client() as stranger:
        assert 401 == stranger.get(f"/v1/files/{name}").status_code
    relay.cli("accounts", "create", "--name", "other")
    key = relay.cli("keys", "create", "--name", "other", "--account", "other")["key"]
    with relay.client(headers={"authorization": f"Bearer {key}"}) as other:
        assert 404 == other.get(f"/v1/files/{name}/content").status_code
    assert caller.request("DELETE", f"/v1/files/{name}").json()["deleted"]
    assert 404 == caller.get(f"/v1/files/{name}").status_code
    assert 404 == caller.get("/v1/batches/batch_none").status_code
    assert 405 == caller.request("PUT", "/v1/files").status_code


@pytest.mark.parametrize("limit", ["many", "0", "-1", "9" * 5000])
def test_odd_limits_of_lists(caller, limit) -> None:
    """They are refused, or read as the nearest that there is; never a fault."""
    for path in ("/v1/files", "/v1/batches"):
        assert caller.get(path, params={"limit": limit}).status_code in (200, 400)
