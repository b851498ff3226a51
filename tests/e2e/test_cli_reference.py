"""The command line reference."""

from __future__ import annotations

from pathlib import Path

from merino.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs/reference/cli.md"


def test_the_page_is_fresh():
    """What the reference says is what the commands take."""
    assert reference() == PAGE.read_text(), "run: python -m merino.cli.reference > " + str(PAGE)
