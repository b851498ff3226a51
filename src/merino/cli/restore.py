"""`merino restore`."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import click

from merino.cli.backup import (
    PROBLEM_EXIT,
    as_told,
    at,
    key_file_option,
    secret_of,
    target_argument,
    verdict,
)
from merino.cli.figures import counted
from merino.cli.options import MOMENT, data_option, json_option
from merino.cli.output import print_json, write


@click.command("restore")
@target_argument
@click.option("--backup", "wanted", help="Which one; the newest if none is named.")
@click.option(
    "--at",
    "moment",
    type=MOMENT,
    help="The state of that time: the backup before it, and the calls from there on.",
)
@click.option(
    "--journal",
    "journals",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    help="The journal/ of a data folder that is lost otherwise: it has the calls after the backup.",
)
@click.option("--despite-gap", is_flag=True, help="Also where calls in between are in no journal.")
@click.option(
    "--pepper",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The pepper, for a backup that was taken without it.",
)
@key_file_option
@data_option
@json_option
def command(
    target: Path,
    wanted: str | None,
    moment: str | None,
    journals: tuple[Path, ...],
    despite_gap: bool,
    pepper: Path | None,
    key_file: Path | None,
    data: Path,
    as_json: bool,
) -> int:
    """Restore a backup from TARGET into the data folder, which must be new or empty.

    The folder is opened as a relay would, and its balances recomputed; exit code 1 if anything is
    wrong. Never let the old relay and the restored one serve at the same time: both would spend the
    same balances.
    """
    from merino.backup.repository import Repository
    from merino.backup.restoring import read_pepper_file, restore

    until_ms = None
    if moment is not None:
        until_ms = round(datetime.fromisoformat(moment).timestamp() * 1000)
    repository = Repository.open(target, secret_of(key_file))
    restored = restore(
        repository,
        repository.find(wanted, until_ms),
        data,
        until_ms=until_ms,
        journals=journals,
        pepper=None if pepper is None else read_pepper_file(pepper),
        despite_gap=despite_gap,
    )
    opened, rolled, left_out = restored.opened, restored.rolled, restored.left_out
    if as_json:
        print_json(
            {
                **as_told(restored.snapshot),
                "data": str(data),
                "journal": None
                if rolled is None
                else {
                    "calls": rolled.calls,
                    "until": None if rolled.until_ms is None else at(rolled.until_ms),
                    "left_out": len(rolled.left_out),
                    "left_out_file": None if left_out is None else str(left_out),
                    "damaged": rolled.damaged,
                },
                "verified": not opened.problems,
                "accounts": opened.accounts,
                "entries": opened.entries,
                "problems": opened.problems,
            }
        )
        return PROBLEM_EXIT if opened.problems else 0
    write(f"backup {restored.snapshot.id} is restored in {data}")
    write(f"  all that was acknowledged until {at(restored.snapshot.moment_ms)} is there")
    if rolled is not None:
        until = "" if rolled.until_ms is None else f", the last of {at(rolled.until_ms)}"
        write(f"  and {counted(rolled.calls, 'call')} after it{until}")
        write("  what operators changed after the backup is not in journals, and not there")
        for each in rolled.damaged:
            sys.stderr.write(f"merino: {each}\n")
    if left_out is not None and rolled is not None:
        write(
            f"  {counted(len(rolled.left_out), 'call')} of accounts or keys that were made after "
            f"the backup: see {left_out}"
        )
    for problem in opened.problems:
        sys.stderr.write(f"merino: {problem}\n")
    if opened.problems:
        return PROBLEM_EXIT
    write(f"  {verdict(opened)}")
    return 0
