"""The admin API over stores in memory: what it says, and how it says no."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from merino.api.admin import admin_app
from merino.control.control import Control
from merino.control.ports import Difference
from merino.control_plane import OPERATIONS
from merino.domain.call import RunningCall
from merino.domain.key import AdminKey

ADMIN = "mka-secret"
ROOT = AdminKey("admin_1", "root", "mka-...", b"")


class Browser:
    """Asks an ASGI app, one request at a time."""

    def __init__(self, app, headers):
        self.app = app
        self.headers = headers

    def __call__(self, method: str, path: str, **options: Any) -> httpx2.Response:
        async def ask():
            transport = httpx2.ASGITransport(app=self.app)
            async with httpx2.AsyncClient(
                transport=transport, base_url="http://merino/admin/v1", headers=self.headers
            ) as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())


@pytest.fixture
def app(control: Control):
    admin = admin_app(
        control, OPERATIONS, lambda secret: ROOT if secret == ADMIN.encode() else None
    )
    return Starlette(routes=[Mount("/admin/v1", admin)])


@pytest.fixture
def ask(app):
    return Browser(app, {"authorization": f"Bearer {ADMIN}"})


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} == set(error)
    return error


@pytest.mark.parametrize(
    ("headers", "hint"),
    [
        ({}, "No admin key"),
        ({"authorization": "Basic eA=="}, "No admin key"),
        ({"authorization": "Bearer mk-abc"}, "start with 'mka-'"),
        ({"authorization": "Bearer mka-wrong"}, "not valid"),
        ({"authorization": b"Bearer mka-\xff\xfe"}, "not valid"),
    ],
)
@pytest.mark.parametrize("path", ["/accounts", "/nothing", "/ledger/export"])
def test_nothing_without_an_admin_key(app, headers, hint, path):
    """Whoever has no admin key learns nothing, not even which paths there are."""
    answer = Browser(app, headers)("GET", path)

    assert 401 == answer.status_code
    assert hint in error_of(answer)["message"]
    assert "Bearer" in answer.headers["www-authenticate"]


def test_the_folders_own_socket_needs_no_key(app):
    """Requests marked as local by the server are let in."""

    async def local(scope, receive, send):
        scope["merino.local"] = True
        await app(scope, receive, send)

    assert 200 == Browser(local, {})("GET", "/accounts").status_code


def test_the_description_is_public(app):
    """Tools can read the OpenAPI description before they have a key."""
    answer = Browser(app, {})("GET", "/openapi.json")

    assert "3.1.0" == answer.json()["openapi"]


def test_money_is_text_and_nanos(ask):
    """Amounts come as exact decimal text with the integer beside it."""
    balance = ask("GET", "/accounts/default").json()["balance"]

    assert "5.00" == balance["posted"]
    assert 5_000_000_000 == balance["posted_nanos"]


def test_times_are_iso_in_utc(ask):
    """Times end with Z and have milliseconds."""
    assert "2026-09-21T14:13:20.000Z" == ask("GET", "/accounts/default").json()["created_at"]


def test_credit_and_debit(ask):
    """Money moves by exact amounts, and the answer shows entry and balance."""
    credited = ask("POST", "/accounts/default/credit", json={"amount": "0.000000001", "memo": "x"})
    debited = ask("POST", "/accounts/default/debit", json={"amount": 2})

    assert 1 == credited.json()["entry"]["amount_nanos"]
    assert "3.000000001" == debited.json()["account"]["balance"]["posted"]
    kinds = [each["kind"] for each in ask("GET", "/accounts/default/entries").json()["data"]]
    assert ["debit", "credit", "credit"] == kinds


def test_the_secret_is_in_the_issuing_answer_only(ask):
    """A key's secret is shown once; later answers have only its hint."""
    issued = ask("POST", "/keys", json={"account": "default", "name": "ci"})

    assert 201 == issued.status_code
    assert issued.json()["key"].startswith("mk-")
    assert "no-store" == issued.headers["cache-control"]
    assert "key" not in ask("GET", "/keys/ci").json()


def test_null_takes_a_limit_away(ask):
    """In a change, what is left out stays and null removes."""
    ask("POST", "/keys", json={"account": "default", "name": "ci", "rpm": 5, "spend_cap": "1.50"})

    changed = ask("PATCH", "/keys/ci", json={"rpm": None}).json()

    assert changed["rpm"] is None
    assert "1.50" == changed["spend_cap"]


def test_a_parameter_is_text_also_when_it_says_null(ask):
    """An account may be called null; asking for it is not asking for all."""
    assert 404 == ask("GET", "/calls", params={"account": "null"}).status_code
    ask("POST", "/accounts", json={"name": "null"})

    assert [] == ask("GET", "/calls", params={"account": "null"}).json()["data"]


