"""Signing in to the dashboard through an OpenID Connect provider, over real sockets."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from tests.authority import make_authority
from tests.conftest import RelayProcess
from tests.fake_oidc import CLIENT_ID, CLIENT_SECRET, FakeOidc

START = "/dashboard/oidc/start"
CALLBACK = "/dashboard/oidc/callback"


def settings(provider: FakeOidc, more: str = "") -> str:
    return f"""
    [dashboard.oidc]
    name = "Example ID"
    issuer = "{provider.url}"
    client_id = "{CLIENT_ID}"
    client_secret = "env:OIDC_SECRET"
    operators = ["Anna@Example.org"]
    operator_groups = ["relay-operators"]
    account_claim = "team"
    {more}
    [dashboard.oidc.accounts.default]
    owners = ["otto@example.org"]
    owner_groups = ["default-owners"]
    viewers = ["@viewers.example"]
    [dashboard.oidc.accounts."not there"]
    owners = ["lost@example.org", "otto@example.org"]
    """


@pytest.fixture(scope="module")
def served() -> Iterator[FakeOidc]:
    with FakeOidc() as fake:
        yield fake


@pytest.fixture
def provider(served) -> FakeOidc:
    served.reset()
    served.requests.clear()
    return served


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, served) -> Iterator[RelayProcess]:
    data = tmp_path_factory.mktemp("relay") / "data"
    process = RelayProcess(data, settings(served), env={"OIDC_SECRET": CLIENT_SECRET}).start()
    process.cli("accounts", "create", "--name", "team red")
    yield process
    assert 0 == process.stop()
    for secret in (CLIENT_SECRET, "access_token", "id_token", "eyJ"):
        assert secret not in process.errors()


@pytest.fixture
def browser(relay) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=relay.url, trust_env=False, timeout=30) as http:
        yield http


def sent_to(answer: httpx2.Response) -> str:
    assert answer.is_redirect, answer.text
    return answer.headers["location"]


def returned(browser: httpx2.Client) -> str:
    """The address that the provider sends a browser back to."""
    return sent_to(browser.get(sent_to(browser.get(START))))


def sign_in(browser: httpx2.Client) -> httpx2.Response:
    """Through the provider, and to the first page if that is where it leads."""
    answer = browser.get(returned(browser))
    return browser.get(sent_to(answer)) if answer.is_redirect else answer


def problem(answer: httpx2.Response) -> str:
    return re.search(r'role="alert">([^<]+)<', answer.text)[1]


def audit(relay) -> str:
    with httpx2.Client(base_url=relay.url, trust_env=False, follow_redirects=True) as http:
        http.post("/dashboard/sign-in", data={"key": relay.admin_key})
        return http.get("/dashboard/audit").text


def test_the_sign_in_page_offers_it(browser) -> None:
    """By the name in the settings, beside the key."""
    page = browser.get("/dashboard/sign-in").text
    assert f'href="{START}"' in page
    assert "Sign in with Example ID" in page
    assert 'name="key"' in page


def test_without_settings_there_is_none(start_relay) -> None:
    """Its addresses lead to the sign-in page, which does not offer it."""
    relay = start_relay()
    with httpx2.Client(base_url=relay.url, trust_env=False) as http:
        assert "Sign in with" not in http.get("/dashboard/sign-in").text
        for path in (START, CALLBACK):
            assert "/dashboard/sign-in" == sent_to(http.get(path))


@pytest.mark.parametrize(
    ("person", "role"),
    [
        ({"email": "anna@example.org"}, "operator"),
        ({"email": "x@y.example", "groups": ["staff", "relay-operators"]}, "operator"),
        ({"email": "x@y.example", "groups": "relay-operators"}, "operator"),
        ({"email": "otto@example.org"}, "owner"),
        ({"email": "x@y.example", "groups": ["default-owners"]}, "owner"),
        ({"email": "anybody@viewers.example"}, "viewer"),
        ({"email": "x@y.example", "team": "team red"}, "viewer"),
    ],
)
def test_everybody_gets_their_role(relay, provider, browser, person, role) -> None:
    """By address, domain, group or the account's claim; and the audit log says who it was."""
    provider.person |= person
    page = sign_in(browser)
    assert 200 == page.status_code
    assert f'title="oidc {person["email"]}">{role}<' in page.text
    assert (200 if role == "operator" else 404) == browser.get("/dashboard/audit").status_code
    accounts = browser.get("/dashboard/accounts", follow_redirects=True).text
    assert ("team red" in accounts) == (role == "operator" or "team" in person)
    assert ("default" in accounts) == (role == "operator" or "team" not in person)
    made = browser.post(
        "/dashboard/keys",
        data={"csrf": csrf(page), "name": re.sub(r"\W+", "-", f"by{person}"), "account": "default"},
    )
    assert (403 if role == "viewer" else 200) == made.status_code
    log = audit(relay)
    for action in ("sign in", "create key")[: 1 if role == "viewer" else 2]:
        assert re.search(cells(re.escape(person["email"]), action), log)


