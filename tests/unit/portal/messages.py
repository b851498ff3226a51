"""Every text of the portal that is translated: of its templates, its code and its tables.

`python tests/unit/portal/messages.py` adds what catalogues lack, untranslated.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, nodes

import merino.portal
from merino.portal.catalogues import LANGUAGES, entries_of
from merino.portal.problems import _BY_CODE
from merino.portal.visits import DONE, NAVIGATION

FOLDER = Path(merino.portal.__file__).parent
WORDS = FOLDER / "words"
OF_CHARTS = ("Show as a table", "{title} as a table", "Time", "Total")
"""A figure's own words: `pages/plot.py`."""


def messages() -> list[str]:
    """In order of where they stand, each once."""
    found = [*_of_templates(), *_of_code(), *(words for _, words, _ in NAVIGATION)]
    named = [*DONE.values(), *_BY_CODE.values(), "owner", "member", "viewer", *OF_CHARTS]
    return list(dict.fromkeys([*found, *named]))


def _of_templates() -> Iterator[str]:
    environment = Environment(autoescape=True)
    for path in sorted((FOLDER / "templates").glob("*.html")):
        for call in environment.parse(path.read_text(encoding="utf-8")).find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name == "_" and call.args:
                argument = call.args[0]
                if isinstance(argument, nodes.Const):
                    yield argument.value


def _of_code() -> Iterator[str]:
    for path in sorted(FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
            argument = node.args[0]
            if name in ("_", "words") and isinstance(argument, ast.Constant):
                yield str(argument.value)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def catalogue(language: str, known: dict[str, str]) -> str:
    head = (
        'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n'
        f'"Language: {language.replace("-", "_")}\\n"\n'
    )
    blocks = [
        ("#, python-brace-format\n" if "{" in text else "")
        + f"msgid {quoted(text)}\nmsgstr {quoted(known.get(text, ''))}\n"
        for text in messages()
    ]
    return "\n".join([head, *blocks])


def main() -> None:
    for language in LANGUAGES:
        if language == "en":
            continue
        path = WORDS / f"{language}.po"
        known = dict(entries_of(path.read_text(encoding="utf-8"))) if path.is_file() else {}
        path.write_text(catalogue(language, known), encoding="utf-8")


if __name__ == "__main__":
    main()
