"""The dashboard as a browser's requests see it: who may have what, and that nothing gets in."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.in_process import SIMULATED, Answered, Browser, InProcess, found, in_process

from merino.domain.deployment import BreakerChange
from merino.storage import Store

CONFIG = (
    """
[payments.invoice]
[status]
public = false
"""
    + SIMULATED
)
PAGES = ("", "/calls", "/models", "/keys", "/accounts", "/playground", "/roi")
OPERATOR_PAGES = ("/benchmarks", "/settings", "/audit", "/admin-keys")
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("relay"), CONFIG) as relay:
        yield relay


@pytest.fixture
def start_relay(tmp_path: Path) -> Iterator[Callable[..., InProcess]]:
    with ExitStack() as stack:
        yield lambda *given, **more: stack.enter_context(in_process(tmp_path, *given, **more))


@pytest.fixture(scope="module")
def operator(relay) -> Iterator[Browser]:
    browser = relay.browser(relay.admin_key)
    yield browser
    browser.http.close()


@pytest.fixture(scope="module")
def other(relay) -> dict:
    """Another account with a key, an entry and a call."""
    account = relay.cli("accounts", "create", "--name", "other")
    relay.cli("accounts", "credit", "other", "3.00", "--memo", "others-memo")
    key = relay.cli("keys", "create", "--account", "other", "--name", "others-key")
    answer = ask(relay, "o3", key["key"])
    return {"account": account["id"], "key": key["id"], "call": answer.headers["x-request-id"]}


@pytest.fixture(scope="module")
def owner(relay, other) -> Iterator[Browser]:
    browser = relay.browser(relay.key)
    yield browser
    browser.http.close()


def ask(relay: InProcess, model: str, key: str | None = None, text: str = "Hi") -> Answered:
    return relay.chat(model, text, key=key)


def test_a_page_that_is_none(relay, operator) -> None:
    """Leads to the sign-in page like any other, and is a page that says so for who is signed in; a
    slash too much does no harm."""
    for path in ("/dashboard/nope", "/dashboard/models/nope", "/dashboard/accounts/a/b/c"):
        for method in ("GET", "POST"):
            answer = relay.client().request(method, path)
            assert (303, "/dashboard/sign-in") == (answer.status_code, answer.headers["location"])
        answer = operator.http.get(path)
        assert (404, "text/html; charset=utf-8") == (
            answer.status_code,
            answer.headers["content-type"],
        )
        assert "There is no such page" in answer.text
    assert "<h1>Calls</h1>" in operator.get("/calls/").text


def test_nobody_sees_anything_without_signing_in(relay) -> None:
    """Every page leads to the sign-in page, and no form does anything."""
    with relay.client() as http:
        for path in (*PAGES, *OPERATOR_PAGES, "/live", "/calls.csv", "/accounts/default"):
            answer = http.get(f"/dashboard{path}")
            assert (303, "/dashboard/sign-in") == (answer.status_code, answer.headers["location"])
        for path in ("/keys", "/accounts", "/accounts/default/credit", "/models/fast/drain"):
            answer = http.post(f"/dashboard{path}", data={"csrf": ""})
            assert (303, "/dashboard/sign-in") == (answer.status_code, answer.headers["location"])
        assert 401 == http.post("/dashboard/playground/chat", json={}).status_code
        assert (404, 404) == (
            http.get("/status").status_code,
            http.get("/status.json").status_code,
        )


def test_every_page_opens_with_strict_headers(operator) -> None:
    """Each is HTML with a policy that allows nothing from outside and nothing inline."""
    for path in (*PAGES, *OPERATOR_PAGES):
        answer = operator.get(path)
        assert 200 == answer.status_code, path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "no-store" == answer.headers["cache-control"]
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", answer.text), path


def test_the_cookie_is_kept_from_scripts_and_other_sites(relay) -> None:
    """HttpOnly, SameSite=Lax, and new at every sign-in: one known before is of no use."""
    with relay.client() as http:
        http.cookies.set("merino_session", "fixed-by-somebody")
        first = http.post("/dashboard/sign-in", data={"key": relay.admin_key})
        cookie = first.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert "fixed-by-somebody" not in cookie
    with relay.client() as http:
        http.cookies.set("merino_session", "fixed-by-somebody")
        assert 303 == http.get("/dashboard").status_code


def test_signing_out_ends_the_session(relay) -> None:
    """The old cookie opens nothing afterwards."""
    browser = relay.browser(relay.admin_key)
    old = browser.http.cookies["merino_session"]
    browser.post("/sign-out")
    browser.http.cookies.set("merino_session", old)
    assert "Sign in" in browser.get("").text
    browser.http.close()


def test_wrong_keys_are_refused_and_slowed_down(start_relay) -> None:
    """The eleventh try in a row has to wait, also with the right key."""
    relay = start_relay()
    with relay.client() as http:
        answers = [
            http.post("/dashboard/sign-in", data={"key": f"mka-wrong-{n}"}).status_code
            for n in range(11)
        ]
        late = http.post("/dashboard/sign-in", data={"key": relay.admin_key})
    assert [403] * 10 + [429] == answers
    assert 429 == late.status_code


@pytest.mark.parametrize("token", [None, "", "wrong", "é"])
def test_forms_need_their_token(operator, token) -> None:
    """A form from elsewhere changes nothing."""
    fields = {"name": "forged"} | ({} if token is None else {"csrf": token})
    assert 403 == operator.http.post("/dashboard/keys", data=fields).status_code
    assert "forged" not in operator.get("/keys").text


def test_another_sites_form_cannot_sign_in(relay) -> None:
    """Signing somebody in to another's account is refused by its origin."""
    with relay.client() as http:
        for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
            answer = http.post("/dashboard/sign-in", data={"key": relay.admin_key}, headers=headers)
            assert 403 == answer.status_code
            assert "set-cookie" not in answer.headers


