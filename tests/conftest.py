"""A relay as its users meet it: its own process, its own data folder, real sockets."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
from hypothesis import settings
from tests.in_process import run_command
from tests.lengths import examples
from tests.spawning import Process, serve

START_TIMEOUT_S = 20.0
KILLS = int(os.environ.get("MERINO_TEST_KILLS", "5"))
"""How often tests kill what they test; `make test-crash` does it more often."""

# How long one example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("suite", max_examples=examples(50), deadline=None)
settings.load_profile("suite")


gc.disable()
# Modules and tests are there to stay; to look through them again and again while they are collected,
# and at every collection afterwards, is a tenth of the work of all tests.


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def loggers_are_looked_up_anew() -> Iterator[None]:
    """Commands run in this process set up its logging; a logger that kept that would be deaf to
    `capture_logs` in every later test."""
    configure = structlog.configure

    def without_keeping(**given: Any) -> None:
        configure(**{**given, "cache_logger_on_first_use": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", without_keeping)
        yield


class RelayProcess:
    """`merino serve` on a free port. Stopped by its own process id."""

    def __init__(
        self,
        data: Path,
        config: str = "",
        env: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.data = data
        self.arguments = arguments
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.endswith("_API_KEY") and not name.startswith("MERINO_")
        } | (env or {})
        self.config = data.parent / f"{data.name}.toml"
        self.config.write_text(config)
        self.process: Process | None = None
        self.output = ""
        self.url = ""
        self.key = ""
        self.admin_key = ""

    def start(self) -> RelayProcess:
        banner = self.data.parent / f"{self.data.name}.out"
        with banner.open("w") as output, self.log_path.open("a") as log:
            self.process = serve(
                [
                    *("--port", "0", "--data", str(self.data), "--config", str(self.config)),
                    *self.arguments,
                ],
                self.env,
                output,
                log,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        # The banner is one write, so it is there as a whole.
        while "Listening on" not in (seen := banner.read_text()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the relay did not start:\n{seen}\n{self.errors()}")
            time.sleep(0.02)
        self.output = seen
        listening = re.search(r"Listening on (http://\S+)", seen)
        assert listening is not None
        self.url = listening[1]
        if found := re.search(r"\bmk-[\w-]+", seen):
            self.key = found[0]
        if found := re.search(r"\bmka-[\w-]+", seen):
            self.admin_key = found[0]
        return self

    @property
    def log_path(self) -> Path:
        return self.data.parent / f"{self.data.name}.log"

    def errors(self) -> str:
        return self.log_path.read_text()

    def stop(self, how: int = signal.SIGTERM, timeout_s: float = 15.0) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout_s)
        self.process = None
        return code

    def cli(self, *arguments: str, check: bool = True) -> Any:
        """A command's JSON output; with `check=False` how it ended. It runs in this process, as
        a process of its own takes a second to start; `test_cli.py` has those."""
        given = (*arguments, "--data", str(self.data), "--json")
        with ThreadPoolExecutor(1) as thread:  # the test may run an event loop
            done = thread.submit(run_command, *given, environ=self.env).result(60)
        if not check:
            return done
        assert 0 == done.returncode, done.stdout + done.stderr
        return json.loads(done.stdout)

    def http(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {self.key}"},
            timeout=30,
            trust_env=False,
            **options,
        )

    def balance_nanos(self, account: str = "default") -> int:
        if self.process is None or not self.admin_key:
            return self.cli("accounts", "show", account)["balance"]["posted_nanos"]
        # What the command asks for, without the time that a process takes to start.
        url = f"{self.url}/admin/v1/accounts/{account}"
        headers = {"authorization": f"Bearer {self.admin_key}"}
        answer = httpx2.get(url, headers=headers, timeout=30, trust_env=False)
        return answer.raise_for_status().json()["balance"]["posted_nanos"]


@pytest.fixture
def start_relay(tmp_path: Path) -> Iterator[Callable[..., RelayProcess]]:
    """Starts relays; whatever still runs at the end is stopped."""
    started: list[RelayProcess] = []

    def start(
        config: str = "",
        *,
        name: str = "data",
        env: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ):
        relay = RelayProcess(tmp_path / name, config, env, arguments)
        started.append(relay)
        return relay.start()

    yield start
    for relay in started:
        if relay.process is not None:
            relay.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """One relay on its zero configuration, shared by the tests of a module."""
    process = RelayProcess(tmp_path_factory.mktemp("relay") / "data").start()
    yield process
    assert 0 == process.stop()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
