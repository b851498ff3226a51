"""The dashboard's forms follow the admin API's rules."""

from __future__ import annotations

import re

import httpx2
import pytest

# What is wrong, as the API's body and as the form's fields.
BAD_KEYS = {
    "a model's name": ({"aliases": ["no model!"]}, {"aliases": "no model!"}),
    "a longer name": ({"aliases": ["a" * 201]}, {"aliases": "a" * 201}),
    "a cap of ten digits": ({"spend_cap": "1234567890"}, {"spend_cap": "1234567890"}),
    "ten decimals": ({"spend_cap": "0.1234567891"}, {"spend_cap": "0.1234567891"}),
    "a negative cap": ({"spend_cap": "-1"}, {"spend_cap": "-1"}),
    "a power of ten": ({"spend_cap": "1e3"}, {"spend_cap": "1e3"}),
    "no calls at all": ({"rps": 0}, {"rps": "0"}),
    "too many calls": ({"rpm": 10**9 + 1}, {"rpm": str(10**9 + 1)}),
    "a period of its own": ({"spend_period": "week"}, {"spend_period": "week"}),
}
BAD_ACCOUNTS = {
    "an address": ({"notice_email": "not one"}, "terms", {"notice_email": "not one"}),
    "a cap of ten digits": ({"spend_cap": "1234567890"}, "terms", {"spend_cap": "1234567890"}),
    "no top-up": ({"topup_amount": "0"}, "terms", {"topup_amount": "0"}),
    "a negative threshold": ({"notice_below": "-1"}, "terms", {"notice_below": "-1"}),
    "a weight of nothing": ({"weight": 0}, "limits", {"weight": "0"}),
    "too much weight": ({"weight": 1001}, "limits", {"weight": "1001"}),
    "a weight that is none": ({"weight": "nan"}, "limits", {"weight": "nan"}),
}


@pytest.fixture
def operator(relay):
    http = httpx2.Client(base_url=relay.url, trust_env=False, timeout=30, follow_redirects=True)
    assert 200 == http.post("/dashboard/sign-in", data={"key": relay.admin_key}).status_code
    token = re.search(r'name="csrf" value="([^"]+)"', http.get("/dashboard/keys").text)[1]
    api = httpx2.Client(
        base_url=f"{relay.url}/admin/v1",
        headers={"authorization": f"Bearer {relay.admin_key}"},
        trust_env=False,
    )
    yield api, lambda path, **fields: http.post(f"/dashboard{path}", data={"csrf": token} | fields)
    http.close()
    api.close()


def test_what_the_api_refuses_of_a_key_the_form_refuses(operator):
    """Both have one set of rules, and neither leaves anything behind."""
    api, post = operator
    for body, fields in BAD_KEYS.values():
        account = {"account": "default", "name": "bad"}
        assert 400 == api.post("/keys", json=account | body).status_code
        assert 400 == post("/keys", **account, **fields).status_code
    assert ["first"] == [key["name"] for key in api.get("/keys").json()["data"]]


def test_what_the_api_refuses_of_an_account_the_form_refuses(operator):
    """Amounts, addresses and weights too."""
    api, post = operator
    account_id = api.get("/accounts/default").json()["id"]
    before = api.get("/accounts/default").json()
    for body, form, fields in BAD_ACCOUNTS.values():
        assert 400 == api.patch("/accounts/default", json=body).status_code
        assert 400 == post(f"/accounts/{account_id}/{form}", **fields).status_code
    assert before == api.get("/accounts/default").json()


def test_the_form_sets_the_address_for_notices(operator):
    """What the API can set, the form can set."""
    api, post = operator
    account_id = api.get("/accounts/default").json()["id"]
    assert 200 == post(f"/accounts/{account_id}/terms", notice_email="ada@example.org").status_code
    assert "ada@example.org" == api.get("/accounts/default").json()["notice_email"]
