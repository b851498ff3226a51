"""The command line in this process: what it prints, its exit codes, what it refuses. As processes:
`tests/e2e/test_cli.py`."""

from __future__ import annotations

import contextlib
import io
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.in_process import run_command as merino

from merino.cli.root import run


def on(folder: Path, *arguments: str) -> Any:
    """A command's JSON."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = run([*arguments, "--data", str(folder), "--json"])
    assert 0 == code
    return json.loads(output.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A data folder that no relay runs on."""
    return tmp_path_factory.mktemp("quiet")


def test_a_folder_without_a_relay_is_administered(folder):
    """Accounts, keys and money can be managed while no relay runs."""
    on(folder, "accounts", "create", "--name", "team", "--overdraft", "1")
    on(folder, "accounts", "credit", "team", "2.50", "--memo", "top-up")
    on(folder, "accounts", "debit", "team", "0.000000001")
    key = on(folder, "keys", "create", "--account", "team", "--name", "ci", "--rpm", "5")
    changed = on(folder, "keys", "update", "ci", "--rpm", "none", "--alias", "o3")

    assert "2.499999999" == on(folder, "accounts", "show", "team")["balance"]["posted"]
    assert key["key"].startswith("mk-")
    assert (None, ["o3"]) == (changed["rpm"], changed["aliases"])
    assert ["debit", "credit"] == [entry["kind"] for entry in on(folder, "entries", "list")["data"]]
    assert on(folder, "ledger", "verify")["ok"]


@pytest.mark.parametrize(("month", "found"), [("this", 1), ("last", 0), ("2020-01", 0)])
def test_a_list_of_a_month(folder, month, found) -> None:
    """What has a period is asked for by its month, too; by one or the other, not both."""
    name = f"month-{month}"
    on(folder, "accounts", "create", "--name", name)
    on(folder, "accounts", "credit", name, "1")
    listed = on(folder, "entries", "list", "--account", name, "--month", month)["data"]
    assert found == len(listed)
    assert 2 == run(["entries", "list", "--month", month, "--since", "1h", "--data", str(folder)])


def test_a_month_that_is_meant_is_the_one_that_is_asked_for(folder, capsys) -> None:
    """Of a service level, where the month is a field of its own."""
    on(folder, "accounts", "create", "--name", "level")
    capsys.readouterr()
    assert 0 == run(["sla", "show", "--month", "2020-01", "--data", str(folder)])
    assert "no calls in this month\n" == capsys.readouterr().out
    assert 2 == run(["sla", "confirm", "level", "2020-01", "--data", str(folder)])
    assert "2020-01 gives nothing back" in capsys.readouterr().err


