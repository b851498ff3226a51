"""The guide of the Responses API is true: its examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs/guides/responses.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_examples_run(relay, capsys) -> None:
    """One after the other, as a reader would paste them, with nothing but address and key of their
    own."""
    assert len(EXAMPLES) >= 7
    names: dict[str, object] = {}
    for example in EXAMPLES:
        own = example.replace("http://127.0.0.1:8080", relay.url).replace("mk-...", relay.key)
        exec(compile(own, str(GUIDE), "exec"), names)
    shown = capsys.readouterr().out
    assert "simulated answer" in shown
    assert "True" in shown
    assert "completed" in shown
