"""`merino backup`."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merino.cli.columns import Column
from merino.cli.figures import counted, duration
from merino.cli.options import data_option, json_option, unread_data_option
from merino.cli.output import print_json, print_table, write
from merino.domain.clock import epoch_ms

if TYPE_CHECKING:
    from merino.backup.repository import Repository, Snapshot
    from merino.backup.taking import Opened

PROBLEM_EXIT = 1
_UNITS = ("bytes", "KB", "MB", "GB", "TB")

key_file_option = click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="MERINO_BACKUP_KEY_FILE",
    show_envvar=True,
    help="A file with the key that backups are encrypted with: 32 bytes or more, of your own.",
)
target_argument = click.argument("target", type=click.Path(file_okay=False, path_type=Path))


class _Group(click.Group):
    """`merino backup TARGET` is short for `merino backup create TARGET`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["create", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options may come first, too: those of the group are only for help."""
        asks_help = not args or args[0] in ctx.help_option_names
        if not asks_help and args[0].startswith("-"):
            args = ["create", *args]
        return super().parse_args(ctx, args)


@click.group("backup", cls=_Group)
def command() -> None:
    """Back up a data folder while its relay runs, look at backups, verify them.

    `merino backup TARGET` is short for `merino backup create TARGET`.
    """


@command.command("create")
@target_argument
@click.option(
    "--keep", type=click.IntRange(1, 100_000), help="Afterwards, remove all but the newest so many."
)
@click.option("--without-pepper", is_flag=True, help="Leave the pepper out; keep it elsewhere.")
@click.option("--no-verify", is_flag=True, help="Do not open the backup once it is taken.")
@key_file_option
@data_option
@json_option
def create(
    target: Path,
    keep: int | None,
    without_pepper: bool,
    no_verify: bool,
    key_file: Path | None,
    data: Path,
    as_json: bool,
) -> int:
    """Keep the data folder as it is now in TARGET, a folder with earlier backups or a new one.

    The relay need not stop, and is not asked. Only what is new since the last backup is written.
    The backup is then laid down beside the others and opened as a relay would; exit code 1 if
    anything is wrong with it. All that was acknowledged before the moment it tells is in it.
    """
    from merino.backup.repository import Repository
    from merino.backup.taking import take, verify

    began = time.monotonic()
    repository = Repository.make_or_open(target, secret_of(key_file))
    snapshot = take(data, repository, epoch_ms, with_pepper=not without_pepper)
    opened = None if no_verify else verify(repository, snapshot)
    is_good = opened is None or not opened.problems
    gone = repository.prune(keep) if keep is not None and is_good else []
    took_s = time.monotonic() - began
    if as_json:
        told = {**as_told(snapshot), **_opened_as_told(opened)}
        print_json({**told, "removed": gone, "took_s": round(took_s, 3)})
        return 0 if is_good else PROBLEM_EXIT
    write(f"backup {snapshot.id} of {data} is in {target}, after {duration(took_s)}")
    write(f"  all that was acknowledged until {at(snapshot.moment_ms)} is in it")
    write(f"  {_sizes(snapshot)}")
    _print_opened(opened)
    if gone:
        write(f"  removed: {counted(len(gone), 'older backup')}")
    write(f"  {_secrets(repository, snapshot)}")
    return 0 if is_good else PROBLEM_EXIT


@command.command("list")
@target_argument
@key_file_option
@unread_data_option
@json_option
def list_backups(target: Path, key_file: Path | None, as_json: bool) -> None:
    """The backups in TARGET, the oldest first."""
    repository = _open(target, key_file)
    rows = [as_told(snapshot) for snapshot in repository.snapshots()]
    if as_json:
        print_json({"data": rows})
        return
    columns = (
        Column("BACKUP", "id"),
        Column("ALL UNTIL (UTC)", "moment"),
        Column("FILES", "files", is_number=True),
        Column("BYTES", "size_bytes", is_number=True),
        Column("NEW BYTES", "new_bytes", is_number=True),
        Column("MERINO", "merino"),
    )
    print_table(rows, columns)


@command.command("verify")
@target_argument
@click.option("--backup", "wanted", help="Which one; the newest if none is named.")
@click.option("--all", "every", is_flag=True, help="Every backup there is.")
@key_file_option
@unread_data_option
@json_option
def verify_backups(
    target: Path, wanted: str | None, every: bool, key_file: Path | None, as_json: bool
) -> int:
    """Read a backup whole, open it as a relay would, recompute its balances; exit code 1 if
    anything is wrong."""
    from merino.backup.sealing import Damaged
    from merino.backup.taking import Opened, verify

    repository = _open(target, key_file)
    found: list[tuple[Snapshot, Opened]] = []
    for snapshot in repository.snapshots() if every else [repository.find(wanted, None)]:
        try:
            found.append((snapshot, verify(repository, snapshot)))
        except Damaged as damaged:
            found.append((snapshot, Opened(0, 0, [damaged.message])))
    is_good = not any(opened.problems for _, opened in found)
    if as_json:
        rows = [{**as_told(snapshot), **_opened_as_told(opened)} for snapshot, opened in found]
        print_json({"data": rows, "ok": is_good})
        return 0 if is_good else PROBLEM_EXIT
    for snapshot, opened in found:
        write(f"backup {snapshot.id}, all until {at(snapshot.moment_ms)}")
        _print_opened(opened)
    return 0 if is_good else PROBLEM_EXIT


@command.command("prune")
@target_argument
@click.option(
    "--keep", type=click.IntRange(1, 100_000), required=True, help="How many, the newest."
)
@key_file_option
@unread_data_option
@json_option
def prune(target: Path, keep: int, key_file: Path | None, as_json: bool) -> None:
    """Remove old backups, and what only they need."""
    repository = _open(target, key_file)
    with repository.changing():
        gone = repository.prune(keep)
    if as_json:
        print_json({"removed": gone})
    else:
        write(f"removed: {counted(len(gone), 'backup')}")


def secret_of(key_file: Path | None) -> bytes | None:
    """What every command here begins with."""
    from merino.backup.sealing import read_key_file
    from merino.telemetry.logs import configure_logs

    configure_logs("text", "warning")  # on standard error: what is printed is for programs
    return None if key_file is None else read_key_file(key_file)


def as_told(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "id": snapshot.id,
        "moment": at(snapshot.moment_ms),
        "merino": snapshot.merino,
        "schema": snapshot.schema,
        "files": len(snapshot.files),
        "size_bytes": snapshot.size_bytes,
        "new_bytes": snapshot.new_bytes,
        "has_pepper": snapshot.has_pepper,
    }


def at(moment_ms: int) -> str:
    """To the millisecond: it is a promise."""
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment_ms % 1000:03d}Z"


def _open(target: Path, key_file: Path | None) -> Repository:
    from merino.backup.repository import Repository

    return Repository.open(target, secret_of(key_file))


def _opened_as_told(opened: Opened | None) -> dict[str, Any]:
    if opened is None:
        return {"verified": None}
    return {
        "verified": not opened.problems,
        "accounts": opened.accounts,
        "entries": opened.entries,
        "problems": opened.problems,
    }


def _print_opened(opened: Opened | None) -> None:
    if opened is None:
        write("  not verified")
        return
    for problem in opened.problems:
        sys.stderr.write(f"merino: {problem}\n")
    if opened.problems:
        write("  opened; this is wrong with it, see above")
        return
    write(f"  {verdict(opened)}")


def verdict(opened: Opened) -> str:
    """Of a folder without problems."""
    entries = "1 entry" if opened.entries == 1 else f"{opened.entries:,} entries"
    accounts = counted(opened.accounts, "account")
    return f"opened and verified: {entries} of {accounts}, the books balance"


def _secrets(repository: Repository, snapshot: Snapshot) -> str:
    if not snapshot.has_pepper:
        return "the pepper is not in it: without its own copy, no key is recognised any more"
    if repository.is_encrypted:
        return "encrypted: without the key file, it is worthless"
    return (
        "whoever reads it has the pepper and all that customers left; --key-file encrypts. "
        "Settings and providers' credentials are not in it"
    )


def _sizes(snapshot: Snapshot) -> str:
    files, size = counted(len(snapshot.files), "file"), _size(snapshot.size_bytes)
    return f"{files}, {size}; written: {_size(snapshot.new_bytes)}"


def _size(size_bytes: float) -> str:
    for unit in _UNITS:
        if size_bytes < 1000 or unit == _UNITS[-1]:
            return f"{size_bytes:.0f} {unit}" if unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError
