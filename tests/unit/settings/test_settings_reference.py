"""The settings reference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from merino.settings import load
from merino.settings.reference import reference

PAGE = Path(__file__).parents[3] / "docs/reference/settings.md"


def test_the_page_is_fresh():
    """What the reference says is what the code does."""
    assert reference() == PAGE.read_text(), "run: python -m merino.settings.reference > " + str(
        PAGE
    )


def test_the_pages_example_works(tmp_path):
    """The example can be used as it stands."""
    example = re.search(r"```toml\n(.*?)```", reference(), re.DOTALL)
    assert example is not None
    path = tmp_path / "merino.toml"
    path.write_text(example[1])

    assert 2 == len(load(path, {"OPENAI_API_KEY": "k"}).deployments)


@pytest.mark.parametrize("limit", ["body_bytes_max", "drain_s", "wait_s", "keep_days"])
def test_limits_are_listed_with_their_unit(limit):
    """Every limit is in the reference under a name that says its unit."""
    assert f"| `{limit}` |" in reference()
