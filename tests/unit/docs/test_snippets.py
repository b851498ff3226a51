"""What pages say to type can be typed."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import pytest

from merino.cli.root import root

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
    ]
)
KINDS = {"sh", "bash", "python", "toml", "json", "text", "ini", "yaml", "typescript", ""}
OTHER_PROGRAMS = {
    ".", "apt", "cat", "cd", "chmod", "claude", "codex", "cp", "curl", "docker", "do", "done", "eval", "export", "gh", "git", "grep",
    "head", "helm", "journalctl", "kill", "kubectl", "mkdir", "mv", "node", "npm", "open", "openssl", "pg_dump", "pip", "pipx",
    "python", "python3", "rm", "sha256sum", "sudo", "systemctl", "tail", "until", "uvx", "xdg-open", "llm", "wrk",
}  # fmt: skip
"""Whose arguments are not looked at here. A name that is not among them is a mistake, or new."""


@dataclass(frozen=True)
class Snippet:
    page: Path
    line: int
    kind: str
    text: str
    before: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def snippets() -> list[Snippet]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.finditer(
            r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE
        ):
            body = re.sub(rf"^{block[1]}", "", block[3], flags=re.MULTILINE)
            line = text[: block.start()].count("\n") + 1
            before = text[: block.start()].rstrip().rpartition("\n")[2]
            found.append(Snippet(page, line, block[2], body, before))
    return found


SNIPPETS = snippets()
SHELL = [each for each in SNIPPETS if each.kind in {"sh", "bash"}]
PYTHON = [each for each in SNIPPETS if each.kind == "python"]


def commands(text: str) -> list[list[str]]:
    """The programs that a snippet runs, with their arguments."""
    found: list[list[str]] = []
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in re.sub(r"\d?>&\d", "", joined).splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        lexer = shlex.shlex(stripped, posix=True, punctuation_chars="|&;()")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= set("|&;()"):
                found.append(words)
                words = []
            else:
                words.append(word)
        found.append(words)
    return [plain for each in found if (plain := without_extras(each))]


def without_extras(words: list[str]) -> list[str]:
    """Without variables that are set before, and where the output goes."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    kept: list[str] = []
    skips = False
    for word in words:
        if skips:
            skips = False
        elif re.fullmatch(r"\d?>>?|<", word):
            skips = True
        elif not re.match(r"\d?>", word):
            kept.append(word)
    return kept


def of_merino(words: list[str]) -> list[str] | None:
    """The arguments of `merino`, however it is called."""
    while words and Path(words[0]).name in {"sudo", "-u", "merino-user", "until", "nohup"}:
        words = words[1:]
    if words[:1] == ["docker"] and "exec" in words and "merino" in words:
        words = words[words.index("merino") + 1 :]
    if words[:2] == ["kubectl", "-n"] or words[:1] == ["kubectl"]:
        return None
    if words[:2] == ["uvx", "--from"]:
        words = words[3:]
    if words[:3] in (["python", "-m", "merino"], ["python3", "-m", "merino"]):
        return words[3:]
    return words[1:] if words and Path(words[0]).name == "merino" else None


@cache
def targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_snippet_is_of_a_kind_that_is_looked_at() -> None:
    """So that none escapes by its name."""
    assert set() == {(str(each), each.kind) for each in SNIPPETS if each.kind not in KINDS}


@pytest.mark.parametrize("snippet", SHELL, ids=str)
def test_commands_are_taken(snippet) -> None:
    """Each `merino` command is one, with its arguments; each make target is there; other programs
    are known by name."""
    for words in commands(snippet.text):
        arguments = of_merino(words)
        program = words[0].rpartition("/")[2] or words[0]
        if arguments is not None:
            check(arguments)
        elif program == "make":
            named = {word for word in words[1:] if "=" not in word}
            assert named <= targets(), words
        else:
            assert program in OTHER_PROGRAMS, words


def check(arguments: list[str]) -> None:
    """As far as it can be seen without running it: files need not be there."""
    context = root.make_context("merino", list(arguments), resilient_parsing=True)
    if not arguments or arguments[0].startswith("-"):
        return
    _, found, rest = root.resolve_command(context, list(arguments))
    while isinstance(found, click.Group) and rest:
        _, found, rest = found.resolve_command(click.Context(found), rest)
    assert found is not None, arguments
    if "--help" in rest or isinstance(found, click.Group):
        return
    try:
        with click.Context(found).scope():
            found.make_context("merino", list(rest))
    except click.BadParameter as error:
        assert re.search(r"does not exist|No such file|is a directory|is a file", error.message), (
            error
        )
    except click.exceptions.Exit:
        pass


@pytest.mark.parametrize("snippet", PYTHON, ids=str)
def test_python_is_python(snippet) -> None:
    """It compiles, where `…` stands for anything; and what it imports of ours is there."""
    text = snippet.text.replace("…", "...").replace("[...]", "[]")
    tree = compile(text, str(snippet), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("merino"):
            module = importlib.import_module(str(node.module))
            assert [] == [name.name for name in node.names if not hasattr(module, name.name)]


@pytest.mark.parametrize("snippet", [each for each in SNIPPETS if each.kind == "json"], ids=str)
def test_json_is_json(snippet) -> None:
    """One value, or one a line."""
    for line in snippet.text.strip().splitlines():
        json.loads(line)
