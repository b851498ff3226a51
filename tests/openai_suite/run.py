"""Runs the openai package's own test-suite against Merino's clients, for each major version.

    python tests/openai_suite/run.py [--majors 1 2 3] [--workers 2] [--afresh] [--suite FOLDER]

The suite comes from the package's source distribution, or from a checkout (`--suite`, with one major
version). It runs with the package's own clients first, and what passes there runs with ours in their
place: what fails with its own says something about this environment (no mock server, newer
libraries), and nothing about ours. What ours lose is asked once more, in one process: some tests
fail where a machine is slow. The first half is kept in `.venv/openai-suite` until `--afresh`,
since nothing of ours is in it.

Left out are `tests/api_resources`, which need the vendor's mock server and are about the shape of
each resource's answers, and files that name no client.

Prints a table, and what was lost. Exit codes: 0 nothing but what cannot apply, 1 something was lost,
2 a run did not come to its end.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from xml.etree import ElementTree as ET

from cannot_apply import CANNOT_APPLY

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
_CLIENT = re.compile(r"\bOpenAI\b|\bAsyncOpenAI\b|\bclient\b")
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


def files_of(suite: Path) -> list[str]:
    """The test files in which a client may be met."""
    found = (
        each for each in (suite / "tests").rglob("test_*.py") if "api_resources" not in each.parts
    )
    named = (each for each in found if _CLIENT.search(each.read_text(encoding="utf-8")))
    return sorted(str(each.relative_to(suite)) for each in named)


def ran(
    python: Path, suite: Path, report: Path, given: argparse.Namespace, wanted: Path | None
) -> dict[str, bool]:
    """Every test that ran, and whether it passed. With `wanted`, a file of names, these alone run,
    with our clients."""
    command: list[str | Path] = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-o", "addopts=", "--continue-on-collection-errors", f"--junitxml={report}"]
    command += ["--tb=short" if wanted else "--tb=no", "-n", str(given.workers)]
    command += [*(["-k", given.only] if given.only else []), *(["-p", "swap"] if wanted else [])]
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    if wanted is not None:
        environment["SUITE_WANTED"] = str(wanted)
    report.unlink(missing_ok=True)
    log = report.with_suffix(".txt")
    with log.open("w", encoding="utf-8") as out:
        subprocess.run(
            [*command, *files_of(suite)],
            cwd=suite,
            env=environment,
            stdout=out,
            stderr=out,
            check=False,
            timeout=given.timeout,
        )
    if not report.exists():
        raise NotEnded(f"it did not come to its end; see {log}")
    return results(report)


class NotEnded(Exception):
    """A run whose outcome is not known."""


def results(report: Path) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for case in ET.parse(report).iter("testcase"):
        if case.find("skipped") is None:
            is_good = case.find("failure") is None and case.find("error") is None
            name = f"{case.get('classname')}::{case.get('name')}"
            found[name] = found.get(name, True) and is_good
    return found


def compared(major: int, work: Path, given: argparse.Namespace) -> tuple[str, list[str]]:
    """A row of the table, and the tests that only its own clients pass though they apply."""
    version = VERSIONS[major]
    python = prepared(major, work / f"env-{major}")
    suite = given.suite or unpacked(major, python, work)
    kept = work / f"{version}-bare{given.only and '-' + given.only}.xml"
    is_kept = kept.exists() and not given.afresh
    bare = results(kept) if is_kept else ran(python, suite, kept, given, None)
    good = {name for name, is_good in bare.items() if is_good}
    if not good:
        raise NotEnded("no test passes with the package's own clients")
    wanted = work / f"{version}-wanted.txt"
    wanted.write_text("\n".join(sorted(good)), encoding="utf-8")
    ours = ran(python, suite, work / f"{version}-ours.xml", given, wanted)
    lost = sorted(name for name in good if not ours.get(name, False))
    excused = [name for name in lost if any(each in name for each in CANNOT_APPLY)]
    if doubtful := [name for name in lost if name not in excused]:
        # Some of its tests give a program a few seconds: once more, each by itself.
        wanted.write_text("\n".join(doubtful), encoding="utf-8")
        alone = argparse.Namespace(**{**vars(given), "workers": 1})
        again = ran(python, suite, work / f"{version}-again.xml", alone, wanted)
        lost = [name for name in lost if not again.get(name, False)]
    row = (
        f"{version:>9}  {len(bare):>6}  {len(good):>6}  {len(good) - len(lost):>6}  "
        f"{len(excused):>6}  {len(lost) - len(excused):>6}"
    )
    return row, [name for name in lost if name not in excused]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--majors", type=int, nargs="+", default=list(VERSIONS))
    parser.add_argument("--suite", type=Path, help="a checkout of the package at that version")
    parser.add_argument("--only", default="", help="as pytest's -k")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--timeout", type=float, default=7200.0, help="seconds for one run")
    parser.add_argument("--afresh", action="store_true", help="run the package's own clients again")
    given = parser.parse_args()
    work = ROOT / ".venv" / "openai-suite"
    work.mkdir(parents=True, exist_ok=True)
    status = 0
    lines = ["   openai     ran     own  Merino  cannot    lost"]
    print(lines[0], flush=True)
    for major in given.majors:
        try:
            row, lost = compared(major, work, given)
            new = [row, *(f"           lost: {name}" for name in lost)]
            status = max(status, 1 if lost else 0)
        except (NotEnded, subprocess.SubprocessError) as error:
            new, status = [f"{VERSIONS[major]:>9}  {error}"], 2
        print("\n".join(new), flush=True)
        lines += new
    notes = [f"cannot: {name}: {reason}" for name, reason in CANNOT_APPLY.items()]
    print("\n".join(notes))
    (work / "table.txt").write_text("\n".join([*lines, *notes]) + "\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
