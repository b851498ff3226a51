"""The page of models: what it shows of deployments, and the forms by which some are added."""

from __future__ import annotations

import re
from html import unescape

import pytest
from tests.in_process import InProcess

SETTINGS = """
[retries]
attempts_max = 3
backoff_base_s = 0.001
[[deployments]]
name = "flaky"
provider = "simulator"
upstream_model = "o3-mini!fail_rate=1,status=503"
[[deployments]]
name = "steady"
provider = "simulator"
upstream_model = "o3-mini!output=4,reasoning=2"
[aliases.both]
deployments = ["flaky", "steady"]
"""


@pytest.fixture
def relay(tmp_path):
    relay = InProcess(tmp_path, SETTINGS, environ={"SOME_API_KEY": "sk-1"})
    yield relay
    relay.close()


def faults(text: str) -> list[str]:
    found = re.findall(r'class="(?:fault|callout bad[^"]*)"[^>]*>(?:<p>)?([^<]+)', text)
    return [unescape(each) for each in found]


def test_a_failover_shows_at_the_one_that_failed(relay):
    """The map, the share and the last error are those of the attempt, whoever answered the call."""
    assert 200 == relay.chat("both").status
    page = relay.browser(relay.admin_key).get("/models").text
    row = page[page.index('href="/dashboard/models?of=flaky#speed"') :]
    cells = re.findall(r'<td class="h(\d)">', row[: row.index("</tr>")])
    assert ["5"] == cells
    health = page[page.index('id="deployments"') :]
    flaky = health[health.index("of=flaky") :]
    assert ">503<" in flaky[: flaky.index("</tr>")]
    assert (
        200 == relay.browser(relay.admin_key).get("/models?of=flaky&heat=first_token").status_code
    )


def test_a_deployment_is_added_changed_tried_and_removed_by_forms(relay):
    """What is open in a form is what was said before; the page says where each is from."""
    browser = relay.browser(relay.admin_key)
    fields = {"provider": "simulator", "upstream_model": "o3-mini!output=3", "price_input": "1"}
    done = browser.post("/models/add-deployment", name="new", price_output="2", **fields)
    assert ("new takes calls now", 200) == (done.url.params["done"], relay.chat("new").status)
    form = browser.get("/models?kind=deployment&edit=new").text
    assert 'value="o3-mini!output=3"' in form
    browser.post("/models/change-deployment", name="new", rpm="7", price_output="3", **fields)
    [kept] = relay.store.additions.list()
    assert ({"rpm": 7}, "3.00") == (kept.terms["limits"], kept.terms["price"]["output"])
    tried = browser.post("/models/new/test", key="first")
    assert tried.url.params["done"].startswith("new answered in ")
    alias = browser.post("/models/add-alias", name="talk", deployments=["new", "steady"])
    assert ("talk can be called now", 200) == (alias.url.params["done"], relay.chat("talk").status)
    assert (
        "alias 'talk' names it"
        in faults(browser.post("/models/remove-deployment", name="new").text)[0]
    )
    assert '[aliases."talk"]' in browser.get("/models/added.toml").text
    browser.post("/models/change-alias", name="talk", deployments=["steady"], hedging="yes")
    browser.post("/models/remove-deployment", name="new")
    assert [("alias", "talk")] == [each.place for each in relay.store.additions.list()]


def test_what_is_wrong_stands_beside_its_field_and_the_form_is_kept(relay):
    """Also of a change, whose form is open again."""
    browser = relay.browser(relay.admin_key)
    wrong = {"base_url": "https://x.example/v1", "credential": "sk-12345", "headers": "X-A: b"}
    page = browser.post("/models/add-deployment", name="new", **wrong)
    assert 400 == page.status_code
    assert "a secret is not kept here" in faults(page.text)[0]
    assert 'value="https://x.example/v1"' in page.text
    good = {"provider": "simulator", "upstream_model": "o3-mini", "price_input": "1"}
    browser.post("/models/add-deployment", name="new", price_output="2", **good)
    page = browser.post(
        "/models/change-deployment", name="new", weight="0", price_output="2", **good
    )
    assert (400, True) == (page.status_code, 'id="change"' in page.text)
    assert "1000" in faults(page.text)[0].replace(",", "")


def test_only_operators_see_and_change_deployments(relay):
    """An owner's page has no forms, and what they send is no page."""
    browser = relay.browser(relay.key)
    assert "add-deployment" not in browser.get("/models").text
    assert 404 == browser.post("/models/add-deployment", name="new").status_code
    assert 404 == browser.get("/models/added.toml").status_code
