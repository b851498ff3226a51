"""Start, drain, reload, and faults of the machine underneath."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

SLOW = """
[server]
drain_s = %s

[[deployments]]
name = "slow"
provider = "simulator"
upstream_model = "plain!input=5,output=200,chunks=200,tps=%s"
price = { input = 1.00, output = 10.00 }

[aliases.slow]
deployments = ["slow"]
"""


def body(model: str = "o3", **fields):
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], **fields}


def wait_for(seen) -> None:
    deadline = time.monotonic() + 5
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_first_start_prints_secrets_once(start_relay) -> None:
    """The first start shows key and admin key and says that answers are simulated; the second
    start shows no secret."""
    relay = start_relay()
    assert "SIMULATED" in relay.output
    assert relay.key.startswith("mk-")
    assert relay.admin_key.startswith("mka-")
    assert "curl" in relay.output
    assert "from openai import OpenAI" in relay.output
    assert 0o700 == stat.S_IMODE(relay.data.stat().st_mode)
    assert 5_000_000_000 == relay.balance_nanos()
    key = relay.key
    assert 0 == relay.stop()
    relay.start()
    assert "mk-" not in relay.output
    assert "mka-" not in relay.output
    with relay.http() as http:
        http.headers["authorization"] = f"Bearer {key}"
        assert 200 == http.post("/v1/chat/completions", json=body()).status_code


def test_a_relay_without_any_model_says_so(start_relay) -> None:
    """Where the simulator is switched off and no provider is known, nobody is told of answers that
    are simulated: there are none."""
    relay = start_relay("[simulator]\nenabled = false\n")
    assert "NOTHING TO CALL" in relay.output
    assert "SIMULATED" not in relay.output


def test_a_deployment_without_a_price_is_told_of_at_once(start_relay) -> None:
    """Its calls will be refused, which the operator learns before the callers do."""
    relay = start_relay('[[deployments]]\nname = "own"\nbase_url = "http://127.0.0.1:9/v1"\n')
    assert "deployment 'own' has no price" in relay.errors()
    relay.config.write_text(relay.config.read_text() + "price = { input = 1, output = 2 }\n")
    told = len(relay.errors())
    relay.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "settings reloaded" in relay.errors())
    assert "has no price" not in relay.errors()[told:]


@pytest.mark.parametrize(
    ("host", "way_out"), [("127.0.0.1", "another --port"), ("203.0.113.9", "--host that this")]
)
def test_who_cannot_listen_is_told_what_to_change(relay, tmp_path, host, way_out) -> None:
    """A port in use and an address of another machine are two mistakes with two ways out."""
    port = relay.url.rsplit(":", 1)[1]
    arguments = ["serve", "--data", str(tmp_path / "other"), "--host", host, "--port", port]
    done = subprocess.run(
        [sys.executable, "-m", "merino", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert 2 == done.returncode
    assert way_out in done.stderr


def test_no_secret_is_stored_or_logged(start_relay) -> None:
    """Neither the relay's keys nor a provider's credential is found in the data folder or log."""
    relay = start_relay(
        """
[[deployments]]
name = "elsewhere"
base_url = "http://127.0.0.1:9/v1"
credential = "env:CANARY"
price = { input = 1, output = 1 }
""",
        env={"CANARY": "sk-canary-0123456789abcdef"},
    )
    with relay.http() as http:
        refused = http.post("/v1/chat/completions", json=body("elsewhere"))
        assert 502 == refused.status_code, refused.text
        metrics = http.get("/metrics").text
    relay.stop()
    secrets = [relay.key, relay.admin_key, "sk-canary-0123456789abcdef"]
    written = [file.read_bytes() for file in relay.data.rglob("*") if file.is_file()]
    logged = (relay.data.parent / "data.log").read_text()
    for secret in secrets:
        assert not any(secret.encode() in data for data in written)
        assert secret not in logged
        assert secret not in metrics
        assert secret not in refused.text


def test_health_and_metrics(relay) -> None:
    """Liveness, readiness and metrics answer without a key."""
    with relay.http() as http:
        http.post("/v1/chat/completions", json=body())
        del http.headers["authorization"]
        assert {"status": "ok"} == http.get("/livez").json()
        assert {"status": "ok"} == http.get("/readyz").json()
        text = http.get("/metrics").text
    assert "merino_calls_total{" in text
    assert "gen_ai_client_operation_duration_seconds_bucket" in text


def test_drain_lets_running_calls_finish(start_relay) -> None:
    """After SIGTERM a running stream ends properly, and new calls are turned away."""
    relay = start_relay(SLOW % (20, 200))
    with (
        relay.http() as http,
        http.stream("POST", "/v1/chat/completions", json=body("slow", stream=True)) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        relay.process.send_signal(signal.SIGTERM)
        text = "\n".join(lines)
    assert "data: [DONE]" in text
    assert 0 == relay.process.wait(10)
    relay.start()
    assert [] == relay.cli("ledger", "verify")["differences"]
    [call] = relay.cli("calls", "list")["data"]
    assert ("settled", "reported") == (call["resolution"], call["usage_source"])


@pytest.mark.parametrize(
    ("drain_s", "signals"), [(1, (signal.SIGTERM,)), (60, (signal.SIGINT, signal.SIGINT))]
)
def test_drain_cuts_what_takes_too_long_and_settles_it(start_relay, drain_s, signals) -> None:
    """A stream still running when the drain ends, or a second Ctrl-C ends it, gets an error event,
    is cut, and is settled."""
    relay = start_relay(SLOW % (drain_s, 20))
    signals, text, events = list(signals), "", 0
    with (
        relay.http() as http,
        http.stream("POST", "/v1/chat/completions", json=body("slow", stream=True)) as answer,
    ):
        try:
            for line in answer.iter_lines():
                # Apart, since two at once are one signal.
                if signals and text.count("data:") >= events:
                    relay.process.send_signal(signals.pop(0))
                    events += 10
                text += line + "\n"
        except httpx2.RemoteProtocolError:
            text += "CUT"
    assert '"code":"shutting_down"' in text.replace(" ", "")
    assert text.endswith("CUT")
    assert 0 == relay.process.wait(15)
    relay.start()
    [call] = relay.cli("calls", "list")["data"]
    assert "settled" == call["resolution"]
    assert 0 < call["output_tokens"] < 200
    assert 0 == relay.cli("accounts", "show", "default")["balance"]["held_nanos"]


def test_reload_on_sighup(start_relay) -> None:
    """SIGHUP reads the file again; a wrong file changes nothing and is explained."""
    relay = start_relay(SLOW % (5, 1000))
    with relay.http() as http:

        def names() -> set[str]:
            return {model["id"] for model in http.get("/v1/models").json()["data"]}

        def reload_until(seen) -> None:
            relay.process.send_signal(signal.SIGHUP)
            wait_for(seen)

        assert "slow" in names()
        relay.config.write_text((SLOW % (5, 1000)).replace("[aliases.slow]", "[aliases.other]"))
        reload_until(lambda: "other" in names())
        relay.config.write_text("[aliases.broken]\ndeployments = 3\n")
        reload_until(lambda: "not reloaded" in relay.errors())
        assert "other" in names()
        assert "deployments" in relay.errors()


@pytest.mark.parametrize("is_detached", [False, True], ids=["plain", "with nohup"])
def test_a_relay_ends_with_its_terminal(tmp_path, is_detached) -> None:
    """One that was started in a terminal stops in order when that is closed, and until then a signal
    reloads it; one that was told to outlive it goes on and reloads."""
    data = tmp_path / "data"
    pid, terminal = pty.fork()
    if not pid:
        # Whoever runs the tests may be detached, too.
        signal.signal(signal.SIGHUP, signal.SIG_IGN if is_detached else signal.SIG_DFL)
        program = [sys.executable, "-m", "merino", "serve", "--port", "0", "--data", str(data)]
        log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(log, 2)
        os.execv(sys.executable, program)

    def log_of() -> str:
        return (tmp_path / "log").read_text()

    try:
        seen = b""
        while b"print(answer" not in seen:
            seen += os.read(terminal, 4096)
        os.kill(pid, signal.SIGHUP)
        wait_for(lambda: 1 == log_of().count("settings reloaded"))
        os.close(terminal)
        if is_detached:
            os.kill(pid, signal.SIGHUP)
            wait_for(lambda: 2 == log_of().count("settings reloaded"))
            os.kill(pid, signal.SIGTERM)
        status = 0

        def has_ended() -> bool:
            nonlocal status
            ended, status = os.waitpid(pid, os.WNOHANG)
            return ended == pid

        wait_for(has_ended)
        pid = 0
        assert 0 == os.waitstatus_to_exitcode(status)
        assert "stopped" in log_of()
        assert not (data / "admin.sock").exists()
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_who_starts_a_second_relay_on_a_folder_is_told_of_the_first(relay) -> None:
    """With its process and how to stop it, whatever else the port might be used by."""
    arguments = ["--data", str(relay.data), "--port", relay.url.rsplit(":", 1)[1]]
    done = subprocess.run(
        [sys.executable, "-m", "merino", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert 2 == done.returncode
    assert f"as process {relay.process.pid}" in done.stderr
    assert f"kill {relay.process.pid}" in done.stderr
    assert 1 == done.stderr.count("127.0.0.1")


def test_a_browser_at_the_root_comes_to_the_dashboard(relay) -> None:
    """Programs are told what there is instead."""
    with relay.http() as http:
        page = http.get("/", headers={"accept": "text/html,*/*;q=0.8"})
        assert (302, "/dashboard") == (page.status_code, page.headers["location"])
        told = http.get("/")
        assert (404, "not_found") == (told.status_code, told.json()["error"]["code"])


def test_accounts_of_the_settings_that_are_not_there(start_relay) -> None:
    """They are warned of at the start and at a reload; the first account, made at the first start,
    is not among them."""
    table = """
