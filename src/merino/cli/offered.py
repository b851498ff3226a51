"""Which models there are, as far as a command can tell: as the running relay says, else as the
settings do that a relay started here would read."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from typing import Any

from merino.cli.connection import Admin
from merino.cli.options import config_here
from merino.domain.errors import Misconfigured

_NEAREST_MAX = 3


async def unknown_models(admin: Admin, issued: Mapping[str, Any]) -> list[str]:
    """One line for each model that a new key was given and nobody offers, the nearest names with
    it. It may be a slip, or settings to come."""
    wanted = issued["aliases"]
    if not wanted:
        return []
    here = _offered_here()
    offered = await admin.models_of(issued["key"])
    if offered is None:
        offered = here
    if offered is None:
        return []
    return [_told(name, here or []) for name in wanted if name not in offered]


def _offered_here() -> list[str] | None:
    from merino.pricing.book import PriceBook
    from merino.settings import load, resolve

    try:
        settings = load(config_here(), os.environ)
        book = PriceBook.load(settings.prices.files, account_factor=settings.prices.markup.factor)
        catalog = resolve(settings, os.environ, sorted(book.models))
    except Misconfigured:
        return None
    return [alias.name for alias in catalog.aliases]


def _told(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, [each for each in names if each != name], _NEAREST_MAX)
    nearest = ", ".join(json.dumps(each) for each in near)
    closest = f"; closest in the settings here: {nearest}" if near else ""
    return (
        f"no model is called {json.dumps(name)}{closest}. The key may call it once the relay's "
        "settings have it"
    )
