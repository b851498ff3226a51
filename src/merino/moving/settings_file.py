"""The settings file of what was moved."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from merino.moving.move import Move, MovedAlias, MovedDeployment

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


def settings_text(move: Move, source: str) -> str:
    lines = [f"# Made by `merino import` from {source}. Every setting: docs/reference/settings.md"]
    for variable, what in sorted(move.variables.items()):
        lines.append(f"# Set {variable} (for {what})")
    for deployment in move.deployments:
        lines += _deployment(deployment)
    for alias in move.aliases:
        lines += _alias(alias)
    return "\n".join(lines) + "\n"


def _deployment(made: MovedDeployment) -> Iterator[str]:
    yield "\n[[deployments]]"
    yield f"name = {_value(made.name)}"
    for name, value in made.fields.items():
        yield f"{name} = {_value(value)}"
    for name, table in (("price", made.price), ("headers", made.headers), ("limits", made.limits)):
        if table:
            inner = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in table.items())
            yield f"{name} = {{ {inner} }}"


def _alias(made: MovedAlias) -> Iterator[str]:
    yield f"\n[aliases.{_key(made.name)}]"
    yield f"deployments = {_value(made.deployments)}"
    for name, value in made.fields.items():
        yield f"{name} = {_value(value)}"


def _key(name: str) -> str:
    return name if _BARE.match(name) else _value(name)


def _value(value: Any) -> str:
    # TOML writes texts, numbers, truths and lists of them as JSON does.
    return json.dumps(value, ensure_ascii=False)
