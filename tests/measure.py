"""The measures of the source, and of the tests beside it: `make measure`."""

from __future__ import annotations

import ast
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src/merino"
LEAST = 0.4
"""Lines of unit tests for a line of source, in folders that slow tests would otherwise carry."""
NEEDED = ("api", "batch", "billing", "cli", "dashboard")
SCREEN = 70
"""Lines of the longest function that is read at a glance."""
_SUPPRESSION = re.compile(r"noqa|type: ignore|pragma")
_OF_PYRIGHT = re.compile(r"pyright: ")
_RIMS = ("Exception", "BaseException")


def lines(folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in folder.rglob("*.py"))


def rank(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def comments(path: Path) -> list[str]:
    with path.open("rb") as file:
        return [
            token.string
            for token in tokenize.tokenize(file.readline)
            if token.type == tokenize.COMMENT
        ]


def is_broad(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or getattr(handler.type, "id", "") in _RIMS


def structure() -> None:
    paths = sorted(SOURCE.rglob("*.py"))
    files = sorted(len(path.read_text().splitlines()) for path in paths)
    thousands = sum(files) / 1000
    functions: list[int] = []
    longest, broad = (0, ""), 0
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                functions.append(length)
                longest = max(longest, (length, f"{path.relative_to(SOURCE)}:{node.name}"))
            elif isinstance(node, ast.ExceptHandler):
                broad += is_broad(node)
    functions.sort()
    told = [comment for path in paths for comment in comments(path)]
    suppressed = sum(bool(_SUPPRESSION.search(each)) for each in told)
    of_pyright = sum(bool(_OF_PYRIGHT.search(each)) for each in told) + suppressed
    print(f"source      {sum(files):,} lines in {len(files)} files")
    print(f"files       median {rank(files, 0.5)}, p90 {rank(files, 0.9)}, longest {files[-1]}")
    print(
        f"functions   {len(functions):,}; median {rank(functions, 0.5)}, p90 "
        f"{rank(functions, 0.9)}, p99 {rank(functions, 0.99)}, longest {longest[0]} "
        f"({longest[1]}); above {SCREEN}: {sum(each > SCREEN for each in functions)}"
    )
    print(
        f"per kloc    suppressions {suppressed / thousands:.2f}, with pyright's "
        f"{of_pyright / thousands:.2f}; broad excepts {broad / thousands:.2f}"
    )


def main() -> None:
    structure()
    print("\nfolder       source  tests  tests a line")
    for folder in sorted(path for path in SOURCE.iterdir() if path.is_dir()):
        source, tests = lines(folder), lines(ROOT / "tests/unit" / folder.name)
        if source:
            ratio = tests / source
            mark = f"  (at least {LEAST} wanted)" if folder.name in NEEDED and ratio < LEAST else ""
            print(f"{folder.name:12} {source:6,} {tests:6,} {ratio:5.2f}{mark}")


if __name__ == "__main__":
    main()
