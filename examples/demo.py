"""`make demo`: a relay on its defaults, one plain and one streamed call, and what they cost.

Starts the relay as a process of its own and leaves it running; a second run finds it again.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from openai import OpenAI

DATA = Path(os.environ.get("MERINO_DATA", "merino-data"))
MERINO = [sys.executable, "-m", "merino"]
PREFERRED_PORT = 8080
START_TIMEOUT_S = 20.0


class DemoFailed(Exception):
    """What went wrong, for the person who typed `make demo`."""


@dataclass(frozen=True, slots=True)
class RunningRelay:
    """`key` and `admin_key` are known only to the run that started the relay on a new folder."""

    url: str
    pid: int
    was_running: bool = False
    key: str | None = None
    admin_key: str | None = None

    @property
    def is_ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False


def find_or_start() -> RunningRelay:
    notes = DATA / "demo.json"
    if notes.exists():
        kept = json.loads(notes.read_text())
        found = RunningRelay(kept["url"], kept["pid"], was_running=True)
        if found.pid == running_pid() and found.is_ready:
            return found
    started = start()
    notes.write_text(json.dumps({"url": started.url, "pid": started.pid}))
    return started


def running_pid() -> int | None:
    """The process that holds the data folder, if it lives."""
    try:
        pid = int((DATA / "lock").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def start() -> RunningRelay:
    DATA.mkdir(mode=0o700, parents=True, exist_ok=True)
    log_file, banner_file = DATA / "relay.log", DATA / "banner.txt"
    port = PREFERRED_PORT if is_free(PREFERRED_PORT) else 0
    try:
        with (
            log_file.open("ab") as log,
            open(os.open(banner_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out,  # noqa: PTH123 - only `open` takes a descriptor
        ):
            log_start = log.tell()
            relay = subprocess.Popen(
                [*MERINO, "serve", "--data", str(DATA), "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )
        banner = wait_for_banner(relay, banner_file)
    finally:
        # It shows the first keys, which are kept nowhere in clear.
        banner_file.unlink(missing_ok=True)
    found = re.search(r"Listening on (http\S+)", banner)
    if found is None:
        said = log_file.read_bytes()[log_start:].decode(errors="replace").strip()
        raise DemoFailed(f"The relay did not start. It said:\n\n{banner.strip()}\n{said}")
    if port == 0:
        print(f"Port {PREFERRED_PORT} is taken, so the relay listens on another one.")
    key = re.search(r"\bmk-\S+", banner)
    admin_key = re.search(r"\bmka-\S+", banner)
    return RunningRelay(
        found[1],
        relay.pid,
        key=key[0] if key else None,
        admin_key=admin_key[0] if admin_key else None,
    )


def wait_for_banner(relay: subprocess.Popen[bytes], banner_file: Path) -> str:
    """What the relay printed once it is ready, or when it ended or took too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and relay.poll() is None:
        banner = banner_file.read_text()
        url = re.search(r"Listening on (http\S+)\n", banner)
        if url and RunningRelay(url[1], relay.pid).is_ready:
            return banner_file.read_text()
        time.sleep(0.02)
    if relay.poll() is None:
        relay.terminate()
        raise DemoFailed(f"The relay was not ready within {START_TIMEOUT_S:.0f} s.")
    return banner_file.read_text()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def command(*arguments: str) -> Any:
    """A `merino` command's JSON output."""
    done = subprocess.run(
        [*MERINO, *arguments, "--data", str(DATA), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DemoFailed(done.stderr.strip() or done.stdout.strip())
    return json.loads(done.stdout)


def balance() -> str:
    return command("accounts", "show", "default")["balance"]["available"]


def plain_call(client: OpenAI, model: str) -> None:
    title("A plain call")
    question = "Why do sheep follow each other?"
    print(f"  > {question}")
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": question}]
    )
    answer = raw.parse()
    print(f"  {answer.choices[0].message.content}")
    usage = answer.usage
    assert usage is not None
    details = usage.completion_tokens_details
    thought = details.reasoning_tokens if details else 0
    bill(usage.prompt_tokens, usage.completion_tokens, thought or 0, raw.headers["x-merino-cost"])


def streamed_call(client: OpenAI, relay: RunningRelay, key: str, model: str) -> None:
    title("A streamed call")
    question = "Count sheep, slowly."
    print(f"  > {question}\n  ", end="")
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": question}], stream=True
    )
    for chunk in raw.parse():
        if chunk.choices and chunk.choices[0].delta.content:
            print(chunk.choices[0].delta.content, end="", flush=True)
    print()
    call = httpx2.get(
        f"{relay.url}/v1/calls/{raw.headers['x-request-id']}",
        headers={"authorization": f"Bearer {key}"},
        trust_env=False,
    ).json()
    usage = call["usage"]
    bill(
        usage["input_tokens"], usage["output_tokens"], usage["reasoning_tokens"], str(call["cost"])
    )


def bill(input_tokens: int, output_tokens: int, reasoning_tokens: int, cost: str) -> None:
    print(
        f"  = {input_tokens} input + {output_tokens} output tokens "
        f"({reasoning_tokens} of them unseen reasoning): ${cost}; balance ${balance()}"
    )


def title(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}")


def next_steps(relay: RunningRelay, key: str, model: str) -> None:
    title("It keeps running. Try next")
    folder = "" if Path("merino-data") == DATA else f" --data {DATA}"
    merino = ".venv/bin/merino"
    print(f"  curl {relay.url}/v1/chat/completions -H 'Authorization: Bearer {key}' \\")
    print("    -H 'Content-Type: application/json' \\")
    print(f'    -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hi"}}]}}\'')
    commands = {
        f"{relay.url}/dashboard": "in a browser: sign in with "
        + ("the admin key below" if relay.admin_key else "the key above, or your admin key"),
        f"{merino} calls list{folder}": "what was called, and its cost",
        f"{merino} ledger verify{folder}": "recompute every balance from its entries",
        f"{merino} keys create --name me{folder}": "a key for somebody",
        f"{merino} stop{folder}": "stop the relay; `make demo` starts it again",
    }
    width = max(map(len, commands))
    for line, purpose in commands.items():
        print(f"  {line:<{width}}   # {purpose}")
    if relay.admin_key:
        print(f"\n  Admin key, shown this once: {relay.admin_key}")


def new_key() -> str:
    # Names are unique, and a demo may run many times.
    name = f"demo-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    return command("keys", "create", "--account", "default", "--name", name)["key"]


def demo() -> None:
    relay = find_or_start()
    key = relay.key or new_key()
    client = OpenAI(base_url=f"{relay.url}/v1", api_key=key)
    simulated = {model.id for model in client.models.list() if model.owned_by == "simulator"}
    # With a provider's credential in the environment `o3` is the real one; a demo costs nothing.
    model = "o3" if "o3" in simulated else "sim/o3"
    title(f"A relay {'was running' if relay.was_running else 'is up'}: {relay.url}")
    print(
        f"  data in {DATA}/; model {model}, answered by the built-in simulator: nothing is bought"
    )
    plain_call(client, model)
    streamed_call(client, relay, key, model)
    next_steps(relay, key, model)


if __name__ == "__main__":
    try:
        demo()
    except DemoFailed as failure:
        sys.exit(str(failure))