def cells(email: str, action: str) -> str:
    """Of the audit log's page."""
    return f'>oidc {email}</td><td class="first">{action}</td>'


def csrf(page: httpx2.Response) -> str:
    return re.search(r'name="csrf" value="([^"]+)"', page.text)[1]


def chosen(page: httpx2.Response) -> str:
    """The account that the page's head shows as chosen."""
    return re.search(r'<option value="[^"]+" selected>([^<]+)</option>', page.text)[1]


def test_whom_several_accounts_have_may_switch(relay, provider, browser) -> None:
    """Each in the role that the settings give there, also back; the audit log says so."""
    provider.person |= {"email": "otto@example.org", "team": "team red"}
    page = sign_in(browser)
    assert "default (owner)" == chosen(page)
    [red] = re.findall(r'<option value="([^"]+)">team red \(viewer\)<', page.text)
    [default] = re.findall(r'<option value="([^"]+)" selected>', page.text)
    before = browser.cookies["merino_session"]
    form = {"csrf": csrf(page), "account": red}
    page = browser.post("/dashboard/account", data=form, follow_redirects=True)
    assert "team red (viewer)" == chosen(page)
    assert 'title="oidc otto@example.org">viewer<' in page.text
    accounts = browser.get("/dashboard/accounts", follow_redirects=True).text
    assert ("<h1>team red</h1>" in accounts, "<h1>default</h1>" in accounts) == (True, False)
    assert 403 == browser.post("/dashboard/keys", data={"csrf": csrf(page)}).status_code
    # What another tab still shows belongs to the account before.
    assert 403 == browser.post("/dashboard/account", data=form).status_code
    assert 204 == browser.get(f"/dashboard/live?scope={default}").status_code
    stale = {"cookie": f"merino_session={before}"}
    stolen = httpx2.get(f"{relay.url}/dashboard", headers=stale, trust_env=False)
    assert "/dashboard/sign-in" == sent_to(stolen)
    page = browser.post(
        "/dashboard/account",
        data={"csrf": csrf(page), "account": default},
        follow_redirects=True,
    )
    assert "default (owner)" == chosen(page)
    log = audit(relay)
    for role in ("viewer", "owner"):
        assert re.search(f"{cells('otto@example.org', 'switch account')}.*role={role}", log)


@pytest.mark.parametrize(
    "person",
    [
        {"email": "otto@example.org"},
        {"email": "anna@example.org", "team": "team red"},
        {"email": "x@y.example", "team": "team red"},
        {"email": "otto@example.org", "team": "default"},
    ],
)
def test_whom_one_account_has_cannot_switch(relay, provider, browser, person) -> None:
    """There is nothing to choose, not for operators either, and asked for without the page, another
    account does not exist; nor does it for who signed in with a key."""
    provider.person |= person
    ids = {each["name"]: each["id"] for each in relay.cli("accounts", "list")["data"]}
    with httpx2.Client(base_url=relay.url, trust_env=False, follow_redirects=True) as keyed:
        by_key = keyed.post("/dashboard/sign-in", data={"key": relay.key})
        for http, page in ((browser, sign_in(browser)), (keyed, by_key)):
            assert 'name="account" aria-label="Account"' not in page.text
            for account in (*ids.values(), "team red", ""):
                form = {"csrf": csrf(page), "account": account}
                assert 404 == http.post("/dashboard/account", data=form).status_code