def test_a_key_is_made_changed_rotated_and_switched_off(relay, operator) -> None:
    """Its secret is shown once and works; each change holds at once and is in the audit log."""
    made = operator.post("/keys", name="made here", account="default", rpm="600", aliases="o3")
    secret = found(r'id="secret">([^<]+)<', made.text)
    assert 200 == ask(relay, "o3", secret).status
    assert secret not in operator.get("/keys").text
    key_id = found(r'/dashboard/keys/(key_\w+)">made here', operator.get("/keys").text)
    operator.post(f"/keys/{key_id}", name="renamed", rps="7", spend_cap="1.5", spend_period="day")
    page = operator.get(f"/keys/{key_id}").text
    assert all(text in page for text in ('value="renamed"', 'value="7"', 'value="1.50"'))
    rotated = operator.post(f"/keys/{key_id}/rotate").text
    fresh = found(r'id="secret">([^<]+)<', rotated)
    assert (401, 200) == (
        ask(relay, "o3", secret).status,
        ask(relay, "o3", fresh).status,
    )
    rotated = operator.post(f"/keys/{key_id}/rotate", keep_old="1h").text
    third = found(r'id="secret">([^<]+)<', rotated)
    assert "is good until" in rotated
    assert (200, 200) == (ask(relay, "o3", fresh).status, ask(relay, "o3", third).status)
    assert "is good until" not in operator.post(f"/keys/{key_id}/end-old").text
    assert (401, 200) == (ask(relay, "o3", fresh).status, ask(relay, "o3", third).status)
    operator.post(f"/keys/{key_id}/switch")
    assert 401 == ask(relay, "o3", third).status
    log = operator.get("/audit").text
    for action in ("create key", "update key", "rotate key", "disable key"):
        assert action in log
    assert secret not in log
    assert fresh not in log
    assert third not in log


