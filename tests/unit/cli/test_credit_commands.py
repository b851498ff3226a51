"""Credit as operators and account owners meet it: commands and calls."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pytest
from tests.in_process import Answered, InProcess, in_process

CONFIG = """
[[deployments]]
name = "plain"
provider = "simulator"
upstream_model = "plain!input=1000,output=100,ttft=1ms"
price = { input = 1.00, output = 10.00 }

[aliases.plain]
deployments = ["plain"]

[prices.groups.resellers]
factor = 0.5
fixed = 0.001
"""
COST_NANOS = 1_000 * 1_000 + 100 * 10_000


@pytest.fixture
def relay(tmp_path) -> Iterator[InProcess]:
    with in_process(tmp_path, CONFIG) as relay:
        yield relay


def call(relay: InProcess, secret: str) -> Answered:
    return relay.chat("plain", key=secret, max_tokens=100)


def key_of(relay, account: str) -> str:
    return relay.cli("keys", "create", "--account", account, "--name", f"k-{account}")["key"]


def test_vouchers_by_command(relay):
    """create prints codes once; redeem credits once; list shows what became of them."""
    made = relay.cli("vouchers", "create", "--value", "10", "--count", "3", "--batch", "spring")
    code = made["data"][0]["code"]
    before = relay.balance_nanos()
    assert "10.00" == relay.cli("vouchers", "redeem", code, "default")["entry"]["amount"]
    again = relay.command("vouchers", "redeem", code, "default")
    assert 2 == again.returncode
    assert "was used already" in again.stderr
    assert before + 10 * 10**9 == relay.balance_nanos()
    states = [each["state"] for each in relay.cli("vouchers", "list", "--batch", "spring")["data"]]
    assert ["redeemed", "usable", "usable"] == sorted(states)


def test_groups_and_currencies_are_billed(relay):
    """A reseller pays half and a fixed amount, an account in yuan pays in yuan; entries say why,
    and the books balance in each currency."""
    relay.cli("accounts", "create", "--name", "reseller", "--group", "resellers")
    relay.cli("accounts", "create", "--name", "yuan", "--currency", "CNY")
    relay.cli("rates", "set", "USD", "CNY", "7.12", "--on", "2026-01-01")
    charged = {}
    for account in ("default", "reseller", "yuan"):
        relay.cli("accounts", "credit", account, "100")
        before = relay.balance_nanos(account)
        assert 200 == call(relay, key_of(relay, account)).status
        charged[account] = before - relay.balance_nanos(account)
    assert {
        "default": COST_NANOS,
        "reseller": COST_NANOS // 2 + 1_000_000,
        "yuan": COST_NANOS * 712 // 100,
    } == charged
    [entry, *_] = relay.cli("entries", "list", "--account", "yuan")["data"]
    assert "deployment/plain USD/CNY=7.12@2026-01-01" == entry["price_id"]
    assert "@revenue:CNY" == entry["credit_account"]
    assert [] == relay.cli("ledger", "verify")["differences"]


def test_an_account_without_an_exchange_rate_is_refused(relay):
    """Nothing is guessed, nothing is booked."""
    relay.cli("accounts", "create", "--name", "euro", "--currency", "EUR")
    relay.cli("accounts", "credit", "euro", "100")
    answer = call(relay, key_of(relay, "euro"))
    assert (400, "no_exchange_rate") == (answer.status, answer.json()["error"]["code"])
    assert 100 * 10**9 == relay.balance_nanos("euro")


def test_an_account_cap_stops_all_its_keys(relay):
    """Two keys of one account share its cap, also after a restart, and the forecast says when."""
    relay.cli("accounts", "update", "default", "--spend-cap", "0.004", "--spend-period", "day")
    first, second = relay.key, key_of(relay, "default")
    assert [200, 200] == [call(relay, first).status, call(relay, second).status]
    refused = call(relay, second)
    assert (429, "insufficient_quota") == (
        refused.status,
        refused.error["code"],
    )
    assert "spend cap" in refused.json()["error"]["message"]
    relay.restart()
    assert 429 == call(relay, first).status
    spending = relay.cli("accounts", "spending", "default")
    assert (2 * COST_NANOS, 4_000_000) == (spending["spent_nanos"], spending["cap_nanos"])
    assert spending["forecast_nanos"] >= spending["spent_nanos"]
    relay.cli("accounts", "update", "default", "--spend-cap", "none")
    assert 200 == call(relay, first).status


def test_a_statement_adds_up(relay, tmp_path):
    """Every line of the CSV adds up to its closing balance, which is the account's."""
    relay.cli("accounts", "create", "--name", "other")
    relay.cli("accounts", "transfer", "default", "other", "1.25", "--memo", "=lunch")
    for _ in range(3):
        call(relay, relay.key)
    path = tmp_path / "statement.csv"
    arguments = ("accounts", "statement", "default", "--output", str(path))
    assert 0 == relay.command(*arguments).returncode
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    *lines, closing = rows
    assert ("closing", relay.balance_nanos()) == (closing["kind"], int(closing["amount_nanos"]))
    assert int(closing["amount_nanos"]) == sum(int(row["amount_nanos"]) for row in lines)
    assert "'=lunch" in [row["memo"] for row in lines]
    [calls] = [row for row in lines if row["kind"] == "calls"]
    assert ("3", -3 * COST_NANOS) == (calls["calls"], int(calls["amount_nanos"]))
    as_json = relay.cli("accounts", "statement", "default")
    assert [int(row["amount_nanos"]) for row in rows] == [
        line["amount_nanos"] for line in as_json["lines"]
    ]
    assert "=lunch" in [line["memo"] for line in as_json["lines"]]
    html = tmp_path / "statement.html"
    arguments = ("accounts", "statement", "default", "--format", "html", "--output", str(html))
    assert 0 == relay.command(*arguments).returncode
    assert "Statement of default" in html.read_text()
    assert "http" not in html.read_text()


@pytest.mark.parametrize("rate", ["0", "-1", "NaN", "seven", "1e9", "1.1234567"])
def test_impossible_rates_by_command(relay, rate):
    """Exit code 2 and a line that says why."""
    done = relay.command("rates", "set", "--", "USD", "CNY", rate)
    assert 2 == done.returncode
    assert 1 == len(done.stderr.splitlines())


def test_rates_as_the_central_bank_publishes_them(relay, tmp_path):
    """A CSV of dates and currencies is read; what is not known is left out."""
    path = tmp_path / "eurofxref.csv"
    path.write_text("Date, USD, JPY, BGN, CNY, \n24 November 2026, 1.1521, 180.1, 1.95, 8.2011, \n")
    found = relay.cli("rates", "import", str(path))["data"]
    assert {("EUR", "USD", "1.1521"), ("EUR", "JPY", "180.10"), ("EUR", "CNY", "8.2011")} == {
        (each["base"], each["quote"], each["rate"]) for each in found
    }
    assert {"2026-11-24"} == {each["valid_from"] for each in found}
