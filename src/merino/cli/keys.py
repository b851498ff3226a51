"""`merino keys`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from merino.cli.columns import Column
from merino.cli.naming import name_one, name_rows
from merino.cli.offered import unknown_models
from merino.cli.options import LIMITS
from merino.cli.output import moment, print_fields, with_currency, write_secret
from merino.cli.resource import Options, add, table
from merino.domain.clock import epoch_ms, iso
from merino.operations import keys
from merino.operations.keys import KeyChange


def _cap(row: Mapping[str, Any]) -> str | None:
    return with_currency(row["spend_cap"], row.get("currency"))


_COLUMNS = (
    Column("NAME", "name"),
    Column("ID", "id", whole=True, spare=2),
    Column("ACCOUNT", "account"),
    Column("HINT", "hint", whole=True, spare=3),
    Column("ALIASES", lambda row: ", ".join(row["aliases"]) or "all"),
    Column("CAP", "spend_cap", is_number=True, only="pipes"),
    Column("CAP", _cap, is_number=True, only="terminals"),
    Column("EXPIRES", lambda row: moment(row["expires_at"]), whole=True, spare=1),
    Column("DISABLED", "disabled"),
)
_TERMS: Options = {
    "aliases": {"flags": "--alias", "help": "A model it may call; repeatable."},
    "expires_at": "When it ends: 2026-12-31 or a time.",
    "spend_cap": "Most it may spend, such as 5.00.",
    "spend_period": "What the cap is for: a day or month in UTC, or the key's life.",
    **LIMITS,
}
_OLD = "When the secret before the last rotation ends; none: now."


@click.group("keys")
def command() -> None:
    """Issue and change the keys that callers use."""


def _old(key: dict[str, Any]) -> list[tuple[str, Any]]:
    ends_at = key["old_expires_at"]
    if ends_at is None or ends_at <= iso(epoch_ms()):
        return []
    return [("old secret", f"{key['old_hint']} is good until {moment(ends_at)}")]


def _show(key: dict[str, Any]) -> None:
    cap = key["spend_cap"]
    print_fields(
        [
            ("name", key["name"]),
            ("id", key["id"]),
            ("account", key["account"]),
            ("hint", key["hint"]),
            *_old(key),
            ("aliases", ", ".join(key["aliases"]) or "all"),
            (
                "spend cap",
                cap and f"{with_currency(cap, key.get('currency'))} ({key['spend_period']})",
            ),
            *((kind, key[kind] and f"{key[kind]:,}") for kind in LIMITS),
            ("expires", moment(key["expires_at"])),
            ("disabled", key["disabled"]),
            ("created", moment(key["created_at"])),
        ]
    )
    write_secret(key)


def _aliases(said: dict[str, Any]) -> dict[str, Any]:
    if said.pop("all_aliases"):
        if said["aliases"]:
            raise click.UsageError(
                "--alias and --all-aliases exclude each other.", click.get_current_context()
            )
        said["aliases"] = []
    return said


add(
    command,
    "create",
    keys.create_key,
    _show,
    "Issue a key. Its secret is shown this once. `none` stands for no limit.",
    options={
        "account": {"default": "default", "show_default": True, "help": "Who pays: name or id."},
        "name": {"required": True, "help": "Unique."},
        **_TERMS,
    },
    like=KeyChange,
    warns=unknown_models,
    adds=name_one,
)
add(
    command,
    "list",
    keys.list_keys,
    table(_COLUMNS, "no keys"),
    "List keys, the oldest first.",
    options={"account": "Only this account's: name or id."},
    adds=name_rows,
)
add(
    command,
    "show",
    keys.show_key,
    _show,
    "Show a key, by name or id. Its secret is not kept and cannot be shown.",
    adds=name_one,
)
add(
    command,
    "update",
    keys.update_key,
    _show,
    "Change what a key may do, by name or id. `none` takes a limit away.",
    options={
        "name": "A new name.",
        "all_aliases": "Let it call every model.",
        **_TERMS,
        "old_expires_at": _OLD,
    },
    adapt=_aliases,
    adds=name_one,
)
add(command, "disable", keys.disable_key, _show, "Refuse a key's calls from now on.")
add(command, "enable", keys.enable_key, _show, "Take a disabled key's calls again.")
add(
    command,
    "rotate",
    keys.rotate_key,
    _show,
    "Give a key a new secret, shown this once. The old one is void at once, or after --keep-old.",
    options={"keep_old": "How long the old secret is still good: 10m, 2h, 7d."},
)