def test_wrong_fields_are_told(operator) -> None:
    """Bad input is a page that says what was wrong, and nothing is changed."""
    for fields in (
        {"name": ""},
        {"name": "x", "rpm": "-1"},
        {"name": "x", "spend_cap": "much"},
        {"name": "x", "expires_at": "soon"},
        {"name": "x", "expires_at": "2020-01-01"},
        {"name": "x", "spend_period": "week"},
    ):
        answer = operator.post("/keys", account="default", **fields)
        assert 400 == answer.status_code, fields
        assert 'role="alert"' in answer.text
    assert 404 == operator.get("/keys/none").status_code
    assert 404 == operator.get("/calls/none").status_code
    assert 400 == operator.get("?window=year").status_code
    assert 400 == operator.get("/calls?status=bad").status_code


def test_an_account_is_opened_credited_and_topped_up(relay, operator) -> None:
    """By hand, by invoice and by voucher; the figures are the ledger's."""
    page = operator.post("/accounts", name="client", currency="EUR").text
    account = found(r"/dashboard/accounts/(acct_\w+)/topup", page)
    operator.post(f"/accounts/{account}/credit", amount="12.50", memo="welcome")
    operator.post(f"/accounts/{account}/debit", amount="2.50")
    ordered = operator.post(
        f"/accounts/{account}/topup", amount="20", provider="invoice", currency="EUR"
    )
    assert "Transfer 20.00 EUR" in ordered.text
    topup = found(r"/dashboard/topups/(top_\w+)/confirm", ordered.text)
    operator.post(f"/topups/{topup}/confirm", reference="bank 1")
    code = relay.cli("vouchers", "create", "--value", "5", "--currency", "EUR")["data"][0]
    booked = operator.post(f"/accounts/{account}/voucher", voucher=code["code"])
    assert 200 == booked.status_code, booked.text
    assert 35_000_000_000 == relay.balance_nanos("client")
    page = operator.get(f"/accounts/{account}").text
    assert "35.00" in page
    assert "welcome" in page
    statement = operator.get(f"/accounts/{account}/statement").text
    assert "35.00" in statement
    assert 400 == operator.post(f"/accounts/{account}/debit", amount="1000").status_code


def test_terms_of_an_account_are_kept(relay, operator) -> None:
    """Caps and notices are those of the form, and an empty field takes them away."""
    account = relay.cli("accounts", "show", "default")["id"]
    operator.post(
        f"/accounts/{account}/terms", spend_cap="100", spend_period="day", notice_below="1"
    )
    assert 100_000_000_000 == relay.cli("accounts", "show", "default")["spend_cap_nanos"]
    operator.post(f"/accounts/{account}/terms", spend_cap="", notice_below="")
    assert None is relay.cli("accounts", "show", "default")["spend_cap_nanos"]


def test_limits_of_an_account_are_the_operators(relay, operator, owner) -> None:
    """An operator limits all keys of an account together, at once; its owner sees that and cannot
    change it."""
    account = relay.cli("accounts", "show", "default")["id"]
    path = f"/accounts/{account}/limits"
    assert "All keys together: no limit." in owner.get(f"/accounts/{account}").text
    page = operator.post(path, rpm="12000", weight="2.5").text
    assert 'name="rpm" type="text" value="12000"' in page
    assert 404 == owner.post(path, rpm="").status_code
    seen = owner.get(f"/accounts/{account}").text
    assert "All keys together: 12,000 calls a minute." in seen
    assert path not in seen
    assert "12000" == ask(relay, "o3").headers["x-ratelimit-limit-requests"]
    for wrong in ({"rpm": "many"}, {"weight": "0"}, {"weight": "nan"}, {"tpm": "-1"}):
        assert 400 == operator.post(path, **wrong).status_code
    operator.post(path)
    assert None is relay.cli("accounts", "show", "default")["rpm"]


