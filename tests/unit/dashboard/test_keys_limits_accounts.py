"""What operators see of keys, limits, accounts and admin keys at a glance."""

from __future__ import annotations

import re

import pytest
from tests.in_process import InProcess, found


@pytest.fixture
def relay(tmp_path):
    relay = InProcess(tmp_path)
    yield relay
    relay.close()


def test_a_key_page_tells_where_its_calls_came_from(relay):
    """An address each, with how many calls, the latest first; and how many met a limit."""
    relay.admin.request("PATCH", "/keys/first", json={"rpm": 2})
    body = {"model": "o3", "messages": [{"role": "user", "content": "Hi"}]}
    for address in ("203.0.113.1", "203.0.113.2", "203.0.113.2"):
        relay.ask("/v1/chat/completions", body, headers={"x-forwarded-for": address})
    key = relay.admin.get("/keys/first").json()["id"]
    page = relay.browser(relay.admin_key).get(f"/keys/{key}").text
    rows = re.findall(
        r'<code>(203[^<]+)</code></td><td class="n" data-label="Calls">(?:<[^>]+>)?(\d)', page
    )
    assert [("203.0.113.2", "2"), ("203.0.113.1", "1")] == rows
    assert "1" == found(r"Met a limit</span><b>(?:<[^>]+>)?(\d+)", page)
    keys = relay.browser(relay.admin_key).get("/keys").text
    assert "status=429" in keys


def test_a_page_of_limits_tells_who_is_near_which_now(relay):
    """Requests, tokens and calls at once, of keys and accounts; owners see their own."""
    relay.admin.request("PATCH", "/keys/first", json={"rpm": 4, "concurrency": 3})
    relay.admin.request("PATCH", "/accounts/default", json={"tpm": 1_000_000})
    for _ in range(3):
        relay.chat()
    page = relay.browser(relay.admin_key).get("/limits").text
    now = page[page.index('id="now"') : page.index('id="refused"')]
    assert ["75 %", "0 %"] == [
        re.sub(r"\s", " ", each) for each in re.findall(r'data-label="Share">([^<]+)<', now)
    ][::2]
    assert 3 == now.count("<tr data-href")
    relay.admin.post("/accounts", json={"name": "other"})
    key = relay.admin.post("/keys", json={"account": "other", "name": "theirs"}).json()["key"]
    assert "No limits in use" in relay.browser(key).get("/limits").text


def test_accounts_tell_the_month_and_its_forecast(relay):
    """What was spent this month, what it will be, and by which rule."""
    relay.chat()
    [call] = relay.admin.get("/calls").json()["data"]
    page = relay.browser(relay.admin_key).get("/accounts").text
    exact = re.findall(r'data-label="This month"><[^>]*title="([^"]+)"', page)
    assert call["charged"] in exact[0]
    assert "average of the last" in page
    forecast = re.findall(r'data-label="Forecast"><[^>]*title="\D*([\d.]+)', page)
    assert float(forecast[0]) >= float(call["charged"])


def test_admin_keys_tell_when_they_were_last_used(relay):
    """By the admin API or a session; kept over a restart."""
    relay.admin.post("/admin-keys", json={"name": "idle"})
    first, idle = relay.admin.get("/admin-keys").json()["data"]
    assert (True, None) == (bool(first["last_used"]), idle["last_used"])
    relay.run(relay.store.admin_keys.flush())
    relay.restart()
    [kept, _] = relay.store.admin_keys.list()
    assert kept.last_used_ms
    assert "Last used" in relay.browser(relay.admin_key).get("/admin-keys").text
