"""A relay on a real terminal: what it says there, and the commands that ask after it and end it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
WAIT_S = 60.0


class OnTerminal:
    """`merino serve` with a terminal of its own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._said = b""
        self._fd, theirs = pty.openpty()
        command = [sys.executable, "-m", "merino", "serve", "--port", "0", "--data", str(data)]
        self._process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=data.parent,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "90", "NO_COLOR": "1"},
            start_new_session=True,
        )
        os.close(theirs)

    def said(self, wanted: str) -> str:
        """Everything so far, once this is in it."""
        until = time.monotonic() + WAIT_S
        while not re.search(wanted, text := _ESCAPES.sub("", self._said.decode())):
            assert time.monotonic() < until, text
            if select.select([self._fd], [], [], 0.2)[0]:
                self._said += os.read(self._fd, 65_536)
        return text

    def end(self) -> None:
        os.close(self._fd)
        self._process.wait(WAIT_S)


def merino(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "merino", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[OnTerminal]:
    relay = OnTerminal(tmp_path / "data")
    yield relay
    merino("stop", "--cut", "--timeout", "20", "--data", str(relay.data))
    relay.end()


def test_it_tells_where_it_is_and_each_call(relay: OnTerminal) -> None:
    """The first start names the dashboard; a call is a line, a refused one its reason, once; the
    relay is asked after and stopped from elsewhere."""
    banner = relay.said("print\\(answer")
    found = re.search(r"Listening on (http://[\d.:]+)", banner)
    assert found is not None
    url = found[1]
    assert f"Dashboard: {url}/dashboard" in banner
    assert f"Sign in to the dashboard with the admin key: {url}/dashboard" in banner
    key = re.search(r"\b(mk-[\w-]+)", banner)
    assert key is not None
    with httpx2.Client(base_url=url, headers={"authorization": f"Bearer {key[1]}"}) as http:
        for model, status in (("o3", 200), ("nothing", 404)):
            body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
            assert status == http.post("/v1/chat/completions", json=body).status_code
    told = relay.said("model_not_found")
    assert 1 == len(
        re.findall(r"\d\d:\d\d:\d\d  200  o3 +first +[\d,]+ \+ [\d,]+ tokens +\$0\.", told)
    )
    assert 1 == told.count("model_not_found")

    data = ("--data", str(relay.data))
    status = merino("status", "--json", *data)
    asked = json.loads(status.stdout)
    assert (0, url) == (status.returncode, asked["address"])
    assert (2, 1) == (asked["last_hour"]["calls"], asked["last_hour"]["failed"])
    assert ["200", "404"] == [line.split()[1] for line in merino("logs", *data).stdout.splitlines()]
    stopped = merino("stop", *data)
    assert (0, f"the relay at {url} has stopped\n") == (stopped.returncode, stopped.stdout)
    assert 3 == merino("status", *data).returncode
    assert not (relay.data / "relay.json").exists()
