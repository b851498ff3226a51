"""What operators ask, of sixty thousand calls of sixty days with a rise, a slow deployment and a
noisy key: each question is answered in two clicks from the overview, or by one command."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Iterator

import pytest
from tests.in_process import Browser, InProcess, found, in_process
from tests.planted import CONFIG, NOISY, RISEN, SLOW, plant

CALLS = 60_000
_LINK = re.compile(r'<a ([^>]*?)href="/dashboard([^"#]*)[^"]*"([^>]*)>(.*?)</a>', re.DOTALL)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Iterator[tuple[InProcess, object]]:
    folder = tmp_path_factory.mktemp("asked")
    made = asyncio.run(plant(folder / "data", CALLS))
    with in_process(folder, CONFIG) as relay:
        yield relay, made


class Clicks:
    """Somebody who has signed in, on the overview."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.page = browser.get("").text
        self.count = 0

    def click(self, words: str, within: str = "") -> Clicks:
        """On the first link with these words, or this title, after the place named `within`."""
        part = self.page.partition(within)[2] if within else self.page
        for before, target, after, text in _LINK.findall(part):
            more = before + after
            said = html.unescape(re.sub(r"<[^>]+>", "", text)).strip()
            if words in (said, *re.findall(r'title="([^"]*)"', more)):
                self.page = self._browser.get(html.unescape(target)).text
                self.count += 1
                return self
        raise AssertionError(f"no link {words!r} here")

    def send(self, path: str, **fields: str) -> Clicks:
        """A form of the page."""
        assert f'action="/dashboard{path}"' in self.page, path
        self.page = self._browser.post(path, **fields).text
        self.count += 1
        return self

    def text(self, place: str) -> str:
        """A panel, by its heading's id."""
        part = self.page.partition(f'id="{place}"')[2].partition("</section>")[0]
        return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", part)))


@pytest.fixture
def clicks(planted) -> Iterator[Clicks]:
    relay, made = planted
    browser = relay.browser(made.admin_key)
    yield Clicks(browser)
    browser.http.close()


def test_who_spent_how_much_on_what_this_month(planted, clicks):
    """One click for the month: by key and by model, and each key's models behind a second one. Or
    one command, whose sums are those of the page."""
    relay, _ = planted
    clicks.click("This month")
    assert RISEN in clicks.text("by-key")
    assert "claude-sonnet-4" in clicks.text("by-alias")
    assert 1 == clicks.count
    rows = relay.cli("report", "--by", "key,alias", "--month", "this", "--sort", "charged")["data"]
    assert all(row["name"] and row["then_name"] for row in rows)
    total = sum(row["calls"] for row in rows)
    shown = found(r'data-figure="calls" title="([\d,]+)"', clicks.page).replace(",", "")
    assert abs(total - int(shown)) <= 2, "calls of the seconds between"


def test_why_the_bill_rose(clicks):
    """One click for the week: key and model of the rise come first; a second shows their calls."""
    clicks.click("7 days")
    first = clicks.text("changed").partition("Share")[2]
    assert first.split()[0] == RISEN
    clicks.click(f"{RISEN}, claude-sonnet-4", within='id="changed"')
    assert (2, True) == (clicks.count, RISEN in clicks.page)


def test_which_upstream_is_slow_now(clicks):
    """One click: it stands among the first, with how much slower than a week ago; a second shows
    since when."""
    clicks.click("Models")
    names = re.findall(
        r'class="name" href="[^"]*#speed" title="([^"]+)"',
        clicks.page.partition('id="deployments"')[2],
    )
    assert SLOW in names[:3]
    clicks.click(SLOW, within='id="deployments"')
    assert (2, True) == (clicks.count, "Time to first token" in clicks.page)


def test_where_it_fails_hour_by_hour(clicks):
    """One click: a row for each deployment that was asked, a cell for each hour with calls."""
    clicks.click("Models")
    rows = clicks.page.partition('id="heat"')[2].partition("</section>")[0]
    assert 8 <= rows.count("<tr>") <= 14
    assert 24 * 5 < len(re.findall(r'<td class="h\d">', rows))


def test_who_hits_limits(clicks):
    """One click."""
    clicks.click("Limits")
    assert NOISY in clicks.text("refused")
    assert 1 == clicks.count


def test_what_the_bill_will_be(clicks):
    """One click: this month so far and at its end, of all accounts and of each, with the formula."""
    clicks.click("Accounts")
    assert "Forecast = spent this month so far" in clicks.page
    assert 5 <= clicks.page.count('data-label="Forecast"><')
    assert 1 == clicks.count


def test_which_prompts_fail_and_why(clicks):
    """Two clicks: alike ones together, with the message and an example."""
    clicks.click("Calls").click("Failures, grouped")
    assert "noisy-cron may send 60 calls a minute" in clicks.page
    assert "messages[0].content must be a string" in html.unescape(clicks.page)
    assert 2 == clicks.count


def test_a_leaked_key_is_found_and_switched_off(planted, clicks):
    """By its whole secret, from its page of keys: a form to find it, one to switch it off."""
    relay, made = planted
    secret = relay.cli("keys", "create", "--account", "acme", "--name", "leaked")["key"]
    clicks.click("Keys")
    clicks.count = 0  # on the page of keys
    clicks.send("/keys/find", find=secret)
    key = found(r'action="/dashboard/keys/(key_[0-9a-f]+)/switch"', clicks.page)
    clicks.send(f"/keys/{key}/switch")
    assert 2 == clicks.count
    refused = relay.chat("o3", key=secret)
    assert 401 == refused.status
    assert "Where its calls came from" in clicks.page
    assert "127.0.0.1" in relay.browser(made.admin_key).get(f"/keys/{key}").text


def test_what_a_key_did(clicks):
    """Two clicks: its addresses and failures; its calls behind a link with the key kept."""
    clicks.click("Keys").click(RISEN)
    assert "198.51.100." in clicks.text("addresses")
    assert "/dashboard/calls?" in clicks.page
    assert 2 == clicks.count


def test_who_of_our_users_costs_most(planted, clicks):
    """One click: spending by end user, and by tag; or one command."""
    clicks.click("end user")
    assert "user-10" in clicks.text("by-user")
    relay, _ = planted
    rows = relay.cli("report", "--by", "tag", "--since", "7d")["data"]
    assert {"none", "web", "nightly", "etl"} == {row["name"] for row in rows}


def test_a_leaked_admin_key_is_revoked(planted, clicks):
    """One click to the page, one to revoke it."""
    relay, _ = planted
    relay.cli("admin-keys", "create", "--name", "leaked-admin")
    clicks.click("Admin keys")
    row = clicks.page.partition("leaked-admin")[2]
    path = found(r'action="/dashboard(/admin-keys/[^"]+/revoke)"', row)
    clicks.send(path)
    assert (2, True) == (clicks.count, "revoked" in clicks.page)
