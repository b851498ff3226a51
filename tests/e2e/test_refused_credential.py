"""An upstream that refuses the relay's own credential: who is told, how, and how often."""

from __future__ import annotations

import html
import time

import httpx2
import pytest
from tests.notice_server import NoticeServer
from tests.unit.billing.smtp_server import MailServer

from merino.simulator.server import simulator_in_thread

CONFIG = """
[[deployments]]
name = "refused"
base_url = "{url}"
upstream_model = "plain!status=401"
price = {{ input = 1.00, output = 10.00 }}
[[deployments]]
name = "good"
base_url = "{url}"
upstream_model = "plain!output=3"
price = {{ input = 1.00, output = 10.00 }}
[aliases.o3]
deployments = ["refused", "good"]
[aliases.alone]
deployments = ["refused"]
"""
TOLD = "Deployment refused: the upstream refuses our credential (401)"


@pytest.fixture(scope="module")
def upstream():
    with simulator_in_thread() as server:
        yield server


def ask(relay, model: str = "o3") -> httpx2.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    with relay.http() as http:
        return http.post("/v1/chat/completions", json=body)


def overview(relay, key: str, path: str = "/dashboard") -> str:
    with httpx2.Client(base_url=relay.url, trust_env=False, follow_redirects=True) as http:
        http.post("/dashboard/sign-in", data={"key": key}).raise_for_status()
        if not path.endswith("/live"):
            return html.unescape(http.get(path).text)
        with http.stream("GET", path) as answer:
            return next(answer.iter_text())


def test_operators_are_told_once_by_webhook_and_mail(start_relay, upstream):
    """However many calls meet it; the notice says which deployment, what status and what to do, and
    goes to no account's owner."""
    with NoticeServer() as hook, MailServer() as mail:
        config = CONFIG.format(url=upstream.base_url) + (
            f'[notices]\nwebhook_url = "{hook.url}"\nwebhook_secret = "env:HOOK"\n'
            f'[notices.smtp]\nhost = "127.0.0.1"\nport = {mail.port}\nsecurity = "none"\n'
            'sender = "merino@example.org"\nto = ["ops@example.org"]\n'
        )
        relay = start_relay(config, env={"HOOK": "s3cret"})
        relay.cli("accounts", "update", "default", "--notice-email", "ada@example.org")
        answers = [ask(relay) for _ in range(5)]
        assert [200] * 5 == [answer.status_code for answer in answers]
        [notice] = hook.wait_for(1)
        assert ("deployment.credential_refused", "refused", 401) == (
            notice["kind"],
            notice["deployment"],
            notice["status"],
        )
        assert "give the deployment another one" in notice["advice"]
        time.sleep(1)  # a sweep is five times a second here
        assert 1 == len(hook.taken)
        assert [["ops@example.org"]] == [to for _, to in mail.envelopes]
        [letter] = mail.letters
        assert "Credential refused: deployment refused (401)" == letter["Subject"]
        assert notice["advice"] in " ".join(letter.get_content().split())
        assert 1 == relay.errors().count("a provider refuses the relay's credential")
        admin = {"authorization": f"Bearer {relay.admin_key}"}
        listed = httpx2.get(f"{relay.url}/admin/v1/notices", headers=admin, trust_env=False).json()
        [kept] = listed["data"]
        assert (None, "deployment.credential_refused") == (kept["account_id"], kept["kind"])


def test_the_overview_alerts_operators(start_relay, upstream):
    """As long as the deployment is left alone, also live; owners see nothing of it, and a restart
    begins anew."""
    relay = start_relay(CONFIG.format(url=upstream.base_url))
    assert TOLD not in overview(relay, relay.admin_key)
    ask(relay)
    assert TOLD in overview(relay, relay.admin_key)
    assert TOLD in overview(relay, relay.admin_key, "/dashboard/live")
    assert "refuses our credential" not in overview(relay, relay.key)
    assert "refuses our credential" not in overview(relay, relay.key, "/dashboard/live")
    relay.stop()
    relay.start()
    assert "refuses our credential" not in overview(relay, relay.admin_key)


def test_an_attempt_says_that_our_credential_was_refused(start_relay, upstream):
    """In the header and in the call's record, also if no other deployment answers."""
    relay = start_relay(CONFIG.format(url=upstream.base_url))
    answer = ask(relay)
    assert answer.headers["x-merino-attempts"].startswith("refused;CredentialRefused;")
    shown = relay.cli("calls", "show", answer.headers["x-request-id"])
    assert "CredentialRefused" == shown["attempts"][0]["outcome"]
    relay.stop()
    relay.start()
    answer = ask(relay, "alone")
    assert (502, "upstream_credential_refused") == (
        answer.status_code,
        answer.json()["error"]["code"],
    )
    assert answer.headers["x-merino-attempts"].startswith("refused;CredentialRefused;")