def test_owners_see_only_their_own(relay, owner, other) -> None:
    """On every route another account's things do not exist, and operators' pages neither."""
    call, key, account = other["call"], other["key"], other["account"]
    for path in (
        f"/calls/{call}",
        f"/keys/{key}",
        "/keys/others-key",
        f"/accounts/{account}",
        "/accounts/other",
        f"/accounts/{account}/statement",
        f"/calls?key={key}",
        *OPERATOR_PAGES,
        "/benchmarks/x",
    ):
        assert 404 == owner.get(path).status_code, path
    for path in (
        f"/keys/{key}",
        f"/keys/{key}/switch",
        f"/keys/{key}/rotate",
        f"/accounts/{account}/topup",
        f"/accounts/{account}/voucher",
        f"/accounts/{account}/terms",
        f"/accounts/{account}/link",
        f"/accounts/{account}/credit",
        "/accounts/default/credit",
        "/accounts/default/debit",
        "/accounts",
        "/models/fast/drain",
        "/models/fast/undrain",
        "/models/fast/test",
        "/topups/top_1/confirm",
    ):
        assert 404 == owner.post(path, name="x", amount="5", reference="x").status_code, path
    assert 404 == owner.post("/keys", name="theirs", account=account).status_code
    for path in ("", "/calls", "/keys", "/models", "/calls.csv", f"/calls?id={call}"):
        page = owner.get(path).text
        assert "others-key" not in page
        assert account not in page
        assert f"/calls/{call}" not in page
    chat = owner.http.post(
        "/dashboard/playground/chat",
        json={"model": "o3", "messages": [{"role": "user", "content": "x"}]},
        headers={"x-csrf": owner.csrf(), "x-key": key},
    )
    assert 400 == chat.status_code
    assert 3_000_000_000 > relay.balance_nanos("other") > 2_900_000_000


def test_a_link_signs_in_once_and_viewers_change_nothing(relay, owner) -> None:
    """Looking at the link does not use it up; using it does; a viewer may only look."""
    account = relay.cli("accounts", "show", "default")["id"]
    page = owner.post(f"/accounts/{account}/link", role="viewer").text
    link = found(r'id="link">([^<]+)<', page)
    viewer = relay.browser()
    assert 200 == viewer.http.get(link).status_code
    assert "viewer" in viewer.http.post(link).text
    again = relay.browser()
    assert 403 == again.http.post(link).status_code
    again.http.close()
    csrf = found(r'name="csrf" value="([^"]+)"', viewer.get("/calls").text)
    for path in ("/keys", f"/accounts/{account}/topup", f"/accounts/{account}/terms"):
        answer = viewer.http.post(f"/dashboard{path}", data={"csrf": csrf, "name": "x"})
        assert 403 == answer.status_code
    chat = viewer.http.post("/dashboard/playground/chat", json={}, headers={"x-csrf": csrf})
    assert 403 == chat.status_code
    out = viewer.http.post("/dashboard/sign-out", data={"csrf": csrf})
    assert "Sign in" in out.text
    viewer.http.close()


def test_a_limited_key_only_looks(relay) -> None:
    """Who has a key with limits cannot make one without."""
    limited = relay.cli("keys", "create", "--account", "default", "--name", "lim", "--rpm", "5")
    browser = relay.browser(limited["key"])
    csrf = found(r'name="csrf" value="([^"]+)"', browser.get("/calls").text)
    made = browser.http.post("/dashboard/keys", data={"csrf": csrf, "name": "free"})
    assert 403 == made.status_code
    browser.http.close()


def test_a_session_ends_with_its_key(relay) -> None:
    """Rotating or switching off the key one signed in with signs one out."""
    for change in ("rotate", "disable"):
        made = relay.cli("keys", "create", "--account", "default", "--name", f"to {change}")
        browser = relay.browser(made["key"])
        assert "Overview" in browser.get("").text
        relay.cli("keys", change, f"to {change}")
        assert "Sign in" in browser.get("").text
        browser.http.close()