def test_only_ones_own_accounts_can_be_switched_to(relay, provider, browser) -> None:
    """Whoever has two does not get at a third; and a role that is taken away ends the session."""
    relay.cli("accounts", "create", "--name", "third")
    third = relay.cli("accounts", "show", "third")["id"]
    provider.person |= {"email": "otto@example.org", "team": "team red"}
    page = sign_in(browser)
    for account in (third, "third", "team red"):
        form = {"csrf": csrf(page), "account": account}
        assert 404 == browser.post("/dashboard/account", data=form).status_code
    assert "default (owner)" == chosen(browser.get("/dashboard"))
    form = {"csrf": "forged", "account": third}
    assert 403 == browser.post("/dashboard/account", data=form).status_code


def test_what_is_asked_of_the_provider(relay, provider, browser) -> None:
    """The code flow with PKCE, a state and a nonce, new each time; the browser gets a cookie that no
    script and no other site sees."""
    first, second = browser.get(START), browser.get(START)
    asked = [
        {name: values[0] for name, values in parse_qs(urlsplit(sent_to(each)).query).items()}
        for each in (first, second)
    ]
    assert f"{relay.url}{CALLBACK}" == asked[0]["redirect_uri"]
    assert "openid email profile" == asked[0]["scope"]
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked[0][name]) >= 43
        assert asked[0][name] != asked[1][name]
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert asked[0]["state"] not in cookie
    sign_in(browser)
    form = next(form for _, path, form in provider.requests if path == "/token")
    assert "client_secret" not in form


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
def test_the_clients_secret_is_sent_as_the_provider_wants_it(start_relay, provider, method) -> None:
    """In the form, or in the header."""
    provider.metadata = {"token_endpoint_auth_methods_supported": [method]}
    relay = start_relay(settings(provider), env={"OIDC_SECRET": CLIENT_SECRET})
    with httpx2.Client(base_url=relay.url, trust_env=False) as http:
        assert 200 == sign_in(http).status_code
    form = next(form for _, path, form in provider.requests if path == "/token")
    assert (method == "client_secret_post") == ("client_secret" in form)


def test_a_session_is_new_at_each_sign_in(relay, provider, browser) -> None:
    """One that somebody planted is of no use, and the one before ends."""
    browser.cookies.set("merino_session", "planted", domain="127.0.0.1")
    sign_in(browser)
    first = browser.cookies["merino_session"]
    assert "planted" != first
    sign_in(browser)
    browser_of_thief = {"cookie": f"merino_session={first}"}
    stolen = httpx2.get(f"{relay.url}/dashboard", headers=browser_of_thief, trust_env=False)
    assert "/dashboard/sign-in" == sent_to(stolen)


@pytest.mark.parametrize("state", ["wrong", "", "é", None])
def test_a_wrong_state_is_refused(browser, provider, state) -> None:
    """Nothing is asked of the provider for it."""
    parts = urlsplit(returned(browser))
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    query = {name: value for name, value in query.items() if name != "state"}
    answer = browser.get(
        f"{CALLBACK}?{urlencode(query | ({} if state is None else {'state': state}))}"
    )
    assert 400 == answer.status_code
    assert "did not begin in this browser" in problem(answer)
    assert "merino_session" not in browser.cookies
    assert "/token" not in [path for _, path, _ in provider.requests]


def test_another_browsers_answer_is_refused(relay, browser, provider) -> None:
    """An answer made for an attacker cannot sign in whoever is led to it."""
    with httpx2.Client(base_url=relay.url, trust_env=False) as attacker:
        url = returned(attacker)
    assert 400 == browser.get(url).status_code
    browser.get(START)
    assert 400 == browser.get(url).status_code
    assert "merino_session" not in browser.cookies