[dashboard.oidc]
issuer = "https://id.example.org"
client_id = "relay"
[dashboard.oidc.accounts.%s]
owners = ["ada@example.org"]
"""

    def warned(relay) -> list[str]:
        lines = relay.errors().splitlines()
        return [line for line in lines if "no account has this name or id" in line]

    relay = start_relay(table % "default")
    relay.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "settings reloaded" in relay.errors())
    assert [] == warned(relay)

    relay.config.write_text(table % "defualt")
    relay.process.send_signal(signal.SIGHUP)
    wait_for(lambda: warned(relay))
    [line] = warned(relay)
    assert "dashboard.oidc.accounts.defualt" in line
    assert 'did you mean "default"?' in line

    relay.stop()
    relay.start()
    assert 2 == len(warned(relay))


def test_hang_up_cancels_the_upstream_and_bills_what_came(start_relay) -> None:
    """A caller who leaves in mid-stream pays for what arrived, not for the rest."""
    relay = start_relay(SLOW % (5, 100))
    with relay.http() as http:
        with http.stream("POST", "/v1/chat/completions", json=body("slow", stream=True)) as answer:
            call_id = answer.headers["x-request-id"]
            lines = answer.iter_lines()
            for _ in range(20):
                next(lines)
        deadline = time.monotonic() + 5
        while (found := http.get(f"/v1/calls/{call_id}")).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    call = found.json()
    assert ("settled", 499, "counted") == (call["resolution"], call["status"], call["usage_source"])
    assert 0 < call["usage"]["output_tokens"] < 100


def test_locked_database_does_not_stop_calls_for_long(start_relay) -> None:
    """While another process locks the database, money stays durable in the journal; afterwards
    everything is in the database."""
    relay = start_relay()
    database = next(relay.data.glob("*.db"))
    with sqlite3.connect(database, isolation_level=None) as locker, relay.http() as http:
        locker.execute("BEGIN EXCLUSIVE")
        answers = [http.post("/v1/chat/completions", json=body("o3-mini")) for _ in range(5)]
        locker.execute("COMMIT")
        assert {200, 503} >= {answer.status_code for answer in answers}
        answered = [a for a in answers if a.status_code == 200]
        for answer in answered:
            deadline = time.monotonic() + 5
            while http.get(f"/v1/calls/{answer.headers['x-request-id']}").status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert 200 == http.post("/v1/chat/completions", json=body()).status_code
    locker.close()
    assert [] == relay.cli("ledger", "verify")["differences"]


def test_busy_port_is_one_line(relay, tmp_path: Path) -> None:
    """A port in use is explained in one line with exit code 2."""
    port = relay.url.rsplit(":", 1)[1]
    done = subprocess.run(
        [sys.executable, "-m", "merino", "serve", "--port", port, "--data", str(tmp_path / "d")],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert 2 == done.returncode
    assert 1 == len(done.stderr.strip().splitlines())
    assert "Cannot listen" in done.stderr


def test_folder_in_use_is_one_line(relay) -> None:
    """A second relay on the same folder is refused, naming the first one."""
    done = subprocess.run(
        [sys.executable, "-m", "merino", "serve", "--port", "0", "--data", str(relay.data)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert 2 == done.returncode
    assert str(relay.process.pid) in done.stderr
    assert "Traceback" not in done.stderr


def test_slow_reader_does_not_make_the_relay_buffer(start_relay) -> None:
    """A caller who stops reading a large stream makes the upstream wait, not the memory grow."""
    relay = start_relay(
        """
