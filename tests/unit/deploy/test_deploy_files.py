"""The files that start Merino elsewhere start it rightly."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import click
import pytest
import yaml

from merino.cli.root import root
from merino.settings import load

DEPLOY = Path(__file__).parents[3] / "deploy"
DRAIN_S = load(None, {}).server.drain_s
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["merino"]
VALUES = yaml.safe_load((DEPLOY / "helm" / "merino" / "values.yaml").read_text())
CHANGELOG = (DEPLOY.parent / "CHANGELOG.md").read_text()


def unit(name: str) -> RawConfigParser:
    # Keys of a unit may come twice, as `SystemCallFilter` does.
    parser = RawConfigParser(strict=False, comment_prefixes="#", interpolation=None)
    parser.read(DEPLOY / "systemd" / name)
    return parser


def image_command() -> list[str]:
    entry = re.search(r"^ENTRYPOINT (.*)", DOCKERFILE, re.MULTILINE)
    command = re.search(r"^CMD (.*)", DOCKERFILE, re.MULTILINE)
    assert entry is not None
    assert command is not None
    return [*json.loads(entry[1]), *json.loads(command[1])]


def chart_commands() -> list[list[str]]:
    texts = [path.read_text() for path in (DEPLOY / "helm" / "merino" / "templates").iterdir()]
    found = [
        line for text in texts for line in re.findall(r"^ +args: \[(.*)\]$", text, re.MULTILINE)
    ]
    return [
        [
            "merino",
            *(part.strip().strip('"') for part in re.sub(r"\{\{.*?\}\}", "3", line).split(",")),
        ]
        for line in found
    ]


COMMANDS = {
    "image": image_command(),
    **{
        name: shlex.split(unit(name)["Service"]["ExecStart"])
        for name in ("merino.service", "merino-backup.service")
    },
    **{f"chart {number}": command for number, command in enumerate(chart_commands())},
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_what_is_run_is_a_command(command) -> None:
    """The command line takes every argument."""
    program, *arguments = command
    assert "merino" == Path(program).name
    context = root.make_context("merino", list(arguments), resilient_parsing=True)
    _, found, rest = root.resolve_command(context, arguments)
    while isinstance(found, click.Group):
        _, found, rest = found.resolve_command(context, rest)
    assert found is not None
    found.make_context("merino", rest)


def test_nothing_is_killed_before_it_has_drained() -> None:
    """Whoever stops a relay gives it longer than it gives its calls."""
    given = {
        "merino.service": float(unit("merino.service")["Service"]["TimeoutStopSec"]),
        "compose": float(COMPOSE["stop_grace_period"].removesuffix("s")),
        "chart": VALUES["drainSeconds"] + 15,
    }
    assert [] == [name for name, seconds in given.items() if seconds < DRAIN_S + 10]
    assert DRAIN_S == VALUES["drainSeconds"]


def test_the_image_is_of_no_root_and_says_how_it_is() -> None:
    """It runs as a number that clusters can check, writes to one volume, and has a health check."""
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert ["/data"] == re.findall(r"^VOLUME (.*)", final, re.MULTILINE)
    assert "/livez" in final
    assert "MERINO_DATA=/data" in final
    assert "--log-format json" in " ".join(image_command())


def test_the_image_gets_the_wheel_and_the_lock_only() -> None:
    """Whatever else lies in the folder, credentials among it, is not sent to the build."""
    lines = (DEPLOY.parent / ".dockerignore").read_text().split()
    assert ["*", "!dist/*.whl", "!requirements/runtime.lock"] == lines
    copied = re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE)
    assert {line.removeprefix("!") for line in lines[1:]} == set(copied)


def test_the_charts_settings_are_settings(tmp_path) -> None:
    """What it writes into merino.toml unless told otherwise is without fault."""
    path = tmp_path / "merino.toml"
    path.write_text(VALUES["settings"])
    assert "power" == load(path, {}).ledger.durability


def test_the_chart_is_of_the_newest_release() -> None:
    """Its image's tag is a version that there is."""
    chart = yaml.safe_load((DEPLOY / "helm" / "merino" / "Chart.yaml").read_text())
    newest = re.search(r"^## \[(\d[^\]]*)\]", CHANGELOG, re.MULTILINE)
    assert newest is not None
    assert newest[1] == chart["appVersion"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
@pytest.mark.parametrize(("name", "at_most"), [("merino", 1.5), ("merino-backup", 1.0)])
def test_units_are_right_and_may_do_little(name, at_most) -> None:
    """systemd finds no fault but the program that is not installed here, and calls it safe."""
    path = DEPLOY / "systemd" / f"{name}.service"
    told = subprocess.run(
        ["systemd-analyze", "verify", path], capture_output=True, text=True, check=False
    ).stderr
    faults = [line for line in told.splitlines() if f"{name}.service" in line]
    assert [] == [line for line in faults if "is not executable" not in line]
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", path],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", judged)
    assert level is not None
    assert float(level[1]) <= at_most


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_the_timer_is_right() -> None:
    """It comes every quarter of an hour."""
    when = unit("merino-backup.timer")["Timer"]["OnCalendar"]
    told = subprocess.run(
        ["systemd-analyze", "calendar", when], capture_output=True, text=True, check=True
    ).stdout
    assert "Normalized form: *-*-* *:00/15:00" in told
