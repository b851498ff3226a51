"""No page and no form breaks, whatever is asked of it by whomever."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.routing import Route
from tests.in_process import SIMULATED, Browser, InProcess, found, in_process
from tests.lengths import examples

from merino.dashboard import overview
from merino.dashboard.parts import BASE, FORM_BYTES_MAX, page_of_ours
from merino.dashboard.routes import dashboard_routes

CONFIG = SIMULATED + '[payments.invoice]\ninstructions = "Pay {amount} {currency}."\n'
QUERIES = {
    "": ("window", "done"),
    "/calls": ("window", "status", "key", "account", "alias", "id", "cursor"),
    "/calls.csv": ("cursor", "alias"),
    "/accounts/default": ("cursor",),
    "/accounts/default/statement": ("month",),
    "/audit": ("cursor",),
    "/playground": ("alias",),
    "/roi": (
        *("from", "model", "input_tokens", "output_tokens", "cached_share", "relay", "months"),
        *("growth", "hosting", "people"),
    ),
}
FIELDS = (
    *("name", "account", "aliases", "expires_at", "spend_cap", "spend_period", "rps", "rpm", "tpm"),
    *("concurrency", "weight", "amount", "memo", "currency", "provider", "voucher", "overdraft"),
    *("notice_below", "topup_below", "topup_amount", "notice_email", "role", "reference", "key"),
)
ODD = (
    *("", " ", "0", "-1", "1e999", "nan", "9" * 400, "1.0000000001", "\u0663", "\x00", "\ud83d"),
    *("none", "default", "../../etc", "<b>", "%s{0}", "2026-13-45", "0001-01-01", "9999-12-31"),
    *("2026-02-30T25:61", "2027-01-31T00:00+14:00", "a" * 5000, "=cmd()", "\u202e", "True", "[]"),
)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("relay"), CONFIG) as relay:
        yield relay


@pytest.fixture(scope="module")
def operator(relay: InProcess) -> Browser:
    return relay.browser(relay.admin_key)


@pytest.fixture(scope="module")
def viewer(relay: InProcess) -> Browser:
    limited = relay.cli("keys", "create", "--name", "limited", "--rpm", "600")
    return relay.browser(limited["key"])


def routes(relay: InProcess, method: str) -> list[str]:
    every = dashboard_routes(relay.relay._pages)
    return [
        route.path
        for route in every
        if isinstance(route, Route) and method in (route.methods or ()) and route.path != "/status"
    ]


def filled(path: str, value: str) -> str:
    """A route's path with one value for all that it leaves open."""
    return re.sub(r"\{\w+(:\w+)?\}", lambda _: value, path)


def quoted(text: str) -> str:
    raw = text.encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02x}" for byte in raw) or "%20"


@pytest.mark.parametrize("value", ODD)
def test_every_page_with_odd_names_and_queries(relay, operator, value) -> None:
    """It is a page, a way to another one, or one that says what was wrong; never a fault."""
    for path in routes(relay, "GET"):
        if path.endswith("/live"):
            continue
        answer = operator.http.get(filled(path, quoted(value)))
        assert answer.status_code in (200, 400, 404), (path, answer.text)
    for page, names in QUERIES.items():
        for name in names:
            answer = operator.get(f"{page}?{name}={quoted(value)}")
            assert answer.status_code in (200, 400, 404), (page, name, answer.text)


@pytest.mark.parametrize("value", ODD)
def test_every_form_with_odd_fields(relay, operator, value) -> None:
    """What is wrong is told, and nothing else happens; never a fault."""
    before = len(relay.store.accounts.list())
    csrf = operator.csrf()
    for path in routes(relay, "POST"):
        if path.endswith(("/sign-out", "/sign-in", "/rotate", "/revoke", "/playground/chat")):
            continue
        body = {name: value.encode("utf-8", "replace").decode() for name in FIELDS}
        answer = operator.http.post(filled(path, "default"), data={"csrf": csrf} | body)
        assert answer.status_code in (200, 400, 403, 404), (path, answer.text)
    assert len(relay.store.accounts.list()) - before <= 1
    assert 200 == operator.get("").status_code


texts = st.text(max_size=12)


