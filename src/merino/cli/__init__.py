"""The command line. One file per command, imported when it is asked for."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import NoReturn

USAGE_EXIT = 2
"""Exit code of everything that could not be done."""
INTERRUPTED_EXIT = 130
BROKEN_PIPE_EXIT = 141
COMPLETE_VARIABLE = "_MERINO_COMPLETE"
"""How a shell asks for what may come next."""


def main() -> NoReturn:
    """The program `merino`."""
    # Asked for here, so that its absence is told in one line.
    if importlib.util.find_spec("click") is None:
        sys.stderr.write(
            "merino: the command line is not installed; pip install 'merino[server]'\n"
        )
        sys.exit(USAGE_EXIT)
    try:
        from merino.cli.root import complete, run

        asked = os.environ.get(COMPLETE_VARIABLE)
        code = complete(asked) if asked else run(sys.argv[1:])
    except KeyboardInterrupt:  # before there was anything to interrupt
        code = INTERRUPTED_EXIT
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = BROKEN_PIPE_EXIT
    if code == BROKEN_PIPE_EXIT:
        # Whoever read our output has gone; the interpreter must not flush into the void again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
