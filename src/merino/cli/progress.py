"""How far a long command is: a bar on a terminal that can draw one, else a line now and then."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from merino.cli.figures import share
from merino.cli.terminal import Terminal, console_of, terminal_of

if TYPE_CHECKING:
    from rich.text import Text

REFRESH_S = 0.25
BAR_MIN = 8
BAR_MAX = 40
_FULL, _HALF = "━", "╸"


@dataclass(frozen=True, slots=True)
class Step:
    """`done` of `total` is the bar; without a total there is none. The first line tells `head`, the
    second `details`, and in red what went `wrong`."""

    done: float
    total: float | None
    head: Sequence[str]
    details: Sequence[str] = ()
    wrong: str = ""

    @property
    def part(self) -> float | None:
        if not self.total:
            return None
        return min(1.0, max(0.0, self.done / self.total))


def drawn(step: Step, terminal: Terminal) -> list[Text]:
    """The lines, none wider than the terminal."""
    from rich.text import Text

    head = "  ".join(step.head)
    if step.part is not None:
        head = f"{share(step.part, 1):>5}  {head}"
    first = Text(head)
    room = terminal.width - first.cell_len - 2
    if step.part is not None and room >= BAR_MIN:
        first = Text.assemble(_bar(step.part, min(room, BAR_MAX)), "  ", head)
    second = Text("  ".join(step.details), style="dim")
    if step.wrong:
        second = Text.assemble((step.wrong, "red"), "  " if step.details else "", second)
    lines = [each for each in (first, second) if each.plain]
    for each in lines:
        each.truncate(terminal.width, overflow="ellipsis")
    return lines


def _bar(part: float, width: int) -> Text:
    from rich.text import Text

    halves = round(part * width * 2)
    full = _FULL * (halves // 2) + (_HALF if halves % 2 else "")
    return Text.assemble((full, "green"), (_FULL * (width - len(full)), "bright_black"))


async def show_progress(
    step: Callable[[], Step], line: Callable[[], str], *, every_s: float, is_quiet: bool
) -> None:
    """On standard error, until cancelled; then nothing of it is left on a terminal. `line` is what
    is written every so often where nothing can be drawn."""
    terminal = terminal_of(sys.stderr)
    if is_quiet:
        return
    if terminal is None or not terminal.is_live:
        while True:
            await asyncio.sleep(every_s)
            sys.stderr.write(f"{line()}\n")
            sys.stderr.flush()
    from rich.console import Group
    from rich.live import Live

    console = console_of(sys.stderr, terminal)
    with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
        while True:
            live.update(Group(*drawn(step(), terminal)), refresh=True)
            await asyncio.sleep(REFRESH_S)