@settings(max_examples=examples(15))
@given(st.data())
def test_no_form_breaks(relay, operator, data) -> None:
    """Fields in any number and of any text, given twice or not at all."""
    path = data.draw(
        st.sampled_from([each for each in routes(relay, "POST") if "sign" not in each])
    )
    names = st.sampled_from(FIELDS)
    body: dict[str, Any] = data.draw(st.dictionaries(names, texts | st.lists(texts), max_size=6))
    account = data.draw(st.sampled_from(["default", "none", "a/b"]))
    answer = operator.http.post(filled(path, account), data={"csrf": operator.csrf()} | body)
    assert answer.status_code < 500, answer.text


def test_nobody_but_operators_learns_of_their_pages(relay, viewer) -> None:
    """A viewer gets every page of their own account, and may send no form but those that change
    nothing."""
    for page in ("", "/calls", "/models", "/keys", "/accounts", "/playground", "/roi"):
        assert 200 == viewer.get(page).status_code
    for page in ("/benchmarks", "/settings", "/audit", "/admin-keys"):
        assert 404 == viewer.get(page).status_code
    csrf = viewer.csrf()
    for path in routes(relay, "POST"):
        if path.endswith(("/sign-in", "/sign-out", "/link/{token}")):
            continue
        answer = viewer.http.post(filled(path, "default"), data={"csrf": csrf, "name": "x"})
        assert answer.status_code in (403, 404), path


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"content-length": str(FORM_BYTES_MAX + 1)}, b"csrf=x", 400),
        ({"content-length": "many"}, b"csrf=x", 400),
        ({"content-type": "application/json"}, b'{"csrf": "x"}', 403),
        ({"content-type": "multipart/form-data; boundary=x"}, b"--x\r\nno", 403),
        ({"content-type": "multipart/form-data"}, b"csrf=x", 400),
        ({"content-type": "application/x-www-form-urlencoded"}, b"a=1&" * 60, 400),
        ({"content-type": "application/x-www-form-urlencoded"}, b"csrf=%ff%fe", 403),
    ],
)
def test_what_is_no_small_form_is_refused(operator, headers, content, status) -> None:
    """Too large, no form, broken off, too many fields: in words, on a page."""
    answer = operator.http.post("/dashboard/keys", content=content, headers=headers)
    assert status == answer.status_code, answer.text
    assert "text/html" in answer.headers["content-type"]


def test_a_file_in_a_form_is_refused(operator) -> None:
    """No form of ours has one."""
    answer = operator.http.post(
        "/dashboard/keys", data={"csrf": operator.csrf()}, files={"name": ("a", b"b")}
    )
    assert 400 == answer.status_code


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b"{}", 403),
        ({"x-csrf": "own"}, b"{}", 400),
        ({"x-csrf": "own", "x-key": "none"}, b"{}", 400),
        ({"x-csrf": "own", "x-key": "first"}, b"", 400),
        ({"x-csrf": "own", "x-key": "first"}, b"[]", 400),
        ({"x-csrf": "own", "x-key": "first"}, b'{"model": 7, "messages": []}', 400),
        ({"x-csrf": "own", "x-key": "first"}, b"[" * 5000, 400),
        ({"x-csrf": "own", "x-key": "first"}, b'{"model": "none", "messages": [{}]}', 400),
    ],
)
def test_a_chat_that_is_none(relay, headers, body, status) -> None:
    """The page's script gets JSON that says why, whatever it sent."""
    browser = relay.browser(relay.key)
    given = {name: browser.csrf() if value == "own" else value for name, value in headers.items()}
    answer = browser.http.post("/dashboard/playground/chat", content=body, headers=given)
    assert status == answer.status_code
    assert answer.json()["error"]["message"]


def test_signed_out_means_signed_out_for_scripts_too(relay) -> None:
    """The chat and the figures."""
    with relay.client() as http:
        assert 401 == http.post("/dashboard/playground/chat", json={}).status_code
        assert 303 == http.get("/dashboard/live").status_code


def test_the_figures_stop_when_the_session_ends(relay, monkeypatch) -> None:
    """The stream tells the figures over and over, and nothing more once one is signed out; for
    another account than the page's it has nothing."""
    browser = relay.browser(relay.key)
    account = relay.cli("accounts", "show", "default")["id"]
    ended = []

    async def sleep(_: float) -> None:
        ended.append(relay.relay._pages.sessions.end(browser.http.cookies["merino_session"]))

    monkeypatch.setattr(overview, "LIVE_S", 0.0)
    shim = type("Loop", (), {"sleep": staticmethod(sleep)})
    monkeypatch.setattr(overview, "asyncio", shim)
    assert 204 == browser.get("/live?scope=acct_other").status_code
    answer = browser.get(f"/live?scope={account}&window=1h")
    assert 1 == len(ended)
    [event] = answer.text.removesuffix("\n\n").split("\n\n")
    told = json.loads(event.removeprefix("data: "))
    assert {"alerts", "figures", "rows"} == set(told)
    assert "margin" not in told["figures"]


