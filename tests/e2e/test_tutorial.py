"""The tutorial, followed to the letter: what it says one sees is what is seen."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "a-team-and-its-money.md"
STEP = re.compile(r"^```sh\n(.*?)^```\n\n```text\n(.*?)^```", re.DOTALL | re.MULTILINE)
MARK = "== step {} =="


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    data = tmp_path / "first-relay" / "merino-data"
    if (data / "relay.json").exists():  # a step failed, and the relay still runs
        command = [sys.executable, "-m", "merino", "stop", "--data", str(data), "--cut"]
        subprocess.run(command, check=False, capture_output=True)


def pattern(seen: str) -> re.Pattern[str]:
    """`…` stands for anything; runs of blanks for any."""
    lines = [re.escape(" ".join(line.split())).replace("…", ".*") for line in seen.splitlines()]
    return re.compile("\n".join(lines), re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
def test_every_step_shows_what_the_page_says(folder) -> None:
    """One shell runs all steps, in order; port 8080 may be taken, so another stands for it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    steps = STEP.findall(TUTORIAL.read_text(encoding="utf-8"))
    assert len(steps) >= 7
    script = "set -e\n" + "".join(
        f"echo '{MARK.format(number)}'\n{typed}" for number, (typed, _) in enumerate(steps)
    )
    programs = folder / "bin"
    programs.mkdir()
    (programs / "merino").write_text(f'#!/bin/sh\nexec {sys.executable} -m merino "$@"\n')
    (programs / "merino").chmod(0o755)
    environ = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(folder),
        "MERINO_SERVER__PORT": port,
        "no_proxy": "127.0.0.1",
        "LANG": "C.UTF-8",
    }
    done = subprocess.run(
        ["bash", "-c", script.replace("8080", port)],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    outputs = re.split(r"== step \d+ ==\n", done.stdout)[1:]
    for (typed, seen), output in zip(steps, outputs, strict=True):
        plain = "\n".join(" ".join(line.split()) for line in output.splitlines())
        assert pattern(seen.replace("8080", port)).search(plain), f"{typed}\n{output}"
