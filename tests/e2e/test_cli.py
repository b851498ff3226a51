"""The command line as its users meet it: processes, exit codes, output."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from merino.cli.root import run

MERINO = (sys.executable, "-m", "merino")


def environment(**more: str) -> dict[str, str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MERINO_") and not name.endswith(("_API_KEY", "_BASE_URL"))
    }
    return clean | more


def merino(*arguments: str, cwd: Path | None = None, **environ: str):
    return subprocess.run(
        [*MERINO, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=cwd,
        env=environment(**environ),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A data folder that no relay runs on."""
    return tmp_path_factory.mktemp("quiet")


def on(folder: Path, *arguments: str) -> Any:
    """A command's JSON, without the cost of a process."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = run([*arguments, "--data", str(folder), "--json"])
    assert 0 == code
    return json.loads(output.getvalue())


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


def test_the_same_commands_work_while_a_relay_runs(relay):
    """Through the relay's socket, a change holds at once for the relay's own answers."""
    issued = relay.cli("keys", "create", "--name", "live")
    with relay.http() as client:
        ask = {"model": "sim/o3", "messages": [{"role": "user", "content": "Hi"}]}
        bearer = {"authorization": f"Bearer {issued['key']}"}
        before = client.post("/v1/chat/completions", json=ask, headers=bearer).status_code
        relay.cli("keys", "disable", "live")
        after = client.post("/v1/chat/completions", json=ask, headers=bearer).status_code
    calls = relay.cli("calls", "list", "--key", "live", "--status", "200")["data"]
    report = relay.cli("report", "--by", "key", "--since", "1h")["data"]

    assert (200, 401) == (before, after)
    assert 1 == len(calls)
    assert calls[0]["charged_nanos"] == next(
        row["charged_nanos"] for row in report if row["name"] == "live"
    )
    assert calls[0]["id"] == relay.cli("calls", "show", calls[0]["id"])["id"]


def test_the_database_is_not_opened_beside_a_running_relay(relay):
    """Commands beside a relay never wait for, or break, its lock on the folder."""
    running = [
        subprocess.Popen(
            [*MERINO, "accounts", "list", "--json", "--data", str(relay.data)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        for _ in range(3)
    ]
    for process in running:
        output, errors = process.communicate(timeout=60)
        assert 0 == process.returncode, errors
        assert json.loads(output)["data"]


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
        (("logs",), "Did you mean 'merino calls list'?"),
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


def test_the_folder_comes_from_the_environment_too(folder):
    """MERINO_DATA names the folder for every command."""
    assert 0 == merino("accounts", "list", MERINO_DATA=str(folder)).returncode


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


TEAM = """
[[deployments]]
name = "upstream"
provider = "simulator"
price = { input = 1, output = 1 }
[aliases.team-model]
deployments = ["upstream"]
"""


def test_a_key_for_a_model_that_nobody_offers(start_relay, monkeypatch, tmp_path, capsys) -> None:
    """The key is issued, since settings may come later; a warning names what is nearest. A running
    relay knows best what there is, whatever file lies here."""
    (tmp_path / "merino.toml").write_text(TEAM)
    monkeypatch.chdir(tmp_path)

    def issue(folder, *aliases: str) -> list[str]:
        options = [part for alias in aliases for part in ("--alias", alias)]
        name = f"key {len(on(folder, 'keys', 'list')['data'])}"
        issued = on(folder, "keys", "create", "--name", name, *options)
        assert [*aliases] == issued["aliases"]
        return capsys.readouterr().err.splitlines()

    relay = start_relay(TEAM.replace("team-model", "other"))
    assert [] == issue(relay.data)
    assert [] == issue(relay.data, "other", "sim/o3")
    [line] = issue(relay.data, "other", "team-model")
    assert line.startswith('merino: warning: no model is called "team-model". ')
    relay.stop()

    assert [] == issue(relay.data, "team-model", "sim/o3")
    [line] = issue(relay.data, "sim/o3", "team-modle")
    assert 'no model is called "team-modle"; closest in the settings here: "team-model". ' in line
    [line] = issue(relay.data, "zzzz")
    assert "closest" not in line


def test_config_check_tells_every_fault_with_its_line(tmp_path):
    """A wrong file is exit code 2 and one line for each fault."""
    (tmp_path / "merino.toml").write_text('[server]\nport = "x"\nhots = "y"\n')
    done = merino("config", "check", cwd=tmp_path)

    assert 2 == done.returncode
    assert [
        "merino: merino.toml:2: server.port",
        "merino: merino.toml:3: server.hots",
    ] == [line[: len("merino: merino.toml:2: server.port")] for line in done.stderr.splitlines()]


def test_config_check_shows_what_a_good_file_offers(tmp_path):
    """A right file is exit code 0, with what the relay would offer; warnings go to stderr."""
    (tmp_path / "my.toml").write_text(
        '[[deployments]]\nname = "local"\nbase_url = "http://127.0.0.1:1/v1"\ncredential = "sk-x"'
    )
    done = merino("config", "check", "--config", "my.toml", "--json", cwd=tmp_path)

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
def test_looking_at_prices_needs_no_credential(tmp_path, arguments):
    """What the relay needs to call a provider need not be there to see what calls cost."""
    (tmp_path / "merino.toml").write_text(
        '[[deployments]]\nname = "a"\nbase_url = "https://x/v1"\ncredential = "env:NOT_SET"\n'
    )
    done = merino(*arguments, cwd=tmp_path)

    assert 0 == done.returncode, done.stderr
    assert "NOT_SET" in merino("config", "check", cwd=tmp_path).stderr


def test_help_and_version_are_quick_and_light():
    """Asking for help imports neither the relay nor its server."""
    code = (
        "import sys; sys.argv = ['merino', '--help']\n"
        "from merino.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'uvicorn', 'starlette', 'httpx2', 'apsw', 'merino.app', 'msgspec'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )

    assert 0 == done.returncode, done.stderr
    assert "serve" in done.stdout
    assert "merino " in merino("--version").stdout


def test_the_relay_does_without_the_openai_package():
    """It is the client's: loading it would double the time a relay takes to start."""
    code = (
        "import sys, merino.serving\n"
        "assert not {'openai', 'pydantic'} & set(sys.modules)\n"
        "from merino import OpenAI\n"
        "assert 'openai' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )

    assert 0 == done.returncode, done.stderr


def test_a_closed_pipe_is_quiet(folder):
    """`merino ... | head` leaves no complaint."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run(
            [*MERINO, "prices", "list"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
            env=environment(),
        )

    assert b"" == done.stderr
    assert 141 == done.returncode


def test_ctrl_c_is_exit_code_130(tmp_path):
    """A command that is interrupted while it waits ends quietly."""
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(path))
        silent.listen()
        process = subprocess.Popen(
            [*MERINO, "accounts", "list", "--data", str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        silent.settimeout(30)
        probe, _ = silent.accept()
        connection, _ = silent.accept()
        connection.settimeout(30)
        assert connection.recv(1000).startswith(b"GET /admin/v1/accounts")
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, errors = process.communicate(timeout=30)
        probe.close()
        connection.close()

    assert 130 == process.returncode, errors
    assert b"" == errors
    assert time.monotonic() - started < 10


def test_a_stale_socket_is_passed_over(tmp_path):
    """What a killed relay left behind does not keep its folder from being opened."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(tmp_path / "admin.sock"))

    assert [] == on(tmp_path, "accounts", "list")["data"]


def test_deployments_of_the_settings_file(start_relay, monkeypatch) -> None:
    """Without a running relay the list is that of the settings file, as the relay would read it; a
    file that is wrong is told of, and books and keys are there all the same."""
    relay = start_relay()
    relay.stop()
    relay.config.write_text(
        '[[deployments]]\nname = "mine"\nprovider = "simulator"\nprice = { input = 1 }\n'
    )
    relay.env["MERINO_CONFIG"] = str(relay.config)
    assert "mine" in [row["name"] for row in relay.cli("deployments", "list")["data"]]
    relay.config.write_text("nonsense = 1\nmore = 2\neven_more = 3\n")
    done = relay.cli("accounts", "list", check=False)
    assert 0 == done.returncode
    [told] = done.stderr.splitlines()
    assert "settings file is left out" in told
    assert told.endswith("2 more: `merino config check`")