def test_an_answer_works_once(relay, browser, provider) -> None:
    """Also with the same cookie again; and a code that the provider has seen is refused by it."""
    started = browser.get(START)
    cookie = started.headers["set-cookie"].partition(";")[0]
    url = sent_to(browser.get(sent_to(started)))
    assert 303 == browser.get(url).status_code
    again = httpx2.get(url, headers={"cookie": cookie}, trust_env=False)
    assert 400 == again.status_code
    code = parse_qs(urlsplit(url).query)["code"][0]
    state = parse_qs(urlsplit(sent_to(browser.get(START))).query)["state"][0]
    replayed = browser.get(f"{CALLBACK}?{urlencode({'code': code, 'state': state})}")
    assert (403, True) == (replayed.status_code, "cannot be trusted" in problem(replayed))
    assert "invalid_grant" in relay.errors()


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"iss": "https://evil.example"}, "iss"),
        ({"aud": "another client"}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": [CLIENT_ID, "another"]}, "azp"),
        ({"aud": [CLIENT_ID, "another"], "azp": "another"}, "azp"),
        ({"exp": int(time.time()) - 300}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"exp": None}, "exp"),
        ({"iat": int(time.time()) + 3600}, "issued in the future"),
        ({"sub": None}, "sub"),
        ({"at_hash": "bm90IGl0IGF0IGFsbCBubw"}, "at_hash"),
    ],
)
def test_an_id_token_that_is_not_for_us_now_is_refused(
    relay, browser, provider, claims, reason
) -> None:
    """Of another sign-in, issuer, client or time; the log says which."""
    provider.claims = claims
    answer = sign_in(browser)
    assert (403, True) == (answer.status_code, "cannot be trusted" in problem(answer))
    assert "merino_session" not in browser.cookies
    assert reason in relay.errors().splitlines()[-1]


@pytest.mark.parametrize("signs_as", ["none", "HS256", "broken", "stranger"])
def test_a_signature_that_is_not_the_providers_is_refused(browser, provider, signs_as) -> None:
    """Broken, by another key, with a public key for a secret, or none at all."""
    provider.signs_as = signs_as
    provider.metadata = {"id_token_signing_alg_values_supported": ["RS256", "HS256", "none"]}
    answer = sign_in(browser)
    assert (403, True) == (answer.status_code, "cannot be trusted" in problem(answer))
    assert "merino_session" not in browser.cookies


def test_a_key_on_a_curve_is_as_good(browser, provider) -> None:
    """ES256, beside the usual RS256."""
    provider.signs_as = "ES256"
    assert 200 == sign_in(browser).status_code


@pytest.mark.parametrize("is_known", [True, False])
def test_the_providers_certificate_is_checked(start_relay, tmp_path, is_known) -> None:
    """By the settings' own authority; one that nobody vouches for is not asked anything."""
    ca_file, tls = make_authority(tmp_path)
    with FakeOidc(tls) as secure:
        relay = start_relay(
            settings(secure, f'ca_file = "{ca_file}"' if is_known else ""),
            env={"OIDC_SECRET": CLIENT_SECRET},
        )
        with (
            httpx2.Client(base_url=relay.url, trust_env=False) as http,
            httpx2.Client(verify=False, trust_env=False) as elsewhere,
        ):
            started = http.get(START)
            if is_known:
                assert 303 == http.get(sent_to(elsewhere.get(sent_to(started)))).status_code
            else:
                assert (502, True) == (started.status_code, "cannot be reached" in problem(started))
                assert "CERTIFICATE_VERIFY_FAILED" in relay.errors()
                assert [] == secure.requests


def test_a_little_difference_of_clocks_is_no_reason(browser, provider) -> None:
    """Half a minute past its end a token is still taken."""
    provider.claims = {"exp": int(time.time()) - 30}
    assert 200 == sign_in(browser).status_code


def test_a_rotated_key_is_fetched_once(browser, provider) -> None:
    """Keys are kept, and asked for again when a token is signed with another one."""
    for _ in range(2):
        assert 200 == sign_in(browser).status_code
    before = [path for _, path, _ in provider.requests].count("/jwks")
    assert before <= 1
    provider.rotate()
    assert 200 == sign_in(browser).status_code
    assert before + 1 == [path for _, path, _ in provider.requests].count("/jwks")


@pytest.mark.parametrize("verified", [False, None, "false", 1, "yes"])
def test_an_address_that_is_not_verified_is_refused(browser, provider, verified) -> None:
    """Anybody could have typed it in."""
    provider.person["email_verified"] = verified
    provider.userinfo = {"email_verified": verified}
    answer = sign_in(browser)
    assert 403 == answer.status_code
    assert "not verified your address anna@example.org" in problem(answer)


