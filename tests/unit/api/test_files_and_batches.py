"""`/v1/files` and `/v1/batches` in this process: what is refused, and in whose words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.in_process import Client, InProcess, in_process

from merino.api import batches
from merino.control import batches as control_batches

LINE = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "o3"}}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("relay")) as relay:
        yield relay


@pytest.fixture(scope="module")
def caller(relay: InProcess) -> Client:
    return relay.client(headers={"authorization": f"Bearer {relay.key}"})


def account_of_its_own(relay: InProcess, name: str) -> Client:
    relay.cli("accounts", "create", "--name", name)
    key = relay.cli("keys", "create", "--name", name, "--account", name)["key"]
    return relay.client(headers={"authorization": f"Bearer {key}"})


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} == set(error)
    assert error["message"]
    return error


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


# -- uploads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        (None, "invalid_form"),
        ("application/json", "invalid_form"),
        ("application/x-www-form-urlencoded", "invalid_form"),
        ("multipart/form-data", "invalid_form"),
        ("multipart/form-data; boundary=", "invalid_form"),
        ("multipart/form-data; boundary=other", "invalid_form"),
        ("Multipart/Form-Data; boundary=x", None),
        ("multipart/form-data; boundary=x; charset=utf-8", None),
    ],
)
def test_an_upload_says_what_it_is(caller: Client, content_type: str | None, code: str) -> None:
    """The type is read as HTTP has it, in any case; what is no form is told how one is made."""
    part = b'--x\r\ncontent-disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
    form = part % (b"purpose", b"", b"batch") + part % (b"file", b'; filename="a"', b"{}")
    headers = {} if content_type is None else {"content-type": content_type}
    answer = caller.post("/v1/files", content=form + b"--x--\r\n", headers=headers)
    if code is None:
        assert (200, "a", 2) == (
            answer.status_code,
            answer.json()["filename"],
            answer.json()["bytes"],
        )
    else:
        assert (400, code) == (answer.status_code, error_of(answer)["code"])


def test_a_form_has_one_file_and_few_fields(caller: Client) -> None:
    """What is more than that is refused before it is read."""
    two = [("file", ("a", b"{}")), ("file", ("b", b"{}"))]
    for data, files in (
        ({"purpose": "batch"}, two),
        ({f"field{number}": "x" for number in range(20)}, two[:1]),
    ):
        answer = caller.post("/v1/files", data=data, files=files)
        assert (400, "invalid_form") == (answer.status_code, error_of(answer)["code"])


@pytest.mark.parametrize("is_json", [False, True])
def test_how_long_a_file_is_kept_can_be_asked(caller: Client, is_json: bool) -> None:
    """In either way that forms can say it; beyond the bounds it is refused by its field."""

    def asked(seconds: str, anchor: str = "created_at") -> httpx2.Response:
        fields = {"expires_after[anchor]": anchor, "expires_after[seconds]": seconds}
        if is_json:
            fields = {"expires_after": json.dumps({"anchor": anchor, "seconds": int(seconds)})}
        return caller.post(
            "/v1/files", data={"purpose": "batch"} | fields, files={"file": ("a", b"{}")}
        )

    kept = asked("7200").json()
    assert 7200 == kept["expires_at"] - kept["created_at"]
    for seconds, anchor, param in (
        ("3599", "created_at", "expires_after.seconds"),
        ("2592001", "created_at", "expires_after.seconds"),
        ("7200", "last_active_at", "expires_after.anchor"),
    ):
        answer = asked(seconds, anchor)
        assert (400, param) == (answer.status_code, error_of(answer)["param"])


def test_a_file_that_is_too_large_is_not_read_to_its_end(
    caller: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its form, and then its size."""
    files = {"file": ("a", b"x" * 5000)}
    with monkeypatch.context() as patch:
        patch.setattr(batches, "_FORM_BYTES_MAX", 4000)
        answer = caller.post("/v1/files", data={"purpose": "batch"}, files=files)
    assert (413, "request_too_large", "file") == (
        answer.status_code,
        error_of(answer)["code"],
        error_of(answer)["param"],
    )
    with monkeypatch.context() as patch:
        patch.setattr(control_batches, "FILE_BYTES_MAX", 4000)
        answer = caller.post("/v1/files", data={"purpose": "batch"}, files=files)
    assert (413, "file") == (answer.status_code, error_of(answer)["param"])


def test_files_come_in_pages(relay: InProcess) -> None:
    """Newest first or oldest first, one after the other without a gap; a page knows its ends."""
    caller = account_of_its_own(relay, "pages")
    names = [uploaded(caller) for _ in range(5)]
    for order, expected in (("asc", names), ("desc", names[::-1])):
        got, after, more = [], None, True
        while more:
            query = {"limit": "2", "order": order} | ({"after": after} if after else {})
            page = caller.get("/v1/files", params=query).json()
            ids = [each["id"] for each in page["data"]]
            assert ("list", ids[0], ids[-1]) == (page["object"], page["first_id"], page["last_id"])
            got, after, more = got + ids, page["last_id"], page["has_more"]
        assert expected == got
    assert [] == caller.get("/v1/files", params={"purpose": "batch_output"}).json()["data"]
    assert 400 == caller.get("/v1/files", params={"order": "up"}).status_code


def test_content_that_is_gone_is_told_so(relay: InProcess, caller: Client) -> None:
    """The row is there, its bytes are not: 404 with a code of its own."""
    name = uploaded(caller)
    relay.store.files.path(name).unlink()
    answer = caller.get(f"/v1/files/{name}/content")
    assert (404, "file_content_missing") == (answer.status_code, error_of(answer)["code"])
    assert 200 == caller.get(f"/v1/files/{name}").status_code