[[deployments]]
name = "flood"
provider = "simulator"
upstream_model = "plain!input=5,chunks=200000,output=200000,ignore_limit"
price = { input = 0.001, output = 0.001 }

[aliases.flood]
deployments = ["flood"]
output_tokens_max = 200000
context_tokens_max = 400000
"""
    )

    def rss_mb() -> float:
        pages = int(Path(f"/proc/{relay.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 2**20

    import socket

    host, port = relay.url.removeprefix("http://").split(":")
    import json

    payload = json.dumps(body("flood", stream=True)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {relay.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    ).encode()
    before = rss_mb()
    with socket.create_connection((host, int(port))) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(head + payload)
        reader.recv(1024)
        highest = before
        for _ in range(20):
            time.sleep(0.05)
            highest = max(highest, rss_mb())
    # The whole stream is some 60 MB.
    assert highest - before < 30


def test_a_line_for_every_call(start_relay) -> None:
    """With `log.calls` every call is one line, without its secret or its prompt; a reload turns it
    off."""
    relay = start_relay('[log]\ncalls = true\nformat = "json"\n')
    with relay.http() as http:
        body = {"model": "o3", "messages": [{"role": "user", "content": "a prompt of mine"}]}
        answer = http.post("/v1/chat/completions", json=body)
        deadline = time.monotonic() + 5
        lines: list[dict] = []
        while not lines:  # it is written just after the answer
            lines = [json.loads(line) for line in relay.errors().splitlines() if '"call"' in line]
            assert time.monotonic() < deadline
        assert 1 == len(lines)
        assert (answer.headers["x-request-id"], 200, "o3", answer.headers["x-merino-cost"]) == (
            lines[0]["request_id"],
            lines[0]["status"],
            lines[0]["model"],
            lines[0]["cost"],
        )
        assert "a prompt of mine" not in relay.errors()
        assert relay.key not in relay.errors()
        relay.config.write_text('[log]\nformat = "json"\n')
        relay.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 5
        while "settings reloaded" not in relay.errors():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        http.post("/v1/chat/completions", json=body)
    assert 1 == sum('"call"' in line for line in relay.errors().splitlines())
