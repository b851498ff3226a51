"""Customers who sign up to the portal through an OpenID Connect provider, over real sockets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from tests.conftest import RelayProcess
from tests.fake_oidc import CLIENT_ID, CLIENT_SECRET, FakeOidc

START = "/portal/oidc/start"


def settings(provider: FakeOidc, more: str = "") -> str:
    return f"""
    [portal]
    enabled = true
    methods = ["oidc"]
    start_credit = "2.00"
    sign_ups_per_network_day = 1000
    {more}
    [dashboard.oidc]
    name = "Example ID"
    issuer = "{provider.url}"
    client_id = "{CLIENT_ID}"
    client_secret = "env:OIDC_SECRET"
    claim = "sub"
    """


@pytest.fixture(scope="module")
def served() -> Iterator[FakeOidc]:
    with FakeOidc() as fake:
        yield fake


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, served) -> Iterator[RelayProcess]:
    data = tmp_path_factory.mktemp("relay") / "data"
    process = RelayProcess(data, settings(served), env={"OIDC_SECRET": CLIENT_SECRET}).start()
    yield process
    assert 0 == process.stop()
    for secret in (CLIENT_SECRET, "access_token", "eyJ"):
        assert secret not in process.errors()


@pytest.fixture
def provider(served, request) -> FakeOidc:
    """Somebody of this test's own sits before the browser."""
    served.reset()
    served.person |= {"sub": request.node.name, "email": f"{request.node.name}@example.org"[-60:]}
    return served


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


def signed_up(browser: httpx2.Client) -> str:
    """Through the provider, and the account opened if there is none; the person's id."""
    browser.get(returned(browser))
    page = browser.get("/portal", follow_redirects=True)
    if str(page.url).endswith("/welcome"):
        form = {"csrf": field(page, "csrf"), "terms": field(page, "terms")}
        browser.post("/portal/welcome", data=form)
    return json.loads(browser.get("/portal/me.json").text)["id"]


def field(page: httpx2.Response, name: str) -> str:
    return re.search(rf'name="{name}" value="([^"]*)"', page.text)[1]


def is_signed_in(browser: httpx2.Client) -> bool:
    return not str(browser.get("/portal", follow_redirects=True).url).endswith("/sign-in")


def test_a_customer_signs_up_and_comes_again(relay, provider, browser) -> None:
    """Through the provider and back: an account with its start credit, the same one next time."""
    person = signed_up(browser)
    assert "2.00" in browser.get("/portal/billing").text
    with httpx2.Client(base_url=relay.url, trust_env=False) as other:
        assert person == signed_up(other)


def test_a_sign_in_works_once_and_in_its_own_browser(relay, provider, browser) -> None:
    """An answer of the provider that is sent again, or by another browser, signs in nobody."""
    answer = returned(browser)
    with httpx2.Client(base_url=relay.url, trust_env=False) as other:
        assert 400 == other.get(answer).status_code
        assert not is_signed_in(other)
    assert 303 == browser.get(answer).status_code
    browser.cookies.delete("merino_portal")
    assert 400 == browser.get(answer).status_code
    assert not is_signed_in(browser)


@pytest.mark.parametrize("spoil", ["state", "code", "iss"])
def test_a_spoilt_answer_signs_in_nobody(provider, browser, spoil) -> None:
    """Another state, a code that the provider never gave, another provider's name."""
    address = urlsplit(returned(browser))
    query = {name: values[0] for name, values in parse_qs(address.query).items()}
    answer = browser.get(f"{address.path}?{urlencode(query | {spoil: 'https://evil.example'})}")
    assert answer.status_code in (400, 403)
    assert not is_signed_in(browser)


def test_a_code_is_redeemed_once(provider, browser) -> None:
    """A code that was stolen and replayed within another sign-in is refused: the provider knows it
    no more, and its challenge was another."""
    first = parse_qs(urlsplit(returned(browser)).query)["code"][0]
    second = urlsplit(returned(browser))
    query = {name: values[0] for name, values in parse_qs(second.query).items()}
    answer = browser.get(f"{second.path}?{urlencode(query | {'code': first})}")
    assert 403 == answer.status_code
    assert not is_signed_in(browser)


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another client"},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"sub": None},
    ],
)
def test_a_token_for_something_else_signs_in_nobody(provider, browser, claims) -> None:
    """The ID token must be of this provider, for this relay, for this very sign-in, and fresh."""
    provider.claims = claims
    answer = browser.get(returned(browser))
    assert 403 == answer.status_code
    assert "You were not signed in." in answer.text
    assert not is_signed_in(browser)


@pytest.mark.parametrize("signs_as", ["none", "HS256", "broken", "stranger"])
def test_a_token_that_is_not_signed_by_the_provider_signs_in_nobody(
    provider, browser, signs_as
) -> None:
    """No signature, one with the public key as a secret, a wrong one, somebody else's."""
    provider.signs_as = signs_as
    assert 403 == browser.get(returned(browser)).status_code
    assert not is_signed_in(browser)


@pytest.mark.parametrize("language", ["en", "de", "zh-CN"])
def test_who_says_no_at_the_provider_may_try_again(provider, browser, language) -> None:
    """A refusal leads back to a page in the customer's language."""
    provider.refuses = "access_denied"
    page = browser.get(returned(browser), headers={"accept-language": language})
    assert f'lang="{language}"' in page.text
    assert "access_denied" in page.text
    provider.refuses = None
    assert signed_up(browser).startswith("per_")


@pytest.mark.parametrize("verified", [False, None, "no", 1])
def test_an_address_that_is_not_verified_is_nobodys(relay, provider, browser, verified) -> None:
    """Whoever claims another's address without proof gets an account of their own, without the
    address, not the other's."""
    victim = signed_up(browser)
    provider.person |= {"sub": f"attacker {verified}", "email_verified": verified}
    with httpx2.Client(base_url=relay.url, trust_env=False) as attacker:
        assert victim != signed_up(attacker)
        assert "example.org" not in attacker.get("/portal/me.json").text


def test_two_subjects_with_one_address_are_two(relay, provider, browser) -> None:
    """An address that was given to somebody else at the provider opens nobody's account: what the
    provider calls them counts."""
    before = signed_up(browser)
    provider.person |= {"sub": "who has the address now"}
    with httpx2.Client(base_url=relay.url, trust_env=False) as other:
        answer = other.get(returned(other))
        assert 400 == answer.status_code
        assert "belongs to somebody else" in answer.text
        assert not is_signed_in(other)
    assert before == json.loads(browser.get("/portal/me.json").text)["id"]


def test_a_new_address_is_the_same_person(relay, provider, browser) -> None:
    """Who changes their address at the provider stays who they are."""
    before = signed_up(browser)
    provider.person |= {"email": "changed@example.org"}
    with httpx2.Client(base_url=relay.url, trust_env=False) as other:
        assert before == signed_up(other)


def test_a_blocked_customer_is_told_and_let_in_no_more(relay, provider, browser) -> None:
    """Signed out at once; at the next sign-in the page says that it is closed to them."""
    person = signed_up(browser)
    relay.cli("people", "block", person)
    assert not is_signed_in(browser)
    answer = browser.get(returned(browser))
    assert 400 == answer.status_code
    assert not is_signed_in(browser)


def test_a_provider_that_is_down_is_nobodys_fault(provider, browser) -> None:
    """The page says to try again, and nothing of how the relay is set up."""
    address = returned(browser)
    provider.is_down = True
    answer = browser.get(address)
    assert 502 == answer.status_code
    assert "Sign in with a key" not in answer.text
    assert not is_signed_in(browser)
