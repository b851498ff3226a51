"""Commands made from the table of operations: what an operation takes are arguments and options,
with the table's bounds and choices; what it answers is JSON, or what `shows` prints of it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec import UNSET, Struct
from msgspec.structs import fields

from merino.cli.columns import Column
from merino.cli.connection import Admin, path_of, with_admin
from merino.cli.options import (
    MOMENT,
    OrNone,
    admin_options,
    given,
    month_option,
    once_option,
    page_options,
    within_month,
)
from merino.cli.output import print_json, print_page_end, print_table
from merino.cli.sorting import By, sort_rows
from merino.cli.terminal import is_shown
from merino.operations.fields import ms_of
from merino.operations.kinds import Kind, kind_of
from merino.operations.table import Operation

F = TypeVar("F", bound=Callable[..., Any])
Show = Callable[[dict[str, Any]], None]
Options = Mapping[str, str | dict[str, Any]]
"""By field, in the order of the help: its help, or that and what else its option has. `flags` are
how it is written, where that is not the field's name."""


class Rows:
    """Shows a list; `empty` is printed when nothing is in it."""

    def __init__(self, columns: Sequence[Column], empty: str) -> None:
        self.columns = columns
        self._empty = empty

    def __call__(self, found: dict[str, Any]) -> None:
        print_table(found["data"], self.columns, empty=self._empty)
        print_page_end(found)


def table(columns: Sequence[Column], empty: str) -> Rows:
    return Rows(columns, empty)


def add(
    group: click.Group, name: str, operation: Operation, shows: Show, doc: str, **more: Any
) -> None:
    """Adds a command of an operation to a group: `made` says what `more` may be."""
    group.add_command(made(name, operation, shows, doc, **more))


def made(
    name: str,
    operation: Operation,
    shows: Show,
    doc: str,
    *,
    options: Options | None = None,
    arguments: Sequence[str] = (),
    like: type[Struct] | None = None,
    adapt: Callable[[dict[str, Any]], dict[str, Any]] = lambda said: said,
    warns: Callable[[Admin, dict[str, Any]], Awaitable[list[str]]] | None = None,
    adds: Callable[[Admin, dict[str, Any]], Awaitable[None]] | None = None,
) -> click.Command:
    """A command of an operation. Of its body or query, `arguments` are arguments and `options` are
    options; one that is no field is a flag of the command's own, of which `adapt` makes fields.
    What may be taken away from a type `like` it may be `none` here, too. `warns` looks at what
    came; `adds` puts more to it for people at a terminal."""
    takes = _fields(operation.body or operation.query) | ({} if like is None else _fields(like))
    in_path = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    is_list = "cursor" in takes
    has_period = {"since", "until"} <= set(options or {}) & set(takes)

    def run(
        *,
        data: Path,
        as_json: bool,
        idempotency_key: str | None = None,
        sort: tuple[Column, bool] | None = None,
        **said: Any,
    ) -> None:
        named = {f"{{{field}}}": said.pop(field) for field in in_path}
        path = path_of(*(named.get(part, part) for part in operation.path.split("/")[1:]))
        said = adapt(said)
        if has_period:
            ends = said["since"], said["until"]
            said["since"], said["until"] = within_month(said.pop("month"), *ends)
        if operation.method == "PATCH" and not given(said):
            raise click.UsageError("Nothing to change was given.", click.get_current_context())

        async def work(admin: Admin) -> tuple[dict[str, Any], list[str]]:
            warnings: list[str] = []
            if is_list:
                limit, cursor = said.pop("limit"), said.pop("cursor")
                answer = await admin.list(path, query=said, limit=limit, cursor=cursor)
            else:
                fields = {"body" if operation.body else "query": given(said)}
                answer = await admin.ask(operation.method, path, **fields, once=idempotency_key)
                warnings = [] if warns is None else await warns(admin, answer)
            if adds is not None and not as_json and is_shown():
                await adds(admin, answer)
            return answer, warnings

        answer, warnings = with_admin(data, work)
        for line in warnings:
            sys.stderr.write(f"merino: warning: {line}\n")
        if sort is not None:
            sort_rows(answer["data"], sort)
        (print_json if as_json else shows)(answer)

    function = admin_options(run)
    function = once_option(function) if operation.again else function
    function = page_options(function) if is_list else function
    if isinstance(shows, Rows):
        function = _sort_option(shows.columns, is_list=is_list)(function)
    if has_period:
        function = month_option(function)
    for field, attributes in reversed([*(options or {}).items()]):
        function = _option(field, takes.get(field, click.BOOL), attributes)(function)
    for field in (*reversed(arguments), *reversed(in_path)):
        function = click.argument(field)(function)
    return click.command(name, help=doc)(function)


def _fields(kind: type[Struct]) -> dict[str, click.ParamType[Any] | None]:
    """What each takes; `None` for a list."""
    return {
        field.name: _type(kind_of(field.type), field.default is UNSET) for field in fields(kind)
    }


def _type(kind: Kind, may_stay: bool) -> click.ParamType[Any] | None:
    if kind.is_a is list:
        return None
    if kind.is_a is bool:
        return click.BOOL
    found: click.ParamType[Any] = click.STRING
    if kind.choices:
        found = click.Choice(kind.choices)
    elif kind.is_a is int:
        found = click.IntRange(kind.least, kind.most)
    elif kind.is_a is float:
        found = click.FloatRange(kind.least, kind.most, min_open=kind.is_above)
    elif kind.read is ms_of:
        found = MOMENT
    return OrNone(found) if kind.is_nullable and may_stay else found


def _sort_option(columns: Sequence[Column], *, is_list: bool) -> Callable[[F], F]:
    by = By(columns)
    shown = "what is shown" if is_list else "the rows"
    return click.option(
        "--sort",
        type=by,
        help=f"Sort {shown} by a column, numbers the largest first: {', '.join(by.names)}.",
    )


def _option(
    field: str, kind: click.ParamType[Any] | None, attributes: str | dict[str, Any]
) -> Callable[[F], F]:
    more: dict[str, Any] = {"flags": f"--{field.replace('_', '-')}"}
    more |= {"help": attributes} if isinstance(attributes, str) else attributes
    names = (more.pop("flags"), field)
    if kind is None:
        return click.option(*names, multiple=True, **more)
    if kind is click.BOOL:
        return click.option(*names, is_flag=True, default=None, **more)
    return click.option(*names, type=kind, **more)
