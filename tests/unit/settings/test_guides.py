"""What the guides say to write into a settings file is a settings file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from merino.settings import load

DOCS = Path(__file__).parents[3] / "docs"
SNIPPETS = [
    pytest.param(snippet, id=f"{page.name}:{page.read_text()[: found.start()].count(chr(10)) + 1}")
    for page in sorted([*DOCS.glob("guides/*.md"), *DOCS.glob("tutorial/*.md")])
    for found in re.finditer(r"^```toml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    # A workload of the benchmark, a drill and other programs' settings are files of their own kinds.
    if not (snippet := found[1]).startswith(("# drill.toml", "# ~/"))
    and page.name != "benchmark.md"
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_guides_settings_are_taken_as_they_stand(snippet, tmp_path, monkeypatch) -> None:
    """Pasted into a file of its own, with the variables set that it names, each is without fault."""
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "merino.toml"
    config.write_text(snippet)
    environ = dict.fromkeys(re.findall(r'"env:(\w+)"', snippet), "x" * 40)
    assert config == load(config, environ).path
