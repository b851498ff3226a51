"""A data folder whose path is longer than the address of a unix socket may be."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path

import pytest

from merino.operations.local import ADMIN_SOCKET


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A folder with more than 200 characters of path, in names of several bytes each."""
    folder = tmp_path
    while len(str(folder)) < 200:
        folder = folder / "Schäfchen-zählen"
    folder.mkdir(parents=True)
    return folder


def test_a_long_path_is_administered(start_relay, tmp_path, deep):
    """Commands reach the running relay there, and open the folder themselves when none runs."""
    relay = start_relay(name=str((deep / "data").relative_to(tmp_path)))
    path = relay.data / ADMIN_SOCKET
    issued = relay.cli("keys", "create", "--name", "live")
    with relay.http() as client:
        models = client.get("/v1/models", headers={"authorization": f"Bearer {issued['key']}"})
    findings = relay.cli("doctor", "--config", str(relay.config), check=False)

    assert 107 < len(os.fsencode(path))
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert 200 == models.status_code
    assert "problem" not in {each["severity"] for each in json.loads(findings.stdout)["findings"]}
    assert 0 == relay.stop()
    assert not path.exists()
    assert "live" in [each["name"] for each in relay.cli("keys", "list")["data"]]
    relay.start()
    assert relay.cli("ledger", "verify")["ok"]
    relay.stop(signal.SIGKILL)
    assert relay.cli("ledger", "verify")["ok"]
