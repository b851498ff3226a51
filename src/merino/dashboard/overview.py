"""The first page: what was spent and used, by whom and where, beside the time before; and live."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from markupsafe import Markup
from starlette.responses import Response, StreamingResponse

from merino.billing.notices import TITLES, advice
from merino.control.call_search import CallQuery
from merino.control.overview import SumBy
from merino.control.usage import DIMENSIONS, LABELS, MEASURES, Change, Line, Measure, View
from merino.dashboard.call_columns import NUMBERS, columns_of
from merino.dashboard.parts import Visit, fragment
from merino.dashboard.selection import (
    ALL_DIMENSIONS,
    WINDOWS,
    WORDS,
    Selection,
    chips,
    selection_of,
)
from merino.domain.errors import InvalidCall
from merino.pages import figures
from merino.pages.moments import moment_text
from merino.pages.plot import OTHERS, Plot, Series, Unit, plotted

LIVE_S = 2.0
_NEWEST = 8
_LINES = 10
TITLES_OF: Mapping[Measure, str] = {
    "spend": "Spend",
    "calls": "Calls",
    "tokens": "Tokens",
    "errors": "Errors",
    "first_token": "Time to first token",
}
_UNITS: Mapping[Measure, Unit] = {
    "spend": "money",
    "calls": "count",
    "tokens": "count",
    "errors": "count",
    "first_token": "ms",
}


class Tile(NamedTuple):
    """A figure with its change. `measure` is what the chart shows if it is chosen."""

    words: str
    value: str | Markup
    whole: str
    change: str
    kind: str
    below: str
    measure: Measure | None
    figure: str


class Mover(NamedTuple):
    """A line of what changed most."""

    key: str
    model: str
    now: Markup
    change: str
    kind: str
    share: str
    link: str


async def overview(visit: Visit) -> Response:
    by, show = _by(visit), _show(visit)
    chosen = _chosen(visit, by)
    view, found = await asyncio.gather(
        visit.desk.usage.view(
            chosen.span, chosen.cut, by, show, visit.query("currency") or visit.currency
        ),
        visit.desk.search.calls(
            CallQuery(chosen.cut, chosen.span.since_ms, chosen.span.until_ms), limit=_NEWEST
        ),
    )
    names = names_of(visit)
    shown = visit.query("currency")
    currency = shown if shown in view.currencies else (*view.currencies, visit.currency)[0]
    is_new = not found.items and not view.total.now.calls and not view.total.before.calls
    return await visit.page(
        "overview.html",
        chosen=chosen,
        windows=WINDOWS,
        chips=chips(chosen, names),
        alerts=_alerts(visit),
        tiles=_tiles(visit, view, chosen),
        by=by,
        dimensions=[(each, WORDS[each].lower()) for each in _dimensions(visit)],
        show=show,
        title=f"{TITLES_OF[show]} by {WORDS[by].lower()}",
        chart=plotted(usage_plot(chosen, view, by, show, currency, names)) if view.stacks else "",
        movers=[_mover(each, show, chosen, names) for each in view.changed],
        tables=[
            (each, WORDS[each], view.by[each][:_LINES], view.by[each][_LINES:])
            for each in sorted(_dimensions(visit), key=lambda each: by in LABELS and each != by)
            if each in DIMENSIONS or view.by[each]
        ],
        most={each: _most(view.by[each]) for each in ALL_DIMENSIONS},
        names=names,
        currencies=view.currencies,
        currency=currency,
        calls=found.items,
        columns=columns_of(visit),
        numbers=NUMBERS,
        currency_of=currency_of(visit),
        change=change,
        is_new=is_new,
        is_now=chosen.window not in ("", "last_month"),
        origin=f"{visit.request.url.scheme}://{visit.request.url.netloc}",
        has_provider=any(
            each.provider != "simulator" for each, _ in visit.control.list_deployments()
        ),
        keys=visit.own_keys(),
    )


async def live(visit: Visit) -> Response:
    """Server-sent events with the figures of the page, every two seconds. Nothing for a page of
    another account than the one that was switched to meanwhile: 204 keeps it from asking again."""
    if visit.query("scope", visit.scope or "") != (visit.scope or ""):
        return Response(status_code=204)
    _chosen(visit)

    async def events() -> AsyncIterator[str]:
        while not await visit.request.is_disconnected():
            if visit.desk.session_of(visit.request) is None:
                return
            chosen = _chosen(visit)
            line = await visit.desk.usage.total(chosen.span, chosen.cut)
            found = await visit.desk.search.calls(
                CallQuery(chosen.cut, chosen.span.since_ms, chosen.span.until_ms), limit=_NEWEST
            )
            data = {
                "alerts": _alerts(visit),
                "figures": _figures(visit, line),
                "rows": await rows_of(visit, found.items),
            }
            yield f"data: {json.dumps(data)}\n\n"
            await asyncio.sleep(LIVE_S)

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def _chosen(visit: Visit, by: SumBy = "alias") -> Selection:
    """The time in whole hours where sums by what callers say are shown. Raises `InvalidCall`."""
    chosen = selection_of(visit)
    labels = chosen.cut.labels
    if len(labels) + (by in LABELS and by not in labels) > 1 or any(
        len(given) > 1 for given in labels.values()
    ):
        raise InvalidCall(
            "Sums are of one end user, tag or pair of metadata at a time; the page of calls takes "
            "several.",
            param="by",
        )
    if labels or by in LABELS:
        return replace(chosen, span=chosen.span.hourly)
    return chosen


async def rows_of(visit: Visit, calls: Sequence[object]) -> str:
    """Lines of the table of calls, as the page has them."""
    return await fragment(
        "call_rows.html",
        calls=calls,
        session=visit.session,
        names=names_of(visit),
        currency_of=currency_of(visit),
        account_names={each.id: each.name for each in visit.own_accounts()},
        columns=columns_of(visit),
        numbers=NUMBERS,
    )


def names_of(visit: Visit) -> dict[str, str]:
    """What people call keys and accounts."""
    keys = {key.id: key.name for key in visit.own_keys()}
    return {account.id: account.name for account in visit.own_accounts()} | keys


def currency_of(visit: Visit) -> dict[str, str]:
    return {account.id: account.currency for account in visit.own_accounts()}


def change(now: float | None, before: float | None, *, more_is: str = "") -> tuple[str, str]:
    """In words, and whether that is better or worse: `more_is` says which."""
    if now is None or before is None or (not now and not before):
        return "", ""
    text = figures.change_text(now, before)
    if not more_is or now == before:
        return text, ""
    is_more = now > before
    return text, more_is if is_more else {"worse": "better", "better": "worse"}[more_is]


def _by(visit: Visit) -> SumBy:
    by = visit.query("by", "alias")
    if by not in _dimensions(visit):
        raise InvalidCall(f"by must be one of {', '.join(_dimensions(visit))}.", param="by")
    return by


def _dimensions(visit: Visit) -> tuple[SumBy, ...]:
    """Owners have one account, and do not see where calls go."""
    return ALL_DIMENSIONS if visit.session.is_operator else (*DIMENSIONS[:2], *LABELS)


def _show(visit: Visit) -> Measure:
    show = visit.query("show", "spend")
    for each in TITLES_OF:
        if each == show:
            return each
    raise InvalidCall(f"show must be one of {', '.join(TITLES_OF)}.", param="show")


def _alerts(visit: Visit) -> list[str]:
    """What an operator has to mend now."""
    if not visit.session.is_operator:
        return []
    return [
        f"Deployment {each.deployment}: {TITLES[each.kind]} ({each.status}) since "
        f"{moment_text(each.since_ms)} UTC. Calls go to other deployments, or fail if there is "
        f"none. {advice(each)}"
        for each in visit.control.troubles()
    ]


def _figures(visit: Visit, line: Line) -> dict[str, str]:
    """Those of the tiles that move."""
    now = line.now
    told = {
        "running": figures.count_text(len(visit.control.running_calls(visit.scope))),
        "spend": _spent(line.spent),
        "calls": figures.count_text(now.calls),
        "tokens": figures.count_text(now.input_tokens + now.output_tokens),
        "errors": figures.share_text((now.failed + now.refused) / now.calls if now.calls else None),
    }
    if visit.session.is_operator:
        told["margin"] = _spent(_margins(line))
    return told


def _spent(of: Mapping[str, int]) -> str:
    return " + ".join(figures.money_text(nanos, each) for each, nanos in of.items()) or "–"


def _margins(line: Line) -> dict[str, int]:
    """What upstreams charge is in dollars: beside another currency it has no difference."""
    return {"USD": line.now.margin_nanos} if set(line.spent) <= {"USD"} else {}


def _tiles(visit: Visit, view: View, chosen: Selection) -> list[Tile]:
    line, now, before = view.total, view.total.now, view.total.before
    said = _figures(visit, line)
    one = len(line.spent) <= 1
    spend_change = change(now.charged_nanos, before.charged_nanos) if one else ("", "")
    tokens, tokens_before = MEASURES["tokens"](now), MEASURES["tokens"](before)
    wrong = (now.failed + now.refused) / now.calls if now.calls else None
    wrong_before = (before.failed + before.refused) / before.calls if before.calls else None
    p50, p95 = view.spread.at(0.5), view.spread.at(0.95)
    is_all = not {"key", "account", *LABELS} & chosen.cut.values.keys()
    mean = now.first_token_mean_ms
    first = p50 if is_all else mean
    tiles = [
        Tile("Spend", said["spend"], _exact(line.spent), *spend_change,
             f"{_spent(line.spent_before)} before" if line.spent_before else "", "spend", "spend"),
        Tile("Calls", said["calls"], f"{now.calls:,}", *change(now.calls, before.calls),
             f"{said['running']} running now", "calls", "calls"),
        Tile("Tokens", said["tokens"], f"{tokens:,}", *change(tokens, tokens_before),
             f"{figures.count_text(now.input_tokens)} in", "tokens", "tokens"),
        Tile("Errors", said["errors"], f"{now.failed + now.refused:,} of {now.calls:,} calls",
             *change(wrong, wrong_before, more_is="worse"),
             f"{figures.count_text(now.failed)} × 5xx",
             "errors", "errors"),
        Tile("First token", figures.duration_text(first), "median" if is_all else "mean",
             *change(mean, before.first_token_mean_ms, more_is="worse"),
             f"p95 {figures.duration_text(p95)}" if is_all else "mean", "first_token", "first"),
    ]  # fmt: skip
    if visit.session.is_operator and said["margin"] != "–":
        share = now.margin_nanos / now.charged_nanos if now.charged_nanos else None
        tiles.append(
            Tile("Margin", said["margin"], _exact(_margins(line)),
                 *change(now.margin_nanos, before.margin_nanos, more_is="better"),
                 f"{figures.share_text(share)} of spend" if share is not None else "",
                 None, "margin")
        )  # fmt: skip
    return tiles


def _exact(of: Mapping[str, int]) -> str:
    return " + ".join(figures.exact_text(nanos, each) for each, nanos in of.items())


def usage_plot(
    chosen: Selection,
    view: View,
    by: SumBy,
    show: Measure,
    currency: str | None,
    names: Mapping[str, str],
) -> Plot:
    series = [
        Series(
            f"{each.groups} others"
            if each.name is None
            else names.get(each.name, each.name) or "none",
            each.values,
            "" if each.name is None else chosen.narrowed(by, each.name),
            OTHERS if each.name is None else place,
        )
        for place, each in enumerate(view.stacks)
    ]
    return Plot(
        f"{TITLES_OF[show]} by {WORDS[by].lower()}",
        "lines" if show == "first_token" else "bars",
        _UNITS[show],
        chosen.span.slots,
        chosen.span.slot_ms,
        series,
        currency,
        # Only calls that say something are drawn by what they say; the time before has all.
        view.before if show != "first_token" and by not in LABELS and any(view.before) else None,
        zoom=chosen.zoom,
    )


def _mover(each: Change, show: Measure, chosen: Selection, names: Mapping[str, str]) -> Mover:
    key, model = each.group
    is_money = show == "spend"
    now = figures.money(round(each.now), each.currency) if is_money else figures.count(each.now)
    sign = "+" if each.by > 0 else ""
    moved = figures.money_text(round(each.by), each.currency) if show == "spend" else (
        figures.count_text(each.by)
    )  # fmt: skip
    kind = ("worse" if each.by > 0 else "better") if show == "errors" else ""
    groups = {"key": key, "alias": model}
    return Mover(
        names.get(key, key) or "none",
        model or "none",
        now,
        f"{sign}{moved}",
        kind,
        figures.share_text(each.share, 0),
        chosen.only("/calls", **{name: value for name, value in groups.items() if value}),
    )


def _most(lines: Sequence[Line]) -> int:
    return max((line.now.charged_nanos for line in lines), default=0)