def test_money_is_shown_with_its_currency(folder, capsys) -> None:
    """For people; programs get plain decimal text. A debt has its sign in front."""
    data = ("--data", str(folder))
    assert 0 == run(["accounts", "create", "--name", "euros", "--currency", "EUR", *data])
    assert 0 == run(["accounts", "create", "--name", "owing", "--overdraft", "20", *data])
    assert 0 == run(["accounts", "credit", "euros", "7", *data])
    assert 0 == run(["accounts", "debit", "owing", "11.31", "--memo", "x", *data])
    capsys.readouterr()
    assert 0 == run(["accounts", "list", *data])
    told = capsys.readouterr().out
    assert "€7.00" in told
    assert "-$11.31" in told
    assert 0 == run(["accounts", "show", "euros", *data])
    assert "available      €7.00" in capsys.readouterr().out
    assert 0 == run(["prices", "list", "--provider", "openai", "--model", "o3", *data])
    assert "$2.00" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("keys", "lst"), "No such command 'lst'. Did you mean 'merino keys list'? Try"),
        (("key",), "Did you mean 'merino keys'?"),
        (("keys", "revoke"), "Did you mean 'merino keys disable'?"),
        (("admin-keys", "delete"), "Did you mean 'merino admin-keys revoke'?"),
        (("tail",), "Did you mean 'merino logs -f'?"),
        (("xyzzy",), "No such command 'xyzzy'. Try 'merino --help'."),
        (("keys", "create"), "Missing option '--name'"),
        (("keys", "show"), "Missing argument 'KEY'"),
        (("keys", "show", "nobody"), "There is no key 'nobody'"),
        (("keys", "create", "--account", "team", "--name", "a/b"), "name 'a/b' is not usable"),
        (("keys", "create", "--name", "a\udcff"), "merino: "),
        (("keys", "show", "\udcff"), "merino: "),
        (("keys", "update", "x"), "Nothing to change"),
        (("keys", "update", "x", "--rpm", "many"), "'many' is not a valid integer"),
        (("accounts", "credit", "x", "1e3"), "amount must be decimal text"),
        (("accounts", "credit", "nobody", "1"), "There is no account 'nobody'"),
        (("calls", "list", "--since", "soon"), "'soon' is not a time"),
        (("calls", "list", "--limit", "0"), "0 is not in the range"),
        (("calls", "list", "--cursor", "x"), "cursor"),
        (("config", "check", "--config", "nothing.toml"), "nothing.toml: no such file"),
        (("ledger", "export", "--output", "/nowhere/at/all"), "/nowhere/at/all"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(folder, capsys, arguments, said):
    """Every error is one line on standard error; nothing is printed as a result."""
    code = run([*arguments, "--data", str(folder)])
    output, errors = capsys.readouterr()

    assert 2 == code
    assert "" == output
    assert 1 == len(errors.splitlines()), errors
    assert said in errors


def test_a_missing_folder_is_not_made(tmp_path):
    """A misspelt folder is told, not created."""
    done = merino("accounts", "list", "--data", str(tmp_path / "typo"))

    assert 2 == done.returncode
    assert "There is no data folder" in done.stderr
    assert not (tmp_path / "typo").exists()


def test_tables_are_aligned(folder):
    """People get columns; numbers end where their column ends."""
    on(folder, "accounts", "create", "--name", "a-rather-long-name")
    done = merino("accounts", "list", "--data", str(folder))
    lines = done.stdout.splitlines()

    end = lines[0].index("POSTED") + len("POSTED")
    assert all(line[end - 1].isdigit() and line[end] == " " for line in lines[1:])


def test_control_characters_stay_out_of_the_terminal(folder):
    """A memo cannot repaint the screen of whoever lists it."""
    on(folder, "accounts", "create", "--name", "paint")
    on(folder, "accounts", "credit", "paint", "1", "--memo", "\x1b[2J")
    done = merino("entries", "list", "--account", "paint", "--data", str(folder))

    assert "\x1b" not in done.stdout
    assert "?[2J" in done.stdout


def test_export_is_one_entry_a_line(folder, tmp_path):
    """Both formats hold every entry; a file gets the same as standard output."""
    as_lines = merino("ledger", "export", "--data", str(folder)).stdout.splitlines()
    as_csv = merino("ledger", "export", "--data", str(folder), "--format", "csv").stdout
    merino("ledger", "export", "--data", str(folder), "--output", str(tmp_path / "out"))

    assert len(as_lines) == len(as_csv.splitlines()) - 1
    assert as_lines == (tmp_path / "out").read_text().splitlines()
    assert all(json.loads(line)["amount_nanos"] > 0 for line in as_lines)


def test_verify_exits_1_when_the_books_do_not_balance(tmp_path):
    """Scripts can tell from the exit code alone; what differs is printed."""
    import apsw

    on(tmp_path, "accounts", "create", "--name", "a")
    on(tmp_path, "accounts", "credit", "a", "5")
    connection = apsw.Connection(str(tmp_path / "merino.db"))
    connection.execute("UPDATE balances SET posted_nanos = posted_nanos + 1 WHERE posted_nanos > 0")
    connection.close()

    done = merino("ledger", "verify", "--data", str(tmp_path))
    as_json = merino("ledger", "verify", "--json", "--data", str(tmp_path))

    assert 1 == done.returncode
    assert "do not balance" in done.stdout
    assert 1 == as_json.returncode
    assert json.loads(as_json.stdout)["differences"]


def test_config_check_tells_every_fault_with_its_line(tmp_path, monkeypatch):
    """A wrong file is exit code 2 and one line for each fault."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "merino.toml").write_text('[server]\nport = "x"\nhots = "y"\n')
    done = merino("config", "check")

    assert 2 == done.returncode
    assert [
        "merino: merino.toml:2: server.port",
        "merino: merino.toml:3: server.hots",
    ] == [line[: len("merino: merino.toml:2: server.port")] for line in done.stderr.splitlines()]


def test_config_check_shows_what_a_good_file_offers(tmp_path, monkeypatch):
    """A right file is exit code 0, with what the relay would offer; warnings go to stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text(
        '[[deployments]]\nname = "local"\nbase_url = "http://127.0.0.1:1/v1"\ncredential = "sk-x"'
    )
    done = merino("config", "check", "--config", "my.toml", "--json")

    assert 0 == done.returncode
    found = json.loads(done.stdout)
    assert "local" in found["aliases"]
    in_clear, unpriced = found["warnings"]
    assert "credential" in in_clear
    assert unpriced.startswith("deployment 'local' has no price")
    assert 2 == done.stderr.count("warning")
    assert "sk-x" not in done.stdout + done.stderr


def test_prices_are_listed():
    """The book's prices can be read without a relay."""
    done = merino("prices", "list", "--provider", "openai", "--model", "o3-mini", "--json")

    assert "1.10" == json.loads(done.stdout)["data"][0]["input"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("prices", "list", "--model", "o3"),
        ("prices", "show", "o3"),
        ("prices", "diff", "--from", "2026-01-01"),
        ("prices", "check"),
        ("prices", "import", "genai-prices", "--provider", "openai"),
        ("roi", "--model", "o3", "--input-tokens", "1M", "--output-tokens", "1M"),
    ],
)
def test_looking_at_prices_needs_no_credential(tmp_path, monkeypatch, arguments):
    """What the relay needs to call a provider need not be there to see what calls cost."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "merino.toml").write_text(
        '[[deployments]]\nname = "a"\nbase_url = "https://x/v1"\ncredential = "env:NOT_SET"\n'
    )
    done = merino(*arguments)

    assert 0 == done.returncode, done.stderr
    assert "NOT_SET" in merino("config", "check").stderr


def test_a_stale_socket_is_passed_over(tmp_path):
    """What a killed relay left behind does not keep its folder from being opened."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(tmp_path / "admin.sock"))

    assert [] == on(tmp_path, "accounts", "list")["data"]
