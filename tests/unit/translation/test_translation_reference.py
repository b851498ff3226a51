"""The reference of translations."""

from __future__ import annotations

from pathlib import Path

from merino.translation.reference import reference

PAGE = Path(__file__).parents[3] / "docs/reference/translation.md"


def test_the_page_is_fresh() -> None:
    """What the reference says of each field is what the tables do with it."""
    assert reference() == PAGE.read_text(), (
        "run: python -m merino.translation.reference > docs/reference/translation.md"
    )
