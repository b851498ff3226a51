"""One thing that is wrong with the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from merino.settings.toml_lines import Path


@dataclass(slots=True)
class Problem:
    """`path` is where in the file; `variable` the environment variable if it came from there.

    `value` of `None` is not shown. `message` says what is wrong and the way out.
    """

    path: Path
    value: Any
    message: str
    variable: str | None = None
