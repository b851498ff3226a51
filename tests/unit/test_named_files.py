"""What the documentation names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/reference/treatment.md"]
_PATH = re.compile(r"`([a-z_]+(?:/[a-z_]+)*/[a-z_]*(?:\.(?:py|toml|sql|md|html))?)`")
PLACES = (ROOT / "src/merino", ROOT)


def named(page: str) -> list[str]:
    return _PATH.findall((ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_files_that_pages_name_are_there(page) -> None:
    """A file or folder that was moved is found again under the name that is written."""
    found = named(page)
    assert found
    gone = {each for each in found if not any((place / each).exists() for place in PLACES)}
    assert set() == gone


def test_what_is_gone_is_noticed(tmp_path) -> None:
    """The pattern sees paths of files and of folders."""
    assert ["storage/gone.py", "pages/"] == _PATH.findall("`storage/gone.py`, `pages/`, `a.b`")
