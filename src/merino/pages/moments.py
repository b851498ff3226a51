"""Moments as people read them, in one way on every page.

A page comes with UTC, and says so. Where scripts run, `moments.js` shows the reader's own time and
how long ago it was; hovering tells UTC.
"""

from __future__ import annotations

from typing import Literal

from markupsafe import Markup

from merino.domain.clock import epoch_ms, iso
from merino.pages.figures import NONE

_NOTHING = Markup('<span class="none">–</span>')
Kind = Literal["moment", "day", "ago"]
"""`moment`: date and time. `day`: the date alone. `ago`: how long ago, the moment on hover."""


def moment_text(at_ms: int | None) -> str:
    """``2026-11-29 08:15:00``, in UTC; beyond the years that there are, their end."""
    if not at_ms:
        return NONE
    return iso(at_ms)[:19].replace("T", " ")


def day_text(at_ms: int | None) -> str:
    return moment_text(at_ms)[:10]


def moment(at_ms: int | None, kind: Kind = "moment") -> Markup:
    """One moment. It stands on one line, whatever the width."""
    if not at_ms:
        return _NOTHING
    whole = iso(at_ms)
    text = f"{whole[:10]} {whole[11:19]}"
    if kind == "day":
        shown = text[:10]
    else:  # without the year if it is this one
        shown = f"{text[5:] if whole[:4] == iso(epoch_ms())[:4] else text} UTC"
    return Markup(  # noqa: S704 - digits of ours; pages have hundreds of them
        f'<time datetime="{whole}" data-moment="{kind}" title="{text} UTC">{shown}</time>'
    )
