"""End users, tags and metadata of calls on pages: found, filtered, summed up, drawn; and columns."""

from __future__ import annotations

import json
import re
from html import unescape

import pytest
from tests.in_process import InProcess, found

SETTINGS = """
[calls]
store_content = true
[[deployments]]
name = "fast"
provider = "simulator"
upstream_model = "o3-mini!output=4,reasoning=2"
[aliases.o3]
deployments = ["fast"]
"""
BODY = {"model": "o3", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def relay(tmp_path):
    relay = InProcess(tmp_path, SETTINGS)
    for number, (user, tags) in enumerate((("ada", "nightly,etl"), ("ada", "etl"), ("bob", ""))):
        body = BODY | {"user": user, "metadata": {"team": "search"}, "temperature": 0.5}
        headers = {"x-merino-tags": tags, "x-forwarded-for": f"9.9.9.9, 203.0.113.{number}"}
        assert 200 == relay.ask("/v1/chat/completions", body, headers=headers).status
    relay.chat("o3")
    yield relay
    relay.close()


def ids(text: str) -> int:
    return len(set(re.findall(r'data-call="([^"]+)"', text)))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("user=ada", 2), ("user=bob", 1), ("user=ada&user=bob", 3), ("tag=etl", 2),
        ("tag=nightly&user=ada", 1), ("metadata=team%3Dsearch", 3), ("tag=nightly&user=bob", 0),
    ],
)  # fmt: skip
def test_calls_are_filtered_by_what_they_say(relay, query, expected):
    """Each filter is a chip that can be taken away."""
    page = relay.browser(relay.admin_key).get(f"/calls?{query}").text
    assert expected == ids(page)
    assert query.count("=") == page.count('aria-label="Without ')


def test_columns_are_chosen_in_the_address(relay):
    """And only those are shown, in the page and in what follows live."""
    page = relay.browser(relay.admin_key).get("/calls?col=user&col=tags&col=address&col=cost").text
    heads = re.findall(r'<th scope="col"[^>]*>([^<]+)</th>', page[: page.index("</thead>")])
    assert ["Time", "End user", "Tags", "Address", "Cost"] == heads
    assert "nightly, etl" in page
    assert "203.0.113.2" in page


def test_the_overview_is_split_by_end_user_and_narrowed_to_one(relay):
    """A link of its table leads to that user's calls."""
    browser = relay.browser(relay.admin_key)
    page = browser.get("?by=user").text
    chart = json.loads(unescape(found(r'data-chart="([^"]+)"', page)))
    assert {"ada", "bob"} == {each["name"] for each in chart["series"]}
    table = page[page.index('id="by-user"') :]
    link = unescape(found(r'href="/dashboard(/calls\?[^"]*user=ada[^"]*)"', table))
    assert 2 == ids(browser.get(link).text)
    only = browser.get("?by=alias&user=ada").text
    assert '<b data-figure="calls" title="2">' in only
    assert 400 == browser.get("?by=tag&user=ada").status_code


def test_owners_see_their_own_alone(relay):
    """Another account's users are not told."""
    relay.admin.post("/accounts", json={"name": "other"})
    key = relay.admin.post("/keys", json={"account": "other", "name": "theirs"}).json()["key"]
    page = relay.browser(key).get("?by=user&window=30d").text
    assert ("bob" in page, 0) == (False, ids(relay.browser(key).get("/calls?user=ada").text))


def test_a_call_shows_them_and_opens_in_the_playground_whole(relay):
    """The page begins with all that was asked, options too; another account's call is no page."""
    browser = relay.browser(relay.admin_key)
    [call, *_] = relay.admin.get("/calls", params={"tag": "nightly"}).json()["data"]
    page = browser.get(f"/calls/{call['id']}").text
    assert ("203.0.113.0", "team=search") == (call["address"], found(r">(team=search)<", page))
    link = unescape(found(r'href="/dashboard(/playground[^"]+)"', page))
    body = json.loads(unescape(found(r'data-body="([^"]+)"', browser.get(link).text)))
    assert (0.5, "ada", BODY["messages"]) == (body["temperature"], body["user"], body["messages"])
    relay.admin.post("/accounts", json={"name": "other"})
    key = relay.admin.post("/keys", json={"account": "other", "name": "theirs"}).json()["key"]
    assert 404 == relay.browser(key).get(link).status_code


def test_settings_may_keep_none_of_it(tmp_path):
    """`calls.labels` and `calls.addresses` switch it off."""
    relay = InProcess(
        tmp_path, SETTINGS.replace("[calls]", "[calls]\nlabels = false\naddresses = false")
    )
    relay.ask("/v1/chat/completions", BODY | {"user": "ada"}, headers={"x-merino-tags": "a"})
    [call] = relay.admin.get("/calls").json()["data"]
    assert [None] * 4 == [call[name] for name in ("end_user", "tags", "metadata", "address")]
    relay.close()


def test_reports_and_commands_know_them(relay):
    """`merino report --by tag`, `merino calls list --user`."""
    rows = relay.cli("report", "--by", "tag,user")["data"]
    assert {("etl", "ada", 2), ("nightly", "ada", 1), ("none", "bob", 1), ("none", "none", 1)} == {
        (row["name"], row["then_name"], row["calls"]) for row in rows
    }
    assert 2 == len(relay.cli("calls", "list", "--user", "ada")["data"])
    relay.ask(
        "/v1/chat/completions", BODY, key="mk-nobody", headers={"x-forwarded-for": "203.0.113.9"}
    )
    [refused] = relay.admin.get("/calls", params={"status": 401}).json()["data"]
    assert "203.0.113.9" == refused["address"]
