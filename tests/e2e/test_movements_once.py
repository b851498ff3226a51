"""Money that operators move with an idempotency key moves once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx2
import pytest

from merino.sqlite.database import Database

DOLLAR = 10**9


def admin_of(relay) -> httpx2.Client:
    return httpx2.Client(
        base_url=f"{relay.url}/admin/v1",
        headers={"authorization": f"Bearer {relay.admin_key}"},
        trust_env=False,
        timeout=30,
    )


@pytest.fixture
def admin(relay):
    with admin_of(relay) as client:
        yield client


def once(key: str) -> dict[str, str]:
    return {"idempotency-key": key}


def count_of(relay, account: str) -> int:
    return len(relay.cli("entries", "list", "--account", account)["data"])


@pytest.mark.parametrize("way", ["credit", "debit"])
def test_a_repeat_gets_the_first_entry(relay, admin, way):
    """The same request with the same key is answered alike and books nothing."""
    relay.cli("accounts", "create", "--name", f"a-{way}", "--overdraft", "100")
    path, body = f"/accounts/a-{way}/{way}", {"amount": "7.5", "memo": "invoice 7"}
    first = admin.post(path, json=body, headers=once(f"k-{way}"))
    again = admin.post(path, json=body, headers=once(f"k-{way}"))

    assert 200 == first.status_code == again.status_code
    assert first.json() == again.json()
    assert (None, "true") == tuple(each.headers.get("x-merino-replayed") for each in (first, again))
    assert 1 == count_of(relay, f"a-{way}")
    lines = [
        each for each in audit_of(relay) if each[0] == f"{way}_account" and each[1] == f"a-{way}"
    ]
    assert 1 == len(lines)


def audit_of(relay) -> list[tuple[str, str]]:
    """Actions and targets; read beside the relay, which alone writes."""
    with closing(Database.to_read(relay.data / "merino.db")) as connection:
        return list(connection.execute("SELECT action, target FROM audit"))


def test_a_repeat_of_a_debit_needs_no_money(relay, admin):
    """What was taken the first time is not missed the second time."""
    relay.cli("accounts", "create", "--name", "emptied")
    relay.cli("accounts", "credit", "emptied", "3")
    answers = [
        admin.post("/accounts/emptied/debit", json={"amount": "3"}, headers=once("empty-it"))
        for _ in range(3)
    ]

    assert [200, 200, 200] == [each.status_code for each in answers]
    assert 0 == relay.balance_nanos("emptied")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/accounts/other/credit", {"amount": "2"}),
        ("/accounts/other/credit", {"amount": "1", "memo": "x"}),
        ("/accounts/other/debit", {"amount": "1"}),
        ("/accounts/default/credit", {"amount": "1"}),
        ("/transfers", {"source": "other", "target": "default", "amount": "1"}),
    ],
)
def test_a_key_is_for_one_movement(relay, admin, path, body):
    """Another body, account or operation under a used key is refused with 422, and books nothing."""
    if "other" not in [each["name"] for each in relay.cli("accounts", "list")["data"]]:
        relay.cli("accounts", "create", "--name", "other")
    first = admin.post("/accounts/other/credit", json={"amount": "1"}, headers=once("used"))
    refused = admin.post(path, json=body, headers=once("used"))

    assert 200 == first.status_code
    assert (422, "idempotency_key_reused") == (
        refused.status_code,
        refused.json()["error"]["code"],
    )
    assert "false" == refused.headers["x-should-retry"]
    assert f"entry {first.json()['entry']['id']}" in refused.json()["error"]["message"]
    assert DOLLAR == relay.balance_nanos("other")


@pytest.mark.parametrize("key", ["", "x" * 256, "k\u00e9y"])
def test_an_unusable_key_is_refused(relay, admin, key):
    """A key that cannot be kept as it is moves nothing."""
    before = relay.balance_nanos()
    answer = admin.post(
        "/accounts/default/credit",
        json={"amount": "1"},
        headers={"idempotency-key": key.encode()},
    )

    assert (400, "Idempotency-Key") == (answer.status_code, answer.json()["error"]["param"])
    assert before == relay.balance_nanos()


def test_a_refused_movement_keeps_no_key(relay, admin):
    """What could not be booked may be tried again under its key."""
    relay.cli("accounts", "create", "--name", "poor")
    ask = {"json": {"amount": "5"}, "headers": once("when-it-can")}
    refused = admin.post("/accounts/poor/debit", **ask)
    relay.cli("accounts", "credit", "poor", "5")
    booked = admin.post("/accounts/poor/debit", **ask)

    assert (409, 200) == (refused.status_code, booked.status_code)
    assert 0 == relay.balance_nanos("poor")


def test_a_hundred_at_once_book_one(relay):
    """Repeats that cross each other get one entry."""
    relay.cli("accounts", "create", "--name", "crowded")
    with admin_of(relay) as client, ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(
                lambda _: client.post(
                    "/accounts/crowded/credit", json={"amount": "1"}, headers=once("crowd")
                ),
                range(100),
            )
        )

    assert {200} == {each.status_code for each in answers}
    assert 1 == len({each.json()["entry"]["id"] for each in answers})
    assert DOLLAR == relay.balance_nanos("crowded")


def test_transfers_and_vouchers_are_repeated(relay, admin):
    """Both halves of a transfer, and a voucher's one credit, are answered again."""
    relay.cli("accounts", "create", "--name", "giver")
    relay.cli("accounts", "create", "--name", "taker")
    relay.cli("accounts", "credit", "giver", "4")
    code = relay.cli("vouchers", "create", "--value", "10")["data"][0]["code"]
    moves = [
        ("/transfers", {"source": "giver", "target": "taker", "amount": "4"}),
        ("/vouchers/redeem", {"code": code, "account": "taker"}),
    ]
    for path, body in moves:
        answers = [admin.post(path, json=body, headers=once(path)) for _ in range(2)]
        assert [200, 200] == [each.status_code for each in answers]
        assert answers[0].json() == answers[1].json()
    assert (0, 14 * DOLLAR) == (relay.balance_nanos("giver"), relay.balance_nanos("taker"))
    assert [] == relay.cli("ledger", "verify")["differences"]


def test_a_key_outlives_restarts_names_and_the_relay(start_relay):
    """By command line with and without a relay, after a kill, and after the account's renaming."""
    relay = start_relay()
    relay.cli("accounts", "create", "--name", "old")
    credit = ("accounts", "credit", "old", "2", "--idempotency-key", "inv-2026-7")
    booked = relay.cli(*credit)
    first, again = booked["entry"], relay.cli(*credit)
    assert (first, False, True) == (again["entry"], "replayed" in booked, again["replayed"])
    relay.stop(9)
    assert first == relay.cli(*credit)["entry"]
    relay.cli("accounts", "update", "old", "--name", "new")
    moved = relay.cli(*credit)
    assert (first, "new") == (moved["entry"], moved["account"]["name"])
    relay.start()
    assert first == relay.cli(*credit)["entry"]
    other = relay.cli("accounts", "debit", *credit[2:], check=False)
    assert (2, "used for something else" in other.stderr) == (other.returncode, True)
    bad = relay.cli(*credit[:-1], "k\ney", check=False)
    assert (2, "printable ASCII" in bad.stderr) == (bad.returncode, True)
    assert 2 * DOLLAR == relay.balance_nanos("new")