def test_nothing_that_callers_send_becomes_part_of_a_page(relay, operator) -> None:
    """Model names, memos, error texts and queries are shown as text."""
    ask(relay, EVIL)
    ask(relay, "broken", text=EVIL)
    relay.cli("accounts", "credit", "default", "0.01", "--memo", EVIL)
    account = relay.cli("accounts", "show", "default")["id"]
    for path in (
        "",
        "/calls",
        f"/calls?id={EVIL}",
        f"/calls?status={EVIL}",
        f"/calls?alias={EVIL}",
        f"/accounts/{account}",
        f"/accounts/{account}/statement",
        "/audit",
        f"/roi?model={EVIL}",
        f"/keys/{EVIL}",
        f"?done={EVIL}",
    ):
        assert EVIL not in operator.get(path).text, path
    assert "&lt;img" in operator.get(f"/accounts/{account}").text
    wrong = operator.post("/keys", name=EVIL, account="default")
    assert 400 == wrong.status_code
    assert EVIL not in wrong.text


def test_calls_are_found_and_exported(relay, operator) -> None:
    """By id, key and status; as CSV that no spreadsheet takes for a formula, and as JSON lines."""
    call = ask(relay, "o3").headers["x-request-id"]
    page = operator.get(f"/calls/{call}").text
    assert all(text in page for text in ("answer of fast", "settle", "price", "Timeline"))
    assert call in operator.get(f"/calls?id={call}").text
    assert call in operator.get("/calls?key=first&status=200&window=1h").text
    assert call not in operator.get("/calls?status=404").text
    rows = operator.get("/calls.csv").text.splitlines()
    assert rows[0].startswith("id,at_ms,alias")
    assert any(row.startswith(call) for row in rows)
    lines = [json.loads(line) for line in operator.get("/calls.jsonl").text.splitlines()]
    assert call in {line["id"] for line in lines}


def test_a_deployment_is_drained_and_undrained(relay, operator) -> None:
    """By the page, as by the command line."""
    operator.post("/models/fast/drain")
    assert 503 == ask(relay, "o3").status
    assert "drained" in operator.get("/models").text
    operator.post("/models/fast/undrain")
    assert 200 == ask(relay, "o3").status


def test_a_deployment_is_tried_out(relay, operator) -> None:
    """One call to it alone, paid by the key that was chosen; its error is told."""
    before = relay.balance_nanos()
    answered = operator.post("/models/fast/test", key="first")
    assert "fast answered in" in answered.text
    assert relay.balance_nanos() < before
    refused = operator.post("/models/broken/test", key="first")
    assert 400 == refused.status_code
    assert "broken did not answer: Simulated failure" in refused.text
    assert 404 == operator.post("/models/none/test", key="first").status_code


def test_the_playground_streams_a_paid_call(relay, owner) -> None:
    """It is streamed with its cost, and billed like any other call of the key."""
    before = relay.balance_nanos()
    key = relay.cli("keys", "list")["data"]
    first = next(each["id"] for each in key if each["name"] == "first")
    answer = owner.http.post(
        "/dashboard/playground/chat",
        json={"model": "o3", "stream": True, "messages": [{"role": "user", "content": "Hi"}]},
        headers={"x-csrf": owner.csrf(), "x-key": first},
    )
    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
    assert answer.text.endswith("data: [DONE]\n\n")
    cost = found(r": x-merino-cost: ([0-9.]+)", answer.text)
    assert before - relay.balance_nanos() == round(float(cost) * 1e9)
    refused = owner.http.post(
        "/dashboard/playground/chat",
        json={"model": "none", "messages": []},
        headers={"x-csrf": owner.csrf(), "x-key": first},
    )
    assert 400 == refused.status_code
    assert refused.json()["error"]["message"]


def test_the_playground_asks_either_api(relay, owner) -> None:
    """A response is streamed and billed alike; of an API that there is not, the page is told."""
    before = relay.balance_nanos()
    first = next(
        each["id"] for each in relay.cli("keys", "list")["data"] if each["name"] == "first"
    )
    headers = {"x-csrf": owner.csrf(), "x-key": first}
    body = {"model": "o3", "stream": True, "input": "Hi", "store": False}
    answer = owner.http.post("/dashboard/playground/chat?api=responses", json=body, headers=headers)
    assert "event: response.completed" in answer.text
    cost = found(r": x-merino-cost: ([0-9.]+)", answer.text)
    assert before - relay.balance_nanos() == round(float(cost) * 1e9)
    refused = owner.http.post("/dashboard/playground/chat?api=none", json=body, headers=headers)
    assert 400 == refused.status_code