# -- orders -----------------------------------------------------------------------------------------


def ordered(caller: Client, **more: Any) -> httpx2.Response:
    order = {
        "input_file_id": uploaded(caller),
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    return caller.post("/v1/batches", json=order | more)


def test_an_order_is_answered_as_openai_does(caller: Client) -> None:
    """Every field of its object; times in seconds, and none for what has not happened."""
    batch = ordered(caller, metadata={"who": "me"}).json()
    assert ("batch", "validating", "24h") == (
        batch["object"],
        batch["status"],
        batch["completion_window"],
    )
    assert 86_400 == batch["expires_at"] - batch["created_at"]
    assert {"total": 0, "completed": 0, "failed": 0} == batch["request_counts"]
    assert {"who": "me"} == batch["metadata"]
    none_yet = (
        *("in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at"),
        *("cancelling_at", "cancelled_at", "output_file_id", "error_file_id", "errors"),
    )
    assert {None} == {batch[name] for name in none_yet}
    assert batch == caller.get(f"/v1/batches/{batch['id']}").json()
    assert None is ordered(caller).json()["metadata"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/files"}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"input_file_id": 7}, "input_file_id"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"a" * 65: ""}}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "x"}}, "output_expires_after.anchor"),
    ],
)
def test_a_wrong_order_names_its_field(caller: Client, change: dict[str, Any], param: str) -> None:
    """400, and nothing was ordered."""
    before = len(caller.get("/v1/batches").json()["data"])
    answer = ordered(caller, **change)
    assert (400, param) == (answer.status_code, error_of(answer)["param"])
    assert before == len(caller.get("/v1/batches").json()["data"])


def test_an_order_has_a_size(caller: Client) -> None:
    """More than anybody orders is not read to its end."""
    answer = ordered(caller, metadata={"a": "x" * 70_000})
    assert (413, "request_too_large") == (answer.status_code, error_of(answer)["code"])


def test_an_order_is_cancelled_once_and_again(caller: Client) -> None:
    """A second cancel says the same; its file cannot go while it may be read."""
    batch = ordered(caller).json()
    busy = caller.request("DELETE", f"/v1/files/{batch['input_file_id']}")
    assert (409, "file_in_use") == (busy.status_code, error_of(busy)["code"])
    first = caller.post(f"/v1/batches/{batch['id']}/cancel").json()
    again = caller.post(f"/v1/batches/{batch['id']}/cancel").json()
    assert ("cancelling", first) == (first["status"], again)
    assert first["cancelling_at"] >= first["created_at"]


# -- who, and where ---------------------------------------------------------------------------------

PLACES = [
    ("GET", "/v1/files"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files/file-1"),
    ("DELETE", "/v1/files/file-1"),
    ("GET", "/v1/files/file-1/content"),
    ("GET", "/v1/batches"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches/batch_1"),
    ("POST", "/v1/batches/batch_1/cancel"),
]


@pytest.mark.parametrize(("method", "path"), PLACES)
@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "missing_api_key"),
        ("Basic eA==", "invalid_authorization"),
        ("Bearer mk-none", "invalid_api_key"),
        (b"Bearer mk-\xff", "invalid_api_key"),
    ],
)
def test_nobody_gets_anything_without_a_key(
    relay: InProcess, method: str, path: str, authorization: str | bytes | None, code: str
) -> None:
    """401 before anything is read, in the same words as the calls', under an id with a record."""
    headers = {} if authorization is None else {"authorization": authorization}
    answer = relay.client().request(method, path, headers=headers)
    assert (401, code) == (answer.status_code, error_of(answer)["code"])
    record = relay.admin.get(f"/calls/{answer.headers['x-request-id']}").json()
    assert (401, "batches", "") == (record["status"], record["endpoint"], record["account_id"])


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("PUT", "/v1/files", 405, {"GET", "HEAD", "POST"}),
        ("POST", "/v1/files/file-1", 405, {"GET", "HEAD", "DELETE"}),
        ("DELETE", "/v1/batches/batch_1", 405, {"GET", "HEAD"}),
        ("GET", "/v1/batches/batch_1/cancel", 405, {"POST"}),
        ("GET", "/v1/filesystem", 404, None),
        ("GET", "/v1/files/", 404, None),
        ("POST", "/v1/batches/batch_1/results", 404, None),
    ],
)
def test_other_ways_to_ask_are_refused(
    caller: Client, method: str, path: str, status: int, allowed: set[str] | None
) -> None:
    """With the methods that there are, or the paths; under an id, as everything below `/v1`."""
    answer = caller.request(method, path)
    assert status == answer.status_code
    code = "method_not_allowed" if status == 405 else "unknown_path"
    assert code == error_of(answer)["code"]
    assert answer.headers["x-request-id"].startswith("req_")
    if allowed is not None:
        assert allowed == set(answer.headers["allow"].split(", "))


def test_other_accounts_orders_do_not_exist(relay: InProcess, caller: Client) -> None:
    """To another key they are not there: neither seen, nor listed, nor cancelled, nor ordered from."""
    batch = ordered(caller).json()
    other = account_of_its_own(relay, "stranger")
    assert 404 == other.get(f"/v1/batches/{batch['id']}").status_code
    assert 404 == other.post(f"/v1/batches/{batch['id']}/cancel").status_code
    assert [] == other.get("/v1/batches").json()["data"]
    assert 400 == ordered(other, input_file_id=batch["input_file_id"]).status_code