@pytest.mark.parametrize(
    "email",
    [
        "stranger@example.org",
        "anna@example.org.evil.example",
        "evil@viewers.example@evil.example",
        "x@notviewers.example",
        "lost@example.org",
        "<img src=x onerror=alert(1)>@evil.example",
        "anna@\u212aexample.org",
    ],
)
def test_whom_nobody_gave_a_role_is_refused(browser, provider, email) -> None:
    """By a page that says who they are and what to do; nothing that a name may contain gets in."""
    provider.person["email"] = email
    page = sign_in(browser)
    assert 403 == page.status_code
    assert "nobody has given you a role here" in page.text
    assert "<img src=x" not in page.text
    assert "/end_session" in page.text
    assert "merino_session" not in browser.cookies


def test_who_has_no_name_is_refused(browser, provider) -> None:
    """A provider that does not tell the claim."""
    provider.person["email"] = None
    assert "does not tell your email" in problem(sign_in(browser))


def test_what_only_userinfo_tells_is_asked_there(browser, provider) -> None:
    """Some providers keep the ID token short; who it is about has to be the same."""
    provider.only_userinfo = ("email", "email_verified")
    assert 200 == sign_in(browser).status_code
    browser.cookies.clear()
    provider.userinfo = {"sub": "somebody else"}
    assert 403 == sign_in(browser).status_code


def test_the_providers_refusal_is_told(browser, provider) -> None:
    """With its code, if that is one."""
    provider.refuses = "access_denied"
    answer = sign_in(browser)
    assert (403, True) == (answer.status_code, "(access_denied)" in problem(answer))
    provider.refuses = "<script>"
    assert "(no reason given)" in problem(sign_in(browser))


def test_a_provider_that_is_down_is_told(relay, start_relay, browser, provider) -> None:
    """Before and after it has said where it is: a page, and a key still signs in."""
    provider.is_down = True
    other = start_relay(settings(provider), env={"OIDC_SECRET": CLIENT_SECRET})
    with httpx2.Client(base_url=other.url, trust_env=False) as http:
        answer = http.get(START)
        assert (502, True) == (answer.status_code, "cannot be reached now" in problem(answer))
        assert 303 == http.post("/dashboard/sign-in", data={"key": other.admin_key}).status_code
    asked = len(provider.requests)
    with httpx2.Client(base_url=other.url, trust_env=False) as http:
        assert [502] * 3 == [http.get(START).status_code for _ in range(3)]
    assert len(provider.requests) <= asked + 1
    provider.is_down = False
    url = returned(browser)
    provider.is_down = True
    answer = browser.get(url)
    assert (502, True) == (answer.status_code, "cannot be reached now" in problem(answer))
    assert "Traceback" not in relay.errors() + other.errors()


def test_a_provider_that_hangs_holds_up_nobody_else(start_relay, provider) -> None:
    """Calls are answered while a sign-in waits for it; when it hangs up, a page says so."""
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        relay = start_relay(
            settings(provider).replace(provider.url, address), env={"OIDC_SECRET": CLIENT_SECRET}
        )
        waiting = pool.submit(httpx2.get, f"{relay.url}{START}", trust_env=False, timeout=30)
        connection, _ = silent.accept()
        with connection, relay.http() as http:
            body = {"model": "o3", "messages": [{"role": "user", "content": "Hi"}]}
            assert 200 == http.post("/v1/chat/completions", json=body).status_code
            assert not waiting.done()
        assert 502 == waiting.result().status_code


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{", b"\xff", b"{}", b"[" * 100_000, b"x" * 2_000_000]
)
def test_nonsense_from_the_provider_is_told(start_relay, provider, raw) -> None:
    """Whatever its discovery document is, the relay's answer is a page."""
    provider.answer_as = (200, raw)
    relay = start_relay(settings(provider), env={"OIDC_SECRET": CLIENT_SECRET})
    with httpx2.Client(base_url=relay.url, trust_env=False) as http:
        assert 502 == http.get(START).status_code
    assert "Traceback" not in relay.errors()


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"authorization_endpoint": "http://evil.example/authorize"},
        {"token_endpoint": "http://evil.example/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
    ],
)
def test_endpoints_in_clear_are_not_used(start_relay, provider, metadata) -> None:
    """And an issuer that is another one neither; the log says how to mend it."""
    provider.metadata = metadata
    relay = start_relay(settings(provider), env={"OIDC_SECRET": CLIENT_SECRET})
    with httpx2.Client(base_url=relay.url, trust_env=False) as http:
        answer = http.get(START)
    assert (502, True) == (answer.status_code, "set up wrongly" in problem(answer))
    assert next(iter(metadata)) in relay.errors()