def test_json_has_one_kind_of_number(ask):
    """Some languages write whole numbers as 5.0, which JSON does not tell from 5."""
    assert 5 == ask("PATCH", "/keys/first", json={"rpm": 5.0}).json()["rpm"]


def test_delete_disables(ask):
    """A deleted key stays listed as disabled, since calls refer to it."""
    assert ask("DELETE", "/keys/first").json()["disabled"]
    assert ask("GET", "/keys/first").json()["disabled"]


def test_lists_hold_no_prompts(ask):
    """Contents of calls are shown for one call at a time, never in lists."""
    listed = ask("GET", "/calls").json()["data"][0]
    shown = ask("GET", "/calls/call_0").json()

    assert "request_json" not in listed
    assert '{"secret": true}' == shown["request_json"]


def test_credentials_are_not_shown(ask):
    """Of a deployment's credential only its existence is told."""
    answer = ask("GET", "/deployments")

    assert answer.json()["data"][0]["has_credential"]
    assert "sk-hidden" not in answer.text


def test_reports_name_what_they_group(ask):
    """A report by key shows the key's name beside its id."""
    row = ask("GET", "/reports", params={"by": "key"}).json()["data"][0]

    assert ("key_1", "first", "0.006") == (row["group"], row["name"], row["charged"])


def test_verify_tells_differences(ask, books):
    """Verification is an answer, not an error, also when the books do not balance."""
    assert ask("GET", "/ledger/verify").json()["ok"]
    books.differences.append(Difference("balance of acc_1", "5.00", "4.00"))

    found = ask("GET", "/ledger/verify").json()

    assert not found["ok"]
    assert "4.00" == found["differences"][0]["actual"]


def test_export_streams_a_file(ask):
    """The export is a download of one entry a line."""
    answer = ask("GET", "/ledger/export", params={"format": "jsonl"})

    assert "application/x-ndjson" == answer.headers["content-type"]
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [5_000_000_000] == [line["amount_nanos"] for line in lines]


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "/accounts", b"{", None),
        ("POST", "/accounts", b'{"name": "\xff"}', "name"),
        ("POST", "/accounts", b"[" * 5000, None),
        ("POST", "/accounts", b'["a"]', None),
        ("POST", "/accounts", b"{}", "name"),
        ("POST", "/accounts", b'{"name": 5}', "name"),
        ("POST", "/accounts", b'{"name": "a\\u0000b"}', "name"),
        ("POST", "/accounts", b'{"name": "\\ud800"}', "name"),
        ("POST", "/accounts", b'{"name": "a", "nmae": "b"}', "nmae"),
        ("POST", "/accounts", b'{"name": "a", "overdraft": "-1"}', "overdraft"),
        ("POST", "/accounts", b'{"name": "a", "overdraft": 0.1}', "overdraft"),
        ("POST", "/accounts", b'{"name": "a", "overdraft": 1e300}', "overdraft"),
        ("POST", "/accounts", b'{"name": "a", "overdraft": 1e999}', "overdraft"),
        ("POST", "/accounts", b'{"name": "a", "overdraft": NaN}', "overdraft"),
        ("POST", "/accounts", b'{"name": "a", "overdraft": true}', "overdraft"),
        ("POST", "/accounts", b'{"name": "a", "overdraft": ' + b"9" * 400 + b"}", "overdraft"),
        ("POST", "/accounts/default/credit", b'{"amount": "1.0000000001"}', "amount"),
        ("POST", "/accounts/default/credit", b'{"amount": "1\\n"}', "amount"),
        ("POST", "/accounts/default/credit", b'{"amount": 0}', "amount"),
        ("POST", "/accounts/default/credit", b'{"amount": 1, "memo": "\\u0000"}', "memo"),
        ("PATCH", "/keys/first", b'{"rpm": 0}', "rpm"),
        ("PATCH", "/keys/first", b'{"rpm": ' + b"9" * 30 + b"}", "rpm"),
        ("PATCH", "/keys/first", b'{"aliases": ["a b"]}', "aliases"),
        ("PATCH", "/keys/first", b'{"aliases": [1]}', "aliases[0]"),
        ("PATCH", "/keys/first", b'{"expires_at": "2026-01-01T00:00:00"}', "expires_at"),
        ("PATCH", "/keys/first", b'{"expires_at": "0001-01-01T00:00:00+23:59"}', "expires_at"),
        ("PATCH", "/keys/first", b'{"spend_period": "week"}', "spend_period"),
    ],
)
def test_bad_bodies_name_the_field(ask, method, path, body, param):
    """Whatever is wrong with a body is a 400 that names the field."""
    answer = ask(method, path, content=body, headers={"content-type": "application/json"})

    assert 400 == answer.status_code, answer.text
    assert param == error_of(answer)["param"]


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/accounts?limit=0", "limit"),
        ("/accounts?limit=501", "limit"),
        ("/accounts?limit=x", "limit"),
        ("/accounts?limit=1&limit=2", "limit"),
        ("/accounts?cursor=zzz", "cursor"),
        ("/calls?cursor=zzz", "cursor"),
        ("/entries?cursor=%00", "cursor"),
        ("/calls?status=20x", "status"),
        ("/calls?status=null", "status"),
        ("/entries?kind=null", "kind"),
        ("/calls?since=yesterday", "since"),
        ("/calls?alias=%ff", None),
        ("/calls?x=1", "x"),
        ("/reports?by=moon", "by"),
        ("/ledger/export?format=xml", "format"),
        ("/accounts/default?x=1", "x"),
    ],
)
def test_bad_queries_name_the_parameter(ask, path, param):
    """Whatever is wrong with a query is a 400 that names the parameter."""
    answer = ask("GET", path)

    assert 400 == answer.status_code
    assert param == error_of(answer)["param"]


