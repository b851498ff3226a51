"""The admin API of a running relay, held to its own OpenAPI description."""

from __future__ import annotations

import copy
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.config import SchemathesisConfig
from tests.lengths import TIMES, examples

from merino import __version__
from merino.api.openapi import describe
from merino.api.problems import ErrorBody
from merino.control_plane import OPERATIONS

EXAMPLES_PER_OPERATION = examples(3)


DESCRIPTION = describe(OPERATIONS, ErrorBody, version=__version__, server="/admin/v1")
"""What the relay serves as openapi.json; made here, since tests are collected before it runs."""


REMEMBERED = ("cursor", "Idempotency-Key")


def without_memory(description: dict[str, Any]) -> dict[str, Any]:
    """What is right or wrong by earlier requests only is tested by hand: a cursor is text that an
    earlier page gave, and a key that was used already is refused for anything else."""
    description = copy.deepcopy(description)
    for path in description["paths"].values():
        for operation in path.values():
            operation["parameters"] = [
                each for each in operation["parameters"] if each["name"] not in REMEMBERED
            ]
    return description


# Every bound of every field is asked for by `make test-long`; here by `tests/sweep`, which has bad
# input of each kind for each operation.
PHASES = {"phases": {"coverage": {"enabled": TIMES > 1}}}
schema = schemathesis.openapi.from_dict(
    without_memory(DESCRIPTION), config=SchemathesisConfig.from_dict(PHASES)
)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES_PER_OPERATION,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
        HealthCheck.too_slow,
    ],
)
def test_the_api_is_as_described(case, relay):
    """Valid or not, every request gets an answer that the description allows, never a 500."""
    case.call_and_validate(
        base_url=f"{relay.url}/admin/v1",
        headers={"Authorization": f"Bearer {relay.admin_key}"},
    )


def test_the_description_is_served(relay):
    """What is tested here is what the relay says of itself."""
    with httpx2.Client(trust_env=False, timeout=30) as client:
        assert DESCRIPTION == client.get(f"{relay.url}/admin/v1/openapi.json").json()


@pytest.fixture
def admin(relay):
    headers = {"authorization": f"Bearer {relay.admin_key}"}
    with httpx2.Client(
        base_url=f"{relay.url}/admin/v1", headers=headers, trust_env=False, timeout=30
    ) as client:
        yield client


def call_model(relay, key: str, model: str = "sim/o3") -> httpx2.Response:
    with httpx2.Client(base_url=relay.url, trust_env=False, timeout=30) as client:
        return client.post(
            "/v1/chat/completions",
            headers={"authorization": f"Bearer {key}"},
            json={"model": model, "messages": [{"role": "user", "content": "Hi"}]},
        )


def issue(admin, name: str, **terms: Any) -> str:
    answer = admin.post("/keys", json={"account": "default", "name": name, **terms})
    assert 201 == answer.status_code, answer.text
    return answer.json()["key"]


def test_an_issued_key_works_until_it_is_disabled(relay, admin):
    """What the admin API says about a key holds for the very next call."""
    secret = issue(admin, "until-disabled")

    before = call_model(relay, secret).status_code
    admin.post("/keys/until-disabled/disable")
    disabled = call_model(relay, secret).status_code
    admin.post("/keys/until-disabled/enable")
    after = call_model(relay, secret).status_code

    assert (200, 401, 200) == (before, disabled, after)


def test_rotation_voids_the_old_secret(relay, admin):
    """After a rotation only the new secret is valid."""
    old = issue(admin, "rotated")
    new = admin.post("/keys/rotated/rotate").json()["key"]

    assert 401 == call_model(relay, old).status_code
    assert 200 == call_model(relay, new).status_code


def test_a_key_calls_only_its_aliases(relay, admin):
    """A model outside a key's aliases is as unknown to it as one that is not there."""
    secret = issue(admin, "only-mini", aliases=["sim/o3-mini"])

    assert 200 == call_model(relay, secret, "sim/o3-mini").status_code
    assert 404 == call_model(relay, secret, "sim/o3").status_code


def test_calls_entries_and_report_agree(relay, admin):
    """One call shows with one price in the list of calls, in the entries and in the report."""
    secret = issue(admin, "counted")
    call_model(relay, secret)

    call = admin.get("/calls", params={"key": "counted"}).json()["data"][0]
    entries = admin.get("/entries", params={"call": call["id"]}).json()["data"]
    rows = admin.get("/reports", params={"by": "key"}).json()["data"]
    row = next(row for row in rows if row["name"] == "counted")

    assert call["charged_nanos"] == sum(entry["amount_nanos"] for entry in entries)
    assert (1, call["charged_nanos"]) == (row["calls"], row["charged_nanos"])
    assert call["id"] == admin.get(f"/calls/{call['id']}").json()["id"]


def test_pages_of_calls_meet(relay, admin):
    """Following the cursor shows every call once, the newest first."""
    secret = issue(admin, "paged")
    for _ in range(5):
        call_model(relay, secret)
    seen: list[str] = []
    query: dict[str, Any] = {"key": "paged", "limit": 2}
    while True:
        page = admin.get("/calls", params=query).json()
        seen += [call["id"] for call in page["data"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]

    everything = admin.get("/calls", params={"key": "paged"}).json()["data"]
    assert [call["id"] for call in everything] == seen
    assert 5 == len(set(seen))


@pytest.mark.parametrize("path", ["/calls", "/entries", "/keys", "/accounts"])
@pytest.mark.parametrize("cursor", ["x", "%00", "%ff", "MTox", "9" * 5000, "=", "LTE6LTE6"])
def test_foreign_cursors_are_refused_or_harmless(admin, path, cursor):
    """A made-up cursor is a 400 that names it, or an honest page; never a fault."""
    answer = admin.get(f"{path}?cursor={cursor}")

    assert answer.status_code in (200, 400)
    if answer.status_code == 400:
        assert answer.json()["error"]["param"] in ("cursor", None)


def test_a_spend_cap_stops_a_key(relay, admin):
    """A key with nothing left of its cap is refused for good, while its account has money."""
    secret = issue(admin, "capped", spend_cap="0")

    answer = call_model(relay, secret)

    assert 429 == answer.status_code
    assert "insufficient_quota" == answer.json()["error"]["code"]


def test_the_books_balance(admin):
    """Whatever the other tests did, the ledger's balances are what its entries add up to."""
    assert [] == admin.get("/ledger/verify").json()["differences"]
