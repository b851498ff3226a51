"""What a page is about: a time, and which calls. It is in the address, so that a link keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlencode

from merino.control.overview import SumBy
from merino.control.usage import (
    DIMENSIONS,
    LABELS,
    SPAN_MAX_MS,
    Cut,
    Span,
    given_span,
    named_span,
)
from merino.dashboard.parts import BASE, Visit
from merino.domain.clock import epoch_ms, iso
from merino.domain.errors import InvalidCall
from merino.pages.moments import moment_text

WINDOWS = {
    "1h": "1 h",
    "24h": "24 h",
    "7d": "7 days",
    "30d": "30 days",
    "month": "This month",
    "last_month": "Last month",
}
ALL_WINDOWS = {"all": "All", **WINDOWS}
DEFAULT_WINDOW = "24h"
WORDS: Mapping[SumBy, str] = {
    "alias": "Model",
    "key": "Key",
    "account": "Account",
    "deployment": "Deployment",
    "user": "End user",
    "tag": "Tag",
    "metadata": "Metadata",
}
ALL_DIMENSIONS: tuple[SumBy, ...] = (*DIMENSIONS, *LABELS)
_VALUES_MAX = 50


class Chip(NamedTuple):
    """A filter that is set, and the address without it."""

    words: str
    value: str
    without: str


@dataclass(frozen=True, slots=True)
class Selection:
    """`window` is the name of the time, empty if it was given from a moment to another. `kept` are
    the parts of the address that say all this, and whatever else the page keeps there."""

    path: str
    window: str
    span: Span
    cut: Cut
    kept: Sequence[tuple[str, str]]

    def link(self, path: str | None = None, **changes: str | Sequence[str] | None) -> str:
        """An address with the same selection, but for `changes`; `None` takes one out."""
        changed = {"cursor", *changes}
        if changed & {"window", "since"}:
            changed |= {"window", "since", "until"}
        pairs = [(name, value) for name, value in self.kept if name not in changed]
        for name, value in changes.items():
            values = [] if value is None else [value] if isinstance(value, str) else value
            pairs += [(name, each) for each in values]
        query = urlencode(pairs)
        place = self.path if path is None else f"{BASE}{path}"
        return f"{place}?{query}" if query else place

    def narrowed(self, by: SumBy, value: str) -> str:
        """To the same page about one group alone: sums are cut by one label at a time."""
        others: dict[str, str | None] = dict.fromkeys(LABELS) if by in LABELS else {}
        return self.link(None, **{**others, str(by): value})

    def only(self, path: str, **groups: str) -> str:
        """To another page with the same time, narrowed to these groups."""
        names = ("window", "since", "until", *ALL_DIMENSIONS)
        pairs = [(name, value) for name, value in self.kept if name in names and name not in groups]
        return f"{BASE}{path}?{urlencode([*pairs, *groups.items()])}"

    @property
    def range_words(self) -> str:
        if self.window:
            return ALL_WINDOWS[self.window].lower()
        return (
            f"{moment_text(self.span.since_ms)[:16]} to {moment_text(self.span.until_ms)[:16]} UTC"
        )

    @property
    def zoom(self) -> str:
        """The address that a script adds `since` and `until` to."""
        link = self.link(window=None)
        return link + ("&" if "?" in link else "?")

    @property
    def since_field(self) -> str:
        return iso(self.span.since_ms)[:16]

    @property
    def until_field(self) -> str:
        return iso(self.span.until_ms)[:16]


def selection_of(
    visit: Visit, windows: Mapping[str, str] = WINDOWS, default: str = DEFAULT_WINDOW
) -> Selection:
    """Raises `InvalidCall` for what cannot be, `NotFound` for what may not be seen."""
    params = visit.request.query_params
    window, span = _time(visit, windows, default)
    values: dict[SumBy, list[str]] = {}
    for by in ALL_DIMENSIONS:
        given = [each for each in params.getlist(by) if each][:_VALUES_MAX]
        if by == "key":
            given = [visit.key(each).id for each in given]
        elif by == "account":
            given = [visit.account(each).id for each in given]
        elif by == "deployment" and given and not visit.session.is_operator:
            raise InvalidCall("Deployments are the operator's.", param="deployment")
        values[by] = given
    kept = [
        (name, value)
        for name, value in params.multi_items()
        if name not in ("cursor", "done") and value
    ]
    if visit.scope is not None:
        values["account"] = [visit.scope]
    return Selection(visit.request.url.path, window, span, Cut.of(values), kept)


def chips(chosen: Selection, names: Mapping[str, str]) -> list[Chip]:
    """The dimensions that are narrowed, each value with a cross of its own."""
    found: list[Chip] = []
    for by in ALL_DIMENSIONS:
        given = [value for name, value in chosen.kept if name == by]
        for value in given:
            rest = [each for each in given if each != value]
            found.append(
                Chip(WORDS[by], names.get(value, value) or "none", chosen.link(None, **{by: rest}))
            )
    return found


def _time(visit: Visit, windows: Mapping[str, str], default: str) -> tuple[str, Span]:
    now_ms = epoch_ms()
    since, until = visit.query("since"), visit.query("until")
    if since or until:
        since_ms = _moment(since, "since") if since else None
        until_ms = _moment(until, "until") if until else now_ms + 1
        if since_ms is None:
            raise InvalidCall("Say from when, too.", param="since")
        if not since_ms < until_ms:
            raise InvalidCall("The time must begin before it ends.", param="until")
        if until_ms - since_ms > SPAN_MAX_MS:
            raise InvalidCall("The time must not be longer than three years.", param="since")
        return "", given_span(since_ms, until_ms)
    window = visit.query("window") or default
    if window == "all" and window in windows:
        return window, Span(0, now_ms + 1, 0, 0)
    span = named_span(window, now_ms) if window in windows else None
    if span is None:
        raise InvalidCall(f"The window must be one of {', '.join(windows)}.", param="window")
    return window, span


def _moment(text: str, name: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        ms = int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        ms = -1
    if not 0 <= ms < 32_503_680_000_000:  # the year 3000
        raise InvalidCall(
            f"{name} must be a moment in UTC such as 2026-11-24T12:00, not '{text[:40]}'.",
            param=name,
        )
    return ms
