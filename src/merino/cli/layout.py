"""How wide the columns of a table are, so that no line is wider than the terminal and no number is
broken. Pure; what a character takes is told from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GAP = 2
"""Blanks between columns."""
TEXT_MIN = 12
"""A text is not cut to less than this: what is left of it would say nothing."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a column would take, and the least that it can do with. One with a `spare` rank may be
    left out; the highest goes first."""

    whole: int
    least: int
    spare: int = 0


@dataclass(frozen=True, slots=True)
class Fit:
    """The columns that are shown, by their numbers, and how wide each is."""

    shown: tuple[int, ...]
    widths: tuple[int, ...]


def need(title: int, cells: Sequence[int], *, is_whole: bool, spare: int = 0) -> Need:
    """Of a column with this title and these cells, given by how wide they are."""
    whole = max((title, *cells))
    return Need(whole, whole if is_whole else min(whole, max(title, TEXT_MIN)), spare)


def fit(needs: Sequence[Need], width: int) -> Fit | None:
    """`None` where the columns that must be shown find no room side by side."""
    shown = list(range(len(needs)))
    while shown:
        gaps = GAP * (len(shown) - 1)
        if sum(needs[each].least for each in shown) + gaps <= width:
            return Fit(tuple(shown), _narrowed([needs[each] for each in shown], width - gaps))
        spares = [each for each in shown if needs[each].spare]
        if not spares:
            return None
        # Of equals the one at the right goes first.
        shown.remove(max(spares, key=lambda each: (needs[each].spare, each)))
    return None


def _narrowed(needs: Sequence[Need], width: int) -> tuple[int, ...]:
    """The widest texts give first, until they are as wide as the next ones."""
    widths = [each.whole for each in needs]
    over = sum(widths) - width
    while over > 0:
        can = [at for at, each in enumerate(needs) if widths[at] > each.least]
        widest = max(widths[at] for at in can)
        these = [at for at in can if widths[at] == widest]
        floor = max(
            [needs[at].least for at in these]
            + [widths[at] for at in can if widths[at] < widest]
            + [widest - max(1, over // len(these))]
        )
        for at in these:
            give = min(widest - floor, over)
            widths[at] -= give
            over -= give
    return tuple(widths)
