"""The changelog's section of a release: `python release/notes.py v1.2.3`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).resolve().parent.parent / "CHANGELOG.md"


def releases(changelog: str) -> dict[str, str]:
    """The text of each release, the newest first."""
    parts = re.split(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", changelog, flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def main() -> None:
    version = sys.argv[1].removeprefix("v")
    known = releases(CHANGELOG.read_text(encoding="utf-8"))
    final = re.sub(r"rc\d+$", "", version)
    if final not in known:
        sys.exit(f"CHANGELOG.md has no section [{final}]; it has {', '.join(known) or 'none'}")
    print(known[final])


if __name__ == "__main__":
    main()