def test_the_overview_adds_up(relay, operator) -> None:
    """Its totals are those of the report."""
    report = relay.cli("report", "--by", "day")["data"]
    calls = sum(row["calls"] for row in report)
    page = operator.get("?window=24h").text
    assert f'data-figure="calls" title="{calls:,}">{calls}<' in page


def test_the_guides_example_comes_out(operator) -> None:
    """10 M and 5 M tokens of o3: $450 direct, $63 through the guide's relay, $4,644 a year."""
    page = operator.get("/roi?relay=guide").text
    for text in ("$450.00", "$63.00", "$387.00", "86 %", "$4,644.00"):
        assert text in page, text
    assert 'role="alert"' in operator.get("/roi?input_tokens=many").text
    assert "as charged" in operator.get("/roi?from=own").text


def test_the_page_opens_with_this_relay_beside_the_vendors_list(operator) -> None:
    """Nobody is compared with what was not asked for, and a loss is shown as one."""
    page = operator.get("/roi").text
    assert "guide-direct" not in page
    assert "relay (own book) costs as much as openai: $60.00/month." in page
    page = operator.get("/roi?relay=guide&model=o3&input_tokens=10M&output_tokens=5M").text
    assert "$-" not in page


def test_a_sign_in_leads_to_the_page_that_was_asked_for(relay) -> None:
    """A link from somebody else works also for who has to sign in first, once, and leads nowhere
    but to a page of the dashboard."""
    html = {"accept": "text/html"}
    sign_in = "/dashboard/sign-in"
    with relay.client() as http:
        asked = http.get("/dashboard/calls?window=1h&key=a%20b", headers=html)
        assert sign_in == asked.headers["location"]
        assert 403 == http.post(sign_in, data={"key": "mka-wrong"}).status_code
        answer = http.post(sign_in, data={"key": relay.admin_key})
        assert "/dashboard/calls?window=1h&key=a%20b" == answer.headers["location"]
        answer = http.post(sign_in, data={"key": relay.admin_key})
        assert "/dashboard" == answer.headers["location"]
    for wrong in ("https://example.org/", "//example.org", "/dashboard/../admin/v1", "/v1/models"):
        cookies = {"merino_wanted": quote(wrong, safe="")}
        with relay.client(cookies=cookies) as http:
            answer = http.post(sign_in, data={"key": relay.admin_key})
            assert "/dashboard" == answer.headers["location"], wrong


def test_settings_are_shown_with_their_source_and_without_secrets(start_relay) -> None:
    """A literal credential is hidden, a reference is shown, and each value says where it is from."""
    relay = start_relay(
        """
        [[deployments]]
        name = "a"
        base_url = "http://127.0.0.1:1/v1"
        credential = "literal-credential"
        upstream_model = "o3"
        [[deployments]]
        name = "b"
        base_url = "http://127.0.0.1:1/v1"
        credential = "env:UPSTREAM"
        upstream_model = "o3"
        """,
        environ={
            "UPSTREAM": "secret-of-b",
            "MERINO_LIMITS__WAIT_S": "3",
            "MERINO_SERVER__PORT": "0",
            "MERINO_LOG__FORMAT": "json",
        },
        given=frozenset(("MERINO_SERVER__PORT", "MERINO_LOG__FORMAT")),
    )
    browser = relay.browser(relay.admin_key)
    page = browser.get("/settings").text
    assert "literal-credential" not in page
    assert "secret-of-b" not in page
    assert "[hidden]" in page
    assert "env:UPSTREAM" in page
    assert "<strong>environment</strong>" in page
    assert "<strong>file</strong>" in page
    for name, source in (
        ("server.port", "command line"),
        ("log.format", "command line"),
        ("limits.wait_s", "environment"),
    ):
        row = page.partition(f"{name}<")[2].partition("</tr>")[0]
        assert f"<strong>{source}</strong>" in row
    browser.http.close()


