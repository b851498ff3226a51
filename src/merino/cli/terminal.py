"""Whether somebody looks, and at what: a stream that is a terminal, its width, its colours.

What is piped or written to a file is for programs and stays as it is. `FORCE_COLOR` makes a pipe a
terminal, `NO_COLOR` takes the colours away, `COLUMNS` says how wide it is; a dumb terminal
(`TERM=dumb`) has neither colours nor a cursor that goes back.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_DEFAULT = 80
WIDTH_MIN = 20
"""Narrower than this nothing can be laid out; the terminal wraps it itself."""
WIDTH_MAX = 1000
_OFF = frozenset(("0", "false", "no"))


@dataclass(frozen=True, slots=True)
class Terminal:
    """`is_live`: what was written can be written over, for progress."""

    width: int
    has_colour: bool
    is_live: bool


def terminal_of(stream: IO[str], environ: Mapping[str, str] | None = None) -> Terminal | None:
    """`None` for a stream that no person looks at."""
    environ = os.environ if environ is None else environ
    forced = environ.get("FORCE_COLOR", "")
    is_forced = bool(forced) and forced.lower() not in _OFF
    is_terminal = _is_terminal(stream)
    if not is_terminal and not is_forced:
        return None
    is_dumb = is_terminal and environ.get("TERM", "").lower() in {"dumb", "unknown"}
    is_plain = bool(environ.get("NO_COLOR")) or (bool(forced) and not is_forced)
    return Terminal(
        width=_width(stream, environ),
        has_colour=not is_plain and (is_forced or not is_dumb),
        is_live=is_terminal and not is_dumb,
    )


def console_of(stream: IO[str], terminal: Terminal) -> Console:
    """What draws on it."""
    from rich.console import Console

    environ = {"TERM": os.environ.get("TERM", ""), "COLORTERM": os.environ.get("COLORTERM", "")}
    return Console(
        file=stream,
        force_terminal=terminal.is_live or terminal.has_colour,
        # The plain sixteen, which follow the terminal's own theme, light or dark.
        color_system="standard" if terminal.has_colour else None,
        no_color=not terminal.has_colour,
        width=terminal.width,
        height=25,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        _environ=environ,
    )


def is_shown() -> bool:
    """Whether a person reads what commands print."""
    return terminal_of(sys.stdout) is not None


def _is_terminal(stream: IO[str]) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _width(stream: IO[str], environ: Mapping[str, str]) -> int:
    told = environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and int(told[:6]) > 0:
        return max(WIDTH_MIN, min(int(told[:6]), WIDTH_MAX))
    for each in (stream, sys.__stderr__, sys.__stdin__):
        try:
            assert each is not None
            columns = os.get_terminal_size(each.fileno()).columns
        except (OSError, ValueError, AssertionError):
            continue
        if columns > 0:
            return max(WIDTH_MIN, min(columns, WIDTH_MAX))
    return WIDTH_DEFAULT
