"""Runs the steps of the image's recipe where there is no container engine: `make prove-image`.

Each stage is a copy of a plain Debian (made by debootstrap, with its Python in place of the
official image's), in which the steps are run by chroot. The result is then started as an engine
would: as its user, with nothing writable but its volume and /tmp, in a network of its own. It needs
root, debootstrap and some minutes.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"


@dataclass
class Stage:
    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    folder: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--place", type=Path, default=ROOT / ".venv" / "image")
    parser.add_argument("--bind", type=Path, action="append", default=[], help="visible to steps")
    parser.add_argument("--trial", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    place: Path = given.place
    if given.trial:
        trial(Stage(**json.loads((place / "stage.json").read_text(), object_hook=_with_path)))
        return
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        sys.exit("It needs root, and debootstrap: apt install debootstrap")
    if "--in-namespace" not in os.environ.get("MERINO_PROVE", ""):
        os.environ["MERINO_PROVE"] = "--in-namespace"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    base = place / "base"
    if not (base / "usr/bin/python").exists():
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", base)
        (base / "usr/bin/python").symlink_to("python3")
    stage = built(steps((ROOT / "deploy" / "Dockerfile").read_text()), base, place, given.bind)
    added = _size(stage.root) - _size(base)
    print(f"built: {added / 1e6:.0f} MB on top of the base")
    (place / "stage.json").write_text(json.dumps({**vars(stage), "root": str(stage.root)}))
    run(
        "unshare", "--net", "--pid", "--fork", sys.executable, __file__, "--place", place, "--trial"
    )


def _with_path(found: dict[str, object]) -> dict[str, object]:
    return {**found, "root": Path(str(found["root"]))} if "root" in found else found


def steps(text: str) -> list[tuple[str, str]]:
    """Instructions and what they are given; continued lines are one."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [
        (name.upper(), rest.strip())
        for name, _, rest in (line.strip().partition(" ") for line in whole.splitlines())
        if name
    ]


def built(recipe: list[tuple[str, str]], base: Path, place: Path, binds: list[Path]) -> Stage:
    stages: dict[str, Stage] = {}
    stage = Stage(base)
    for name, rest in recipe:
        if name == "FROM":
            called = rest.partition(" AS ")[2] or "the image"
            root = place / called.replace(" ", "-")
            shutil.rmtree(root, ignore_errors=True)
            run("cp", "-a", base, root)
            stage = stages[called] = Stage(root)
        elif name == "RUN":
            print(f"RUN {rest[:100]}")
            in_chroot(stage, ["/bin/sh", "-ec", rest], binds)
        elif name == "COPY":
            copy(rest, stage, stages)
        elif name == "ENV":
            stage.environ |= dict(part.split("=", 1) for part in shlex.split(rest))
        elif name in {"ENTRYPOINT", "CMD"}:
            setattr(stage, {"CMD": "command"}.get(name, "entrypoint"), json.loads(rest))
        elif name == "HEALTHCHECK":
            stage.health = json.loads(rest.partition("CMD ")[2])
        elif name == "VOLUME":
            stage.volumes.append(rest)
        elif name == "USER":
            stage.user = rest
        elif name == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
    return stage


def copy(rest: str, stage: Stage, stages: dict[str, Stage]) -> None:
    source, *words = shlex.split(rest)
    if source.startswith("--from="):
        where, names = stages[source.removeprefix("--from=")].root, words[:-1]
    else:
        where, names = ROOT, [source, *words[:-1]]
    target = stage.root / words[-1].lstrip("/")
    for pattern in names:
        found = sorted(where.glob(pattern.lstrip("/")))
        if where is ROOT:
            found = [path for path in found if is_in_context(path.relative_to(ROOT))]
        if not found:
            sys.exit(f"COPY {rest}: there is no {pattern} in what the build is given")
        for path in found:
            if path.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
                run("cp", "-a", path, target)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)


def is_in_context(path: Path) -> bool:
    """What .dockerignore lets through: all is out, but for the patterns with `!`."""
    lines = (ROOT / ".dockerignore").read_text().split()
    return any(fnmatch.fnmatch(str(path), line[1:]) for line in lines if line.startswith("!"))


def in_chroot(stage: Stage, command: list[str], binds: list[Path]) -> None:
    made: list[Path] = []
    for path in binds:
        inner = stage.root / str(path).lstrip("/")
        if not inner.exists():
            inner.mkdir(parents=True)
            made.append(inner)
        run("mount", "--bind", "-o", "ro", path, inner)
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **pip, **stage.environ}
    run("chroot", stage.root, *command, env=environ)
    for path in reversed(binds):
        inner = stage.root / str(path).lstrip("/")
        run("umount", inner)
        if inner in made:
            inner.rmdir()


def trial(stage: Stage) -> None:
    """In namespaces of its own: process 1 is this, and nobody else is in the network."""
    run("ip", "link", "set", "lo", "up")
    root = stage.root
    run("mount", "--bind", root, root)
    run("mount", "-t", "proc", "proc", root / "proc")
    run("mount", "-o", "remount,bind,ro", root, root)
    run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", root / "tmp")
    for volume in stage.volumes:
        inside = root / volume.lstrip("/")
        kind = inside.stat()
        options = f"mode={kind.st_mode & 0o7777:o},uid={kind.st_uid},gid={kind.st_gid}"
        run("mount", "-t", "tmpfs", "-o", options, "tmpfs", inside)
    within = ["chroot", f"--userspec={stage.user}", root, "env", "-i", "-C", stage.folder]
    within += [f"{name}={value}" for name, value in stage.environ.items()]
    relay = subprocess.Popen(
        [str(part) for part in [*within, *stage.entrypoint, *stage.command]],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert relay.stdout is not None
    banner = ""
    for line in relay.stdout:
        banner += line
        if "print(answer" in line:
            break
    key = re.search(r"^  key +(\S+)", banner, re.MULTILINE)
    assert key is not None, banner
    for _ in range(100):
        if quiet([*within, *stage.health]) == 0:
            break
        time.sleep(0.1)
    else:
        sys.exit("it never became healthy")
    call = (
        "import json, sys, urllib.request as u;"
        "r = u.Request('http://127.0.0.1:8080/v1/chat/completions',"
        " json.dumps({'model': 'o3', 'messages': [{'role': 'user', 'content': 'hi'}]}).encode(),"
        f" {{'authorization': 'Bearer {key[1]}', 'content-type': 'application/json'}});"
        "print('answered:', json.load(u.urlopen(r))['model'])"
    )
    run(*within, "python", "-c", call)
    for path in ("/opt/merino/x", "/etc/merino/x", "/usr/x", "/x"):
        assert quiet([*within, "touch", path]) != 0, f"{path} could be written"
    run(*within, "merino", "backup", "/tmp/backups")
    run(*within, "merino", "ledger", "verify")
    relay.send_signal(signal.SIGTERM)
    code = relay.wait(45)
    assert code == 0, f"it ended with {code}"
    print(f"served as {stage.user}, with nothing writable but {', '.join(stage.volumes)} and /tmp")


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run([str(part) for part in command], env=env, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}")


def quiet(command: list[str | Path]) -> int:
    given = [str(part) for part in command]
    return subprocess.run(given, capture_output=True, check=False).returncode


def _size(folder: Path) -> int:
    found = subprocess.run(["du", "-sb", folder], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[0])


if __name__ == "__main__":
    main()
