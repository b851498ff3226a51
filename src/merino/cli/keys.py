"""`merino keys`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from merino.cli.connection import Admin, path_of, with_admin
from merino.cli.offered import unknown_models
from merino.cli.options import (
    MOMENT,
    OrNone,
    admin_options,
    given,
    limit_options,
    page_options,
)
from merino.cli.output import (
    Column,
    moment,
    print_fields,
    print_json,
    print_page_end,
    print_table,
    write,
)

F = TypeVar("F", bound=Callable[..., Any])

_COLUMNS = (
    Column("NAME", "name"),
    Column("ID", "id"),
    Column("ACCOUNT", "account"),
    Column("HINT", "hint"),
    Column("ALIASES", lambda row: ", ".join(row["aliases"]) or "all"),
    Column("CAP", "spend_cap", is_number=True),
    Column("EXPIRES", lambda row: moment(row["expires_at"])),
    Column("DISABLED", "disabled"),
)


def _terms(function: F) -> F:
    """What a key may do."""
    for option in (
        limit_options,
        click.option(
            "--spend-period",
            type=click.Choice(["day", "month", "total"]),
            help="What the cap is for: a day or month in UTC, or the key's life.",
        ),
        click.option(
            "--spend-cap", type=OrNone(click.STRING), help="Most it may spend, such as 5.00."
        ),
        click.option(
            "--expires-at", type=OrNone(MOMENT), help="When it ends: 2026-12-31 or a time."
        ),
        click.option("--alias", "aliases", multiple=True, help="A model it may call; repeatable."),
    ):
        function = option(function)
    return function


@click.group("keys")
def command() -> None:
    """Issue and change the keys that callers use."""


@command.command("create")
@click.option("--account", default="default", show_default=True, help="Who pays: name or id.")
@click.option("--name", required=True, help="Unique.")
@_terms
@admin_options
def create(
    account: str, name: str, aliases: tuple[str, ...], data: Path, as_json: bool, **terms: Any
) -> None:
    """Issue a key. Its secret is shown this once. `none` stands for no limit."""
    body = given({"account": account, "name": name, **_body(aliases, terms)})

    async def work(admin: Admin) -> tuple[dict[str, Any], list[str]]:
        issued = await admin.ask("POST", "/keys", body=body)
        return issued, await unknown_models(admin, issued)

    issued, unknown = with_admin(data, work)
    for line in unknown:
        sys.stderr.write(f"merino: warning: {line}\n")
    _issued(issued, as_json)


@command.command("list")
@click.option("--account", help="Only this account's: name or id.")
@page_options
@admin_options
def list_keys(
    account: str | None, limit: int, cursor: str | None, data: Path, as_json: bool
) -> None:
    """List keys, the oldest first."""
    query = {"account": account}
    page = with_admin(
        data, lambda admin: admin.list("/keys", query=query, limit=limit, cursor=cursor)
    )
    if as_json:
        print_json(page)
        return
    print_table(page["data"], _COLUMNS, empty="no keys")
    print_page_end(page)


@command.command("show")
@click.argument("key")
@admin_options
def show(key: str, data: Path, as_json: bool) -> None:
    """Show a key, by name or id. Its secret is not kept and cannot be shown."""
    path = path_of("keys", key)
    _show(with_admin(data, lambda admin: admin.ask("GET", path)), as_json)


@command.command("update")
@click.argument("key")
@click.option("--name", help="A new name.")
@click.option("--all-aliases", is_flag=True, help="Let it call every model.")
@_terms
@admin_options
def update(
    key: str,
    *,
    name: str | None,
    all_aliases: bool,
    aliases: tuple[str, ...],
    data: Path,
    as_json: bool,
    **terms: Any,
) -> None:
    """Change what a key may do, by name or id. `none` takes a limit away."""
    if all_aliases and aliases:
        raise click.UsageError(
            "--alias and --all-aliases exclude each other.", click.get_current_context()
        )
    body = given({"name": name, **_body(aliases, terms)})
    if all_aliases:
        body["aliases"] = []
    if not body:
        raise click.UsageError("Nothing to change was given.", click.get_current_context())
    path = path_of("keys", key)
    _show(with_admin(data, lambda admin: admin.ask("PATCH", path, body=body)), as_json)


@command.command("disable")
@click.argument("key")
@admin_options
def disable(key: str, data: Path, as_json: bool) -> None:
    """Refuse a key's calls from now on."""
    path = path_of("keys", key, "disable")
    _show(with_admin(data, lambda admin: admin.ask("POST", path)), as_json)


@command.command("enable")
@click.argument("key")
@admin_options
def enable(key: str, data: Path, as_json: bool) -> None:
    """Take a disabled key's calls again."""
    path = path_of("keys", key, "enable")
    _show(with_admin(data, lambda admin: admin.ask("POST", path)), as_json)


@command.command("rotate")
@click.argument("key")
@admin_options
def rotate(key: str, data: Path, as_json: bool) -> None:
    """Give a key a new secret, shown this once. The old one is void at once."""
    path = path_of("keys", key, "rotate")
    _issued(with_admin(data, lambda admin: admin.ask("POST", path)), as_json)


def _body(aliases: tuple[str, ...], terms: dict[str, Any]) -> dict[str, Any]:
    return {"aliases": list(aliases) or None, **terms}


def _issued(key: dict[str, Any], as_json: bool) -> None:
    _show(key, as_json)
    if not as_json:
        write("")
        write(f"secret, shown this once: {key['key']}")


def _show(key: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(key)
        return
    cap = key["spend_cap"]
    print_fields(
        [
            ("name", key["name"]),
            ("id", key["id"]),
            ("account", key["account"]),
            ("hint", key["hint"]),
            ("aliases", ", ".join(key["aliases"]) or "all"),
            ("spend cap", cap and f"{cap} ({key['spend_period']})"),
            ("rps", key["rps"]),
            ("rpm", key["rpm"]),
            ("tpm", key["tpm"]),
            ("concurrency", key["concurrency"]),
            ("expires", moment(key["expires_at"])),
            ("disabled", key["disabled"]),
            ("created", moment(key["created_at"])),
        ]
    )
