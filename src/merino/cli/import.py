"""`merino import`."""  # noqa: N999 - named as the command is

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from merino.cli.connection import Admin, path_of, with_admin
from merino.cli.figures import counted
from merino.cli.options import data_option, json_option
from merino.cli.output import print_json, write
from merino.domain.errors import Misconfigured

if TYPE_CHECKING:
    from merino.moving.dumps import Tables
    from merino.moving.move import Move, MovedAccount, MovedKey

F = TypeVar("F", bound=Callable[..., Any])

YAML_SUFFIXES = {".yaml", ".yml"}
_AT_ONCE = ("rpm", "tpm", "concurrency")
MAPPING: tuple[str, ...] = ("was", "ends_with", "key", "account", "secret")


@dataclass(slots=True)
class Done:
    """What was made, and what was there already."""

    accounts: list[str] = field(default_factory=list[str])
    keys: list[str] = field(default_factory=list[str])
    there: list[str] = field(default_factory=list[str])
    secrets: int = 0


@click.group("import")
def command() -> None:
    """Come over from another relay: its models, accounts, budgets and keys."""


def _options(function: F) -> F:
    for each in reversed(_OPTIONS):
        function = each(function)
    return data_option(json_option(function))


_OPTIONS = (
    click.argument(
        "files",
        nargs=-1,
        required=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
    ),
    click.option(
        "--settings",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path("imported.toml"),
        show_default=True,
        help="Where models and routing are written to, as settings.",
    ),
    click.option(
        "--mapping",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path("imported-keys.csv"),
        show_default=True,
        help="Where the new secrets are written to, beside the keys that they replace.",
    ),
    click.option("--dry-run", is_flag=True, help="Tell what would be done, and do nothing."),
)


@command.command("litellm")
@_options
def litellm(files: tuple[Path, ...], **given: Any) -> None:
    """From LiteLLM: its config.yaml, and exports of its database, in any order.

    The database as `pg_dump --data-only` (plain), or tables as CSV, JSON or JSON lines. Teams, and
    users without one, become accounts with what is left of their budgets; keys become keys with new
    secrets, since only hashes of the old ones are kept there. A repeat makes what is missing and
    books nothing twice.
    """
    from merino.moving.litellm import COLUMNS, take_config, take_tables
    from merino.moving.move import Move

    move = Move()
    for path in files:
        if path.suffix in YAML_SUFFIXES:
            take_config(_yaml(path), move)
    take_tables(_tables(files, COLUMNS), move)
    _import("litellm", move, files, **given)


@command.command("new-api")
@_options
def new_api(files: tuple[Path, ...], **given: Any) -> None:
    """From new-api or one-api: its SQLite file (one-api.db), or exports of its tables.

    Of PostgreSQL `pg_dump --data-only` (plain); of MySQL the tables channels, users and tokens as
    CSV, JSON or JSON lines. Users become accounts with their quota in dollars, 500,000 of it each;
    tokens become keys with new secrets; channels become deployments. A repeat makes what is missing
    and books nothing twice.
    """
    from merino.moving.move import Move
    from merino.moving.new_api import COLUMNS, take_tables

    move = Move()
    take_tables(_tables(files, COLUMNS), move)
    _import("new-api", move, files, **given)


@command.command("openrouter")
@_options
def openrouter(files: tuple[Path, ...], **given: Any) -> None:
    """From OpenRouter: what its API answers to GET /api/v1/keys and GET /api/v1/credits.

    Keys become keys with new secrets and what is left of their limits; they share one account,
    which opens with the credits that are left there. A repeat makes what is missing and books
    nothing twice.
    """
    from merino.moving.move import Move
    from merino.moving.openrouter import COLUMNS, take_tables

    move = Move()
    take_tables(_tables(files, COLUMNS), move)
    _import("openrouter", move, files, **given)


def _import(
    source: str,
    move: Move,
    files: tuple[Path, ...],
    *,
    settings: Path,
    mapping: Path,
    dry_run: bool,
    data: Path,
    as_json: bool,
) -> None:
    from merino.moving.settings_file import settings_text

    text = settings_text(move, ", ".join(path.name for path in files))
    if dry_run:
        _tell(move, None, as_json, settings, mapping)
        return
    if move.deployments and settings.exists() and settings.read_text("utf-8") != text:
        raise Misconfigured(
            f"{settings} is there already and says something else; name another --settings"
        )
    done = Done()
    if move.accounts:
        with_admin(data, lambda admin: _carry_out(source, move, admin, mapping, done))
    if move.deployments:
        settings.write_text(text, encoding="utf-8")
    _tell(move, done, as_json, settings, mapping)


