"""The schema's versions."""

from __future__ import annotations

from merino.sqlite.schema import MIGRATIONS


def test_each_version_has_its_own_number():
    """A folder at a version has run every file up to it: with two of one number, one would be
    passed over."""
    numbers = [int(script.name[:4]) for script in sorted(MIGRATIONS.glob("*.sql"))]
    assert list(range(1, len(numbers) + 1)) == numbers
