"""Every administrative command: on a folder where nothing is, on one where something is, for people
and for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.in_process import SIMULATED, InProcess, in_process, run_command

from merino.cli.root import root

CONFIG = SIMULATED + '[payments.invoice]\ninstructions = "Pay {amount} {currency}: {reference}"\n'
LISTS = {
    ("accounts", "list"): "no accounts",
    ("keys", "list"): "no keys",
    ("admin-keys", "list"): "no admin keys",
    ("calls", "list"): "no calls",
    ("calls", "running"): "no calls run now",
    ("entries", "list"): "no entries",
    ("report",): "no calls",
    ("vouchers", "list"): "no vouchers",
    ("topups", "list"): "no top-ups",
    ("rates", "list"): "no exchange rates",
}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with in_process(tmp_path_factory.mktemp("relay"), CONFIG) as relay:
        assert 200 == relay.chat().status
        assert 400 == relay.chat("broken").status
        yield relay


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that no relay ever ran on."""
    return tmp_path_factory.mktemp("empty")


def said(relay: InProcess, *arguments: str) -> str:
    done = relay.command(*arguments)
    assert 0 == done.returncode, done.stderr
    return done.stdout


@pytest.mark.parametrize(("command", "nothing"), LISTS.items())
def test_a_list_of_nothing(empty, command, nothing) -> None:
    """People are told that there is nothing, programs get an empty list."""
    plain = run_command(*command, "--data", str(empty))
    assert (0, f"{nothing}\n", "") == (plain.returncode, plain.stdout, plain.stderr)
    done = run_command(*command, "--json", "--data", str(empty))
    assert [] == json.loads(done.stdout)["data"]


@pytest.mark.parametrize("command", [each for each in LISTS if each != ("calls", "running")])
def test_a_list_of_something_is_a_table(relay, command) -> None:
    """A line of titles, then one for each; programs get the same number."""
    if command == ("vouchers", "list"):
        relay.cli("vouchers", "create", "--value", "1", "--count", "2")
    if command == ("topups", "list"):
        relay.cli("topups", "create", "default", "5")
    if command == ("rates", "list"):
        relay.cli("rates", "set", "usd", "eur", "0.9", "--on", "2026-01-01")
    titles, *lines = said(relay, *command).splitlines()
    assert titles == titles.upper()
    found = relay.cli(*command)["data"]
    assert len(found) == len(lines) > 0
    assert not any(line.endswith(" ") for line in (titles, *lines))


def test_every_list_goes_on_where_it_ended(relay) -> None:
    """Page by page it is the whole list, and each page says how to see more."""
    relay.cli("vouchers", "create", "--value", "1", "--count", "5", "--batch", "pages")
    whole = [each["id"] for each in relay.cli("vouchers", "list", "--batch", "pages")["data"]]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        more = ("--cursor", cursor) if cursor else ()
        page = relay.cli("vouchers", "list", "--batch", "pages", "--limit", "2", *more)
        seen += [each["id"] for each in page["data"]]
        cursor = page["next_cursor"]
    assert whole == seen
    assert "more: --cursor " in said(relay, "vouchers", "list", "--batch", "pages", "--limit", "2")


def test_an_account_from_its_opening_to_its_statement(relay) -> None:
    """What people read has the account's currency, and says where a limit comes from."""
    said(relay, "accounts", "create", "--name", "team", "--currency", "EUR", "--rpm", "60")
    moved = said(relay, "accounts", "credit", "team", "12.5", "--memo", "welcome")
    assert "credit of €12.50 booked; account team now has €12.50\n" == moved
    changed = said(relay, "accounts", "update", "team", "--spend-cap", "5", "--overdraft", "1")
    assert "spend cap      €5.00" in changed
    assert "available      €13.50" in changed
    assert "rpm            60\n" in said(relay, "accounts", "show", "team")
    assert "rpm            -\n" in said(relay, "accounts", "update", "team", "--rpm", "none")
    spending = said(relay, "accounts", "spending", "team")
    assert "cap             5.00" in spending
    once = ("accounts", "debit", "team", "2", "--idempotency-key", "k1")
    assert "booked; account" in said(relay, *once)
    assert "was booked before, under this key; account" in said(relay, *once)
    assert 10_500_000_000 == relay.balance_nanos("team")
    as_csv = said(relay, "accounts", "statement", "team")
    assert "welcome" in as_csv
    assert "closing" == relay.cli("accounts", "statement", "team")["lines"][-1]["kind"]
    assert "disabled       yes" in said(relay, "accounts", "update", "team", "--disable")


