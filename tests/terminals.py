"""Terminals as commands see them, without one."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from unittest.mock import patch

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_OF_TERMINALS = ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "TERM")


class Tty(io.StringIO):
    """Says that somebody looks."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    @property
    def said(self) -> str:
        """What was written, without colours."""
        return _ESCAPES.sub("", self.getvalue())


@contextmanager
def terminal(columns: int = 100, **environ: str) -> Iterator[Tty]:
    """Standard output is a terminal so wide; nothing else of the environment says so."""
    given = {"COLUMNS": str(columns), "TERM": "xterm-256color", **environ}
    with patch.dict("os.environ", given):
        import os

        for name in _OF_TERMINALS:
            if name not in given:
                os.environ.pop(name, None)
        tty = Tty()
        with redirect_stdout(tty):
            yield tty
