"""Runs the openai package's own test-suite against Merino's clients, for each major version.

    python tests/openai_suite/run.py [--majors 1 2 3] [--suite FOLDER] [--only PATTERN]

The suite comes from the package's source distribution, or from a checkout (`--suite`, with one major
version). It runs twice, with the package's own clients and with ours in their place: what fails with
both says something about this environment (no mock server, newer libraries), what fails with ours
alone is ours. `tests/api_resources` is left out: it needs the vendor's mock server, and is about the
shape of each resource's answers.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from xml.etree import ElementTree as ET

from cannot_apply import CANNOT_APPLY

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VERSIONS = {1: "1.109.1", 2: "2.54.0", 3: "3.54.0"}
NEEDS = [
    "msgspec",
    "pytest",
    "pytest-asyncio",
    "pytest-xdist",
    "time-machine",
    "dirty-equals",
    "rich",
    "inline-snapshot",
    "trio",
    "respx",
    "nest_asyncio",
    "azure-identity",
    "aiohttp",
    "httpx_aiohttp",
    "jsonschema",
    "boto3",
    "websockets",
    "numpy",
]


def prepared(major: int, folder: Path) -> Path:
    """An environment with that major version; Merino's sources are on its path."""
    python = folder / "bin" / "python"
    if not (folder / ".made").exists():
        venv.create(folder, with_pip=True, clear=True)
        install = [python, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
        subprocess.run([*install, f"openai=={VERSIONS[major]}", *NEEDS], check=True)
        packages = next((folder / "lib").glob("python3*/site-packages"))
        (packages / "merino.pth").write_text(f"{ROOT / 'src'}\n", encoding="utf-8")
        (folder / ".made").touch()
    return python


def unpacked(major: int, python: Path, folder: Path) -> Path:
    """The suite, from the package's source distribution."""
    version = VERSIONS[major]
    suite = folder / f"openai-{version}"
    if not suite.exists():
        download = [
            python,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "-q",
            "download",
            "--no-deps",
        ]
        wanted = ["--no-binary", "openai", f"openai=={version}", "-d", folder]
        subprocess.run([*download, *wanted], check=True)
        with tarfile.open(folder / f"openai-{version}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return suite


def ran(python: Path, suite: Path, report: Path, *, only: str, is_ours: bool) -> dict[str, bool]:
    """Every test that ran, and whether it passed."""
    command: list[str | Path] = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-o", "addopts=", "--continue-on-collection-errors", f"--junitxml={report}"]
    command += ["--ignore", "tests/api_resources", "-k", only] if only else []
    command += ["--ignore", "tests/api_resources", *(["-p", "swap"] if is_ours else []), "tests"]
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    log = report.with_suffix(".txt")
    with log.open("w", encoding="utf-8") as out:
        subprocess.run(command, cwd=suite, env=environment, stdout=out, stderr=out, check=False)
    if not report.exists():
        sys.exit(f"The suite did not run; see {log}.")
    found: dict[str, bool] = {}
    for case in ET.parse(report).iter("testcase"):
        if case.find("skipped") is None:
            is_good = case.find("failure") is None and case.find("error") is None
            name = f"{case.get('classname')}::{case.get('name')}"
            found[name] = found.get(name, True) and is_good
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--majors", type=int, nargs="+", default=list(VERSIONS))
    parser.add_argument("--suite", type=Path, help="a checkout of the package at that version")
    parser.add_argument("--only", default="", help="as pytest's -k")
    given = parser.parse_args()
    work = ROOT / ".venv" / "openai-suite"
    work.mkdir(parents=True, exist_ok=True)
    status = 0
    for major in given.majors:
        python = prepared(major, work / f"env-{major}")
        suite = given.suite or unpacked(major, python, work)
        bare, ours = (
            ran(
                python, suite, work / f"{major}-{name}.xml", only=given.only, is_ours=name == "ours"
            )
            for name in ("bare", "ours")
        )
        excused = {name for name in bare if any(each in name for each in CANNOT_APPLY)}
        lost = sorted(
            name for name, is_good in bare.items() if is_good and not ours.get(name, False)
        )
        unexcused = [name for name in lost if name not in excused]
        print(
            f"openai {VERSIONS[major]}: {sum(bare.values())} of {len(bare)} pass with its own clients, "
            f"{sum(ours.values())} with Merino's; {len(lost)} with its own only, "
            f"{len(lost) - len(unexcused)} of them cannot apply"
        )
        for name in unexcused:
            print(f"  {name}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