def test_a_key_from_its_issue_to_its_end(relay) -> None:
    """Its secret is printed by what makes one, and by nothing else."""
    made = said(relay, "keys", "create", "--name", "ci", "--alias", "o3", "--spend-cap", "2")
    secret = made.rpartition("secret, shown this once: ")[2].strip()
    assert 200 == relay.chat(key=secret).status
    shown = said(relay, "keys", "show", "ci")
    assert secret not in shown
    assert "aliases      o3" in shown
    assert "spend cap    2.00 (total)" in shown
    everything = said(relay, "keys", "update", "ci", "--all-aliases", "--expires-at", "2031-01-01")
    assert "aliases      all" in everything
    assert "expires      2031-01-01 00:00:00" in everything
    rotated = said(relay, "keys", "rotate", "ci").rpartition(": ")[2].strip()
    assert (401, 200) == (relay.chat(key=secret).status, relay.chat(key=rotated).status)
    assert "disabled     yes" in said(relay, "keys", "disable", "ci")
    assert 401 == relay.chat(key=rotated).status
    assert "disabled     no" in said(relay, "keys", "enable", "ci")
    both = relay.command("keys", "update", "ci", "--alias", "o3", "--all-aliases")
    assert (2, 1) == (both.returncode, len(both.stderr.splitlines()))
    assert "exclude each other" in both.stderr


def test_an_admin_key_from_its_issue_to_its_end(relay) -> None:
    """The last one cannot be revoked."""
    secret = said(relay, "admin-keys", "create", "--name", "second").rpartition(": ")[2].strip()
    assert secret.startswith("mka-")
    assert said(relay, "admin-keys", "rotate", "second").rpartition(": ")[2].strip() != secret
    assert re.search(r"revoked +yes", said(relay, "admin-keys", "revoke", "second"))
    assert "revoked" in said(relay, "admin-keys", "list")
    last = relay.command("admin-keys", "revoke", "first")
    assert (2, "") == (last.returncode, last.stdout)


def test_a_top_up_from_its_order_to_its_refund(relay) -> None:
    """It says what to pay; money that is another sum than ordered is refused."""
    ordered = said(relay, "topups", "create", "default", "7", "--memo", "june")
    number, told = ordered.splitlines()[0].partition(":")[0], ordered.splitlines()[1]
    assert f"Pay 7.00 USD: {number}" == told
    wrong = relay.command("topups", "confirm", number, "8", "USD")
    assert (2, "") == (wrong.returncode, wrong.stdout)
    assert "status              paid" in said(relay, "topups", "confirm", number, "7", "USD")
    assert "taken_back          2.00" in said(relay, "topups", "refund", number, "--amount", "2")
    assert "refunded" in said(relay, "topups", "show", number)
    none = relay.command("topups", "card", "default")
    assert (2, "") == (none.returncode, none.stdout)


def test_vouchers_print_their_codes_and_nothing_else(relay) -> None:
    """So that a file of them can be made; a void one is of no use."""
    codes = said(relay, "vouchers", "create", "--value", "3", "--count", "2").split()
    assert 2 == len(set(codes))
    assert "voucher of 3.00 credited" in said(relay, "vouchers", "redeem", codes[0], "default")
    usable = [each for each in relay.cli("vouchers", "list")["data"] if each["state"] == "usable"]
    mine = next(each for each in usable if codes[1].startswith(each["hint"]))
    assert f"voucher {mine['hint']}... is void\n" == said(relay, "vouchers", "void", mine["id"])
    assert 2 == relay.command("vouchers", "redeem", codes[1], "default").returncode


def test_calls_are_looked_at(relay) -> None:
    """One with its attempts, several by their status, sums by anything."""
    [refused, *_] = relay.cli("calls", "list", "--status", "400")["data"]
    shown = said(relay, "calls", "show", refused["id"])
    assert "error code" in shown
    assert "broken" in shown
    for by in ("day", "alias", "key", "account"):
        assert said(relay, "report", "--by", by).startswith(by.upper())
    assert "no calls" in said(relay, "calls", "list", "--until", "2020-01-01")
    assert 2 == relay.command("calls", "show", "req_none").returncode


def test_a_deployment_is_drained_and_taken_up(relay) -> None:
    """It is told what it is now."""
    assert "drained" in said(relay, "deployments", "drain", "fast")
    assert 503 == relay.chat().status
    assert "in use" in said(relay, "deployments", "undrain", "fast")
    assert 200 == relay.chat().status
    assert 2 == relay.command("deployments", "drain", "none").returncode


def test_the_books_are_verified_and_exported(relay, tmp_path) -> None:
    """One line says that they balance; an export in a file is the one on standard output."""
    assert said(relay, "ledger", "verify").endswith("the books balance\n")
    relay.command("ledger", "export", "--format", "csv", "--output", str(tmp_path / "out"))
    assert said(relay, "ledger", "export", "--format", "csv") == (tmp_path / "out").read_text()


def commands() -> Iterator[tuple[str, ...]]:
    """Every command there is, by its words."""

    def within(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from within(inner, (*words, name))
        else:
            yield words

    yield from within(root, ())


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_explains_itself_and_refuses_in_one_line(words, tmp_path) -> None:
    """`--help` says what it does; an option or an argument too many is one line and exit code 2."""
    told = run_command(*words, "--help")
    assert (0, "") == (told.returncode, told.stderr)
    assert told.stdout.startswith(f"Usage: merino {' '.join(words)}")
    data = () if words[0] in ("batch", "bench") else ("--data", str(tmp_path))
    for wrong in (("--nonsense",), ("a", "b", "c", "d", "e", "f")):
        done = run_command(*words, *data, *wrong)
        assert (2, "") == (done.returncode, done.stdout), done
        assert 1 == len(done.stderr.splitlines()), done.stderr
        assert done.stderr.startswith("merino: ")
