"""What a release consists of, built and tried: `make dist`.

The wheel is built from the source distribution, not from this folder, so that the one proves the
other complete. It is then installed where nothing else is, with the pinned requirements, and serves
a call. Beside both lie a bill of materials and the checksums.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "runtime.lock"
BUNDLED = ROOT / "src" / "merino" / "pages" / "static" / "vendor" / "README.md"
CHECKSUMS = "SHA256SUMS"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--release", action="store_true", help="refuse what is not a tagged state")
    parser.add_argument(
        "--cyclonedx", type=Path, help="the program that writes a bill of materials"
    )
    given = parser.parse_args()
    folder: Path = given.output
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    source, wheel = build(folder)
    if given.release and re.search(r"dev|\+", wheel.name):
        sys.exit(f"{wheel.name} is not of a tag: check out v1.2.3, with its tag and no changes")
    with tempfile.TemporaryDirectory(prefix="merino-dist-") as place:
        python = installed(wheel, Path(place) / "venv")
        _run([python, ROOT / "release" / "trial.py"], cwd=Path(place))
        if given.cyclonedx:
            name, version = source.name.removesuffix(".tar.gz").split("-")
            write_bill(given.cyclonedx, python, version, folder / f"{name}-{version}.cdx.json")
    write_checksums(folder)
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size:>10,}  {path}")


def build(folder: Path) -> tuple[Path, Path]:
    """The source distribution, and the wheel made of it."""
    backend = [sys.executable, "-m", "hatchling", "build", "-d", folder]
    _run([*backend, "-t", "sdist"], cwd=ROOT)
    (source,) = folder.glob("*.tar.gz")
    with tempfile.TemporaryDirectory(prefix="merino-sdist-") as place:
        with tarfile.open(source) as archive:
            archive.extractall(place, filter="data")
        (unpacked,) = Path(place).iterdir()
        _run([*backend, "-t", "wheel"], cwd=unpacked)
    (wheel,) = folder.glob("*.whl")
    if wheel.name.split("-")[1] != source.name[:-7].split("-")[1]:
        sys.exit(f"{source.name} and {wheel.name} are of different versions")
    return source, wheel


def installed(wheel: Path, place: Path) -> Path:
    """A Python that has the wheel, what `merino[server]` needs as pinned, and nothing else: not
    even pip."""
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "--disable-pip-version-check",
        "--quiet",
    ]
    _run([*pip, "install", "--require-hashes", "--only-binary", ":all:", "-r", LOCK], cwd=place)
    # Whatever the extra needs is there by now, or this fails: there is no index to look in.
    wanted = f"merino[server] @ {wheel.resolve().as_uri()}"
    _run([*pip, "install", "--no-index", wanted], cwd=place)
    _run([*pip, "check"], cwd=place)
    return python


def write_bill(program: Path, python: Path, version: str, path: Path) -> None:
    """What is in the environment that was tried, and what the wheel bundles, as CycloneDX."""
    described = ["--pyproject", ROOT / "pyproject.toml", "--mc-type", "application"]
    form = ["--output-reproducible", "--of", "JSON", "-o", path]
    _run([program.absolute(), "environment", *described, *form, python], cwd=path.parent)
    bill = json.loads(path.read_text(encoding="utf-8"))
    bill["metadata"]["component"]["version"] = version
    bill["components"] += bundled()
    path.write_text(json.dumps(bill, indent=2), encoding="utf-8")


def bundled() -> list[dict[str, object]]:
    """Other people's files in the wheel: the table beside them says what they are."""
    rows = re.findall(
        r"^\| `[^`]+` \| npm `([^`]+)` ([\d.]+),[^|]*\| ([\w.-]+) \| `([0-9a-f]{64})` \|$",
        BUNDLED.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return [
        {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:npm/{name}@{version}",
            "licenses": [{"license": {"id": licence}}],
            "hashes": [{"alg": "SHA-256", "content": digest}],
        }
        for name, version, licence, digest in rows
    ]


def write_checksums(folder: Path) -> None:
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.name != CHECKSUMS
    ]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="ascii")


def _run(command: Sequence[str | Path], *, cwd: Path) -> None:
    # Nothing of this checkout may be found by accident.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environ, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}")


if __name__ == "__main__":
    main()
