"""What providers send, through a relay, as code written for the npm `openai` package meets it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import RelayProcess
from tests.providers.recorded_server import SECOND_TEXT
from tests.providers.recordings import ROWS, Row

SCRIPT = Path(__file__).with_name("read_recorded.mjs")
PACKAGES = Path(__file__).parents[2] / ".venv" / "node" / "node_modules"


@pytest.fixture(scope="module")
def reader(
    recorded: RelayProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[str]]:
    """One Node.js process that reads row after row."""
    if shutil.which("node") is None:
        pytest.skip("there is no Node.js")
    if not (PACKAGES / "openai").exists():
        pytest.skip(f"the npm packages are not in {PACKAGES}; `make .venv/.tested` installs them")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "node_modules").symlink_to(PACKAGES)
    shutil.copy(SCRIPT, folder)
    with subprocess.Popen(
        ["node", SCRIPT.name],
        cwd=folder,
        env=os.environ | {"BASE_URL": f"{recorded.url}/v1", "KEY": recorded.key},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_rows(reader: subprocess.Popen[str], row: Row) -> None:
    """The package reads the text, tool calls, finish reason, usage and vectors that the provider
    sent, or throws what it says went wrong."""
    assert reader.stdin is not None
    assert reader.stdout is not None
    asked = {"model": f"at-{row.id}", **row.asked}
    reader.stdin.write(json.dumps({"endpoint": row.endpoint, "asked": asked}) + "\n")
    reader.stdin.flush()
    seen: dict[str, Any] = json.loads(reader.stdout.readline())
    failure = seen.get("failure")
    if row.client_status != 200:
        assert failure is not None, seen
        assert row.client_status == failure["status"]
        assert row.error is not None
        assert row.error.get("message", "") in failure["message"]
        expected = {
            name: row.error[name] for name in ("code", "param", "type") if name in row.error
        }
        assert expected == {name: failure[name] for name in expected}
        return
    if row.ends_in_error is not None:
        assert failure is not None, "a program takes it for complete"
        assert row.ends_in_error in failure["message"]
        assert row.text == seen["text"]
        return
    assert failure is None
    if row.endpoint == "embeddings":
        assert row.vectors == seen["vectors"]
        return
    if row.fails_over:
        assert SECOND_TEXT == seen["text"]
        return
    if row.text is not None:
        assert row.text == seen["text"]
    assert row.tool_calls == seen["tool_calls"]
    if row.finish_reason is not None:
        assert row.finish_reason == seen["finish_reason"]
    if row.told_usage is not None:
        assert row.told_usage == seen["usage"]