def test_an_export_cannot_be_taken_for_formulas(relay, operator) -> None:
    """Whatever callers wrote, a spreadsheet shows it as text; JSON lines have it as it was."""
    for odd in ("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1"):
        relay.chat(model="broken", text=odd)
        assert 404 == relay.chat(model=odd).status
    rows = list(csv.reader(io.StringIO(operator.get("/calls.csv").text)))
    cells = [cell for row in rows for cell in row]
    assert len(rows) > 14
    assert [] == [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\n") and cell]
    lines = operator.get("/calls.jsonl").text.splitlines()
    assert len(rows) - 1 == len(lines)


@pytest.mark.parametrize("form", ["xlsx", "csv%0d%0ax: y", "csv%22", "%d9%a3"])
def test_there_are_two_forms_of_export(operator, form) -> None:
    """Nothing else becomes part of a header."""
    answer = operator.get(f"/calls.{form}")
    assert 404 == answer.status_code
    assert "content-disposition" not in answer.headers


def test_what_is_to_be_paid_is_in_the_currencys_own_units(relay, operator) -> None:
    """Yen have no hundredths."""
    relay.cli("rates", "set", "USD", "JPY", "150", "--on", "2026-01-01")
    account = relay.cli("accounts", "show", "default")["id"]
    ordered = operator.post(
        f"/accounts/{account}/topup", amount="20", provider="invoice", currency="JPY"
    )
    assert "Pay 3000 JPY." in ordered.text
    page = operator.get(f"/accounts/{account}").text
    assert ">3000 JPY<" in page


def test_a_day_with_an_offset_is_that_moment(relay, operator) -> None:
    """A form's date is in UTC unless it says otherwise."""
    operator.post("/keys", name="offset", account="default", expires_at="2031-01-31T00:00:00+02:00")
    assert "2031-01-30T22:00:00.000Z" == relay.cli("keys", "show", "offset")["expires_at"]


def test_a_page_that_fails_says_so_and_no_more(relay, operator, monkeypatch) -> None:
    """The log has the fault; the page has neither traceback nor secret."""

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("sk-secret")

    monkeypatch.setattr(type(relay.relay._pages.usage), "view", broken)
    answer = operator.get("")
    assert 500 == answer.status_code
    assert "its log says why" in answer.text
    assert "ZeroDivisionError" not in answer.text
    assert "sk-secret" not in answer.text


@pytest.mark.parametrize(
    ("text", "is_ours"),
    [
        (BASE, True),
        (f"{BASE}/calls?window=1h", True),
        (f"{BASE}?x=1", True),
        (f"{BASE}ish", False),
        ("//evil.example/dashboard", False),
        (f"{BASE}/../admin", False),
        (f"{BASE}/\\evil", False),
        (f"{BASE}/\n", False),
        (f"{BASE}/\u00e9", False),
        (f"{BASE}/" + "a" * 2000, False),
        ("", False),
    ],
)
def test_where_a_sign_in_may_lead(text, is_ours) -> None:
    """To pages of the dashboard, and nowhere else."""
    assert (text if is_ours else None) == page_of_ours(text)


def test_a_link_is_used_up_by_signing_in_only(relay, operator) -> None:
    """Programs that look at every address of a mail leave it good; the second use is refused."""
    account = relay.cli("accounts", "show", "default")["id"]
    page = operator.post(f"/accounts/{account}/link", role="nonsense").text
    link = found(r'id="link">([^<]+)<', page)
    with relay.client() as http:
        assert [200, 200] == [http.get(link).status_code for _ in range(2)]
        cross = http.post(link, headers={"sec-fetch-site": "cross-site"})
        assert 403 == cross.status_code
        assert 303 == http.post(link).status_code
        assert "viewer" in http.get("/dashboard").text
    with relay.client() as http:
        assert 403 == http.post(link).status_code
        assert 403 == http.post("/dashboard/link/%ff%00").status_code
