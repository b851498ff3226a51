"""Accounts that the settings name and nobody has opened: only who has the database can tell."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator

from merino.domain.account import Account
from merino.settings.problems import dotted
from merino.settings.tree import Settings

_EVERYONE_ELSE = "*"


def unknown_accounts(settings: Settings, accounts: Collection[Account]) -> Iterator[str]:
    """One line for each table of an account that is not among these, with the way out."""
    oidc = settings.dashboard.oidc
    known = {name for each in accounts for name in (each.name, each.id)}
    for name in () if oidc is None else oidc.accounts:
        if name not in known:
            yield _told(("dashboard", "oidc", "accounts", name), accounts, "lets nobody in")
    for name in settings.limits.accounts:
        if name not in known and name != _EVERYONE_ELSE:
            yield _told(("limits", "accounts", name), accounts, "limits nobody")


def _told(path: tuple[str, ...], accounts: Collection[Account], so: str) -> str:
    near = difflib.get_close_matches(path[-1], [each.name for each in accounts], n=1)
    way_out = f"did you mean {json.dumps(near[0])}?" if near else "merino accounts list shows all"
    return f"{dotted(path)}: no account has this name or id, so it {so}; {way_out}"
