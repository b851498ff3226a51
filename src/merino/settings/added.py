"""Deployments and aliases that were added to a relay's folder, joined with those of its settings.

They are held to the same rules as those of the file, and to one more: a secret is a reference that
`upstream.references` allows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import cast

from merino.domain.addition import Addition
from merino.domain.errors import Misconfigured
from merino.settings.checks import check
from merino.settings.credentials import is_reference, read_secret
from merino.settings.load import Reading, shown_value
from merino.settings.problems import Problem, dotted
from merino.settings.sections.deployments import AliasSettings, DeploymentSettings
from merino.settings.toml_lines import Path as KeyPath
from merino.settings.tree import Settings

_SECRET_NAMES = re.compile(r"authorization|key|token|secret|cookie|password", re.IGNORECASE)
_LOOKS_SECRET = re.compile(r"(?:Bearer|Basic) \S|\b(?:sk|pk|rk|xox[bp]|gh[pousr])[-_]|[\w-]{32,}")


def with_added(
    settings: Settings,
    additions: Sequence[Addition],
    *,
    offered: Collection[str],
    environ: Mapping[str, str],
) -> Settings:
    """The settings with all of these. `offered` are the deployments that there are without them.
    Raises `Misconfigured` with one line for each thing that is wrong, and the first one's setting.
    """
    folder = (settings.path or Path()).absolute().parent
    reading = Reading(folder)
    deployments, aliases = list(settings.deployments), dict(settings.aliases)
    by_place: dict[KeyPath, Addition] = {}
    for each in additions:
        taken = {*settings.aliases} if each.kind == "alias" else {*offered}
        if each.name in taken:
            problem = f"there is {'an' if each.kind == 'alias' else 'a'} {each.kind} of this name"
            raise Misconfigured(f"{_named(each)}: {problem}; choose another", param="name")
        if each.kind == "deployment":
            place: KeyPath = ("deployments", len(deployments))
            table = {**each.terms, "name": each.name}
            deployments.append(reading.section(DeploymentSettings, table, place))
        else:
            place = ("aliases", each.name)
            aliases[each.name] = reading.section(AliasSettings, each.terms, place)
        by_place[place] = each
    merged = replace(
        settings,
        deployments=tuple(deployments),
        aliases=aliases,
        added=frozenset(each.place for each in additions),
    )
    found = [*reading.problems]
    if not found:
        for place, each in by_place.items():
            found += _secret_problems(each, place, settings.upstream.references)
    if not found:
        look_up = partial(read_secret, folder=folder, environ=environ)
        found += check(merged, look_up, offered).problems
    if found:
        _refuse(found, by_place)
    return merged


def _secret_problems(each: Addition, place: KeyPath, allowed: Sequence[str]) -> list[Problem]:
    found: list[Problem] = []
    credential = str(each.terms.get("credential", ""))
    if credential:
        found += _reference_problems(credential, (*place, "credential"), allowed)
    headers = cast("Mapping[str, str]", each.terms.get("headers", {}))
    for name, text in headers.items():
        if is_reference(text) or _SECRET_NAMES.search(name) or _LOOKS_SECRET.search(text):
            found += _reference_problems(text, (*place, "headers", name), allowed)
    return found


def _reference_problems(text: str, place: KeyPath, allowed: Sequence[str]) -> list[Problem]:
    patterns = ", ".join(allowed) or "none"
    if not is_reference(text):
        message = (
            "a secret is not kept here; put it into the environment of the relay and write "
            f"env:NAME. Allowed by upstream.references: {patterns}"
        )
        return [Problem(place, "[hidden]", message)]
    kind, _, rest = text.partition(":")
    is_plain = ".." not in Path(rest.strip()).parts
    if is_plain and any(fnmatchcase(f"{kind}:{rest.strip()}", each) for each in allowed):
        return []
    message = f"upstream.references does not allow it; it allows {patterns}"
    return [Problem(place, text, message)]


def _refuse(problems: Sequence[Problem], by_place: Mapping[KeyPath, Addition]) -> None:
    lines: list[str] = []
    param: str | None = None
    for each in problems:
        about = by_place.get(each.path[:2])
        rest = each.path[2:] if about is not None else each.path
        where = "settings" if about is None else _named(about)
        if rest:
            where += f": {dotted(rest)}"
        if about is not None and param is None:
            param = _param(rest)
        lines.append(f"{where}{shown_value(each.value)}: {each.message}")
    raise Misconfigured("\n".join(lines), param=param)


def _param(rest: KeyPath) -> str:
    """What forms call the setting: a table's are one field each."""
    names = [each for each in rest if isinstance(each, str)] or ["name"]
    if names[0] == "limits":
        return names[-1]
    if names[0] in ("price", "account_price"):
        return "_".join(names)
    return names[0]


def _named(each: Addition) -> str:
    return f"{each.kind} '{each.name}'"