@pytest.mark.parametrize(
    ("method", "path", "body", "way_out"),
    [
        ("POST", "/keys", {"nam": "a"}, "known are account, name, aliases"),
        (
            "POST",
            "/keys",
            {"name": "a", "account": "default", "spend_period": "week"},
            "choose one of day, month, total",
        ),
        ("GET", "/reports?by=colour", None, "choose one of day, alias, key, account"),
        ("GET", "/calls?colour=red", None, "known are account, key, alias"),
    ],
)
def test_what_may_be_written_is_named(ask, method, path, body, way_out):
    """Where it is a short list, nobody has to look it up."""
    answer = ask(method, path, json=body) if body else ask(method, path)
    assert 400 == answer.status_code
    assert way_out in error_of(answer)["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/accounts/",
        "/accounts/nobody",
        "/accounts/%00",
        "/accounts/%ff",
        "/accounts/a%2Fb",
        "/keys/nobody",
        "/calls/nobody",
        "/accounts/nobody/entries",
        "/calls?account=nobody",
        "/entries?account=nobody",
    ],
)
def test_what_is_not_there_is_404(ask, path):
    """Unknown paths and objects are told apart from faults."""
    answer = ask("GET", path)

    assert 404 == answer.status_code
    assert "not_found" == error_of(answer)["code"]


def test_other_methods_name_the_allowed_ones(ask):
    """A method that is not possible says which are."""
    answer = ask("PUT", "/keys/first")

    assert 405 == answer.status_code
    assert {"GET", "HEAD", "PATCH", "DELETE"} == set(answer.headers["allow"].split(", "))
    error_of(answer)


def test_only_json_is_read(ask):
    """A body of another type is refused before it is read."""
    answer = ask("POST", "/accounts", content=b"name=a", headers={"content-type": "text/plain"})

    assert 415 == answer.status_code
    error_of(answer)


def test_long_bodies_are_cut_off(ask):
    """More than 64 KiB is refused while it is read."""
    answer = ask("POST", "/accounts", json={"name": "x" * 70_000})

    assert 413 == answer.status_code
    error_of(answer)


def test_names_are_taken_once(ask):
    """A second account of the same name is a conflict."""
    answer = ask("POST", "/accounts", json={"name": "default"})

    assert 409 == answer.status_code
    assert "name_taken" == error_of(answer)["code"]


def test_running_calls_are_shown_the_oldest_first(ask, running):
    """As they are now: of an account or of all, and how many there are beyond those shown."""
    accounts = [ask("POST", "/accounts", json={"name": name}).json()["id"] for name in "xy"]
    calls = [
        RunningCall(
            f"req_{number}",
            accounts[number % 2],
            "key_1",
            "o3",
            "chat/completions",
            1_800_000_000_000 + number,
            streamed=number == 0,
            stage="asking",
            deployment="d",
            attempts=number,
            duration_ms=12.5,
        )
        for number in range(4)
    ]
    assert {"data": [], "running": 0} == ask("GET", "/calls/running").json()
    running.extend(calls)
    first = ask("GET", "/calls/running", params={"limit": 1}).json()
    assert 4 == first["running"]
    assert [
        {
            "id": "req_0",
            "account_id": accounts[0],
            "key_id": "key_1",
            "alias": "o3",
            "endpoint": "chat/completions",
            "at": "2027-01-15T08:00:00.000Z",
            "streamed": True,
            "stage": "asking",
            "deployment": "d",
            "attempts": 0,
            "duration_ms": 12.5,
        }
    ] == first["data"]
    of_y = ask("GET", "/calls/running", params={"account": "y"}).json()
    assert ["req_1", "req_3"] == [call["id"] for call in of_y["data"]]