def test_benchmarks_are_shown_in_a_sandbox(relay, operator) -> None:
    """A stored report can be looked at and can do nothing; a path leads nowhere else."""
    folder = relay.data / "benchmarks" / "monday"
    folder.mkdir(parents=True)
    result = {"kind": "latency", "at": "2026-11-24", "targets": [{"name": "sim"}]}
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "report.html").write_text("<h1>figures</h1><script>alert(1)</script>")
    assert "monday" in operator.get("/benchmarks").text
    shown = operator.get("/benchmarks/monday")
    assert shown.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    for path in ("/benchmarks/..", "/benchmarks/%2e%2e", "/benchmarks/..%2fmerino.db"):
        assert 200 != operator.get(path).status_code or "figures" not in operator.get(path).text


def test_the_status_page_tells_availability(start_relay) -> None:
    """Public once it is switched on: failures count against a model, refusals do not."""
    relay = start_relay(
        "[status]\npublic = true\nobjective = 0.9\n"
        + CONFIG.split("[status]")[1].split("\n", 2)[2]
        + """
        [[deployments]]
        name = "failing"
        provider = "simulator"
        upstream_model = "o3-mini!status=500"
        [aliases.failing]
        deployments = ["failing"]
        """
    )
    for _ in range(3):
        ask(relay, "o3")
    ask(relay, "broken")
    ask(relay, "failing")
    with relay.client() as http:
        page, twin = http.get("/status"), http.get("/status.json").json()
    assert 200 == page.status_code
    assert "broken" in page.text
    by_model = {row["model"]: row for row in twin["models"] if row["window"] == "24h"}
    assert (1.0, 3, 0.0) == (
        by_model["o3"]["availability"],
        by_model["o3"]["calls"],
        by_model["o3"]["error_budget_used"],
    )
    assert (None, 1) == (by_model["broken"]["availability"], by_model["broken"]["refused"])
    assert 0.0 == by_model["failing"]["availability"]
    assert "failing" not in json.dumps(twin["incidents"])


def test_changes_by_the_admin_api_are_in_the_audit_log(relay, operator) -> None:
    """With the admin key's name, or as local for the folder's own socket."""
    answer = relay.admin.post("/accounts", json={"name": "by-api"})
    assert 201 == answer.status_code
    relay.cli("accounts", "create", "--name", "by-cli")
    log = operator.get("/audit").text
    assert "admin key first" in log
    assert "by-api" in log
    assert "local" in log
    assert "by-cli" in log


def test_the_status_page_counts_probes_and_remembers_outages(tmp_path, start_relay) -> None:
    """Of the processes before this one, too: the worse of calls and probes is the availability, and
    an outage that lasted when the relay stopped ended when it started again."""
    store = Store.open(tmp_path / "data")
    store.uptime.probed([("o3", minute > 0) for minute in range(10)])
    store.uptime.heard("fast", BreakerChange(1_795_000_000_000, "open", "5 failures in a row"))
    asyncio.run(store.close())
    relay = start_relay(CONFIG.replace("public = false", "public = true"))
    ask(relay, "o3")
    with relay.client() as http:
        page, twin = http.get("/status").text, http.get("/status.json").json()
    row = next(each for each in twin["models"] if (each["model"], each["window"]) == ("o3", "24h"))
    assert (1, 0, 10, 1, 0.9) == tuple(
        row[name] for name in ("calls", "failed", "probes", "unanswered", "availability")
    )
    (incident,) = twin["incidents"]
    assert "deployment 1" == incident["deployment"]
    assert incident["began_at"].startswith("2026-")
    assert None is not incident["ended_at"]
    assert html.escape(twin["formula"]) in page
    assert "90.000\N{NO-BREAK SPACE}%" in page
    assert "1 calls, 0 refused, 0 failed; 10 probes, 1 unanswered" in page
    assert "All systems take calls." in page
