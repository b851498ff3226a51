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


def test_the_folder_comes_from_the_environment_too(folder):
    """MERINO_DATA names the folder for every command."""
    assert 0 == merino("accounts", "list", MERINO_DATA=str(folder)).returncode


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


HEEDS_CTRL_C = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Tests that run in the background of a shell ignore it, and their children would, too."""


def test_ctrl_c_is_exit_code_130(tmp_path):
    """A command that is interrupted while it waits ends quietly."""
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(path))
        silent.listen()
        process = subprocess.Popen(
            [sys.executable, "-c", HEEDS_CTRL_C, *MERINO, "accounts", "list", "--data", tmp_path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        silent.settimeout(30)
        probe, _ = silent.accept()
        connection, _ = silent.accept()
        with process, probe, connection:
            try:
                connection.settimeout(30)
                assert connection.recv(1000).startswith(b"GET /admin/v1/accounts")
                process.send_signal(signal.SIGINT)
                started = time.monotonic()
                _, errors = process.communicate(timeout=30)
            finally:
                process.kill()

    assert 130 == process.returncode, errors
    assert b"" == errors
    assert time.monotonic() - started < 10


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
