"""`make test-crash`: a relay that is killed (`kill -9`) some hundred times, under load and during its
starts, the first one among them. Every call that was answered is settled once, every other call has
one outcome, and the books balance.

    python tests/slow/kill_anywhere.py [--kills 300] [--first-starts 60] [--seed N]
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

CONFIG = """
[credits]
start = 1000

[[deployments]]
name = "quick"
provider = "simulator"
upstream_model = "plain!input=7,output=11,ttft=20ms"
price = { input = 1.00, output = 10.00 }

[aliases.quick]
deployments = ["quick"]
"""
START_S_MAX = 60.0


class Relay:
    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.config = folder / "merino.toml"
        self.config.write_text(CONFIG)
        self.log = folder / "log"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]

    def spawn(self) -> subprocess.Popen[bytes]:
        command = ("serve", "--config", self.config, "--data", self.data, "--port", str(self.port))
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "merino", *command], stdout=log, stderr=log
            )

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_S_MAX
        while not self.is_ready():
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the relay does not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.01)

    def ask(self, method: str, path: str, key: str = "", body: object = None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from None
        finally:
            connection.close()

    def keys(self) -> list[str]:
        return re.findall(r"^  key +(mk-\S+)", self.log.read_text(errors="replace"), re.MULTILINE)

    def verify(self) -> None:
        command = [sys.executable, "-m", "merino", "ledger", "verify", "--data", self.data]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"verify: {done.stdout}{done.stderr}")


def load(relay: Relay, key: str, answered: list[str], is_over: threading.Event) -> None:
    body = {"model": "quick", "messages": [{"role": "user", "content": "hello"}]}
    while not is_over.is_set():
        try:
            status, headers, _ = relay.ask("POST", "/v1/chat/completions", key, body)
        except OSError:
            return
        if status == 200:
            answered.append(headers["x-request-id"])


def killed_under_load(relay: Relay, key: str, answered: list[str], rng: random.Random) -> None:
    process = relay.spawn()
    relay.wait(process)
    is_over = threading.Event()
    callers = [
        threading.Thread(target=load, args=(relay, key, answered, is_over)) for _ in range(8)
    ]
    for caller in callers:
        caller.start()
    time.sleep(rng.uniform(0.02, 1.5))
    process.kill()
    is_over.set()
    process.wait()
    for caller in callers:
        caller.join()


def killed_while_it_starts(relay: Relay, rng: random.Random, longest_s: float) -> bool:
    """Whether it was not ready yet."""
    process = relay.spawn()
    time.sleep(rng.uniform(0.0, longest_s))
    is_ready = relay.is_ready()
    process.kill()
    process.wait()
    return not is_ready


def start_s(folder: Path) -> float:
    relay = Relay(folder)
    began = time.monotonic()
    process = relay.spawn()
    relay.wait(process)
    took_s = time.monotonic() - began
    process.kill()
    process.wait()
    return took_s


def kill_often(folder: Path, kills: int, rng: random.Random, longest_s: float) -> None:
    relay = Relay(folder)
    process = relay.spawn()
    relay.wait(process)
    process.kill()
    process.wait()
    key = relay.keys()[0]
    answered: list[str] = []
    in_starts = under_load = 0
    while in_starts + under_load < kills:
        killed_under_load(relay, key, answered, rng)
        under_load += 1
        while in_starts + under_load < kills and rng.random() < 0.7:
            in_starts += killed_while_it_starts(relay, rng, longest_s)
        if under_load % 10 == 0:
            relay.verify()
    relay.verify()
    with sqlite3.connect(relay.data / "merino.db") as database:
        rows = database.execute("SELECT id, resolution FROM calls").fetchall()
    outcomes = dict(rows)
    unsettled = [call_id for call_id in answered if outcomes.get(call_id) != "settled"]
    print(
        f"killed {under_load} times under load and {in_starts} times while starting: "
        f"{len(answered)} calls answered, {len(rows)} records of {len(outcomes)} calls, "
        f"{sum(how == 'expired' for how in outcomes.values())} expired; the books balance"
    )
    if unsettled or len(rows) != len(outcomes):
        raise SystemExit(f"answered and not settled: {unsettled[:5]}, or more than one record")


def kill_first_starts(folder: Path, times: int, rng: random.Random, longest_s: float) -> None:
    shown_by_killed = 0
    for number in range(times):
        home = folder / f"first{number}"
        home.mkdir()
        relay = Relay(home)
        for _ in range(rng.choice((1, 2))):
            killed_while_it_starts(relay, rng, longest_s)
        shown_by_killed += len(relay.keys())
        process = relay.spawn()
        relay.wait(process)
        keys = relay.keys()
        good = [relay.ask("GET", "/v1/models", key)[0] for key in keys]
        process.kill()
        process.wait()
        relay.verify()
        if not keys or set(good) != {200}:
            raise SystemExit(f"keys {len(keys)} shown, answered {good}: {home}")
        shutil.rmtree(home)
    print(
        f"{times} first starts killed: every next one is complete, all keys that were shown work "
        f"({shown_by_killed} were shown by starts that were killed)"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--first-starts", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="merino-crash-") as name:
        for part in ("once", "often"):
            (Path(name) / part).mkdir()
        longest_s = start_s(Path(name) / "once")
        kill_first_starts(Path(name), options.first_starts, rng, longest_s)
        kill_often(Path(name) / "often", options.kills, rng, longest_s)


if __name__ == "__main__":
    main()
