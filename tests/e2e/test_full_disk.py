"""The relay on a file system that is really full, or whose files may not grow: no call goes out that
cannot be paid for, and work goes on by itself once there is room."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.conftest import RelayProcess
from tests.fake_server import FakeServer, fake_server

DISK_BYTES = 16 * 1024 * 1024
WAIT_S = 20.0
CALLS_MAX = 2_000
"""More than fit into what the journal may still have allocated when a disk fills up."""
ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "baa"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
}
COST_NANOS = 7 * 1_000 + 3 * 10_000
CONFIG = """
[[deployments]]
name = "{name}"
base_url = "{url}/v1"
credential = "env:UPSTREAM_KEY"
upstream_model = "m"
price = {{ input = 1.00, output = 10.00 }}

[aliases.{name}]
deployments = ["{name}"]
"""


class Disk:
    """A file system of its own, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, relay: RelayProcess) -> None:
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def free(self, relay: RelayProcess) -> None:
        self._filler.unlink()


class Limit:
    """No file of the relay's may grow: what one may do without being root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, relay: RelayProcess) -> None:
        [segment] = (relay.data / "journal").glob("*.log")
        self._set(relay, segment.stat().st_size)

    def free(self, relay: RelayProcess) -> None:
        self._set(relay, resource.RLIM_INFINITY)

    def _set(self, relay: RelayProcess, size: int) -> None:
        assert relay.process is not None
        _, hard = resource.prlimit(relay.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(relay.process.pid, resource.RLIMIT_FSIZE, (size, hard))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size={DISK_BYTES},mode=0700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system could be mounted: {mounted.stderr.decode().strip()}")
    try:
        yield Disk(folder)
    finally:
        # Detached at once, taken away when the last who uses it has ended.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def limit(tmp_path: Path) -> Limit:
    if not hasattr(resource, "prlimit"):
        pytest.skip("this system cannot limit another process")
    return Limit(tmp_path)


@pytest.fixture
def upstream() -> Iterator[FakeServer]:
    with fake_server({"/v1/chat/completions": (200, ANSWER)}) as server:
        yield server


Start = Callable[..., RelayProcess]


def start_on(start_relay: Start, folder: Path, tmp_path: Path, config: str) -> RelayProcess:
    name = str((folder / "data").relative_to(tmp_path))
    return start_relay(config, name=name, env={"UPSTREAM_KEY": "sk-x"})


def call(http: httpx2.Client, model: str = "quick", **more: object) -> httpx2.Response:
    headers = {"idempotency-key": str(more.pop("key"))} if "key" in more else {}
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}
    return http.post("/v1/chat/completions", json=body | more, headers=headers)


def calls_until_refused(http: httpx2.Client) -> list[str]:
    """Ids of calls that were answered before the first one was refused."""
    answered: list[str] = []
    while (answer := call(http)).status_code == 200:
        answered.append(answer.headers["x-request-id"])
        assert len(answered) < CALLS_MAX, "a full disk refuses no calls"
    assert (503, "store_unavailable") == (answer.status_code, answer.json()["error"]["code"])
    return answered


def until_ready(http: httpx2.Client) -> None:
    """Ready again with no call that tries it out: a balancer sends none before."""
    deadline = time.monotonic() + WAIT_S
    while http.get("/readyz").status_code != 200:
        assert time.monotonic() < deadline, "the relay did not recover"
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["disk", "limit"])
def test_a_full_disk_refuses_calls_until_there_is_room(
    kind: str,
    request: pytest.FixtureRequest,
    start_relay: Start,
    tmp_path: Path,
    upstream: FakeServer,
) -> None:
    """Calls get 503 and reach no upstream, commands one line; with room again the relay is ready by
    itself, and the books say what was answered."""
    disk: Disk | Limit = request.getfixturevalue(kind)
    config = CONFIG.format(name="quick", url=upstream.address)
    relay = start_on(start_relay, disk.folder, tmp_path, config)
    with relay.http() as http:
        answered = [call(http).headers["x-request-id"] for _ in range(5)]
        disk.fill(relay)
        answered += calls_until_refused(http)
        assert len(answered) == len(upstream.seen)

        refused = [call(http), call(http, stream=True), call(http, key="k"), call(http, key="k")]
        assert {503} == {each.status_code for each in refused}
        assert {"1"} == {each.headers["retry-after"] for each in refused}
        assert {"server_error"} == {each.json()["error"]["type"] for each in refused}
        assert len(answered) == len(upstream.seen)
        assert 200 == http.get("/livez").status_code
        done = relay.cli("accounts", "credit", "default", "1", check=False)
        assert (2, 1) == (done.returncode, len(done.stderr.splitlines())), done.stderr

        disk.free(relay)
        until_ready(http)
        again = call(http, key="k")
        assert 200 == again.status_code
        answered.append(again.headers["x-request-id"])
        for call_id in answered:
            found = http.get(f"/v1/calls/{call_id}").json()
            assert ("settled", COST_NANOS) == (found["resolution"], found["cost_nanos"])
    assert len(answered) == len(upstream.seen)
    spent_nanos = 5 * 10**9 - relay.balance_nanos()
    assert len(answered) * COST_NANOS == spent_nanos
    assert [] == relay.cli("ledger", "verify")["differences"]
    assert 0 == relay.stop()
    assert relay.cli("ledger", "verify")["ok"]
    assert "Traceback" not in relay.errors()


@contextlib.contextmanager
def gated_upstream() -> Iterator[tuple[FakeServer, threading.Event]]:
    """An upstream that answers when its gate is opened."""
    gate = threading.Event()

    class Answers(dict[str, tuple[int, Any]]):
        def get(self, path: str, default: Any = None) -> Any:
            gate.wait(WAIT_S)
            return super().get(path, default)

    with fake_server(Answers({"/v1/chat/completions": (200, ANSWER)})) as server:
        try:
            yield server, gate
        finally:
            gate.set()


def test_a_running_call_is_settled_on_a_full_disk(
    disk: Disk, start_relay: Start, tmp_path: Path, upstream: FakeServer
) -> None:
    """What was held is settled where there is no room left for a new hold: its caller has the answer
    while the disk is still full, and a kill loses nothing."""
    with gated_upstream() as (slow, gate):
        config = CONFIG.format(name="quick", url=upstream.address)
        config += CONFIG.format(name="slow", url=slow.address)
        relay = start_on(start_relay, disk.folder, tmp_path, config)
        answers: list[httpx2.Response] = []
        with relay.http() as http:
            thread = threading.Thread(target=lambda: answers.append(call(http, "slow")))
            thread.start()
            deadline = time.monotonic() + WAIT_S
            while not slow.seen:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            disk.fill(relay)
            answered = calls_until_refused(http)
            gate.set()
            thread.join(WAIT_S)
            assert [200] == [each.status_code for each in answers]
            assert 503 == call(http).status_code
        relay.stop(signal.SIGKILL)

        done = relay.cli("ledger", "verify", check=False)
        assert (2, 1) == (done.returncode, len(done.stderr.splitlines())), done.stderr
        assert str(relay.data) in done.stderr

        disk.free(relay)
        assert relay.cli("ledger", "verify")["ok"]
        assert (len(answered) + 1) * COST_NANOS == 5 * 10**9 - relay.balance_nanos()
        relay.start()
        with relay.http() as http:
            assert 200 == call(http).status_code
        assert 0 == relay.stop()


def test_starting_on_a_full_disk_is_refused_in_one_line(
    disk: Disk, start_relay: Start, tmp_path: Path
) -> None:
    """The first start and a later one name the folder and what to do, and leave what is there."""
    relay = start_on(start_relay, disk.folder, tmp_path, "")
    assert 0 == relay.stop()
    disk.fill(relay)
    for name in ("data", "new"):
        assert str(disk.folder / name) in refused_start(relay, disk.folder / name)
    disk.free(relay)
    assert relay.cli("ledger", "verify")["ok"]


def refused_start(relay: RelayProcess, folder: Path) -> str:
    """The one line of a relay that cannot start on `folder`."""
    command = [sys.executable, "-m", "merino", "serve", "--port", "0"]
    done = subprocess.run(
        [*command, "--data", str(folder), "--config", str(relay.config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=relay.env,
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("merino: ")]
    assert (2, 1) == (done.returncode, len(told)), done.stderr
    assert "Traceback" not in done.stderr
    return told[0]
