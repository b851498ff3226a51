"""The command line reference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from merino.cli.reference import reference
from merino.cli.root import root

PAGE = Path(__file__).parents[3] / "docs/reference/cli.md"
ELSEWHERE = (
    *("merino serve", "merino batch", "merino bench"),
    *("merino init", "merino completion"),
)
"""Commands that run, or work on other things than a data folder."""


def test_the_page_is_fresh():
    """What the reference says is what the commands take."""
    assert reference() == PAGE.read_text(), "run: python -m merino.cli.reference > " + str(PAGE)


def test_every_command_prints_json_for_programs():
    """Of a data folder's commands, each takes `--json` and `--data`."""
    lacking = {
        path: missing
        for path, options in _commands(root, "merino")
        if (missing := {"--json", "--data"} - options) and not path.startswith(ELSEWHERE)
    }
    assert {} == lacking


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, set[str]]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, f"{path} {name}")
    else:
        yield path, {option for each in command.params for option in each.opts}