def _tables(files: tuple[Path, ...], columns_of: Mapping[str, frozenset[str]]) -> Tables:
    from merino.moving.dumps import read_tables

    tables: Tables = {}
    for path in files:
        if path.suffix not in YAML_SUFFIXES:
            for name, rows in read_tables(path, columns_of).items():
                tables.setdefault(name, []).extend(rows)
    return tables


def _yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ModuleNotFoundError:
        raise Misconfigured("YAML cannot be read; pip install 'merino[import]'") from None
    try:
        found: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise Misconfigured(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict) or "model_list" not in found:
        raise Misconfigured(f"{path} has no model_list: is it LiteLLM's config.yaml?")
    return cast("dict[str, Any]", found)


async def _carry_out(source: str, move: Move, admin: Admin, mapping: Path, done: Done) -> None:
    accounts = await _names(admin, "/accounts")
    for account in move.accounts:
        await _account(source, account, accounts, admin, done)
    keys = await _names(admin, "/keys")
    for key in move.keys:
        if key.name in keys:
            done.there.append(f"key {key.name}")
        else:
            done.secrets += 1
            # At once: a run that breaks off must not take a secret with it.
            _write_secret(mapping, await _key(key, admin))
            done.keys.append(key.name)


async def _account(
    source: str, account: MovedAccount, known: set[str], admin: Admin, done: Done
) -> None:
    if account.name in known:
        done.there.append(f"account {account.name}")
    else:
        at_once = {name: account.fields[name] for name in _AT_ONCE if name in account.fields}
        await admin.ask("POST", "/accounts", body={"name": account.name, **at_once})
        later = {name: each for name, each in account.fields.items() if name not in at_once}
        if later:
            await admin.ask("PATCH", path_of("accounts", account.name), body=later)
        done.accounts.append(account.name)
    # Also by a repeat of a run that broke off; it is booked once.
    if account.opening not in {None, "0"}:
        await admin.ask(
            "POST",
            path_of("accounts", account.name, "credit"),
            body={"amount": account.opening, "memo": account.memo},
            once=f"{source}:{account.origin}"[:255],
        )


async def _key(key: MovedKey, admin: Admin) -> dict[str, str]:
    body = {"account": key.account, "name": key.name, **key.fields}
    issued = await admin.ask("POST", "/keys", body=body)
    if key.is_blocked:
        await admin.ask("POST", path_of("keys", key.name, "disable"))
    row = (key.origin.removeprefix("key:"), key.hint, key.name, key.account, issued["key"])
    return dict(zip(MAPPING, row, strict=True))


async def _names(admin: Admin, path: str) -> set[str]:
    page = await admin.list(path, query={}, limit=1_000_000)
    return {each["name"] for each in page["data"]}


def _write_secret(path: Path, row: dict[str, str]) -> None:
    """Only for whoever ran this; a repeat adds to it."""
    is_new = not path.exists()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, MAPPING)
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def _tell(move: Move, done: Done | None, as_json: bool, settings: Path, mapping: Path) -> None:
    if as_json:
        print_json(
            {
                "dry_run": done is None,
                "deployments": [each.name for each in move.deployments],
                "aliases": [each.name for each in move.aliases],
                "accounts": [
                    {"name": each.name, "opening": each.opening, **each.fields}
                    for each in move.accounts
                ],
                "keys": [
                    {
                        "name": each.name,
                        "account": each.account,
                        "disabled": each.is_blocked,
                        **each.fields,
                    }
                    for each in move.keys
                ],
                "variables": sorted(move.variables),
                "made": None if done is None else {"accounts": done.accounts, "keys": done.keys},
                "there": None if done is None else done.there,
                "settings": str(settings) if move.deployments else None,
                "mapping": str(mapping) if done is not None and done.secrets else None,
                "left": move.left,
            }
        )
        return
    verb = "would make" if done is None else "made"
    accounts = move.accounts if done is None else done.accounts
    keys = move.keys if done is None else done.keys
    write(f"{verb} {counted(len(accounts), 'account')}, {counted(len(keys), 'key')}")
    if done is not None and done.there:
        write(f"there already: {len(done.there)}")
    if move.deployments:
        deployments = counted(len(move.deployments), "deployment")
        write(f"{deployments} for {counted(len(move.aliases), 'model')}: {settings}")
    if move.variables:
        write(f"set before you start with it: {', '.join(sorted(move.variables))}")
    if done is not None and done.secrets:
        write(f"new secrets, shown nowhere else: {mapping}")
    if move.left:
        write("")
        write("not carried over, or not the same here:")
        for line in move.left:
            write(f"  {line}")