def test_a_wrong_secret_is_told(start_relay, provider) -> None:
    """In the log, not to the person."""
    relay = start_relay(settings(provider), env={"OIDC_SECRET": "wrong-secret"})
    with httpx2.Client(base_url=relay.url, trust_env=False) as http:
        assert "set up wrongly" in problem(sign_in(http))
    assert "client id or secret" in relay.errors()
    assert "wrong-secret" not in relay.errors()


@pytest.mark.parametrize("name", ["next", "redirect_uri", "return_to", "iss"])
def test_no_query_leads_elsewhere(browser, provider, name) -> None:
    """Signing in ends at the dashboard, whatever the address says; another issuer's answer ends
    nowhere."""
    evil = "https://evil.example/"
    started = browser.get(f"{START}?{urlencode({name: evil})}")
    assert sent_to(started).startswith(f"{provider.url}/authorize?")
    url = sent_to(browser.get(sent_to(started)))
    answer = browser.get(f"{url}&{urlencode({name: evil})}")
    if name == "iss":
        assert 403 == answer.status_code
    else:
        assert "/dashboard" == sent_to(answer)


def test_signing_out_signs_out_at_the_provider_too(relay, browser, provider) -> None:
    """The session ends here, and the browser is led to the provider's end of session and back."""
    page = sign_in(browser)
    old = browser.cookies["merino_session"]
    left = browser.post("/dashboard/sign-out", data={"csrf": csrf(page)})
    url = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', left.text)[1]
    url = url.replace("&amp;", "&")
    assert url.startswith(f"{provider.url}/end_session?")
    asked = parse_qs(urlsplit(url).query)
    assert [f"{relay.url}/dashboard/sign-in"] == asked["post_logout_redirect_uri"]
    assert [CLIENT_ID] == asked["client_id"]
    assert asked["id_token_hint"][0].count(".") == 2
    browser.cookies.set("merino_session", old)
    assert "/dashboard/sign-in" == sent_to(browser.get("/dashboard"))
    assert cells("anna@example.org", "sign out") in audit(relay)


def test_without_an_end_of_session_one_signs_out_here(start_relay, provider) -> None:
    """Not every provider has one."""
    provider.metadata = {"end_session_endpoint": None}
    relay = start_relay(settings(provider), env={"OIDC_SECRET": CLIENT_SECRET})
    with httpx2.Client(base_url=relay.url, trust_env=False) as http:
        page = sign_in(http)
        left = http.post("/dashboard/sign-out", data={"csrf": csrf(page)})
        assert "/dashboard/sign-in" == sent_to(left)


def test_who_loses_their_role_is_out_at_the_next_page(start_relay, provider) -> None:
    """The settings are asked at every page, not only at sign-in."""
    relay = start_relay(settings(provider), env={"OIDC_SECRET": CLIENT_SECRET})
    with httpx2.Client(base_url=relay.url, trust_env=False) as http:
        assert 200 == sign_in(http).status_code
        relay.config.write_text(settings(provider).replace("Anna@Example.org", "eve@example.org"))
        relay.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while http.get("/dashboard").status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "/dashboard/sign-in" == sent_to(http.get("/dashboard"))
        assert 403 == sign_in(http).status_code


def test_behind_a_proxy_the_public_address_is_used(start_relay, provider) -> None:
    """As the settings say it, whatever host the request names."""
    relay = start_relay(
        settings(provider, 'public_url = "https://relay.example.org/"'),
        env={"OIDC_SECRET": CLIENT_SECRET},
    )
    with httpx2.Client(base_url=relay.url, trust_env=False) as http:
        query = parse_qs(urlsplit(sent_to(http.get(START))).query)
    assert [f"https://relay.example.org{CALLBACK}"] == query["redirect_uri"]
