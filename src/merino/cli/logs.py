"""`merino logs`."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from pathlib import Path
from typing import Any

import click

from merino.cli.call_lines import CallLine, drawn
from merino.cli.connection import Admin, with_admin
from merino.cli.naming import name_rows
from merino.cli.options import MOMENT, PERIOD, data_option
from merino.cli.output import write
from merino.cli.terminal import terminal_of

_LOOK_S = 1.0
_PAGE = 200
_BEFORE = 1000
"""Far more than a page: what is on a later page and was not among these is new. Calls are listed by
when they came, and one that takes long ends after others that came later."""
_SEEN_MAX = 20_000


@click.command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, 100_000),
    default=20,
    show_default=True,
    help="How many of those that ended already.",
)
@click.option("--account", help="Only this account's: name or id.")
@click.option("--key", help="Only this key's: name or id.")
@click.option("--alias", help="Only of this model.")
@click.option("--failed", is_flag=True, help="Only those answered with 400 or above.")
@click.option("--since", type=MOMENT, help=PERIOD["since"])
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@data_option
def command(
    *,
    follow: bool,
    lines: int,
    account: str | None,
    key: str | None,
    alias: str | None,
    failed: bool,
    since: str | None,
    as_json: bool,
    data: Path,
) -> None:
    """Look at calls as they end, a line each, the newest last.

    They are read from the call records. What the relay itself says, it says where it runs: on
    standard error.
    """
    query = {"account": account, "key": key, "alias": alias, "since": since}
    tail = _Tail(query, failed=failed, as_json=as_json)

    async def work(admin: Admin) -> None:
        await tail.show_last(admin, lines)
        while follow:
            await asyncio.sleep(_LOOK_S)
            await tail.show_new(admin)

    with_admin(data, work)


class _Tail:
    """Shows each call once."""

    def __init__(self, query: dict[str, Any], *, failed: bool, as_json: bool) -> None:
        self._query = query
        self._is_failed = failed
        self._as_json = as_json
        self._seen: set[str] = set()
        self._order: deque[str] = deque()

    async def show_last(self, admin: Admin, lines: int) -> None:
        """The newest that there are count as seen, whether they are shown or not."""
        rows = await self._page(admin, max(lines, _BEFORE))
        await self._show(admin, rows[-lines:] if lines else [])

    async def show_new(self, admin: Admin) -> None:
        await self._show(admin, await self._page(admin, _PAGE))

    async def _page(self, admin: Admin, limit: int) -> list[dict[str, Any]]:
        found = await admin.list("/calls", query=self._query, limit=limit)
        return self._new(found["data"])

    def _new(self, newest_first: list[dict[str, Any]]) -> list[dict[str, Any]]:
        fresh = [row for row in reversed(newest_first) if row["id"] not in self._seen]
        for row in fresh:
            self._seen.add(row["id"])
            self._order.append(row["id"])
            if len(self._order) > _SEEN_MAX:
                self._seen.discard(self._order.popleft())
        return [row for row in fresh if row["status"] >= 400 or not self._is_failed]

    async def _show(self, admin: Admin, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        if self._as_json:
            import json

            for row in rows:
                write(json.dumps(row, ensure_ascii=False))
        else:
            await name_rows(admin, {"data": rows})
            terminal = terminal_of(sys.stdout)
            for row in rows:
                write(drawn(CallLine.of_row(row), terminal))
        sys.stdout.flush()
