"""What Tab offers for a name: accounts, keys, models, deployments and so on, as the data folder has
them. Only read while a shell asks."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from merino.cli.options import DEFAULT_DATA
from merino.domain.errors import MerinoError

OFFERED_MAX = 500
_MONTHS = 12

Row = Mapping[str, Any]
Offered = tuple[str, str]
"""A name, and a word about it that some shells show beside it."""


def _plain(row: Row) -> Offered:
    return str(row["name"]), ""


_LISTS: Mapping[str, tuple[str, Callable[[Row], Offered]]] = {
    "account": ("/accounts", lambda row: (row["name"], row["currency"])),
    "key": ("/keys", lambda row: (row["name"], row["account"])),
    "admin_key": ("/admin-keys", _plain),
    "alias": ("/aliases", _plain),
    "deployment": ("/deployments", lambda row: (row["name"], row["provider"])),
    "person": ("/people", lambda row: (row["id"], row["email"] or row["state"])),
    "invitation": ("/invitations", lambda row: (row["id"], row["email"] or row["state"])),
    "topup": ("/topups", lambda row: (row["id"], f"{row['amount']} {row['currency']}")),
    "voucher": ("/vouchers", lambda row: (row["id"], row["hint"])),
}
"""By what is named: where the admin API lists them."""
_PARAMETERS: Mapping[str, str] = {
    **{name: name for name in _LISTS},
    "source": "account",
    "target": "account",
    "aliases": "alias",
    "model": "alias",
    "fallbacks": "alias",
    "deployments": "deployment",
}
"""By the name of a parameter that takes any text."""
_NOUNS: Mapping[str, str] = {"deployments": "deployment", "aliases": "alias"}
"""What `name` is in these commands."""
_ELSEWHERE = frozenset(("batch", "bench", "doctor", "init", "prices", "roi"))
"""Commands whose models are another server's, or the price book's."""


class Named(click.ParamType[Any]):
    """Takes what another type takes, and lets Tab offer names for it."""

    def __init__(self, kind: click.ParamType[Any], offer: Callable[[Path], list[Offered]]) -> None:
        self.name = kind.name
        self._kind = kind
        self._offer = offer

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._kind.convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        data = ctx.params.get("data")
        found = self._offer(data if isinstance(data, Path) else _folder_meant())
        return [
            CompletionItem(name, help=words or None)
            for name, words in found
            if name.startswith(incomplete)
        ]


def offer_names(command: click.Command, word: str) -> None:
    """Lets Tab offer names for the parameters of a command and all below it; `word` is what it is
    called at the top."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            offer_names(each, word)
    for parameter in command.params:
        kind = _kind_of(parameter, word)
        if kind is not None:
            parameter.type = Named(parameter.type, _names_of(kind))
        elif parameter.name == "month":
            parameter.type = Named(parameter.type, _months)


def _kind_of(parameter: click.Parameter, word: str) -> str | None:
    name = parameter.name or ""
    is_text = isinstance(parameter.type, type(click.STRING))
    if name == "name" and isinstance(parameter, click.Argument):
        return _NOUNS.get(word)
    if not is_text or (name == "model" and word in _ELSEWHERE):
        return None
    return _PARAMETERS.get(name)


def _names_of(kind: str) -> Callable[[Path], list[Offered]]:
    path, told = _LISTS[kind]
    return lambda data: [told(row) for row in _rows(data, path)]


def _months(_: Path) -> list[Offered]:
    now = datetime.now(UTC)
    last = now.year * 12 + now.month - 1
    return [
        (f"{each // 12:04d}-{each % 12 + 1:02d}", "") for each in range(last, last - _MONTHS, -1)
    ]


def _rows(data: Path, path: str) -> list[dict[str, Any]]:
    """Nothing where there is no folder, or it cannot be read: a shell that completes says
    nothing."""
    from merino.cli.connection import Admin, with_admin

    async def ask(admin: Admin) -> list[dict[str, Any]]:
        answer = await admin.ask("GET", path, query=query)
        return list(answer["data"])

    query = {"limit": OFFERED_MAX} if path in _PAGED else {}
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return with_admin(data, ask)
    except (MerinoError, OSError):
        return []


_PAGED = frozenset(("/accounts", "/keys", "/people", "/invitations", "/topups", "/vouchers"))


def _folder_meant() -> Path:
    """Where click has no value: the variable names what is no folder, or nothing was said."""
    return Path(os.environ.get("MERINO_DATA") or DEFAULT_DATA)
