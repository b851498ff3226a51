"""Credit over sockets: what is told of it, and what many ask for at once."""

from __future__ import annotations

import hashlib
import hmac

import httpx2
from tests.notice_server import NoticeServer

CONFIG = """
[[deployments]]
name = "plain"
provider = "simulator"
upstream_model = "plain!input=1000,output=100,ttft=1ms"
price = { input = 1.00, output = 10.00 }

[aliases.plain]
deployments = ["plain"]
"""


def call(relay, secret: str, model: str = "plain") -> httpx2.Response:
    return httpx2.post(
        f"{relay.url}/v1/chat/completions",
        headers={"authorization": f"Bearer {secret}"},
        json={"model": model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 100},
        trust_env=False,
        timeout=30,
    )


def test_redeeming_a_hundred_times_at_once_credits_once(relay):
    """The admin API takes concurrent redemptions of one code; one of them credits."""
    from concurrent.futures import ThreadPoolExecutor

    code = relay.cli("vouchers", "create", "--value", "10")["data"][0]["code"]
    before = relay.balance_nanos()
    headers = {"authorization": f"Bearer {relay.admin_key}"}
    with httpx2.Client(headers=headers, trust_env=False, timeout=30) as client:

        def redeem(_: int) -> int:
            body = {"code": code, "account": "default"}
            return client.post(f"{relay.url}/admin/v1/vouchers/redeem", json=body).status_code

        with ThreadPoolExecutor(20) as pool:
            statuses = list(pool.map(redeem, range(100)))
    assert (1, 99) == (statuses.count(200), statuses.count(409))
    assert before + 10 * 10**9 == relay.balance_nanos()
    assert [] == relay.cli("ledger", "verify")["differences"]


def test_notices_are_signed_and_told_once(start_relay):
    """A low balance and a cap that is near are told, signed, once, also after a restart."""
    with NoticeServer(failures=0) as owner:
        config = CONFIG + f'\n[notices]\nwebhook_url = "{owner.url}"\nwebhook_secret = "env:HOOK"\n'
        relay = start_relay(config, env={"HOOK": "s3cret"})
        relay.cli("accounts", "update", "default", "--notice-below", "1000")
        relay.cli("accounts", "update", "default", "--spend-cap", "0.0024")
        call(relay, relay.key)
        kinds = {each["kind"] for each in owner.wait_for(2)}
        assert {"balance.low", "cap.near"} == kinds
        relay.stop()
        relay.start()
        call(relay, relay.key)
        headers, body = owner.headers[0], owner.bodies[0]
        fields = dict(part.split("=") for part in headers["merino-signature"].split(","))
        expected = hmac.new(b"s3cret", fields["t"].encode() + b"." + body, hashlib.sha256)
        assert expected.hexdigest() == fields["v1"]
        listed = relay.cli("accounts", "show", "default")
        assert "1000.00" == listed["notice_below"]
        assert 2 == len(owner.taken)
