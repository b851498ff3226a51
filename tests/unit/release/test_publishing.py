"""The workflow that publishes trusts nothing that may change under its feet."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8")
JOBS = yaml.safe_load(TEXT)["jobs"]


def test_actions_are_pinned() -> None:
    """Each is named by its commit, with its version beside it; PyPI's own asks for its branch."""
    used = re.findall(r"uses: (\S+)(?: # (v[\d.]+))?$", TEXT, re.MULTILINE)
    loose = {name for name, version in used if not (re.search(r"@[0-9a-f]{40}$", name) and version)}
    assert {"pypa/gh-action-pypi-publish@release/v1"} == loose


def test_no_stored_secret_is_needed() -> None:
    """Whoever may publish is known by the run itself."""
    assert "secrets." not in TEXT
    assert "write" == JOBS["pypi"]["permissions"]["id-token"]
    assert {"id-token": "write"} == JOBS["pypi"]["permissions"]


def test_nothing_is_published_that_was_not_built_and_tried() -> None:
    """Every job that publishes waits, by however many steps, for the one that tests and builds."""

    def waits_for(job: str) -> set[str]:
        needs = JOBS[job].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*[waits_for(each) for each in direct])

    assert all("build" in waits_for(job) for job in JOBS if job != "build")
    steps = [step.get("run") for step in JOBS["build"]["steps"]]
    assert steps.index("bash .ci/run") < steps.index("make dist RELEASE=1")


def test_a_releases_notes_are_the_changelogs_section() -> None:
    """Also those of a candidate; a version without a section stops the release."""

    def notes(tag: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "release" / "notes.py"), tag]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert notes("v0.1.0").stdout.startswith("The first release.")
    assert notes("v0.1.0").stdout == notes("v0.1.0rc1").stdout
    assert "has no section [99.0.0]" in notes("v99.0.0").stderr
    assert 1 == notes("v99.0.0").returncode
