"""Admin keys: listed, replaced, revoked, and made anew when the last one is lost."""

from __future__ import annotations

import re
from contextlib import closing

import httpx2
import pytest


def status(relay, secret: str) -> int:
    headers = {"authorization": f"Bearer {secret}"}
    return httpx2.get(f"{relay.url}/admin/v1/keys", headers=headers, trust_env=False).status_code


def audited(relay) -> list[str]:
    """What the audit page lists of admin keys, the newest first."""
    with closing(signed_in(relay, relay.admin_key)) as http:
        page = http.get("/dashboard/audit").text
    return re.findall(r">(\w+ admin key)</td>", page)


def signed_in(relay, secret: str) -> httpx2.Client:
    http = httpx2.Client(base_url=relay.url, trust_env=False, timeout=30, follow_redirects=True)
    assert 200 == http.post("/dashboard/sign-in", data={"key": secret}).status_code
    return http


def csrf_of(http: httpx2.Client) -> str:
    return re.search(r'name="csrf" value="([^"]+)"', http.get("/dashboard/admin-keys").text)[1]


@pytest.mark.parametrize("with_relay", [True, False])
def test_a_lost_admin_key_is_replaced_through_the_folder(start_relay, with_relay):
    """Without any admin key, whether a relay runs or not: who can write to the folder may."""
    relay = start_relay()
    if not with_relay:
        relay.stop()
    made = relay.cli("admin-keys", "create", "--name", "second")
    listed = relay.cli("admin-keys", "list")["data"]
    if not with_relay:
        relay.start()

    assert ["first", "second"] == [each["name"] for each in listed]
    assert "key" not in listed[0]
    assert 200 == status(relay, made["key"])


def test_a_revoked_or_replaced_key_opens_nothing(start_relay):
    """At once, after a restart too; the last one cannot be revoked, but given a new secret."""
    relay = start_relay()
    second = relay.cli("admin-keys", "create", "--name", "second")["key"]
    rotated = relay.cli("admin-keys", "rotate", "second")["key"]
    seen = [status(relay, each) for each in (relay.admin_key, second, rotated)]
    relay.cli("admin-keys", "revoke", "second")
    seen.append(status(relay, rotated))
    last = relay.cli("admin-keys", "revoke", "first", check=False)
    actions = audited(relay)
    relay.stop()
    relay.start()
    seen += [status(relay, each) for each in (relay.admin_key, rotated)]

    assert [200, 401, 200, 401, 200, 401] == seen
    assert 0 != last.returncode
    assert "the last one" in last.stdout + last.stderr
    assert ["revoke admin key", "rotate admin key", "create admin key"] == actions


def test_who_signed_in_with_a_revoked_key_is_signed_out(start_relay):
    """A leaked admin key's sessions end with it."""
    relay = start_relay()
    second = relay.cli("admin-keys", "create", "--name", "second")["key"]
    listed = relay.cli("admin-keys", "list")["data"]
    path = f"/dashboard/admin-keys/{listed[1]['id']}/revoke"
    with (
        closing(signed_in(relay, second)) as leaked,
        closing(signed_in(relay, relay.admin_key)) as operator,
    ):
        assert "Admin keys</h1>" in leaked.get("/dashboard/admin-keys").text
        done = operator.post(path, data={"csrf": csrf_of(operator)})
        assert "second is revoked" in done.text
        assert "Sign in" in leaked.get("/dashboard/calls").text


def test_an_admin_key_is_made_on_the_page(start_relay):
    """Its secret is shown once, and opens the admin API."""
    relay = start_relay()
    with closing(signed_in(relay, relay.admin_key)) as operator:
        fields = {"csrf": csrf_of(operator), "name": "third"}
        made = operator.post("/dashboard/admin-keys", data=fields).text
        secret = re.search(r"mka-[\w-]{20,}", made)[0]
        assert 200 == status(relay, secret)
        assert secret not in operator.get("/dashboard/admin-keys").text
