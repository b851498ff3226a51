"""Which of a provider's models is which of ours: they differ by dates, vendors and spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable

_DATE = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{4})\Z|-latest\Z")
_PARTS = re.compile(r"[^a-z0-9]+")


def base_of(model: str) -> str:
    """A name without vendor and date: ``openai/o3-2025-04-16`` is ``o3``."""
    return _DATE.sub("", model.rpartition("/")[2].lower())


def _form(model: str) -> tuple[str, ...]:
    """What stays the same when a page writes ``Claude Haiku 3.5`` for ``claude-3-5-haiku``."""
    return tuple(sorted(part for part in _PARTS.split(base_of(model)) if part))


def same_names(theirs: Iterable[str], own: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """A common name for every model of both sides, as two tables.

    A dated name stays by itself while both sides know it. As soon as one side has the undated name,
    all dated ones are counted with it, since nobody can tell which one served it.
    """
    theirs, own = set(theirs), set(own)
    groups: dict[tuple[str, ...], set[str]] = {}
    for name in theirs | own:
        groups.setdefault(_form(name), set()).add(name)
    common: dict[str, str] = {}
    for group in groups.values():
        known = sorted(group & own, key=lambda name: (len(name), name))
        shortest = known[0] if known else min(group, key=lambda name: (len(name), name))
        is_exact = group & theirs == group & own
        for name in group:
            common[name] = name if is_exact or not known else shortest
    return {name: common[name] for name in theirs}, {name: common[name] for name in own}
