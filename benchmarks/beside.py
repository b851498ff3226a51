"""What else a relay does while calls run: pages, reports, checks, exports and uploads, over and
over, on a folder of a million calls."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

HERE = Path(__file__).resolve().parent
FILL = """
import sys
from pathlib import Path
from books import fill
fill(Path(sys.argv[1]), int(sys.argv[2]))
"""
PAUSE_S = 0.2
UPLOAD_LINES = 50_000
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Books:
    folder: Path
    key: str
    admin_key: str


def books(tree: Path, calls: int, cache: Path, into: Path) -> Books:
    """A copy of a folder that the sources of this tree have filled with so many calls."""
    schema = hashlib.sha256()
    for each in sorted((tree / "src").glob("**/migrations/*")):
        if each.is_file():
            schema.update(each.name.encode() + each.read_bytes())
    filled = cache / f"books-{calls}-{schema.hexdigest()[:12]}"
    if not (filled / "done").exists():
        shutil.rmtree(filled, ignore_errors=True)
        filled.mkdir(parents=True)
        print(f"filling a folder with {calls:,} calls, once ...", file=sys.stderr)
        _python(tree, ["-c", FILL, str(filled / "data"), str(calls)])
        (filled / "done").touch()
    shutil.copytree(filled / "data", into)
    cli = ["-m", "merino"]
    data = ["--data", str(into), "--json"]
    _python(tree, [*cli, "accounts", "credit", "big", "900000000", *data])
    key = json.loads(
        _python(tree, [*cli, "keys", "create", "--name", "t", "--account", "big", *data])
    )
    admin = json.loads(_python(tree, [*cli, "admin-keys", "create", "--name", "t", *data]))
    return Books(into, key["key"], admin["key"])


def _python(tree: Path, arguments: list[str]) -> str:
    paths = f"{tree / 'src'}:{tree / 'benchmarks'}"
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{arguments[:4]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def work_beside(url: str, key: str, admin_key: str, done: Counter[str]) -> Iterator[None]:
    """Each kind in a thread of its own, until left; how often it was done is counted."""
    has_ended = threading.Event()
    admin = {"authorization": f"Bearer {admin_key}"}
    caller = {"authorization": f"Bearer {key}"}
    body = {"model": "o3", "messages": [{"role": "user", "content": "Hi"}]}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    lines = b"".join(
        json.dumps({"custom_id": f"c{number}", **line}).encode() + b"\n"
        for number in range(UPLOAD_LINES)
    )

    def page(http: httpx2.Client) -> None:
        for path in ("", "/calls", "/keys"):
            http.get(f"/dashboard{path}").raise_for_status()

    def get(path: str) -> Callable[[httpx2.Client], None]:
        def ask(http: httpx2.Client) -> None:
            http.get(f"/admin/v1{path}", headers=admin).raise_for_status()

        return ask

    def upload(http: httpx2.Client) -> None:
        form = {"file": ("calls.jsonl", lines, "application/jsonl")}
        made = http.post("/v1/files", data={"purpose": "batch"}, files=form, headers=caller)
        http.delete(f"/v1/files/{made.raise_for_status().json()['id']}", headers=caller)

    kinds: dict[str, Callable[[httpx2.Client], None]] = {
        "page": page,
        "report": get("/reports?by=alias&since=2026-10-24T00:00:00Z&until=2026-11-24T00:00:00Z"),
        "verify": get("/ledger/verify"),
        "export": get("/ledger/export?format=csv"),
        "upload": upload,
    }
    faults: list[str] = []

    def again_and_again(name: str, do: Callable[[httpx2.Client], None]) -> None:
        with httpx2.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as http:
            if name == "page":
                http.post("/dashboard/sign-in", data={"key": admin_key})
            while not has_ended.is_set():
                try:
                    do(http)
                except httpx2.HTTPError as error:
                    if not has_ended.is_set():
                        faults.append(f"{name}: {error!r}")
                    return
                done[name] += 1
                has_ended.wait(PAUSE_S)

    threads = [threading.Thread(target=again_and_again, args=each) for each in kinds.items()]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        has_ended.set()
        for thread in threads:
            thread.join(TIMEOUT_S)
    if faults:
        raise SystemExit("\n".join(faults))
