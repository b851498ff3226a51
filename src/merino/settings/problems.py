"""One thing that is wrong with the settings, or allowed but unwise."""

from __future__ import annotations

import json
import re
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


def dotted(path: Path) -> str:
    """A place in the file as it is written there: `aliases."gpt 4".deployments[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            text += ("." if text else "") + (part if bare else json.dumps(part))
    return text
