"""`merino stop`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import click

from merino.cli.options import data_option, json_option
from merino.cli.output import print_json, write
from merino.domain.errors import MerinoError

NOT_RUNNING_EXIT = 3
_LOOK_S = 0.1


@click.command("stop")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 86_400),
    default=60.0,
    show_default=True,
    help="Seconds to wait for the running calls.",
)
@click.option("--cut", is_flag=True, help="Then cut the calls that still run; they are settled.")
@data_option
@json_option
def command(timeout: float, cut: bool, data: Path, as_json: bool) -> int:
    """Stop the relay that runs on the data folder. Calls that run are finished first.

    Exit code 3 if none runs; 2 if it still runs when the time is up.
    """
    from merino.serving import running_note

    note = running_note(data) if data.is_dir() else None
    if note is None:
        if as_json:
            print_json({"stopped": False, "process": None})
        else:
            write(f"no relay runs on the data folder {data}")
        return NOT_RUNNING_EXIT

    def is_gone(wait_s: float) -> bool:
        until = time.monotonic() + wait_s
        while running_note(data) == note:
            if time.monotonic() > until:
                return False
            time.sleep(_LOOK_S)
        return True

    _signal(note.process)
    if sys.stderr.isatty():
        sys.stderr.write(f"process {note.process} finishes its calls ...\n")
    is_done = is_gone(timeout)
    if not is_done and cut:
        _signal(note.process)  # the second one cuts
        is_done = is_gone(timeout)
    if not is_done:
        raise MerinoError(
            f"Process {note.process} still has calls to finish after {timeout:g} s; wait on, or "
            "cut them with: merino stop --cut"
        )
    if as_json:
        print_json({"stopped": True, "process": note.process})
    else:
        write(f"the relay at {note.address} has stopped")
    return 0


def _signal(process: int) -> None:
    try:
        os.kill(process, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError:
        raise MerinoError(
            f"Process {process} is another user's; stop it as that user, or as root"
        ) from None
