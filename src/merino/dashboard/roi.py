"""The calculator: figures typed in, or the account's own traffic."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from starlette.responses import Response

from merino.control.overview import CallSums
from merino.dashboard.parts import Visit
from merino.domain.clock import epoch_ms
from merino.domain.errors import InvalidCall, MerinoError
from merino.domain.usage import Usage
from merino.roi import (
    AS_CHARGED,
    Horizon,
    Scenario,
    parse_amount,
    parse_growth,
    parse_share,
    parse_tokens,
)
from merino.roi.chart import growth_chart, month_bars
from merino.roi.comparison import Comparison
from merino.roi.scenario import UsageRow
from merino.roi.study import study
from merino.roi.words import break_even_lines, title

_DAYS = 30
_DEFAULTS = {
    "model": "o3",
    "input_tokens": "10M",
    "output_tokens": "5M",
    "cached_share": "0",
    "relay": "book",
    "months": "12",
    "growth": "0",
    "hosting": "0",
    "people": "0",
}


async def roi(visit: Visit) -> Response:
    given = {name: visit.query(name) or default for name, default in _DEFAULTS.items()}
    own = visit.query("from") == "own"
    found: Comparison | None = None
    problem = ""
    try:
        found = await _own(visit, given) if own else _planned(visit, given)
    except (MerinoError, ValueError) as error:
        problem = error.message if isinstance(error, MerinoError) else str(error)
    return await visit.page(
        "roi.html",
        given=given,
        own=own,
        problem_text=problem,
        found=found,
        title=title(found) if found else "",
        chart=month_bars(found) if found else "",
        growth=growth_chart(found) if found else "",
        findings=break_even_lines(found) if found else [],
    )


def _planned(visit: Visit, given: dict[str, str]) -> Comparison:
    scenario = Scenario(
        model=given["model"],
        input_tokens=parse_tokens(given["input_tokens"], "input tokens"),
        output_tokens=parse_tokens(given["output_tokens"], "output tokens"),
        cached_share=parse_share(given["cached_share"], "cached share"),
        reasoning_share=Decimal(0),
    )
    relay = given["relay"] if given["relay"] in ("guide", "book") else "book"
    return study(scenario.rows(), visit.desk.prices(), relay=relay, horizon=_horizon(given))


async def _own(visit: Visit, given: dict[str, str]) -> Comparison:
    """The last 30 days as they were charged, against what the vendors ask."""
    rows = await visit.desk.overview.by_alias(_DAYS, visit.scope)
    models = {
        alias.name: (alias.deployments[0].price_model or alias.deployments[0].upstream_model)
        .partition("!")[0]
        for alias in visit.desk.catalog().aliases
        if alias.deployments
    }  # fmt: skip
    known = visit.desk.prices().models
    used = [_row(row, models.get(row.group, row.group)) for row in rows if row.charged_nanos]
    priced = [
        row for row in used
        if any(row.model.rpartition("/")[2] == model for provider, model in known
               if provider not in ("simulator", "guide", "guide-direct"))
    ]  # fmt: skip
    if not priced:
        raise InvalidCall(
            "The last 30 days have no paid calls to a model that the price book knows. Type "
            "figures in instead."
        )
    return study(
        priced,
        visit.desk.prices(),
        relay=AS_CHARGED,
        horizon=_horizon(given),
        months_in_rows=Fraction(_DAYS, 30),
        at_ms=epoch_ms(),
    )


def _row(row: CallSums, model: str) -> UsageRow:
    usage = Usage(
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cached_tokens=row.cached_tokens,
        reasoning_tokens=row.reasoning_tokens,
    )
    return UsageRow(model, usage, row.calls, None, row.charged_nanos)


def _horizon(given: dict[str, str]) -> Horizon:
    months = given["months"]
    if not (months.isascii() and months.isdigit()):
        raise InvalidCall("months must be a number", param="months")
    return Horizon(
        months=int(months),
        growth=parse_growth(given["growth"]),
        hosting_nanos=parse_amount(given["hosting"]),
        people_nanos=parse_amount(given["people"]),
    )
