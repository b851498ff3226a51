"""The page of error codes, beside the code that gives them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
SOURCES = ("gateway", "wire", "transport", "api/openai.py", "api/batches.py", "api/errors.py")
NOT_FOR_CALLERS = {"deployment_not_found"}  # of the admin API
_CODE = re.compile(r'code(?:: str(?: \| None)?)? ?= ?"(\w+)"')


def test_every_code_that_callers_get_is_explained() -> None:
    """Whoever looks up the code of an error finds it."""
    page = (ROOT / "docs/reference/errors.md").read_text()
    codes: set[str] = set()
    for source in SOURCES:
        path = ROOT / "src/merino" / source
        for file in [path] if path.is_file() else path.rglob("*.py"):
            codes.update(_CODE.findall(file.read_text()))
    assert len(codes) > 20
    assert set() == {code for code in codes - NOT_FOR_CALLERS if f"`{code}`" not in page}
