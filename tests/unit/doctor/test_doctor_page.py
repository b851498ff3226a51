"""Every finding is explained, and provoked."""

from __future__ import annotations

import re
from pathlib import Path

from merino.doctor.finding import FINDING_IDS, PAGE, ok

ROOT = Path(__file__).parents[3]
TESTS = [*ROOT.glob("tests/unit/doctor/test_*.py"), *ROOT.glob("tests/e2e/test_doctor*.py")]


def test_each_finding_has_a_section_and_each_section_a_finding() -> None:
    """The page has one section for each finding, and no other."""
    sections = re.findall(r"^### (\S+)$", (ROOT / PAGE).read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(FINDING_IDS) == sorted(sections)
    assert len(FINDING_IDS) == len(set(sections))


def test_a_findings_page_is_its_section() -> None:
    """What a finding points to is the anchor that its heading makes."""
    assert "docs/reference/doctor.md#clock-skew" == ok("clock-skew", "").page


def test_each_finding_is_provoked() -> None:
    """No finding stands in the code that no test names."""
    tested = "".join(each.read_text(encoding="utf-8") for each in TESTS)

    assert [] == [each for each in FINDING_IDS if f'"{each}"' not in tested]
