"""The drill: back up a relay under load, lose its folder, restore, go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from typing import Any

import httpx2
from tests.conftest import RelayProcess

CONFIG = """
[credits]
start = 1000

[[deployments]]
name = "quick"
provider = "simulator"
upstream_model = "plain!input=7,output=11,ttft=2ms"
price = { input = 1.00, output = 10.00 }

[aliases.quick]
deployments = ["quick"]
"""
COST_NANOS = 7 * 1_000 + 11 * 10_000
BODY = {
    "model": "quick",
    "messages": [{"role": "user", "content": "hello"}],
    "max_completion_tokens": 50,
}


async def under_load(relay: RelayProcess, work) -> tuple[Any, list[tuple[str, float]]]:
    """What `work` returns, done in a thread beside eight callers; and every call that was answered,
    with when."""
    answered: list[tuple[str, float]] = []
    is_over = False
    one_more = asyncio.Event()
    async with httpx2.AsyncClient(
        base_url=relay.url,
        timeout=10,
        trust_env=False,
        headers={"authorization": f"Bearer {relay.key}"},
    ) as http:

        async def until(calls: int) -> None:
            while len(answered) < calls:
                one_more.clear()
                await one_more.wait()

        async def caller(number: int) -> None:
            body = {**BODY, "stream": number % 2 == 0}
            while not is_over:
                with contextlib.suppress(httpx2.TransportError):
                    answer = await http.post("/v1/chat/completions", json=body)
                    if answer.status_code == 200:
                        answered.append((answer.headers["x-request-id"], time.time()))
                        one_more.set()

        callers = [asyncio.create_task(caller(number)) for number in range(8)]
        await until(30)
        found = await asyncio.to_thread(work)
        await until(len(answered) + 30)
        is_over = True
        await asyncio.gather(*callers)
    return found, answered


def test_nothing_acknowledged_before_the_moment_is_lost(start_relay, tmp_path) -> None:
    """Calls, keys and money that were acknowledged before the moment that a backup tells are there
    after its restore, each once; keys work; and the journal of the lost folder brings the rest."""
    relay = start_relay(CONFIG)
    backups = str(tmp_path / "backups")
    relay.cli("backup", backups)
    made: list[tuple[str, float]] = []

    def work() -> Any:
        command = [sys.executable, "-m", "merino", "backup", backups, "--data", str(relay.data)]
        with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True) as taking:
            number = 0
            while taking.poll() is None or number < 3:
                number += 1
                relay.cli("keys", "create", "--name", f"key-{number}")
                relay.cli("accounts", "credit", "default", "1.00")
                made.append((f"key-{number}", time.time()))
            assert taking.stdout is not None
            return json.loads(taking.stdout.read())

    told, answered = asyncio.run(under_load(relay, work))
    assert (True, []) == (told["verified"], told["problems"])
    relay.stop(signal.SIGKILL)
    journal = tmp_path / "journal"
    shutil.copytree(relay.data / "journal", journal)
    shutil.rmtree(relay.data)

    restored = relay.cli("restore", backups)
    assert (told["id"], True) == (restored["id"], restored["verified"])
    relay.start()
    at_s = datetime.fromisoformat(told["moment"]).timestamp()
    before = {call_id for call_id, when in answered if when < at_s}
    assert len(before) >= 30
    with relay.http() as http:  # the key of before the loss
        for call_id in before:
            call = http.get(f"/v1/calls/{call_id}").json()
            assert ("settled", COST_NANOS) == (call["resolution"], call["cost_nanos"])
        assert 200 == http.post("/v1/chat/completions", json=BODY).status_code
    keys = {each["name"] for each in relay.cli("keys", "list")["data"]}
    assert {name for name, when in made if when < at_s} <= keys
    assert [] == relay.cli("ledger", "verify")["differences"]
    relay.stop()

    again = RelayProcess(tmp_path / "again")
    rolled = again.cli("restore", backups, "--journal", str(journal))
    assert rolled["verified"]
    calls = again.cli("calls", "list", "--limit", "100000", "--status", "200")["data"]
    assert {call_id for call_id, _ in answered} <= {each["id"] for each in calls}
    assert {COST_NANOS} == {each["charged_nanos"] for each in calls}


def test_an_encrypted_backup_is_restored_with_its_key(start_relay, tmp_path) -> None:
    """With a key file nothing of the folder stands in the backup as it is; without, or with
    another, it is refused in one line."""
    relay = start_relay(CONFIG)
    key, other = tmp_path / "backup.key", tmp_path / "other.key"
    key.write_text("k" * 64)
    other.write_text("o" * 64)
    backups = str(tmp_path / "backups")
    told = relay.cli("backup", backups, "--key-file", str(key))
    assert told["verified"]
    pepper = (relay.data / "pepper").read_bytes()
    assert not [
        path
        for path in (tmp_path / "backups").rglob("*")
        if path.is_file() and pepper in path.read_bytes()
    ]
    copy = RelayProcess(tmp_path / "copy")
    for given, said in ((["--key-file", str(other)], "another key file"), ([], "--key-file")):
        refused = copy.cli("restore", backups, *given, check=False)
        assert 2 == refused.returncode
        assert said in refused.stderr
        assert 1 == len(refused.stderr.splitlines())
    assert copy.cli("restore", backups, "--key-file", str(key))["verified"]
    assert [each["id"] for each in relay.cli("keys", "list")["data"]] == [
        each["id"] for each in copy.cli("keys", "list")["data"]
    ]
