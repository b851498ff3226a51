"""How many lines of unit tests there are for a line of source, by folder: `make measure`."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEAST = 0.4
"""Of folders that a slow test would otherwise carry."""
NEEDED = ("api", "batch", "cli", "dashboard", "payments")


def lines(folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in folder.rglob("*.py"))


def main() -> None:
    for folder in sorted(path for path in (ROOT / "src/merino").iterdir() if path.is_dir()):
        source, tests = lines(folder), lines(ROOT / "tests/unit" / folder.name)
        if source:
            ratio = tests / source
            mark = f"  (at least {LEAST} wanted)" if folder.name in NEEDED and ratio < LEAST else ""
            print(f"{folder.name:12} {source:6,} {tests:6,} {ratio:5.2f}{mark}")


if __name__ == "__main__":
    main()
