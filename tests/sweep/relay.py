"""The relay that is asked, on a folder that is always planted alike."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
START_TIMEOUT_S = 30.0

SETTINGS = """\
[credits]
start = "500.00"

[calls]
store_content = true
refused_per_minute = 1000

[retries]
attempts_max = 1

[payments.invoice]
instructions = "Transfer {amount} {currency} and give {reference}."

[status]
public = true

[prices.groups.gold]
factor = 0.9
fixed = "0.0001"

[limits.accounts.berta]
rpm = 3000
weight = 2.0

[[exchange_rates]]
base = "EUR"
quote = "USD"
rate = 1.1
valid_from = 2026-01-01

[[deployments]]
name = "swift"
provider = "simulator"
upstream_model = "o3"

[[deployments]]
name = "spare"
provider = "simulator"
upstream_model = "o3"

[[deployments]]
name = "chatty"
provider = "simulator"
upstream_model = "gpt-4.1-mini"
price_model = "o4-mini"

[[deployments]]
name = "gone"
provider = "openai"
base_url = "http://127.0.0.1:9/v1"
credential = "env:GONE_CREDENTIAL"
upstream_model = "o3"

[[deployments]]
name = "vectors"
provider = "simulator"
upstream_model = "text-embedding-3-small"
price_model = "text-embedding-3-small"

[[deployments]]
name = "busy"
provider = "simulator"
upstream_model = "o3!fail_rate=1,status=429,retry_after=3"

[[deployments]]
name = "broken"
provider = "simulator"
upstream_model = "o3!fail_rate=1,status=500"

[aliases]
o3 = { deployments = ["swift", "spare"] }
talk = { deployments = ["chatty"] }
lost = { deployments = ["gone"] }
vectors = { deployments = ["vectors"] }
busy = { deployments = ["busy"] }
broken = { deployments = ["broken"] }
"""


def environment() -> dict[str, str]:
    """Of everything that is run: nothing of the machine's that the product reads."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "COLUMNS": "100",
        "TZ": "UTC",
        "GONE_CREDENTIAL": "sk-gone",
        "GONE_API_KEY": "sk-gone-too",
        "PYTHONHASHSEED": "0",
        "NO_COLOR": "1",
    }


@dataclass
class Relay:
    folder: Path
    banner: str
    url: str
    key: str
    admin_key: str
    bench_url: str
    """Of a simulator that `merino bench` measures, so that the relay's books do not depend on it."""


@contextmanager
def relay(folder: Path) -> Iterator[Relay]:
    (folder / "relay.toml").write_text(SETTINGS)
    with (
        _running(folder, "bench", "serve", "--port", "0") as simulator,
        _running(
            folder, "serve", "--port", "0", "--data", "data", "--config", "relay.toml"
        ) as banner,
    ):
        yield Relay(
            folder,
            banner,
            _found(r"Listening on (http://\S+)", banner),
            _found(r"\b(mk-[\w-]+)", banner),
            _found(r"\b(mka-[\w-]+)", banner),
            _found(r"(http://\S+)/v1", simulator),
        )


@contextmanager
def _running(folder: Path, *command: str) -> Iterator[str]:
    """What it prints when it is there. A fault in its log is an error."""
    name = "-".join(each for each in command[:2] if each.isalpha())
    output, errors = folder / f"{name}.out", folder / f"{name}.err"
    with output.open("w") as out, errors.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, HERE / "clock.py", *command],
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=environment() | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while "http://" not in (banner := output.read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command} did not start:\n{errors.read_text()}")
            time.sleep(0.02)
        yield banner
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    if "Traceback" in errors.read_text():
        raise SystemExit(f"{command} had a fault:\n{errors.read_text()}")


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"There is no {pattern} in:\n{text}")
    return found[1]
